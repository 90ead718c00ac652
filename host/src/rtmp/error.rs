//! What ends a session.

use super::chunk::ChunkError;
use super::command::CommandError;
use super::handshake::HandshakeError;
use super::message::{AggregateError, ControlTooShort};

/// Why a session cannot go on. The culprit is the peer; the connection must close.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum SessionError {
    /// The handshake failed.
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    /// The chunk stream cannot be read on.
    #[error(transparent)]
    Chunk(#[from] ChunkError),
    /// A control message ends early.
    #[error(transparent)]
    Control(#[from] ControlTooShort),
    /// An aggregate message cannot be taken apart.
    #[error(transparent)]
    Aggregate(#[from] AggregateError),
    /// A command message is none.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// A command before `connect` was accepted.
    #[error("a command before connect was accepted")]
    NotConnected,
    /// A second `connect`.
    #[error("a second connect on one connection")]
    ConnectedTwice,
    /// More message streams open at once than allowed.
    #[error("more than {limit} message streams")]
    TooManyStreams {
        /// [`MAX_STREAMS`](super::server::MAX_STREAMS).
        limit: usize,
    },
    /// Too much came before a `publish` or `play` was accepted.
    #[error("{messages} messages, {bytes} bytes, and nothing published or played")]
    NothingAccepted {
        /// Messages so far; see [`MAX_MESSAGES_UNACCEPTED`](super::server::MAX_MESSAGES_UNACCEPTED).
        messages: u32,
        /// Bytes so far; see [`MAX_BYTES_UNACCEPTED`](super::server::MAX_BYTES_UNACCEPTED).
        bytes: u64,
    },
    /// The peer makes us answer, and does not read the answers.
    #[error("{bytes} bytes of answers are not read, limit {limit}")]
    UnreadReplies {
        /// Bytes that wait.
        bytes: usize,
        /// [`MAX_UNREAD_REPLIES`](super::MAX_UNREAD_REPLIES).
        limit: usize,
    },
    /// A server's answer to `createStream` holds no message stream.
    #[error("the answer to createStream has no message stream")]
    NoStreamId,
}
