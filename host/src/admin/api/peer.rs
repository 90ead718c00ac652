//! The peer of a connection.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use hyper::Request;
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::needs::Needs;
use crate::admin::guard::{Admitted, Caller, Denial, Guard};
use crate::policy::Refusals;

/// The peer of a connection.
#[derive(Clone)]
pub(in crate::admin) enum Peer {
    /// The host's user or root. They may operate, and take their time.
    Local,
    /// A client over TCP, whom the guard judges. The connection carries one request, for a short time.
    Remote {
        address: IpAddr,
        guard: Arc<Guard>,
        /// Whether it is connected over TLS.
        is_secure: bool,
        /// Cancelled when a reload has replaced the guard.
        replaced: CancellationToken,
    },
}

impl Peer {
    /// Decides on a request for a page that needs this; `None` if there is no such page.
    pub(super) fn admit<B>(
        &self,
        request: &Request<B>,
        needs: Option<Needs>,
        refusals: &Refusals,
    ) -> Result<Admitted, Denial> {
        let caller = |caller| Admitted { caller, user: None, login_ends: None };
        match self {
            Peer::Local => Ok(caller(Caller::Operator)),
            // Those who ask whether the host runs have no credentials; those who log in are judged then.
            Peer::Remote { .. } if matches!(needs, Some(Needs::Nothing | Needs::Login)) => {
                Ok(caller(Caller::Anybody))
            }
            Peer::Remote { address, guard, .. } => {
                let admitted = guard.admit(request, *address, Instant::now());
                admitted.inspect_err(|denial| self.log(*denial, request.uri().path(), refusals))
            }
        }
    }

    /// Counts a request that is refused, and logs it, unless there were many.
    pub(super) fn log(&self, denial: Denial, path: &str, refusals: &Refusals) {
        if let Peer::Remote { address, .. } = self
            && let Some(before) = refusals.count("api")
        {
            info!(client = %address, %denial, path, before, "API request refused");
        }
    }

    /// Whether its listener answers with JSONP.
    pub(super) fn gets_jsonp(&self) -> bool {
        matches!(self, Peer::Remote { guard, .. } if guard.jsonp())
    }
}
