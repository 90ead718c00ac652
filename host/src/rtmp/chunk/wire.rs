//! Constants of the chunk format.

/// The chunk stream for protocol control and user control messages (5.4).
pub const CONTROL_CHUNK_STREAM: u32 = 2;

/// The chunk size before any Set Chunk Size (5.4.1).
pub(super) const DEFAULT_CHUNK_SIZE: u32 = 128;

/// The largest chunk size that a peer may set; no message is longer (5.4.1).
pub(super) const MAX_CHUNK_SIZE: u32 = 0x100_0000;

/// The largest message; its length has 24 bits (5.3.1.2.1).
pub(super) const MAX_MESSAGE_LENGTH: u32 = 0xFF_FFFF;

/// The largest chunk stream id (5.3.1.1).
pub(super) const MAX_CHUNK_STREAM: u32 = 0xFFFF + 64;

/// The timestamp field of a header that is followed by an extended timestamp (5.3.1.3).
pub(super) const EXTENDED: u32 = 0xFF_FFFF;
