//! Endings: the events that are due at the end of a session or connection.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use super::event::{Facts, Totals, client_event};
use super::{HookAction, Hooks, VhostHooks};
use crate::policy::session::Session;

/// The event that is due at the end of a session: its `Drop` queues the end, if a hook may have accepted the session.
pub(in crate::policy) struct Ending {
    hooks: Arc<Hooks>,
    vhost: Arc<VhostHooks>,
    /// The event of the end.
    action: HookAction,
    facts: Box<Facts>,
    /// Whether the end is to be told.
    owed: bool,
    began: Instant,
    /// The record of a session, which counts its bytes.
    session: Option<Arc<Session>>,
    connection: Option<Arc<Connected>>,
    /// Bytes of a connection, in both directions.
    moved: [u64; 2],
}

/// An RTMP connection that was accepted. Its end is told when the last reference to it is gone: that of the connection, or of
/// the last event that comes before.
#[derive(Debug)]
pub struct Connected {
    id: String,
    /// Bytes of media that its sessions sent and received.
    sent: AtomicU64,
    received: AtomicU64,
    ending: Option<Ending>,
}

impl Ending {
    /// Creates the ending of a session, which owes nothing so far. `action` is the event of the end.
    pub fn of_session(
        hooks: &Arc<Hooks>,
        vhost: &Arc<VhostHooks>,
        action: HookAction,
        facts: Facts,
        session: &Arc<Session>,
        connection: Option<Arc<Connected>>,
    ) -> Ending {
        let mut ending = Ending::of_connection(hooks, vhost, facts);
        (ending.action, ending.connection) = (action, connection);
        ending.session = Some(session.clone());
        ending
    }

    /// Creates the ending of a connection, which owes nothing so far.
    pub fn of_connection(hooks: &Arc<Hooks>, vhost: &Arc<VhostHooks>, facts: Facts) -> Ending {
        Ending {
            hooks: hooks.clone(),
            vhost: vhost.clone(),
            action: HookAction::Close,
            facts: Box::new(facts),
            owed: false,
            began: Instant::now(),
            session: None,
            connection: None,
            moved: [0; 2],
        }
    }

    /// The hooks of the host, and those of the session's vhost.
    pub(super) fn hooks(&self) -> (Arc<Hooks>, Arc<VhostHooks>) {
        (self.hooks.clone(), self.vhost.clone())
    }

    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// Notes that the end is to be told.
    pub(super) fn owe(&mut self) {
        self.owed = true;
    }

    /// Notes that the session is accepted.
    pub fn begin(&self) {
        if self.action == HookAction::Unpublish {
            self.vhost.may_be_idle(&self.hooks, &self.facts.key);
        }
    }

    /// Tells that the session waits for its stream.
    pub fn want(&self) {
        let urls = self.vhost.urls(HookAction::StreamWanted);
        if urls.is_empty() || !self.vhost.is_newly_wanted(&self.facts.key, Instant::now()) {
            return;
        }
        self.hooks.tell(&self.vhost.client, urls, HookAction::StreamWanted, |sender| {
            client_event(sender, HookAction::StreamWanted, &self.facts, None)
        });
    }

    /// Returns the bytes that were sent and received.
    fn bytes(&self) -> [u64; 2] {
        let bytes = self.session.as_ref().map_or(0, |session| session.bytes());
        match self.action {
            HookAction::Unpublish => [0, bytes],
            HookAction::Stop => [bytes, 0],
            _ => self.moved,
        }
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        let [sent, received] = self.bytes();
        if let Some(connection) = &self.connection {
            connection.sent.fetch_add(sent, Ordering::Relaxed);
            connection.received.fetch_add(received, Ordering::Relaxed);
        }
        if self.action == HookAction::Stop {
            self.vhost.may_be_idle(&self.hooks, &self.facts.key);
        }
        if self.owed {
            let totals = Totals { duration: self.began.elapsed(), sent, received };
            let event = |sender: super::event::Sender<'_>| {
                client_event(sender, self.action, &self.facts, Some(totals))
            };
            let (client, urls) = (&self.vhost.client, self.vhost.urls(self.action));
            self.hooks.tell_before(client, urls, self.action, event, self.connection.clone());
        }
    }
}

impl fmt::Debug for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ending")
            .field("action", &self.action)
            .field("owed", &self.owed)
            .finish_non_exhaustive()
    }
}

impl Connected {
    /// Creates a connection that was accepted.
    pub(in crate::policy) fn new(id: String, ending: Option<Ending>) -> Arc<Connected> {
        Arc::new(Connected { id, sent: AtomicU64::new(0), received: AtomicU64::new(0), ending })
    }

    /// The id, by which hooks know the client.
    pub fn id(&self) -> &str {
        &self.id
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        if let Some(ending) = &mut self.ending {
            ending.moved = [*self.sent.get_mut(), *self.received.get_mut()];
        }
    }
}
