//! Refusals of requests, and their responses.

use std::time::Duration;

use hyper::header::{
    ALLOW, CONNECTION, CONTENT_RANGE, CONTENT_TYPE, HeaderValue, RETRY_AFTER, SEC_WEBSOCKET_VERSION, UPGRADE,
    WWW_AUTHENTICATE,
};
use hyper::{Method, Request, Response, StatusCode, Version};

use super::Body;
use crate::budget::OverBudget;
use crate::media::Codec;
use crate::module::OptionError;
use crate::policy::{self, Answer};
use crate::router::InvalidPath;
use crate::stream::{MountError, SupplyError};

/// The reason why a request is refused. [`Display`](std::fmt::Display) is the body of the response: one line for a person.
#[derive(Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The path is invalid: `..`, encoded slashes, no UTF-8.
    #[error("this path cannot be served")]
    Path,
    /// Path and query are too long.
    #[error("the URL is longer than {limit} bytes")]
    TargetTooLong {
        /// The limit, in bytes.
        limit: usize,
    },
    /// Host is missing where it is required, occurs twice, or is invalid (RFC 9112, 3.2).
    #[error("the request must name one host")]
    Host,
    /// A GET or HEAD with a body.
    #[error("this request must not have a body")]
    Content,
    /// An option in the query has a value that the format does not accept.
    #[error(transparent)]
    Option(#[from] OptionError),
    /// The opening handshake of a WebSocket is invalid (RFC 6455, 4.2.1).
    #[error("this is no WebSocket handshake of version 13")]
    Handshake,
    /// A WebSocket of another version (RFC 6455, 4.4).
    #[error("this server speaks version 13 of WebSocket")]
    WebSocketVersion,
    /// The client requires an upgrade to a protocol that the host does not speak.
    #[error("this server upgrades to WebSocket only")]
    UnknownUpgrade,
    /// The policy needs credentials that the viewer does not show.
    #[error("access denied")]
    Unauthorized,
    /// The policy refuses the viewer, whatever credentials it has.
    #[error("access denied")]
    Forbidden,
    /// The viewer's address has too many viewers.
    #[error("too many streams are played from this address; try again later")]
    TooMany,
    /// The stream, the vhost or the host has too many viewers.
    #[error("no more viewers are accepted at the moment; try again later")]
    Full,
    /// All nodes to which the viewer could be redirected are full.
    #[error("all servers are full at the moment; try again later")]
    NodesFull,
    /// Neither a mount, nor a page, nor a file.
    #[error("nothing is mounted here")]
    NotMounted,
    /// The mount's format is served over WebSocket, not over HTTP.
    #[error("this stream is served over WebSocket only")]
    WebSocketOnly,
    /// The stream has no publisher, even after the wait.
    #[error("this stream is not live")]
    NotLive,
    /// The stream is live, but does not have the track that the query asks for.
    #[error("this stream has no track {track}")]
    NoTrack {
        /// The number of the track.
        track: u8,
    },
    /// A precondition of the request failed: the file has changed.
    #[error("the file has changed")]
    Precondition,
    /// The requested range or offset lies behind the end of the file.
    #[error("the file has {len} bytes")]
    Range {
        /// Length of the file, in bytes.
        len: u64,
    },
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
    /// The format failed too often on this stream.
    #[error("this format fails on this stream; try again in {} s", retry_after.as_secs() + 1)]
    Faults {
        /// When the next attempt is permitted.
        retry_after: Duration,
    },
    /// Viewers watch too many variants of the format on this stream.
    #[error(
        "{limit} other variants of this stream are being watched; without options in the URL it is served"
    )]
    TooManyVariants {
        /// The largest number of variants.
        limit: usize,
    },
    /// There is no memory for another viewer, or for another mount of the stream.
    #[error("the server is short of memory")]
    NoMemory(#[from] OverBudget),
    /// The stream cannot be had from other servers now.
    #[error(transparent)]
    Supply(SupplyError),
    /// The module or the host cannot serve it now.
    #[error("this stream cannot be served at the moment")]
    Unavailable,
}

impl From<policy::Refusal> for Refusal {
    fn from(refusal: policy::Refusal) -> Refusal {
        match refusal.answer() {
            Answer::Unauthorized => Refusal::Unauthorized,
            Answer::Forbidden => Refusal::Forbidden,
            Answer::TooMany => Refusal::TooMany,
            Answer::Full => Refusal::Full,
        }
    }
}

impl From<MountError> for Refusal {
    fn from(error: MountError) -> Refusal {
        match error {
            MountError::NoTrack { track } => Refusal::NoTrack { track },
            MountError::Faults { retry_after } => Refusal::Faults { retry_after },
            MountError::TooManyVariants { limit } => Refusal::TooManyVariants { limit },
            MountError::NoMemory(over) => Refusal::NoMemory(over),
            _ => Refusal::Unavailable,
        }
    }
}

