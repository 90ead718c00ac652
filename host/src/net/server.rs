//! The state that all connections share.

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio_util::task::TaskTracker;
use tracing::warn;

use crate::budget::Budget;
use crate::cluster::{Directory, Edge, Relay, Transfers};
use crate::conf::{Config, Current};
use crate::http::{Responses, Service};
use crate::lifecycle::Lifecycle;
use crate::log::LineLimit;
use crate::media::Millis;
use crate::policy::Access;
use crate::router::{Named, Router};
use crate::rtmp::tc_url::StreamName;
use crate::stream::{Hub, StreamKey};

use super::addresses::Addresses;
use super::certificates::{CertificateFacts, Certificates};
use super::connections::Connections;
use super::fanout::Fanout;
use super::listeners::Listeners;
use super::peer::Peer;

/// A server of connections.
pub struct Server {
    current: Arc<Current>,
    pub(super) hub: Arc<Hub>,
    pub(super) router: Arc<ArcSwap<Router>>,
    pub(super) access: Arc<Access>,
    pub(super) service: Arc<Service>,
    /// Passes the publishers of edges on.
    pub(super) relay: Relay,
    pub(super) fanout: Fanout,
    pub(super) connections: Arc<Connections>,
    pub(super) listeners: Listeners,
    pub(super) addresses: Arc<Addresses>,
    /// Those of the listeners, once there are any.
    pub(super) certificates: OnceLock<Arc<Certificates>>,
    /// The pulls of the host's edges, unset if it has none.
    edge: OnceLock<Edge>,
    /// The directory of the cluster, unset if there is none.
    directory: OnceLock<Directory>,
    pub(super) lifecycle: Lifecycle,
    /// Tasks that a stopping server waits for.
    pub(super) tasks: TaskTracker,
    started: Instant,
    refusals: Mutex<LineLimit>,
    /// Limits the lines about RTMP connections that close without a fault.
    pub(super) closings: Mutex<LineLimit>,
}

/// Number of lines about closed connections at once.
const CLOSINGS: u32 = 100;

impl Server {
    /// Creates a server without listeners. Its peers' memory is charged to `budget`.
    pub fn new(
        current: Arc<Current>,
        hub: Arc<Hub>,
        service: Arc<Service>,
        relay: Relay,
        fanout: Fanout,
        budget: Budget,
        lifecycle: Lifecycle,
    ) -> Arc<Server> {
        Arc::new(Server {
            router: service.router().clone(),
            access: service.access().clone(),
            connections: Arc::default(),
            listeners: Listeners::default(),
            addresses: Addresses::new(budget),
            certificates: OnceLock::new(),
            edge: OnceLock::new(),
            directory: OnceLock::new(),
            current,
            hub,
            service,
            relay,
            fanout,
            lifecycle,
            tasks: TaskTracker::new(),
            started: Instant::now(),
            refusals: Mutex::default(),
            closings: Mutex::new(LineLimit::burst(CLOSINGS)),
        })
    }

    /// The config in force. A connection reads it when it begins.
    pub fn config(&self) -> Arc<Config> {
        self.current.config()
    }

    /// The state that all sessions share.
    pub fn access(&self) -> &Arc<Access> {
        &self.access
    }

    /// Sets the pulls that [`Server::edge`] is about, once.
    pub fn set_edge(&self, edge: Edge) {
        let _ = self.edge.set(edge);
    }

    /// The streams that are pulled from other servers.
    pub fn edge(&self) -> Option<&Edge> {
        self.edge.get()
    }

    /// Sets the directory of the cluster, once.
    pub fn set_directory(&self, directory: Directory) {
        let _ = self.directory.set(directory);
    }

    /// The directory of the cluster.
    pub fn directory(&self) -> Option<&Directory> {
        self.directory.get()
    }

    /// The records of the streams that are sent to other servers.
    pub fn pushes(&self) -> &Transfers {
        self.relay.pushes()
    }

    /// The threads that send to viewers.
    pub fn fanout(&self) -> &Fanout {
        &self.fanout
    }

    /// The phase of the host.
    pub fn lifecycle(&self) -> &Lifecycle {
        &self.lifecycle
    }

    /// Returns the number of open connections, and its limit.
    pub fn connections(&self) -> (usize, usize) {
        (self.connections.open(), self.config().limits.max_connections)
    }

    /// Returns the numbers of HTTP responses.
    pub fn responses(&self) -> &Responses {
        self.service.responses()
    }

    /// Sets the certificates that [`Server::certificate_facts`] is about, once.
    pub fn set_certificates(&self, certificates: Arc<Certificates>) {
        let _ = self.certificates.set(certificates);
    }

    /// Returns the facts about each certificate in use.
    pub fn certificate_facts(&self) -> Vec<CertificateFacts> {
        self.certificates.get().map(|certificates| certificates.facts()).unwrap_or_default()
    }

    /// Waits until there is no connection. The listeners must be closed.
    pub async fn idle(&self) {
        self.connections.idle().await;
    }

    /// Stops the server: closes the listeners, ends all streams, and waits until each connection has sent what it has.
    pub async fn stop(&self) {
        self.lifecycle.stop();
        self.close_listeners();
        self.hub.end_all();
        self.tasks.close();
        self.tasks.wait().await;
        self.relay.idle().await;
    }

    /// Counts a connection that is closed because of a limit, and reports it, in a line every few seconds.
    pub(super) fn refuse(&self, reason: &'static str, peer: Peer, limit: impl std::error::Error) {
        self.access.refusals().count(reason);
        let line = self.refusals.lock().line(Instant::now());
        if let Some(before) = line {
            warn!(peer = %peer.address, connection = %peer.id, %limit, before, "connection refused");
        }
    }

    /// Returns the stream that a publisher or player names; `None` if the vhost is disabled.
    pub(super) fn stream(&self, name: &StreamName) -> Option<Named> {
        let is_live = |key: &StreamKey| self.hub.find(key).is_some();
        self.router.load().stream(&name.vhost, &name.app, &name.stream, is_live)
    }

    /// Returns the time of arrival of tags: a steady clock that starts with the server.
    pub(super) fn now(&self) -> Millis {
        Millis(self.started.elapsed().as_millis() as i64)
    }
}
