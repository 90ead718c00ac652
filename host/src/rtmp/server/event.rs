use std::sync::Arc;

use crate::media::Tag;
use crate::rtmp::command::code;
use crate::rtmp::connect::ConnectRequest;
use crate::rtmp::tc_url::StreamName;

/// An event of a server session.
///
/// `Connect`, `Publish` and `Play` are requests: the owner answers by an `accept_…` or `reject_…` function of the session.
/// Until then the session keeps reading, so that it notices a client that leaves, and holds back the media of a publisher; see
/// [`ServerSession::is_full`](super::ServerSession::is_full).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// The client requests to connect. Always the first event.
    Connect {
        /// The client's command object.
        request: Arc<ConnectRequest>,
    },
    /// The client requests to publish.
    Publish {
        /// The message stream.
        stream_id: u32,
        /// The stream to publish.
        name: StreamName,
        /// The order of commands that led here.
        kind: PublishKind,
    },
    /// The client requests to play.
    Play {
        /// The message stream.
        stream_id: u32,
        /// The stream to play.
        name: StreamName,
    },
    /// A tag of an accepted publisher. Its `dts` is the message's 32-bit timestamp; a leading `@setDataFrame` is removed.
    Media {
        /// The message stream.
        stream_id: u32,
        /// The tag.
        tag: Tag,
    },
    /// The publisher, accepted or not, ended its use of the message stream. A closed connection causes no such event.
    Unpublish {
        /// The message stream.
        stream_id: u32,
    },
    /// The player, accepted or not, ended its use of the message stream. A closed connection causes no such event.
    StopPlay {
        /// The message stream.
        stream_id: u32,
    },
    /// The player paused or resumed. The session has already replied.
    Pause {
        /// The message stream.
        stream_id: u32,
        /// True if it paused.
        paused: bool,
    },
    /// The player turned audio on or off.
    ReceiveAudio {
        /// The message stream.
        stream_id: u32,
        /// True if it was turned on.
        wanted: bool,
    },
    /// The player turned video on or off.
    ReceiveVideo {
        /// The message stream.
        stream_id: u32,
        /// True if it was turned on.
        wanted: bool,
    },
}

/// The order of commands by which a client introduces a publish. It says nothing about the media, but identifies the family
/// of encoders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublishKind {
    /// `FCPublish` before `createStream`: FMLE, ffmpeg, OBS, librtmp, GStreamer.
    Fmle,
    /// No `FCPublish`: Flash.
    Flash,
    /// `FCPublish` after `createStream`: Haivision.
    Haivision,
}

/// The reason for which a request is rejected. It determines code and description of the status that the client gets.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Rejection {
    /// The stream already has a publisher.
    Busy,
    /// No such stream, vhost or app.
    NotFound,
    /// Access rules deny the request.
    Denied,
    /// The server has no memory for the client, or no more than the client has.
    NoMemory,
    /// The server accepts no more clients, or none of this address.
    Full,
    /// The stream is on another server, which cannot be reached.
    Unreachable,
    /// The publisher sends more than it may.
    Bitrate,
    /// An operator has ended the session.
    Kicked,
    /// The stream has a newer publisher, at another server.
    Moved,
    /// The stream has passed this server already, or too many.
    Loop,
    /// The server that would get the stream rejects it, with this code and description.
    Upstream {
        /// The status code.
        code: String,
        /// The description, which may repeat a stream key.
        description: String,
    },
    /// The client should connect to another server (a status with `ex.code` 302, as SRS sends it).
    Redirect {
        /// The whole RTMP URL.
        url: String,
    },
}

/// Leaves out the URL of a redirect, which may hold a token, and descriptions of other servers.
impl std::fmt::Debug for Rejection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Rejection::Busy => "Busy",
            Rejection::NotFound => "NotFound",
            Rejection::Denied => "Denied",
            Rejection::NoMemory => "NoMemory",
            Rejection::Full => "Full",
            Rejection::Unreachable => "Unreachable",
            Rejection::Bitrate => "Bitrate",
            Rejection::Kicked => "Kicked",
            Rejection::Moved => "Moved",
            Rejection::Loop => "Loop",
            Rejection::Upstream { .. } => "Upstream",
            Rejection::Redirect { .. } => "Redirect",
        })
    }
}