impl From<SupplyError> for Refusal {
    fn from(error: SupplyError) -> Refusal {
        match error {
            SupplyError::NotFound => Refusal::NotLive,
            error => Refusal::Supply(error),
        }
    }
}

impl Refusal {
    /// Returns the name of its kind, in metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Refusal::Path => "path",
            Refusal::TargetTooLong { .. } => "long_url",
            Refusal::Host => "host",
            Refusal::Content => "content",
            Refusal::Option(_) => "option",
            Refusal::Handshake | Refusal::WebSocketVersion => "websocket_handshake",
            Refusal::UnknownUpgrade => "upgrade",
            Refusal::Unauthorized | Refusal::Forbidden => "access",
            Refusal::TooMany | Refusal::Full => "session_limit",
            Refusal::NodesFull => "nodes_full",
            Refusal::NotMounted => "not_mounted",
            Refusal::WebSocketOnly => "websocket_only",
            Refusal::NotLive => "not_live",
            Refusal::NoTrack { .. } => "no_track",
            Refusal::Precondition => "precondition",
            Refusal::Range { .. } => "range",
            Refusal::Method { .. } => "method",
            Refusal::Codec { .. } => "codec",
            Refusal::Faults { .. } => "faults",
            Refusal::TooManyVariants { .. } => "variants",
            Refusal::NoMemory(_) => "memory",
            Refusal::Supply(error) => error.name(),
            Refusal::Unavailable => "unavailable",
        }
    }

    /// Returns the reason for the log: of options in the query no value, of memory whose share it is.
    pub(super) fn reason(&self) -> String {
        match self {
            Refusal::Option(_) => "the format does not take an option in the query".to_owned(),
            Refusal::NoMemory(over) => over.to_string(),
            other => other.to_string(),
        }
    }

    /// Returns the status of the response.
    pub fn status(&self) -> StatusCode {
        match self {
            Refusal::Path | Refusal::Host | Refusal::Content | Refusal::Option(_) | Refusal::Handshake => {
                StatusCode::BAD_REQUEST
            }
            Refusal::TargetTooLong { .. } => StatusCode::URI_TOO_LONG,
            Refusal::Unauthorized => StatusCode::UNAUTHORIZED,
            Refusal::Forbidden => StatusCode::FORBIDDEN,
            Refusal::TooMany => StatusCode::TOO_MANY_REQUESTS,
            Refusal::NotMounted | Refusal::NotLive | Refusal::NoTrack { .. } => StatusCode::NOT_FOUND,
            Refusal::WebSocketOnly | Refusal::WebSocketVersion | Refusal::UnknownUpgrade => {
                StatusCode::UPGRADE_REQUIRED
            }
            Refusal::Precondition => StatusCode::PRECONDITION_FAILED,
            Refusal::Range { .. } => StatusCode::RANGE_NOT_SATISFIABLE,
            Refusal::Method { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Refusal::Codec { .. } => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Refusal::Full
            | Refusal::NodesFull
            | Refusal::Faults { .. }
            | Refusal::TooManyVariants { .. }
            | Refusal::NoMemory(_)
            | Refusal::Supply(_)
            | Refusal::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// Returns the response to `request`.
    pub(super) fn response<B>(&self, request: &Request<B>) -> Response<Body> {
        let status = self.status();
        let body =
            if request.method() == Method::HEAD { Body::empty() } else { Body::from(format!("{self}\n")) };
        let mut response = Response::new(body);
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        if let Refusal::Method { crossdomain } = self {
            let allowed = if *crossdomain { "GET, HEAD, OPTIONS" } else { "GET, HEAD" };
            headers.insert(ALLOW, HeaderValue::from_static(allowed));
        }
        // Required with 401 (RFC 9110, 15.5.2); browsers ask their user for nothing then.
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if status == StatusCode::UPGRADE_REQUIRED && request.version() < Version::HTTP_2 {
            headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
            headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
            headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        }
        if let Refusal::Range { len } = self
            && let Ok(range) = HeaderValue::try_from(format!("bytes */{len}"))
        {
            headers.insert(CONTENT_RANGE, range);
        }
        // The next bytes of the connection may be a body or, as far as the server can know, another request.
        if matches!(self, Refusal::Content | Refusal::Host) && request.version() < Version::HTTP_2 {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        if [StatusCode::SERVICE_UNAVAILABLE, StatusCode::TOO_MANY_REQUESTS].contains(&status) {
            let seconds = match self {
                Refusal::Faults { retry_after } => retry_after.as_secs() + 1,
                _ => 5,
            };
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

impl From<InvalidPath> for Refusal {
    fn from(_: InvalidPath) -> Refusal {
        Refusal::Path
    }
}
