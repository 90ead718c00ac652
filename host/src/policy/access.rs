//! Access: the decision on a request, and what the host remembers about decisions.

use std::sync::Arc;
use std::time::Duration;

use tracing::info;

use super::admission::Admission;
use super::bans::{Ban, BanError, BanTarget};
use super::sessions::{Session, SessionId, Sessions};
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

    /// Ends a session, in the way of its protocol. Returns false if there is none with this id.
    pub fn kick(&self, id: SessionId) -> bool {
        self.sessions.kick(id)
    }

    /// Refuses what `target` covers for `time`, and ends its sessions. Returns their number.
    ///
    /// # Errors
    /// It cannot be banned.
    pub fn ban(&self, target: &BanTarget, time: Duration) -> Result<usize, BanError> {
        let ended = self.sessions.ban(target, time)?;
        info!(%target, ?time, ended, "banned");
        Ok(ended)
    }

    /// Lifts a ban. Returns false if there is none.
    pub fn unban(&self, target: &BanTarget) -> bool {
        let lifted = self.sessions.unban(target);
        if lifted {
            info!(%target, "ban lifted");
        }
        lifted
    }

    /// Returns the bans that have not ended, the oldest first.
    pub fn bans(&self) -> Vec<Ban> {
        self.sessions.bans()
    }

    /// Returns the records of all sessions, the oldest first.
    pub fn sessions(&self) -> Vec<Arc<Session>> {
        self.sessions.list()
    }
}
