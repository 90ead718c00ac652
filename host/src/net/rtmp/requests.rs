//! Requests to publish and play, from the client's command to the decision on it.
//!
//! While a request waits for its decision, the connection serves its other message streams. The session holds back the
//! media that the client sends in the meantime.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tracing::{debug, info};

use crate::budget::{Account, Charge};
use crate::cluster::{BusyElsewhere, Claim, Directory, RelayError, RelayRequest, Relayed};
use crate::conf::{PublishConflict, Vhost};
use crate::net::peer::Peer;
use crate::net::server::Server;
use crate::policy::{
    Action, Admission, Answer, Connected, ConnectionRequest, End, Order, Outcome, Protocol, Refusal, Request,
};
use crate::router::{Named, Newcomer, Redirection, query_pairs};
use crate::rtmp::ConnectRequest;
use crate::rtmp::server::{PublishKind, Rejection, ServerSession};
use crate::rtmp::tc_url::StreamName;

/// Bytes of memory of a publisher beside its messages: the input buffer, the stream without tags; an estimate.
const PUBLISHER_MEMORY: usize = 128 << 10;

/// Bytes of memory of a player beside what it shares with others: queued headers, and bodies that are converted for it; an
/// estimate.
const PLAYER_MEMORY: usize = 64 << 10;

/// The requests of one connection that wait for their decision, by message stream.
pub(super) struct Requests {
    server: Arc<Server>,
    /// The decision on the connection, until there is one.
    connecting: Option<Decision<Arc<Connected>, Refusal>>,
    connected: Option<Arc<Connected>>,
    waiting: HashMap<u32, Waiting>,
}

/// A decision under way.
type Decision<T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send>>;

/// A kind of request.
#[derive(Clone, Copy, Debug)]
pub(super) enum Use {
    Publish(PublishKind),
    Play,
}

struct Waiting {
    wanted: Use,
    vhost: Arc<Vhost>,
    room: Charge,
    decision: Decision<(Admission, Destination), Rejection>,
}

/// The destination of a publisher.
#[derive(Debug, Default)]
pub(super) struct Destination {
    /// The stream at an origin, of a publisher on an edge.
    pub relayed: Option<Relayed>,
    /// The stream in the directory, of any other.
    pub claim: Option<Claim>,
}

/// A request that may be served.
pub(super) struct Admitted {
    pub vhost: Arc<Vhost>,
    /// Held until the end of the session.
    pub admission: Admission,
    /// The memory of the publisher or player.
    pub room: Charge,
    /// The destination of a publisher's stream.
    pub destination: Box<Destination>,
}

/// A decision.
pub(super) enum Decided {
    /// On the connection.
    Connection(Result<(), Refusal>),
    /// On a request of a message stream.
    Request(u32, Use, Result<Admitted, Rejection>),
}

/// The client of a connection, as a request needs it.
pub(super) struct Client<'a> {
    pub peer: Peer,
    pub account: &'a Account,
    pub connect: &'a ConnectRequest,
}

impl Use {
    fn action(self) -> Action {
        match self {
            Use::Publish(_) => Action::Publish,
            Use::Play => Action::Play,
        }
    }

    /// Rejects the request.
    pub fn reject(self, stream_id: u32, rejection: &Rejection, session: &mut ServerSession) {
        match self {
            Use::Publish(_) => session.reject_publish(stream_id, rejection),
            Use::Play => session.reject_play(stream_id, rejection),
        }
    }
}

impl Requests {
    pub fn new(server: Arc<Server>) -> Requests {
        Requests { server, connecting: None, connected: None, waiting: HashMap::new() }
    }

    /// Starts the decision on the connection.
    pub fn connect(&mut self, client: &Client<'_>) {
        let ConnectRequest { tc_url, page_url, flash_ver, .. } = client.connect;
        // The stream is not known yet, but a name must have one.
        let name = StreamName::parse(tc_url, "_").ok();
        let access = self.server.access.clone();
        let named = name.and_then(|name| Some((self.server.stream(&name)?, name)));
        let Some((Named { policy, key, .. }, name)) = named else {
            let id = client.peer.id;
            self.connecting = Some(Box::pin(async move { Ok(access.connect_to_none(id)) }));
            return;
        };
        let request = ConnectionRequest {
            id: client.peer.id,
            key,
            address: client.peer.address.ip().to_canonical(),
            tc_url: tc_url.clone(),
            query: name.params.strip_prefix('?').unwrap_or_default().to_owned(),
            page_url: page_url.clone(),
            user_agent: flash_ver.clone(),
        };
        self.connecting = Some(Box::pin(async move { access.connect(&policy, request).await }));
    }

