//! RTMP chunk streams: bytes in, messages out, and back (RTMP 1.0, 5.3).
//!
//! A peer interleaves messages by cutting them into chunks. [`ChunkReader`] undoes that for one direction of
//! one connection; [`ChunkWriter`] does it for the other.
//!
//! Choices where the specification is silent or the field disagrees:
//! - A type 3 chunk that starts a message after a type 0 chunk repeats that chunk's *timestamp* as its delta
//!   (5.3.1.2.4). ffmpeg, librtmp and SRS all read it so, and ffmpeg writes it (equal audio frames at 23 and
//!   46 ms); nginx-rtmp alone reads a delta of 0. [`ChunkWriter`] therefore never starts a message so.
//! - A header of type 0, 1 or 2 within a message is an error. Receivers disagree (SRS closes, ffmpeg starts
//!   over when the length changed, librtmp starts over on type 0 and 1), so no encoder can rely on any of it.
//! - A chunk stream may begin with a type 1 header; its message stream is then 0 and its timestamp counts
//!   from 0. librtmp opens the protocol control chunk stream so.

mod error;
mod reader;
#[cfg(test)]
mod tests;
mod writer;

pub use error::ChunkError;
pub use reader::{ChunkLimits, ChunkReader};
pub use writer::ChunkWriter;

/// The chunk stream for protocol control and user control messages (5.4).
pub const CONTROL_CHUNK_STREAM: u32 = 2;

/// The chunk size before any Set Chunk Size (5.4.1).
pub const DEFAULT_CHUNK_SIZE: u32 = 128;

/// The largest chunk size that a peer may set: no message is longer (5.4.1).
pub const MAX_CHUNK_SIZE: u32 = 0x100_0000;

/// The largest message: its length has 24 bits (5.3.1.2.1).
pub const MAX_MESSAGE_LENGTH: u32 = 0xFF_FFFF;

/// The largest chunk stream id (5.3.1.1).
pub const MAX_CHUNK_STREAM: u32 = 0xFFFF + 64;

/// A timestamp field of this value says that an extended timestamp follows (5.3.1.3).
const EXTENDED: u32 = 0xFF_FFFF;
