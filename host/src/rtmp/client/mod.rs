//! The client's end of an RTMP connection, for one stream: publishes it to a server, or plays it from one.
//!
//! [`ClientSession`] has the shape of [`ServerSession`](super::ServerSession): bytes into its input, events from
//! [`poll_event`](ClientSession::poll_event), bytes out of its output. A publisher introduces itself as FMLE and ffmpeg do
//! (`releaseStream`, `FCPublish`, `createStream`, `publish`), which every server supports.
//!
//! Tolerated:
//! - a server that responds to `releaseStream` or `FCPublish` with `_error`, or not at all;
//! - a server that sends tags before `NetStream.Play.Start`, or without it: they are yielded.

mod event;
mod session;
#[cfg(test)]
mod tests;

pub use event::ClientEvent;
pub use session::{ClientSession, ClientSettings};
