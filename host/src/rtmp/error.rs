use super::chunk::ChunkError;
use super::command::CommandError;
use super::handshake::HandshakeError;
use super::message::{AggregateError, ControlTooShort};

/// A violation of the protocol or of a limit. The culprit is the peer; the connection must close.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum SessionError {
    /// The handshake failed.
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    /// A chunk is malformed or exceeds a limit.
    #[error(transparent)]
    Chunk(#[from] ChunkError),
    /// A control message is too short.
    #[error(transparent)]
    Control(#[from] ControlTooShort),
    /// An aggregate message is malformed.
    #[error(transparent)]
    Aggregate(#[from] AggregateError),
    /// A command message is malformed.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// A command arrived before `connect` was accepted.
    #[error("a command before connect was accepted")]
    NotConnected,
    /// A second `connect` arrived.
    #[error("a second connect on one connection")]
    ConnectedTwice,
    /// The client opened too many message streams.
    #[error("more than {limit} message streams")]
    TooManyStreams {
        /// The maximum number of open message streams.
        limit: usize,
    },
    /// The client sent too much before a `publish` or `play` was accepted.
    #[error("{messages} messages and {bytes} bytes received, but nothing was published or played")]
    NothingAccepted {
        /// Messages received.
        messages: u32,
        /// Bytes received.
        bytes: u64,
    },
    /// The peer causes replies that it does not read.
    #[error("the peer does not read its replies: {bytes} bytes are queued, limit {limit}")]
    UnreadReplies {
        /// Queued bytes.
        bytes: usize,
        /// The maximum.
        limit: usize,
    },
    /// A server's response to `createStream` contains no message stream.
    #[error("the response to createStream contains no message stream")]
    NoStreamId,
}

impl SessionError {
    /// Whether the peer exceeds its share of the budget.
    pub fn is_over_budget(&self) -> bool {
        matches!(
            self,
            SessionError::Chunk(ChunkError::OverBudget(_))
                | SessionError::Aggregate(AggregateError::OverBudget(_))
        )
    }
}
