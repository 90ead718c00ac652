//! The RTMP handshake of both ends: three blobs each way (RTMP 1.0, 5.2), with or without digests.
//!
//! In the signed form (undocumented by Adobe, in use since Flash Player 9) C1 and S1 each contain an HMAC-SHA256 of
//! themselves under a published key, at an offset computed from their own bytes, in one of two layouts. S2 and C2 end
//! with an HMAC under a key derived from the other end's digest. Some Flash players play H.264 only after a signed
//! handshake. It protects nothing: every key is public.
//!
//! - The server looks for a digest in C1, in both layouts. Without a valid one it falls back to the simple form, in
//!   which S2 repeats C1 (librtmp compares them).
//! - The client signs C1 by default and accepts any S1. Neither end verifies the last blob (S2 or C2): it proves
//!   nothing, and ffmpeg and SRS send a C2 that does not verify.
//! - Version 3 only. RTMPE (6, 8, 9) is rejected.
//!
//! Tolerated: the header that SRS's RTMP proxies send before C0 (0xF3, 16-bit length, client address).
//!
//! Sans-IO: the caller passes in the epoch and the random bytes.

mod blob;
mod digest;
mod error;
mod exchange;
#[cfg(test)]
mod tests;

pub use blob::Random;
pub use digest::Scheme;
pub use error::HandshakeError;
pub use exchange::Handshake;
