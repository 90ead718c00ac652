//! Publishing: from the client's tags to the hub's streams.

use std::collections::HashMap;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tracing::info;

use super::deadline::MediaDeadline;
use super::requests::Admitted;
use crate::budget::{Account, Charge};
use crate::clock::TokioClock;
use crate::media::Tag;
use crate::net::peer::Peer;
use crate::net::server::Server;
use crate::policy::{Admission, Outcome};
use crate::rtmp::server::{PublishKind, Rejection, ServerSession};
use crate::stream::{PublishError, Publisher};

/// The publishers of one connection, by message stream.
pub(super) struct Publishers {
    server: Arc<Server>,
    by_id: HashMap<u32, Publishing>,
}

impl Publishers {
    pub fn new(server: Arc<Server>) -> Publishers {
        Publishers { server, by_id: HashMap::new() }
    }

    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// Returns the earliest deadline of a next tag.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.by_id.values().map(|publishing| publishing.deadline).min()
    }

    /// Publishes, unless the stream has a publisher.
    pub fn start(
        &mut self,
        stream_id: u32,
        Admitted { vhost, admission, room }: Admitted,
        kind: PublishKind,
        (peer, account): (Peer, &Account),
        session: &mut ServerSession,
        media: &mut MediaDeadline,
    ) {
        let key = admission.key();
        let (publisher, pacer) = match self.server.hub.publish(key.clone(), &vhost, account.clone()) {
            Ok(published) => published,
            Err(PublishError::Busy) => {
                let reason = "the stream is live".to_owned();
                admission.session().ends_because(Outcome::NotServed { status: 409, reason });
                if let Some(before) = self.server.access.refusals().count("busy") {
                    let (session, connection, peer) = (admission.id(), peer.id, peer.address);
                    info!(%peer, %connection, %session, stream = %key, before, "publisher refused: the stream is live");
                }
                session.reject_publish(stream_id, &Rejection::Busy);
                return;
            }
        };
        if let Some(pacer) = pacer {
            self.server.tasks.spawn(pacer.run::<TokioClock>());
        }
        media.allow(vhost.publish.firstpkt_timeout.max(vhost.publish.normal_timeout));
        let deadline = Instant::now() + vhost.publish.firstpkt_timeout;
        let server = self.server.clone();
        let publishing = Publishing {
            server,
            peer,
            kind,
            publisher,
            deadline,
            ends_at_once: false,
            _room: room,
            admission,
        };
        publishing.log("publishing");
        self.by_id.insert(stream_id, publishing);
        session.accept_publish(stream_id);
    }

    /// Pushes a tag to its stream, and renews the deadlines. A publisher that has been replaced ends.
    pub fn push(&mut self, stream_id: u32, tag: Tag, session: &mut ServerSession, media: &mut MediaDeadline) {
        media.renew();
        let now = self.server.now();
        let Some(publishing) = self.by_id.get_mut(&stream_id) else { return };
        // A reload may have changed it.
        let normal_timeout = publishing.publisher.stream().vhost().publish.normal_timeout;
        media.allow(normal_timeout);
        publishing.deadline = Instant::now() + normal_timeout;
        publishing.admission.receive(tag.payload.len());
        if !publishing.publisher.push(tag, now) {
            self.end(stream_id, &Rejection::Busy, session);
        }
    }

    /// Ends a publisher: `Busy` if another one has replaced it.
    pub fn end(&mut self, stream_id: u32, rejection: &Rejection, session: &mut ServerSession) {
        if let Some(publishing) = self.by_id.remove(&stream_id)
            && matches!(rejection, Rejection::Busy)
        {
            publishing.log("publisher replaced");
            publishing.admission.session().ends_because(Outcome::Replaced);
        }
        session.end_publish(stream_id, rejection);
    }

    /// Ends all publishers, and their streams at once, since these hold memory.
    pub fn end_all(&mut self, reason: &Rejection, session: &mut ServerSession) {
        for (stream_id, mut publishing) in self.by_id.drain() {
            session.end_publish(stream_id, reason);
            publishing.end_stream_at_once();
        }
    }

    pub fn stop(&mut self, stream_id: u32) {
        self.by_id.remove(&stream_id);
    }

    /// Notes why the sessions of all publishers end.
    pub fn end_because(&self, outcome: &Outcome) {
        for publishing in self.by_id.values() {
            publishing.admission.session().ends_because(outcome.clone());
        }
    }

    /// Polls for a publisher that must end: another one has replaced it, or its admission is over. Returns its message stream
    /// and the reason that the client is told.
    pub fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<(u32, Rejection)> {
        for (stream_id, one) in &mut self.by_id {
            if one.publisher.poll_replaced(cx).is_ready() {
                return Poll::Ready((*stream_id, Rejection::Busy));
            }
            if let Poll::Ready(end) = one.admission.poll_end(cx) {
                return Poll::Ready((*stream_id, end.into()));
            }
        }
        Poll::Pending
    }
}

/// A publisher. After it is dropped, its stream expires after `republish_wait`.
struct Publishing {
    server: Arc<Server>,
    peer: Peer,
    kind: PublishKind,
    publisher: Publisher,
    /// Deadline of the next tag.
    deadline: Instant,
    /// Whether the stream ends with it, else after the vhost's `republish_wait`.
    ends_at_once: bool,
    _room: Charge,
    admission: Admission,
}

impl Publishing {
    /// Ends the stream when this is dropped.
    fn end_stream_at_once(&mut self) {
        self.ends_at_once = true;
    }

    /// Writes a line about it to the log.
    fn log(&self, message: &str) {
        let Peer { address: peer, id: connection } = self.peer;
        let (session, stream, publisher) = (self.admission.id(), self.admission.key(), self.publisher.id());
        info!(%peer, %connection, %session, %stream, publisher, kind = ?self.kind, "{message}");
    }
}

impl Drop for Publishing {
    fn drop(&mut self) {
        let Some(left) = self.publisher.leave() else { return };
        self.log("publisher left");
        let stream = self.publisher.stream().clone();
        let server = self.server.clone();
        let wait = if self.ends_at_once { Duration::ZERO } else { stream.vhost().publish.republish_wait };
        self.server.tasks.spawn(async move {
            tokio::select! {
                () = sleep(wait) => {}
                () = server.lifecycle.stopping() => {}
            }
            server.hub.expire(&stream, left);
        });
    }
}
