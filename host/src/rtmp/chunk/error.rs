use super::MAX_CHUNK_SIZE;
use crate::rtmp::message::MessageKind;

/// Why a peer's chunk stream cannot be read on. The culprit is the peer; the connection must close.
///
/// `offset` counts the connection's bytes, from the first handshake byte if the reader was told so
/// ([`ChunkReader::starting_at`](super::ChunkReader::starting_at)), to the start of the chunk at fault.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChunkError {
    /// A type 2 or 3 chunk on a chunk stream that had no header yet.
    #[error("byte {offset}: chunk stream {chunk_stream} begins with a type {header_type} header")]
    NoEarlierHeader {
        /// Of the chunk.
        offset: u64,
        /// Where it came.
        chunk_stream: u32,
        /// 2 or 3.
        header_type: u8,
    },
    /// A type 0, 1 or 2 header within a message.
    #[error(
        "byte {offset}: type {header_type} header on chunk stream {chunk_stream} after {received} of {length} \
         bytes of a message"
    )]
    HeaderWithinMessage {
        /// Of the chunk.
        offset: u64,
        /// Where it came.
        chunk_stream: u32,
        /// 0, 1 or 2.
        header_type: u8,
        /// Bytes of the unfinished message.
        received: u32,
        /// The unfinished message's length.
        length: u32,
    },
    /// A message longer than the limit.
    #[error("byte {offset}: message of {length} bytes, limit {limit}")]
    MessageTooLong {
        /// Of the chunk.
        offset: u64,
        /// What the header claims.
        length: u32,
        /// [`ChunkLimits::max_message`](super::ChunkLimits::max_message).
        limit: u32,
    },
    /// The unfinished messages of all chunk streams are more than the limit.
    #[error("byte {offset}: unfinished messages of {needed} bytes, limit {limit}")]
    TooMuchBuffered {
        /// Of the chunk.
        offset: u64,
        /// Bytes of all unfinished messages with the chunk's.
        needed: usize,
        /// [`ChunkLimits::max_buffered`](super::ChunkLimits::max_buffered).
        limit: usize,
    },
    /// More chunk streams than the limit.
    #[error("byte {offset}: chunk stream {chunk_stream} is one more than the limit of {limit}")]
    TooManyChunkStreams {
        /// Of the chunk.
        offset: u64,
        /// The one too many.
        chunk_stream: u32,
        /// [`ChunkLimits::max_chunk_streams`](super::ChunkLimits::max_chunk_streams).
        limit: usize,
    },
    /// Set Chunk Size with 0 or a value above [`MAX_CHUNK_SIZE`].
    #[error("byte {offset}: chunk size {size}, not within 1..={MAX_CHUNK_SIZE}")]
    ChunkSize {
        /// Of the message's last chunk.
        offset: u64,
        /// The size asked for.
        size: u32,
    },
    /// Set Chunk Size or Abort with fewer than 4 bytes.
    #[error("byte {offset}: {kind:?} with {length} bytes, needs 4")]
    ControlTooShort {
        /// Of the message's last chunk.
        offset: u64,
        /// Which.
        kind: MessageKind,
        /// Of the payload.
        length: usize,
    },
}
