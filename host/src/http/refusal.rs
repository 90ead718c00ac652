//! Why a request is not answered with a stream.

use hyper::StatusCode;

use crate::media::Codec;
use crate::plugin::OptionError;

/// Why a request is refused. [`Display`](std::fmt::Display) is the body of the response: one line for a person.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The path is not one: `..`, encoded slashes, no UTF-8.
    #[error("this path cannot be served")]
    Path,
    /// An option in the query has a value that the format does not take.
    #[error(transparent)]
    Option(#[from] OptionError),
    /// The opening handshake of a WebSocket is not right (RFC 6455, 4.2.1).
    #[error("this is no WebSocket handshake of version 13")]
    Handshake,
    /// Neither a mount nor a page.
    #[error("nothing is mounted here")]
    NotMounted,
    /// The mount's format does not travel over plain HTTP.
    #[error("this stream is served over WebSocket only")]
    WebSocketOnly,
    /// No publisher, also after the wait.
    #[error("this stream is not live")]
    NotLive,
    /// Methods other than GET, HEAD and OPTIONS.
    #[error("this method is not allowed here")]
    Method {
        /// Whether OPTIONS is answered.
        crossdomain: bool,
    },
    /// The format carries none of the stream's codecs.
    #[error("this format cannot carry the stream's codecs (video {video}, audio {audio})")]
    Codec {
        /// The stream's video codec.
        video: Codec,
        /// The stream's audio codec.
        audio: Codec,
    },
    /// The module or the host cannot serve it now.
    #[error("this stream cannot be served at the moment")]
    Unavailable,
}

impl Refusal {
    /// The status that tells it.
    pub fn status(&self) -> StatusCode {
        match self {
            Refusal::Path | Refusal::Option(_) | Refusal::Handshake => StatusCode::BAD_REQUEST,
            Refusal::NotMounted | Refusal::NotLive => StatusCode::NOT_FOUND,
            Refusal::WebSocketOnly => StatusCode::UPGRADE_REQUIRED,
            Refusal::Method { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Refusal::Codec { .. } => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Refusal::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}
