//! Admissions: what a session holds until its end.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll};
use std::time::SystemTime;

use tokio::time::{Sleep, sleep};
use tracing::info;

use crate::stream::StreamKey;

/// The permission of one publisher, player or viewer. Held until the end of its session.
#[derive(Debug)]
pub struct Admission {
    id: SessionId,
    key: StreamKey,
    /// The time at which the session must end.
    ends: Option<Pin<Box<Sleep>>>,
}

/// The reason why a session ends before its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum End {
    /// Its credentials have expired.
    #[error("its credentials have expired")]
    Expired,
}

impl Admission {
    /// Creates the admission of a session, which must end at `ends`.
    pub(super) fn new(id: SessionId, key: StreamKey, ends: Option<SystemTime>) -> Admission {
        let left = ends.map(|ends| ends.duration_since(SystemTime::now()).unwrap_or_default());
        Admission { id, key, ends: left.map(|left| Box::pin(sleep(left))) }
    }

    /// Polls for the reason for which the session must end. The owner of the session ends it then, in the way of its protocol.
    pub fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        let Some(ends) = &mut self.ends else { return Poll::Pending };
        std::task::ready!(ends.as_mut().poll(cx));
        self.ends = None;
        let end = End::Expired;
        info!(session = %self.id, stream = %self.key, reason = %end, "session ended");
        Poll::Ready(end)
    }

    /// The session's id.
    pub fn id(&self) -> SessionId {
        self.id
    }

    /// The stream that was admitted, by its public name.
    pub fn key(&self) -> &StreamKey {
        &self.key
    }
}

/// The id of a session: unique in this process, and most likely among all processes. Shown as 16 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SessionId(u64);

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// The source of session ids.
#[derive(Debug)]
pub(super) struct SessionIds {
    /// Random for each process, so that an id of an earlier process names no session of this one.
    process: u32,
    next: AtomicU32,
}

impl SessionIds {
    pub(super) fn new() -> SessionIds {
        SessionIds { process: RandomState::new().hash_one(()) as u32, next: AtomicU32::new(1) }
    }

    pub(super) fn next(&self) -> SessionId {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        SessionId(u64::from(self.process) << 32 | u64::from(number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_unique_and_of_one_length() {
        let ids = SessionIds::new();
        let shown: Vec<_> = (0..3).map(|_| ids.next().to_string()).collect();
        assert!(shown.iter().all(|id| id.len() == 16), "{shown:?}");
        assert!(shown[0] != shown[1] && shown[1] != shown[2], "{shown:?}");
    }
}
