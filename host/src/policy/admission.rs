//! Admissions: what a session holds until its end.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Instant, SystemTime};

use tokio::time::{Sleep, sleep};

use super::Action;
use super::hooks::Ending;
use super::ids::SessionId;
use super::limits::Bitrate;
use super::outcome::{End, Outcome};
use super::session::Session;
use super::sessions::Entry;
use crate::stream::StreamKey;

/// The permission of one publisher, player or viewer. Held until the end of its session.
#[derive(Debug)]
pub struct Admission {
    // Leaves the list of sessions before the hooks are told the end.
    entry: Entry,
    /// The event that is due to the hooks of the vhost at the end.
    ending: Option<Ending>,
    /// The time at which the session must end.
    ends: Option<Pin<Box<Sleep>>>,
    /// The bitrate of a publisher, if it is limited.
    bitrate: Option<Box<Bitrate>>,
    /// The reason for which the session must end now.
    end: Option<End>,
    /// The task that is woken when an operator ends the session.
    owner: Option<Waker>,
}

impl Admission {
    /// Creates the admission of a session, which must end at `ends`, and as a publisher may send `bitrate` bits per second.
    pub(super) fn new(entry: Entry, ends: Option<SystemTime>, bitrate: Option<u64>) -> Admission {
        let left = ends.map(|ends| ends.duration_since(SystemTime::now()).unwrap_or_default());
        let bitrate = bitrate.filter(|_| entry.session.action() == Action::Publish);
        let bitrate = bitrate.map(|limit| Box::new(Bitrate::new(limit, Instant::now())));
        let ends = left.map(|left| Box::pin(sleep(left)));
        Admission { entry, ending: None, ends, bitrate, end: None, owner: None }
    }

    /// Takes over what the session owes the hooks.
    pub(super) fn owe(&mut self, ending: Ending) {
        ending.begin();
        self.ending = Some(ending);
    }

    /// Tells the hooks that the session waits for its stream.
    pub fn want(&self) {
        if let Some(ending) = &self.ending {
            ending.want();
        }
    }

    /// Counts bytes of media that a publisher has sent. If they are too many, [`Admission::poll_end`] says so.
    pub fn receive(&mut self, bytes: usize) {
        self.session().add_bytes(bytes);
        if let Some(bitrate) = &mut self.bitrate
            && let Err(limit) = bitrate.add(bytes, Instant::now())
        {
            self.end = Some(End::Bitrate { limit });
        }
    }

    /// Polls for the reason for which the session must end. The owner of the session ends it then, in the way of its protocol.
    pub fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        if self.ends.as_mut().is_some_and(|ends| ends.as_mut().poll(cx).is_ready()) {
            self.ends = None;
            self.end = Some(End::Expired);
        }
        // Usually the same task as before, so that nothing is written.
        if !self.owner.as_ref().is_some_and(|owner| owner.will_wake(cx.waker())) {
            self.session().register(cx.waker());
            self.owner = Some(cx.waker().clone());
        }
        let order = self.session().order().map(End::Order);
        let Some(end) = self.end.take().or(order) else { return Poll::Pending };
        self.session().ends_because(Outcome::Ended(end));
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