    /// Polls for the decision on the connection.
    pub fn poll_connected(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Refusal>> {
        let Some(connecting) = &mut self.connecting else { return Poll::Pending };
        let decided = std::task::ready!(connecting.as_mut().poll(cx));
        self.connecting = None;
        Poll::Ready(decided.map(|connected| self.connected = Some(connected)))
    }

    /// Starts the decision on a request, or rejects the request. Returns how long an origin may take for it.
    pub fn start(
        &mut self,
        stream_id: u32,
        wanted: Use,
        name: &StreamName,
        client: &Client<'_>,
        session: &mut ServerSession,
    ) -> Duration {
        let (peer, action) = (client.peer, wanted.action());
        let Some(named) = self.server.stream(name) else {
            if let Some(before) = self.server.access.refusals().count("no_vhost") {
                let (vhost, connection, peer) = (&name.vhost, peer.id, peer.address);
                info!(%peer, %connection, %action, ?vhost, before, "refused: no vhost has this name");
            }
            wanted.reject(stream_id, &Rejection::NotFound, session);
            return Duration::ZERO;
        };
        let query = name.params.strip_prefix('?').unwrap_or_default();
        if let Use::Play = wanted
            && let Some(rejection) = redirect(&self.server, &named, query, peer)
        {
            wanted.reject(stream_id, &rejection, session);
            return Duration::ZERO;
        }
        let Named { vhost, policy, key } = named;
        let memory = match wanted {
            Use::Publish(_) => PUBLISHER_MEMORY,
            Use::Play => PLAYER_MEMORY,
        };
        let room = match client.account.admit(memory) {
            Ok(room) => room,
            Err(over) => {
                // Whether the name is a secret is known only to the policy.
                if let Some(before) = self.server.access.refusals().count("memory") {
                    let (vhost, connection, peer) = (&vhost.name, peer.id, peer.address);
                    info!(%peer, %connection, %action, vhost, %over, before, "refused");
                }
                wanted.reject(stream_id, &Rejection::NoMemory, session);
                return Duration::ZERO;
            }
        };
        let request = Request {
            action,
            protocol: Protocol::Rtmp,
            connection: peer.id,
            arrived: Instant::now(),
            key,
            address: peer.address.ip().to_canonical(),
            page_url: client.connect.page_url.clone(),
            user_agent: client.connect.flash_ver.clone(),
            tc_url: client.connect.tc_url.clone(),
            path: format!("/{}/{}", name.app, name.stream),
            bearer: None,
            format: String::new(),
            parameters: query_pairs(query).map(|(name, value)| (name.into(), value.into())).collect(),
            hops: client.connect.hops.clone(),
            query: query.to_owned(),
        };
        let (server, connected) = (self.server.clone(), self.connected.clone());
        let publishes = (action == Action::Publish).then(|| vhost.clone());
        let longest = publishes.as_deref().map_or(Duration::ZERO, |vhost| match vhost.cluster.is_edge() {
            true => self.server.relay.longest(vhost),
            false => self.server.directory().map_or(Duration::ZERO, Directory::longest_claim),
        });
        let account = client.account.clone();
        let decision = Box::pin(async move {
            let (query, hops) = (request.query.clone(), request.hops.clone());
            let credential = request.credential();
            let admitted = server.access.admit(&policy, request, connected).await;
            let admission = admitted.map_err(|refusal| Rejection::from(&refusal))?;
            let Some(vhost) = publishes else { return Ok((admission, Destination::default())) };
            let key = admission.key().clone();
            if !vhost.cluster.is_edge() {
                let claim = claim(&server, &vhost, &admission, peer, &credential).await?;
                return Ok((admission, Destination { relayed: None, claim }));
            }
            let request = RelayRequest { vhost, key, query, hops, account };
            let relayed = server.relay.open(request).await;
            let relayed = relayed.map_err(|error| refuse_relay(&server, &admission, peer, error))?;
            Ok((admission, Destination { relayed: Some(relayed), claim: None }))
        });
        self.waiting.insert(stream_id, Waiting { wanted, vhost, room, decision });
        longest
    }

    /// Whether nothing is being decided.
    pub fn is_empty(&self) -> bool {
        self.connecting.is_none() && self.waiting.is_empty()
    }

    /// Polls for a decision.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Decided> {
        if let Poll::Ready(decision) = self.poll_connected(cx) {
            return Poll::Ready(Decided::Connection(decision));
        }
        self.poll_decided(cx)
            .map(|(stream_id, wanted, decision)| Decided::Request(stream_id, wanted, decision))
    }

