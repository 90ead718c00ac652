//! Access: the decision on a request, and what the host remembers about decisions.

use std::sync::Arc;

use tracing::info;

use super::admission::Admission;
use super::sessions::{Session, Sessions};
use super::{Policy, Refusal, Request};
use crate::conf::Proxy;

/// What all sessions of the host share. It outlives the policies, which a reload replaces.
#[derive(Debug)]
pub struct Access {
    sessions: Arc<Sessions>,
}

impl Access {
    /// Creates it without sessions, for a host behind the proxies in `proxy`.
    pub fn new(proxy: Proxy) -> Arc<Access> {
        Arc::new(Access { sessions: Sessions::new(proxy) })
    }

    /// Decides on a request, and logs a refusal. Ready at once unless the policy has rules that wait.
    ///
    /// # Errors
    /// [`Refusal`] by the first rule that refuses.
    pub async fn admit(&self, policy: &Policy, request: Request) -> Result<Admission, Refusal> {
        let decided = policy.decide(&request, &self.sessions).await;
        if let Err(refusal) = &decided {
            let Request { action, protocol, address, .. } = &request;
            let stream = policy.shown(&request);
            info!(client = %address, %action, %protocol, %stream, reason = %refusal, "access refused");
        }
        decided
    }

    /// Returns the records of all sessions, the oldest first.
    pub fn sessions(&self) -> Vec<Arc<Session>> {
        self.sessions.list()
    }
}
