//! RTMP 1.0 and enhanced RTMP v2, sans-IO: bytes in, events and bytes out.
//!
//! Layers, from the wire up: [`handshake`], [`chunk`]s, [`message`]s and commands; `link` joins them, and [`output`]
//! queues the bytes to write. [`server`] and [`client`] are the two ends of a session, whose streams [`tc_url`] names.
//!
//! Invariants: nothing here knows a socket, a clock or an async runtime. Nothing here trusts its peer: every buffer has a
//! limit, and errors carry their offset in the connection.
//!
//! Used by `net`. Uses `media`, `budget` and `remuxd-bitstream`.

pub mod chunk;
pub mod client;
mod command;
mod connect;
mod enhanced;
mod error;
pub mod handshake;
mod input;
mod link;
pub mod message;
pub mod output;
mod player;
pub mod server;
pub mod tc_url;

pub use client::ClientSession;
pub use connect::ConnectRequest;
pub use error::SessionError;
pub use input::Input;
pub use link::{Buffers, MAX_UNREAD_REPLIES};
pub use player::PlayerForm;
pub use server::ServerSession;
