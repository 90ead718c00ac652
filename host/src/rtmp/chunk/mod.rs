//! RTMP chunk streams (RTMP 1.0, 5.3): from bytes to messages, and back.
//!
//! A peer interleaves messages by splitting them into chunks. [`ChunkReader`] reassembles the messages of one direction
//! of a connection; [`ChunkWriter`] splits those of the other.
//!
//! Choices where the specification is silent or implementations differ:
//! - A type 3 chunk that starts a message after a type 0 chunk repeats that chunk's *timestamp* as its delta
//!   (5.3.1.2.4). ffmpeg, librtmp and SRS read it so, and ffmpeg writes it (equal audio frames at 23 and 46 ms);
//!   nginx-rtmp reads a delta of 0. [`ChunkWriter`] therefore never starts a message so.
//! - A header of type 0, 1 or 2 within a message is an error. Receivers disagree (SRS closes, ffmpeg starts over if the
//!   length changed, librtmp starts over on types 0 and 1), so no encoder can rely on any behaviour.
//! - A chunk stream may begin with a type 1 header. Its message stream is then 0 and its timestamp counts from 0.
//!   librtmp opens the protocol control chunk stream so.

mod error;
mod reader;
#[cfg(test)]
mod tests;
mod wire;
mod writer;

pub use error::ChunkError;
pub use reader::{ChunkLimits, ChunkReader};
pub use wire::CONTROL_CHUNK_STREAM;
pub use writer::ChunkWriter;
