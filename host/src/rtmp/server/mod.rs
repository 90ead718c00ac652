//! The server's end of an RTMP connection (RTMP 1.0, 7.2; enhanced RTMP v2 for `connect` and reconnect).
//!
//! The owner of a [`ServerSession`] appends what it reads from the socket to the session's input, calls
//! [`poll_event`](ServerSession::poll_event) until it needs more input, answers requests, and writes the session's output
//! to the socket. A connection may carry several message streams, publishing and playing.
//!
//! Invariants:
//! - media is yielded only for a stream whose `publish` was accepted, and sent only where `play` was accepted;
//! - before the first accepted request a client may send at most `MAX_MESSAGES_UNACCEPTED` messages and
//!   `MAX_BYTES_UNACCEPTED` bytes; it may never have more than `MAX_STREAMS` message streams open;
//! - media that arrives while `publish` awaits an answer is held back. Above a limit the session reads nothing before the answer;
//! - after `Err` or [`is_over`](ServerSession::is_over) the connection must close, once the output is written.
//!
//! Tolerated:
//! - commands and media on a message stream that does not exist, while exactly one exists: they belong to that one
//!   (encoders that count message streams from 0, or always use 1);
//! - `publish` and `play` on a message stream in use: the earlier use ends first (Flash reuses its NetStream).

mod answer;
mod event;
mod session;
mod stream;
#[cfg(test)]
mod tests;

pub use event::{Event, LOOP, PlayEnd, PublishKind, Rejection};
#[cfg(test)]
pub(crate) use session::MAX_BYTES_UNACCEPTED;
pub use session::{ServerSession, ServerSettings};
#[cfg(test)]
pub(crate) use stream::MAX_STREAMS;