    /// Polls for a request that is decided.
    pub fn poll_decided(&mut self, cx: &mut Context<'_>) -> Poll<(u32, Use, Result<Admitted, Rejection>)> {
        let mut waiting = self.waiting.iter_mut();
        let decided = waiting.find_map(|(stream_id, waiting)| match waiting.decision.as_mut().poll(cx) {
            Poll::Ready(decision) => Some((*stream_id, decision)),
            Poll::Pending => None,
        });
        let Some((stream_id, decision)) = decided else { return Poll::Pending };
        let Some(Waiting { wanted, vhost, room, .. }) = self.waiting.remove(&stream_id) else {
            return Poll::Pending;
        };
        let admitted = decision.map(|(admission, destination)| Admitted {
            vhost,
            admission,
            room,
            destination: Box::new(destination),
        });
        Poll::Ready((stream_id, wanted, admitted))
    }

    /// Cancels a request.
    pub fn stop(&mut self, stream_id: u32) {
        self.waiting.remove(&stream_id);
    }
}

/// Returns the rejection of a player who is redirected to another node, or for whom there is none.
fn redirect(server: &Server, named: &Named, query: &str, peer: Peer) -> Option<Rejection> {
    let targets = server.access.targets().load();
    let address = peer.address.ip().to_canonical();
    let newcomer = Newcomer { address, protocol: Protocol::Rtmp, targets: &targets };
    let (connection, peer, vhost) = (peer.id, peer.address, &named.vhost.name);
    match newcomer.redirect(named, query)? {
        Redirection::To { url, .. } => {
            debug!(%peer, %connection, vhost, "player redirected to another node");
            Some(Rejection::Redirect { url })
        }
        Redirection::Full => {
            if let Some(before) = server.access.refusals().count("nodes_full") {
                info!(%peer, %connection, vhost, before, "player refused: all nodes are full");
            }
            Some(Rejection::Full)
        }
    }
}

/// Claims a stream in the directory for a publisher. Reports a stream that another credential has at another node.
async fn claim(
    server: &Server,
    vhost: &Vhost,
    admission: &Admission,
    peer: Peer,
    credential: &[String],
) -> Result<Option<Claim>, Rejection> {
    let Some(directory) = server.directory() else { return Ok(None) };
    let replaces = vhost.publish.conflict == PublishConflict::Replace;
    let claimed = directory.claim(admission.key(), credential, replaces).await;
    claimed.map_err(|BusyElsewhere { node }| {
        let reason = format!("the stream is published at {node}");
        admission.session().ends_because(Outcome::NotServed { status: 409, reason });
        if let Some(before) = server.access.refusals().count("busy") {
            let (session, stream) = (admission.id(), admission.key());
            let (connection, peer) = (peer.id, peer.address);
            info!(%peer, %connection, %session, %stream, node, before, "publisher refused: the stream is at another node");
        }
        Rejection::Busy
    })
}

/// Reports that no origin takes a publisher. Returns the rejection for the publisher.
fn refuse_relay(server: &Server, admission: &Admission, peer: Peer, error: RelayError) -> Rejection {
    admission.session().ends_because(Outcome::NotServed { status: 502, reason: error.to_string() });
    if let Some(before) = server.access.refusals().count("origin") {
        let (session, stream) = (admission.id(), admission.key());
        let (connection, peer) = (peer.id, peer.address);
        info!(%peer, %connection, %session, %stream, before, "publisher refused: {error}");
    }
    error.into()
}

impl From<RelayError> for Rejection {
    fn from(error: RelayError) -> Rejection {
        match error {
            RelayError::Refused { code, description } => Rejection::Upstream { code, description },
            RelayError::Location(_) => Rejection::NotFound,
            RelayError::NoOrigin | RelayError::Unreachable { .. } => Rejection::Unreachable,
        }
    }
}

impl From<&Refusal> for Rejection {
    fn from(refusal: &Refusal) -> Rejection {
        match refusal.answer() {
            _ if matches!(refusal, Refusal::Loop | Refusal::Hops { .. }) => Rejection::Loop,
            Answer::Unauthorized | Answer::Forbidden => Rejection::Denied,
            Answer::TooMany | Answer::Full => Rejection::Full,
        }
    }
}

impl From<End> for Rejection {
    fn from(end: End) -> Rejection {
        match end {
            End::Expired | End::Order(Order::Ban) => Rejection::Denied,
            End::Order(Order::Kick) => Rejection::Kicked,
            End::Bitrate { .. } => Rejection::Bitrate,
        }
    }
}
