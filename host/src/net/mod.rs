//! Sockets: listeners, connections, TLS, deadlines and limits.
//!
//! Purpose: carry bytes between sockets and the sans-IO layers. Every wait for a peer has a deadline, every
//! buffer a limit, and every connection counts against `limits.max_connections`, its memory against `limits.max_memory`.
//!
//! A connection passes `listener` (accept), `opening` (PROXY header, TLS handshake), then `http` or `rtmp` until it
//! closes.
//!
//! Used by `host` and `admin`; uses `http`, `router`, `rtmp`, `stream`, `budget` and `conf`.

mod addresses;
mod beat;
mod certificates;
mod connections;
mod crypto;
mod fanout;
mod http;
#[cfg(fuzzing)]
pub mod in_memory;
mod listen;
mod listener;
mod listeners;
mod opening;
mod peer;
pub mod proxy;
mod publish;
mod receive_rate;
mod rtmp;
mod server;
mod stall;
mod tls;

pub use certificates::{CertificateFacts, Certificates, NewCertificates};
pub use fanout::Fanout;
pub use listen::{ListenerChange, NewListeners};
pub use listener::ListenError;
pub use listeners::ApiListener;
pub use publish::publish_loop;
pub use server::Server;
