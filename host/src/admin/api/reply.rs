//! Replies: what pages return.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{Either, Full};
use hyper::header::{
    ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE,
    X_CONTENT_TYPE_OPTIONS,
};
use hyper::{Response, StatusCode};
use serde::Serialize;

use super::events::Subscription;
use crate::admin::guard::Denial;

pub(super) const JSON: &str = "application/json";
pub(super) const EVENTS: &str = "text/event-stream";
pub(super) const TEXT: &str = "text/plain; charset=utf-8";

/// The reply to a request.
#[derive(Debug)]
pub(in crate::admin) struct Reply {
    pub status: StatusCode,
    pub content_type: &'static str,
    pub body: Bytes,
    /// The events that follow the body, if it has no end.
    pub events: Option<Subscription>,
    /// Further headers.
    pub headers: HeaderMap,
}

impl Reply {
    pub fn new(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Reply {
        Reply { status, content_type, body: body.into(), events: None, headers: HeaderMap::new() }
    }

    pub fn json(status: StatusCode, value: &impl Serialize) -> Reply {
        // Strings, numbers, and lists and maps of them always serialize.
        Reply::new(status, JSON, serde_json::to_vec(value).unwrap_or_default())
    }

    /// Returns a reply that goes on until the subscription ends.
    pub fn events(subscription: Subscription) -> Reply {
        Reply { events: Some(subscription), ..Reply::new(StatusCode::OK, EVENTS, Bytes::new()) }
    }

    /// Adds a header.
    pub fn with(mut self, name: HeaderName, value: HeaderValue) -> Reply {
        self.headers.append(name, value);
        self
    }

    /// Returns the response. No cache keeps it, and no browser takes it for something else than it is.
    pub fn response(self) -> Response<Either<Full<Bytes>, Subscription>> {
        let Reply { status, content_type, body, events, headers } = self;
        let mut response = match events {
            Some(events) => {
                let stay = events.stay();
                let mut response = Response::new(Either::Right(events));
                response.extensions_mut().insert(stay);
                response
            }
            None => Response::new(Either::Left(Full::new(body))),
        };
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        response
    }
}

/// The reason for which a page is refused. Culprit: peer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refused {
    /// There is no such page, or nothing that it could show or change.
    #[error("{0}")]
    Missing(&'static str),
    /// A parameter is wrong.
    #[error("{0}")]
    Parameter(String),
    /// The body of the request is too long, or did not come.
    #[error("the body must have at most 4096 bytes")]
    Body,
    /// Credentials are wrong.
    #[error(transparent)]
    Denied(Denial),
    /// Whoever asks may not.
    #[error("allowed on the control socket, and to a user of the API who may do this")]
    Forbidden,
    /// The page has no such method.
    #[error("this method is not allowed here")]
    Method {
        /// The methods that it has.
        allowed: String,
    },
    /// There are as many subscriptions as there may be.
    #[error("too many pages follow the events")]
    Busy,
    /// The page failed. Culprit: host.
    #[error("the page failed; the log has more")]
    Failed,
}

impl Refused {
    pub fn status(&self) -> StatusCode {
        match self {
            Refused::Missing(_) => StatusCode::NOT_FOUND,
            Refused::Parameter(_) => StatusCode::BAD_REQUEST,
            Refused::Body => StatusCode::PAYLOAD_TOO_LARGE,
            Refused::Denied(denial) => status(*denial),
            Refused::Forbidden => StatusCode::FORBIDDEN,
            Refused::Method { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Refused::Busy => StatusCode::SERVICE_UNAVAILABLE,
            Refused::Failed => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl From<Refused> for Reply {
    fn from(refused: Refused) -> Reply {
        if let Refused::Denied(denial) = refused {
            return Reply::from(denial);
        }
        let reply = Reply::new(refused.status(), TEXT, format!("{refused}\n"));
        match refused {
            Refused::Method { allowed } => match HeaderValue::try_from(allowed) {
                Ok(allowed) => reply.with(ALLOW, allowed),
                Err(_) => reply,
            },
            _ => reply,
        }
    }
}

impl From<Denial> for Reply {
    fn from(denial: Denial) -> Reply {
        let reply = Reply::new(status(denial), TEXT, format!("{denial}\n"));
        match denial {
            Denial::Credentials => reply
                .with(WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"remuxd\", charset=\"UTF-8\""))
                .with(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer")),
            Denial::Failures { retry_after } => {
                reply.with(RETRY_AFTER, HeaderValue::from(whole_seconds(retry_after)))
            }
            Denial::Host | Denial::Origin => reply,
        }
    }
}

fn status(denial: Denial) -> StatusCode {
    match denial {
        Denial::Host => StatusCode::MISDIRECTED_REQUEST,
        Denial::Credentials => StatusCode::UNAUTHORIZED,
        Denial::Failures { .. } => StatusCode::TOO_MANY_REQUESTS,
        Denial::Origin => StatusCode::FORBIDDEN,
    }
}

/// Returns a duration in seconds, rounded up.
fn whole_seconds(duration: Duration) -> u64 {
    duration.as_secs() + 1
}
