//! Access: the decision on a request, and what the host remembers about decisions.

use std::sync::Arc;

use tracing::info;

use super::admission::Admission;
use super::grant::Grant;
use super::sessions::{Session, Sessions};
use super::{Policy, Refusal, Request};

/// What all sessions of the host share. It outlives the policies, which a reload replaces.
#[derive(Debug)]
pub struct Access {
    sessions: Arc<Sessions>,
}

impl Access {
    /// Creates it without sessions.
    pub fn new() -> Arc<Access> {
        Arc::new(Access { sessions: Sessions::new() })
    }

    /// Decides on a request, and logs a refusal. Ready at once unless the policy has rules that wait.
    ///
    /// # Errors
    /// [`Refusal`] by the first rule that refuses.
    pub async fn admit(&self, policy: &Policy, request: Request) -> Result<Admission, Refusal> {
        match policy.decide(&request).await {
            Ok(Grant { key, ends, subject }) => {
                Ok(Admission::new(self.sessions.enter(request, key, subject), ends))
            }
            Err(refusal) => {
                let Request { action, protocol, address, .. } = &request;
                let stream = policy.shown(&request);
                info!(client = %address, %action, %protocol, %stream, reason = %refusal, "access refused");
                Err(refusal)
            }
        }
    }

    /// Returns the records of all sessions, the oldest first.
    pub fn sessions(&self) -> Vec<Arc<Session>> {
        self.sessions.list()
    }
}
