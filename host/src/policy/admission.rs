//! Admissions: what a session holds until its end.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::SystemTime;

use tokio::time::{Sleep, sleep};
use tracing::info;

use super::sessions::{Entry, Session, SessionId};
use crate::stream::StreamKey;

/// The permission of one publisher, player or viewer. Held until the end of its session.
#[derive(Debug)]
pub struct Admission {
    entry: Entry,
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
    pub(super) fn new(entry: Entry, ends: Option<SystemTime>) -> Admission {
        let left = ends.map(|ends| ends.duration_since(SystemTime::now()).unwrap_or_default());
        Admission { entry, ends: left.map(|left| Box::pin(sleep(left))) }
    }

    /// Polls for the reason for which the session must end. The owner of the session ends it then, in the way of its protocol.
    pub fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        let Some(ends) = &mut self.ends else { return Poll::Pending };
        std::task::ready!(ends.as_mut().poll(cx));
        self.ends = None;
        let end = End::Expired;
        info!(session = %self.id(), stream = %self.key(), reason = %end, "session ended");
        Poll::Ready(end)
    }

    /// The session's record. A clone of it may outlive the session.
    pub fn session(&self) -> &Arc<Session> {
        &self.entry.session
    }

    /// The session's id.
    pub fn id(&self) -> SessionId {
        self.session().id()
    }

    /// The stream that was admitted, by its public name.
    pub fn key(&self) -> &StreamKey {
        self.session().key()
    }
}
