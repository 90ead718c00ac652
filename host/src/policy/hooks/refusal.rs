//! Refusals by hooks.

use super::HookAction;
use crate::conf::Endpoint;
use crate::policy::outbound::OutboundError;

/// The reason why a hook refuses, or the decision fails. Culprit: operator.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum HookRefusal {
    /// The hook refuses.
    #[error("{action} at {endpoint} refuses: {reason}")]
    Refused {
        /// The hook.
        action: HookAction,
        /// Its URL.
        endpoint: Endpoint,
        /// How.
        reason: Reason,
    },
    /// The server of the hook is at fault.
    #[error("{action} at {endpoint} failed: status {status}")]
    Status {
        /// The hook.
        action: HookAction,
        /// Its URL.
        endpoint: Endpoint,
        /// The status.
        status: u16,
    },
    /// There was no answer.
    #[error("{action} at {endpoint} failed: {error}")]
    NoAnswer {
        /// The hook.
        action: HookAction,
        /// Its URL.
        endpoint: Endpoint,
        /// The reason.
        error: OutboundError,
    },
    /// Too many requests are on their way.
    #[error("{action} failed: too many requests wait")]
    Busy {
        /// The hook.
        action: HookAction,
    },
    /// The host stops.
    #[error("the host stops")]
    Stopping,
}

/// How a hook refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// By a code other than 0.
    #[error("code {0}")]
    Code(i64),
    /// By a status.
    #[error("status {0}")]
    Status(u16),
    /// By a body that is neither a number nor an object with a code.
    #[error("an answer without code")]
    NoCode,
}
