//! The RTMP handshake, both ends: three blobs each way (RTMP 1.0, 5.2), plain or with digests.
//!
//! With digests (undocumented by Adobe, known since Flash Player 9) C1 and S1 carry an HMAC-SHA256 of
//! themselves under a published key at a place computed from their own bytes, in one of two layouts, and S2
//! and C2 carry one of themselves under a key made from the other side's digest. Some Flash players play
//! H.264 only after it. It protects nothing: every key is public.
//!
//! - The server looks for a digest in C1, layout 0 then 1; a C1 without one, or with a wrong one, gets the
//!   plain answer, in which S2 repeats C1 (librtmp compares them).
//! - The client signs C1 by default, and takes any S1. Neither side checks the last blob (S2 or C2): the peer
//!   proves nothing by it, and ffmpeg and SRS send C2 that do not verify.
//! - Version 3 alone is spoken. RTMPE (6, 8, 9) is refused.
//!
//! Tolerated: the header that SRS's RTMP proxies put before C0 (0xF3, 16-bit length, client address).
//!
//! Sans-IO: randomness and the epoch are handed in.

mod client;
mod digest;
mod server;
#[cfg(test)]
mod tests;

pub use client::ClientHandshake;
pub use server::ServerHandshake;

use sha2::{Digest, Sha256};

/// The size of C1, S1, C2 and S2.
const BLOB: usize = 1536;

/// The protocol version in C0 and S0.
const VERSION: u8 = 3;

/// How the two ends prove themselves to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// No digests.
    Simple,
    /// Digests; in C1 and S1 the key block comes first ("schema 0").
    KeyThenDigest,
    /// Digests; in C1 and S1 the digest block comes first ("schema 1").
    DigestThenKey,
}

/// Why a handshake failed. The culprit is the peer; the connection must close.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// C0 or S0 asks for RTMPE.
    #[error("byte {offset}: encrypted RTMP (version {version})")]
    Encrypted {
        /// Of C0 or S0 in the connection.
        offset: u64,
        /// 6, 8 or 9.
        version: u8,
    },
    /// C0 or S0 has another version; from 32 on it is not RTMP at all (5.2.2).
    #[error("byte {offset}: RTMP version {version}, not {VERSION}")]
    Version {
        /// Of C0 or S0 in the connection.
        offset: u64,
        /// Its value.
        version: u8,
    },
    /// A proxy header before C0 that is too long.
    #[error("byte {offset}: proxy header of {length} bytes, limit {limit}")]
    ProxyHeaderTooLong {
        /// Of the header in the connection.
        offset: u64,
        /// What it claims.
        length: u16,
        /// The most there may be.
        limit: u16,
    },
}

/// The random bytes of one handshake.
#[derive(Clone)]
pub struct Random([u8; BLOB - 8]);

impl Random {
    /// Takes all the bytes.
    pub fn new(bytes: [u8; BLOB - 8]) -> Random {
        Random(bytes)
    }

    /// Stretches a seed. Equal seeds give equal bytes; give each connection its own.
    pub fn from_seed(seed: u64) -> Random {
        let mut bytes = [0; BLOB - 8];
        for (counter, part) in (0_u64..).zip(bytes.chunks_mut(32)) {
            let block = Sha256::new().chain_update(seed.to_be_bytes()).chain_update(counter.to_be_bytes());
            part.copy_from_slice(&block.finalize()[..part.len()]);
        }
        Random(bytes)
    }
}

impl std::fmt::Debug for Random {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Random(..)")
    }
}

/// C1 or S1: epoch, version of the software, random bytes.
fn first_blob(epoch: u32, software: [u8; 4], random: &Random) -> [u8; BLOB] {
    let mut blob = [0; BLOB];
    blob[..4].copy_from_slice(&epoch.to_be_bytes());
    blob[4..8].copy_from_slice(&software);
    blob[8..].copy_from_slice(&random.0);
    blob
}

fn check_version(offset: u64, version: u8) -> Result<(), HandshakeError> {
    match version {
        VERSION => Ok(()),
        6 | 8 | 9 => Err(HandshakeError::Encrypted { offset, version }),
        _ => Err(HandshakeError::Version { offset, version }),
    }
}
