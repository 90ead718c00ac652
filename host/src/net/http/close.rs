//! The reason why an HTTP connection closes.

use std::io;

use crate::budget::OverBudget;
use crate::net::fanout::Reason;

/// The reason why a connection closes. Culprit: peer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Close {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Http(#[from] hyper::Error),
    #[error("no request in time")]
    NoRequest,
    #[error("no more requests")]
    Idle,
    #[error("{0}")]
    OverBudget(#[from] OverBudget),
    #[error("too many requests were reset before their responses")]
    Resets,
    #[error("{0}")]
    Left(#[from] Reason),
}

impl Close {
    /// The name of the refusal; `None` if the peer has left or does nothing.
    pub(super) fn refusal(&self) -> Option<&'static str> {
        match self {
            Close::Http(error) if error.is_parse() || error.is_parse_too_large() => Some("http_protocol"),
            Close::OverBudget(_) | Close::Left(Reason::OverBudget(_)) => Some("memory"),
            Close::Resets => Some("http_resets"),
            Close::NoRequest => Some("no_request"),
            Close::Http(_) | Close::Io(_) | Close::Idle | Close::Left(_) => None,
        }
    }
}
