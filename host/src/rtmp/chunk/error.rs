use super::wire::MAX_CHUNK_SIZE;
use crate::budget::OverBudget;
use crate::rtmp::message::MessageKind;

/// A violation of the chunk format or of a limit. The culprit is the peer; the connection must close.
///
/// An `offset` is the position of the offending chunk in the bytes of the connection, counted from the start that the reader
/// was given: the first byte of the handshake.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChunkError {
    /// A chunk stream begins with a type 2 or 3 header.
    #[error("byte {offset}: chunk stream {chunk_stream} begins with a type {header_type} header")]
    NoEarlierHeader {
        /// Offset of the chunk.
        offset: u64,
        /// The chunk stream.
        chunk_stream: u32,
        /// 2 or 3.
        header_type: u8,
    },
    /// A message is interrupted by a type 0, 1 or 2 header.
    #[error(
        "byte {offset}: type {header_type} header on chunk stream {chunk_stream} after {received} of {length} \
         bytes of a message"
    )]
    HeaderWithinMessage {
        /// Offset of the chunk.
        offset: u64,
        /// The chunk stream.
        chunk_stream: u32,
        /// 0, 1 or 2.
        header_type: u8,
        /// Received bytes of the unfinished message.
        received: u32,
        /// Length of the unfinished message.
        length: u32,
    },
    /// A message is longer than the limit.
    #[error("byte {offset}: message of {length} bytes, limit {limit}")]
    MessageTooLong {
        /// Offset of the chunk.
        offset: u64,
        /// The length that the header claims.
        length: u32,
        /// [`max_message`](super::ChunkLimits::max_message).
        limit: u32,
    },
    /// The unfinished messages of all chunk streams exceed the limit.
    #[error("byte {offset}: unfinished messages of {needed} bytes, limit {limit}")]
    TooMuchBuffered {
        /// Offset of the chunk.
        offset: u64,
        /// Bytes of all unfinished messages, this chunk included.
        needed: usize,
        /// [`max_buffered`](super::ChunkLimits::max_buffered).
        limit: usize,
    },
    /// The memory of a message exceeds the peer's share of the budget.
    #[error(transparent)]
    OverBudget(#[from] OverBudget),
    /// The peer uses more chunk streams than the limit.
    #[error("byte {offset}: chunk stream {chunk_stream} exceeds the limit of {limit} chunk streams")]
    TooManyChunkStreams {
        /// Offset of the chunk.
        offset: u64,
        /// The chunk stream that exceeds the limit.
        chunk_stream: u32,
        /// [`max_chunk_streams`](super::ChunkLimits::max_chunk_streams).
        limit: usize,
    },
    /// Set Chunk Size has a value of 0 or above the largest message.
    #[error("byte {offset}: chunk size {size}, not within 1..={MAX_CHUNK_SIZE}")]
    ChunkSize {
        /// Offset of the message's last chunk.
        offset: u64,
        /// The requested size.
        size: u32,
    },
    /// Set Chunk Size or Abort has fewer than 4 bytes.
    #[error("byte {offset}: {kind:?} with {length} bytes, needs 4")]
    ControlTooShort {
        /// Offset of the message's last chunk.
        offset: u64,
        /// The message type.
        kind: MessageKind,
        /// Length of the payload, in bytes.
        length: usize,
    },
}
