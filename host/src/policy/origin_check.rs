//! Origins that are asked about each viewer of an edge (`token_traverse`).

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use super::Request;
use crate::conf::Vhost;

/// Asks the origins of a vhost whether a client may play. `cluster` implements it.
pub trait OriginCheck: fmt::Debug + Send + Sync {
    /// Decides on a request for a stream of `vhost`, as the first origin that answers does.
    fn check<'a>(
        &'a self,
        vhost: &'a Vhost,
        request: &'a Request,
    ) -> Pin<Box<dyn Future<Output = Result<(), OriginRefusal>> + Send + 'a>>;
}

/// The reason why an origin does not allow a viewer.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum OriginRefusal {
    /// It refuses the viewer. Culprit: peer.
    #[error("an origin refuses: {code}")]
    Refused {
        /// Its status.
        code: String,
    },
    /// None has answered. Culprit: operator.
    #[error("no origin answers: {reason}")]
    NoAnswer {
        /// The reason at the last one.
        reason: String,
    },
}
