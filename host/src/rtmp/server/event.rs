//! What a server session tells its owner, and what the owner answers.

use crate::media::Tag;
use crate::rtmp::command::{ConnectRequest, PlayRequest, PublishRequest, code};

/// What a client wants, does, or sends.
///
/// Requests wait for an answer: `accept_…` or `reject_…` of [`ServerSession`](super::ServerSession). A session
/// goes on without one, so that a client that leaves is noticed; media that come before the answer are dropped.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// The client connects. Always the first event.
    Connect {
        /// What it says.
        request: ConnectRequest,
    },
    /// The client wants to publish.
    Publish {
        /// The message stream.
        stream_id: u32,
        /// What it publishes.
        request: PublishRequest,
    },
    /// The client wants to play.
    Play {
        /// The message stream.
        stream_id: u32,
        /// What it plays.
        request: PlayRequest,
    },
    /// A tag of an accepted publisher. Its time is the message's 32-bit timestamp; `@setDataFrame` is gone.
    Media {
        /// The message stream.
        stream_id: u32,
        /// The tag.
        tag: Tag,
    },
    /// The publisher, accepted or not, is done with this message stream. A closed connection gives no such event.
    Unpublish {
        /// The message stream.
        stream_id: u32,
    },
    /// The player, accepted or not, is done with this message stream.
    StopPlay {
        /// The message stream.
        stream_id: u32,
    },
    /// The player pauses or goes on. It was answered already.
    Pause {
        /// The message stream.
        stream_id: u32,
        /// Whether it pauses.
        paused: bool,
    },
    /// The player wants audio, or not.
    ReceiveAudio {
        /// The message stream.
        stream_id: u32,
        /// Whether it does.
        wanted: bool,
    },
    /// The player wants video, or not.
    ReceiveVideo {
        /// The message stream.
        stream_id: u32,
        /// Whether it does.
        wanted: bool,
    },
    /// The player tells its buffer.
    BufferLength {
        /// The message stream.
        stream_id: u32,
        /// The buffer, in milliseconds.
        millis: u32,
    },
}

/// Why a request is refused. It decides code and description of the status that the client gets.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Rejection {
    /// The stream has a publisher already.
    Busy,
    /// No such stream, vhost or app.
    NotFound,
    /// Access rules refuse the client.
    Denied,
    /// The server has no room, or cannot serve this now.
    Unavailable,
    /// The client shall go elsewhere: a whole RTMP URL (status with `ex.code` 302, as SRS sends it).
    Redirect {
        /// Where to.
        url: String,
    },
}

/// A redirect's URL may hold a token.
impl std::fmt::Debug for Rejection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Rejection::Busy => "Busy",
            Rejection::NotFound => "NotFound",
            Rejection::Denied => "Denied",
            Rejection::Unavailable => "Unavailable",
            Rejection::Redirect { .. } => "Redirect",
        })
    }
}

impl Rejection {
    pub(super) fn connect_status(&self) -> (&'static str, &'static str) {
        let description = match self {
            Rejection::Busy | Rejection::Unavailable => "The server cannot take this connection now.",
            Rejection::NotFound => "There is no such application.",
            Rejection::Denied => "This client may not connect.",
            Rejection::Redirect { .. } => REDIRECT,
        };
        (code::CONNECT_REJECTED, description)
    }

    pub(super) fn publish_status(&self) -> (&'static str, &'static str) {
        match self {
            Rejection::Busy => (code::PUBLISH_BAD_NAME, "The stream is being published already."),
            Rejection::NotFound => (code::PUBLISH_BAD_NAME, "No stream can be published under this name."),
            Rejection::Denied => (code::PUBLISH_DENIED, "This client may not publish the stream."),
            Rejection::Unavailable => (code::PUBLISH_FAILED, "The server cannot take this stream now."),
            Rejection::Redirect { .. } => (code::CONNECT_REJECTED, REDIRECT),
        }
    }

    pub(super) fn play_status(&self) -> (&'static str, &'static str) {
        match self {
            Rejection::NotFound => (code::PLAY_NOT_FOUND, "There is no such stream."),
            Rejection::Denied => (code::PLAY_FAILED, "This client may not play the stream."),
            Rejection::Busy | Rejection::Unavailable => {
                (code::PLAY_FAILED, "The server cannot serve this stream now.")
            }
            Rejection::Redirect { .. } => (code::CONNECT_REJECTED, REDIRECT),
        }
    }
}

const REDIRECT: &str = "Go to the URL in ex.redirect2.";

/// Why a player's stream ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlayEnd {
    /// The publisher left.
    Unpublished,
    /// The server ends it.
    Stopped,
}

impl PlayEnd {
    pub(super) fn status(self) -> (&'static str, &'static str) {
        match self {
            PlayEnd::Unpublished => (code::PLAY_UNPUBLISH_NOTIFY, "The publisher left."),
            PlayEnd::Stopped => (code::PLAY_STOP, "The stream was stopped."),
        }
    }
}
