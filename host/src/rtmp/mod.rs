//! RTMP 1.0, sans-IO: bytes in, messages and bytes out.
//!
//! From the wire up: [`handshake`], then [`chunk`]s that carry [`message`]s; [`output`] is what waits to be
//! written. Nothing here knows a socket, a clock or an async runtime, and nothing here trusts its peer: each
//! reader states its limits and its errors carry the offset in the connection.
//!
//! Used by `net`; uses `media` and `remuxd-bitstream` alone.

pub mod chunk;
pub mod handshake;
pub mod message;
pub mod output;
