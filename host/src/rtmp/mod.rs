//! RTMP 1.0, sans-IO: bytes in, messages and bytes out.
//!
//! From the wire up: [`handshake`], then [`chunk`]s that carry [`message`]s; [`output`] is what waits to be
//! written. [`server`] and [`client`] are the two ends of a session of [`command`]s and media, whose streams
//! [`tc_url`] names. Nothing here knows a socket, a clock or an async runtime, and nothing here trusts its peer: each
//! reader states its limits and its errors carry the offset in the connection.
//!
//! Used by `net`; uses `media` and `remuxd-bitstream` alone.

pub mod chunk;
pub mod client;
pub mod command;
mod enhanced;
mod error;
pub mod handshake;
mod link;
pub mod message;
pub mod output;
pub mod server;
pub mod tc_url;

pub use client::ClientSession;
pub use error::SessionError;
pub use link::MAX_UNREAD_REPLIES;
pub use server::ServerSession;