impl Rejection {
    pub(super) fn connect_status(&self) -> (&str, &str) {
        let description = match self {
            Rejection::Busy => "The server cannot take this connection now.",
            Rejection::NotFound => "There is no such application.",
            Rejection::Denied => "This client may not connect.",
            Rejection::NoMemory => NO_MEMORY,
            Rejection::Full => FULL,
            Rejection::Unreachable => UNREACHABLE,
            Rejection::Bitrate => BITRATE,
            Rejection::Kicked => KICKED,
            Rejection::Moved => MOVED,
            Rejection::Loop => LOOP,
            Rejection::Upstream { description, .. } => description.as_str(),
            Rejection::Redirect { .. } => REDIRECT,
        };
        (code::CONNECT_REJECTED, description)
    }

    pub(super) fn publish_status(&self) -> (&str, &str) {
        match self {
            Rejection::Busy => (code::PUBLISH_BAD_NAME, "The stream is being published already."),
            Rejection::NotFound => (code::PUBLISH_BAD_NAME, "No stream can be published under this name."),
            Rejection::Denied => (code::PUBLISH_DENIED, "This client may not publish the stream."),
            // librtmp, and OBS with it, knows this code but not Failed.
            Rejection::NoMemory => (code::PUBLISH_DENIED, NO_MEMORY),
            Rejection::Full => (code::PUBLISH_DENIED, FULL),
            Rejection::Unreachable => (code::PUBLISH_DENIED, UNREACHABLE),
            Rejection::Bitrate => (code::PUBLISH_DENIED, BITRATE),
            Rejection::Kicked => (code::PUBLISH_DENIED, KICKED),
            Rejection::Moved => (code::PUBLISH_BAD_NAME, MOVED),
            Rejection::Loop => (code::PUBLISH_DENIED, LOOP),
            Rejection::Upstream { code, description } => (code.as_str(), description.as_str()),
            Rejection::Redirect { .. } => (code::CONNECT_REJECTED, REDIRECT),
        }
    }

    pub(super) fn play_status(&self) -> (&str, &str) {
        match self {
            Rejection::NotFound => (code::PLAY_NOT_FOUND, "There is no such stream."),
            Rejection::Denied => (code::PLAY_FAILED, "This client may not play the stream."),
            Rejection::Busy => (code::PLAY_FAILED, "The server cannot serve this stream now."),
            Rejection::NoMemory => (code::PLAY_FAILED, NO_MEMORY),
            Rejection::Full => (code::PLAY_FAILED, FULL),
            Rejection::Unreachable => (code::PLAY_FAILED, UNREACHABLE),
            Rejection::Bitrate => (code::PLAY_FAILED, BITRATE),
            Rejection::Kicked => (code::PLAY_FAILED, KICKED),
            Rejection::Moved => (code::PLAY_FAILED, MOVED),
            Rejection::Loop => (code::PLAY_FAILED, LOOP),
            Rejection::Upstream { code, description } => (code.as_str(), description.as_str()),
            Rejection::Redirect { .. } => (code::CONNECT_REJECTED, REDIRECT),
        }
    }
}

const NO_MEMORY: &str = "The server is short of memory. Try again later.";
const FULL: &str = "The server accepts no more at the moment. Try again later.";
const UNREACHABLE: &str = "No server that may have this stream can be reached. Try again later.";
const BITRATE: &str = "The stream exceeds the bitrate that the server accepts.";
const KICKED: &str = "The operator of the server has ended this.";
const MOVED: &str = "The stream has a newer publisher at another server.";
/// A node that sends a stream knows a loop by this text.
pub const LOOP: &str = "The stream comes from here: a loop.";
const REDIRECT: &str = "Go to the URL in ex.redirect2.";

/// The reason for which a play ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlayEnd {
    /// The publisher left.
    Unpublished,
    /// The server ends the play.
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
