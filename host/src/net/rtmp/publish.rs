//! Publishing: from the client's tags to the hub's streams.

use std::collections::HashMap;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tracing::info;

use super::deadline::MediaDeadline;
use super::requests::{Admitted, Client, Destination};
use crate::budget::Charge;
use crate::clock::{Beat, TokioClock};
use crate::cluster::{Claim, Lost, Relayed};
use crate::conf::Vhost;
use crate::media::{Millis, Tag};
use crate::net::peer::Peer;
use crate::net::server::Server;
use crate::policy::{Admission, Outcome};
use crate::rtmp::server::{PublishKind, Rejection, ServerSession};
use crate::stream::{Demand, PublishError, Publisher, Stream};

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

    /// The beats at which the only publisher can be read, and the demand of its stream's readers.
    pub fn beat(&self) -> Option<(Beat, Demand)> {
        let stream = self.only_stream()?;
        let (demand, phase) = (stream.demand(), stream.key().phase());
        let beat = match demand {
            Demand::None => Beat::unread(phase),
            Demand::AtTicks(tick) => Beat::before_ticks(tick, phase)?,
            Demand::AtOnce => return None,
        };
        Some((beat, demand))
    }

    /// Waits until readers of the only publisher's stream have another demand than `known`.
    pub fn poll_demand(&self, known: Demand, cx: &mut Context<'_>) -> Poll<()> {
        self.only_stream().map_or(Poll::Pending, |stream| stream.poll_demand(known, cx))
    }

    /// The stream of the publisher, if there is one alone and it publishes here.
    fn only_stream(&self) -> Option<&Arc<Stream>> {
        let mut all = self.by_id.values();
        match (all.next(), all.next()) {
            (Some(Publishing { outlet: Outlet::Stream(publisher), .. }), None) => Some(publisher.stream()),
            _ => None,
        }
    }

    /// Returns the earliest deadline of a next tag.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.by_id.values().map(|publishing| publishing.deadline).min()
    }

    /// Publishes, unless the stream has a publisher.
    pub fn start(
        &mut self,
        stream_id: u32,
        Admitted { vhost, admission, room, destination }: Admitted,
        kind: PublishKind,
        client: &Client<'_>,
        session: &mut ServerSession,
        media: &mut MediaDeadline,
    ) {
        let Destination { relayed, claim } = *destination;
        let outlet = match relayed {
            Some(relayed) => Outlet::Origin(relayed),
            None => match self.publish(&vhost, &admission, client) {
                Some(publisher) => Outlet::Stream(publisher),
                None => return session.reject_publish(stream_id, &Rejection::Busy),
            },
        };
        media.allow(vhost.publish.firstpkt_timeout.max(vhost.publish.normal_timeout));
        let deadline = Instant::now() + vhost.publish.firstpkt_timeout;
        let server = self.server.clone();
        let publishing = Publishing {
            server,
            peer: client.peer,
            kind,
            outlet,
            claim,
            deadline,
            ends_at_once: false,
            _room: room,
            admission,
        };
        publishing.log("publishing");
        self.by_id.insert(stream_id, publishing);
        session.accept_publish(stream_id);
    }

    /// Publishes on a stream of this host; `None` if that has a publisher, which is logged.
    fn publish(&self, vhost: &Arc<Vhost>, admission: &Admission, client: &Client<'_>) -> Option<Publisher> {
        let Client { peer, account, connect } = client;
        let key = admission.key();
        match self.server.hub.publish_from(key.clone(), vhost, (*account).clone(), &connect.hops) {
            Ok((publisher, pacer)) => {
                if let Some(pacer) = pacer {
                    self.server.tasks.spawn(pacer.run::<TokioClock>());
                }
                Some(publisher)
            }
            Err(PublishError::Busy) => {
                let reason = "the stream is live".to_owned();
                admission.session().ends_because(Outcome::NotServed { status: 409, reason });
                if let Some(before) = self.server.access.refusals().count("busy") {
                    let (session, connection, peer) = (admission.id(), peer.id, peer.address);
                    info!(%peer, %connection, %session, stream = %key, before, "publisher refused: the stream is live");
                }
                None
            }
        }
    }

    /// Pushes a tag to its stream, and renews the deadlines. A publisher that has been replaced ends.
    pub fn push(&mut self, stream_id: u32, tag: Tag, session: &mut ServerSession, media: &mut MediaDeadline) {
        media.renew();
        let now = self.server.now();
        let Some(publishing) = self.by_id.get_mut(&stream_id) else { return };
        // A reload may have changed it.
        let normal_timeout = publishing.outlet.vhost().publish.normal_timeout;
        media.allow(normal_timeout);
        publishing.deadline = Instant::now() + normal_timeout;
        publishing.admission.receive(tag.payload.len());
        if !publishing.outlet.push(tag, now) {
            self.end(stream_id, &Rejection::Busy, session);
        }
    }

    /// Ends a publisher: `Busy` if another one has replaced it here, `Moved` if that is at another node.
    pub fn end(&mut self, stream_id: u32, rejection: &Rejection, session: &mut ServerSession) {
        if let Some(publishing) = self.by_id.remove(&stream_id)
            && matches!(rejection, Rejection::Busy | Rejection::Moved)
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

    /// Polls for a publisher that must end: another one has replaced it, here or at another node, no origin takes it any more, or its
    /// admission is over.
    /// Returns its message stream and the reason that the client is told.
    pub fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<(u32, Rejection)> {
        for (stream_id, one) in &mut self.by_id {
            if let Poll::Ready(rejection) = one.outlet.poll_end(cx) {
                return Poll::Ready((*stream_id, rejection));
            }
            if let Some(Poll::Ready(Lost { .. })) = one.claim.as_mut().map(|claim| claim.poll_lost(cx)) {
                // Those who watch it here find the new publisher where it is.
                one.end_stream_at_once();
                return Poll::Ready((*stream_id, Rejection::Moved));
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
    outlet: Outlet,
    /// The stream in the directory, if this node enters streams there.
    claim: Option<Claim>,
    /// Deadline of the next tag.
    deadline: Instant,
    /// Whether the stream ends with it, else after the vhost's `republish_wait`.
    ends_at_once: bool,
    _room: Charge,
    admission: Admission,
}

/// The destination of what a publisher sends.
enum Outlet {
    /// A stream of this host.
    Stream(Publisher),
    /// An origin of the edge.
    Origin(Relayed),
}

impl Outlet {
    /// Pushes a tag. Returns false if another publisher has taken over.
    fn push(&self, tag: Tag, now: Millis) -> bool {
        match self {
            Outlet::Stream(publisher) => publisher.push(tag, now),
            Outlet::Origin(relayed) => {
                relayed.push(tag, now);
                true
            }
        }
    }

    fn vhost(&self) -> Arc<Vhost> {
        match self {
            Outlet::Stream(publisher) => publisher.stream().vhost(),
            Outlet::Origin(relayed) => relayed.vhost(),
        }
    }

    /// The number of the publisher among those of a stream of this host.
    fn number(&self) -> Option<u64> {
        match self {
            Outlet::Stream(publisher) => Some(publisher.id()),
            Outlet::Origin(_) => None,
        }
    }

    /// Polls for the reason for which the publisher must end.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<Rejection> {
        match self {
            Outlet::Stream(publisher) => publisher.poll_replaced(cx).map(|()| Rejection::Busy),
            Outlet::Origin(relayed) => relayed.poll_end(cx).map(Rejection::from),
        }
    }
}

impl Publishing {
    /// Ends the stream when this is dropped.
    fn end_stream_at_once(&mut self) {
        self.ends_at_once = true;
    }

    /// Writes a line about it to the log.
    fn log(&self, message: &str) {
        let Peer { address: peer, id: connection } = self.peer;
        let (session, stream, publisher) = (self.admission.id(), self.admission.key(), self.outlet.number());
        info!(%peer, %connection, %session, %stream, publisher, kind = ?self.kind, "{message}");
    }
}

impl Drop for Publishing {
    fn drop(&mut self) {
        let Outlet::Stream(publisher) = &self.outlet else { return self.log("publisher left") };
        let Some(left) = publisher.leave() else { return };
        self.log("publisher left");
        let stream = publisher.stream().clone();
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
