//! The edges of the host: vhosts whose streams come from origins.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;

use super::check::check;
use super::connector::Connector;
use super::directory::Directory;
use super::health::{Health, OriginFacts};
use super::means::Means;
use super::origin::Opener;
use super::pull::Pull;
use super::pulls::{Answer, PendingLimits, Pulls};
use super::transfers::Transfers;
use crate::budget::Budget;
use crate::conf::{Current, Vhost};
use crate::lifecycle::Lifecycle;
use crate::log::LineLimit;
use crate::policy::{Access, OriginCheck, OriginRefusal, Request, subscriber};
use crate::stream::{Hub, StreamKey, Supply, SupplyError, Waiting};

/// Number of lines about streams that cannot be had, at once.
const LINES: u32 = 100;

/// The source of all streams of edges: pulls each while somebody wants it.
#[derive(Clone)]
pub struct Edge(Arc<Means>);

impl Edge {
    /// Creates the source of streams for `hub`. Pulls follow the config in force and the directory, and end when the host stops. `health`
    /// is that of all origins.
    pub fn new(
        current: Arc<Current>,
        hub: Arc<Hub>,
        access: Arc<Access>,
        budget: Budget,
        lifecycle: Lifecycle,
        health: Arc<Health>,
        directory: Directory,
    ) -> Edge {
        let opener = Opener { connector: Connector::new(current.clone()), current };
        Edge(Arc::new(Means {
            opener,
            hub,
            access,
            budget,
            lifecycle,
            health,
            directory,
            pulls: Mutex::new(Pulls::default()),
            transfers: Arc::default(),
            started: Instant::now(),
            failures: Mutex::new(LineLimit::burst(LINES)),
        }))
    }

    /// Returns the records of all pulls.
    pub fn pulls(&self) -> &Transfers {
        &self.0.transfers
    }

    /// Returns the origins that fail now.
    pub fn failing_origins(&self) -> Vec<OriginFacts> {
        self.0.health.failing()
    }
}

impl Supply for Edge {
    fn want(&self, key: &StreamKey, client: Waiting<'_>) -> Result<bool, SupplyError> {
        let Some(vhost) = self.0.edge(key) else { return Ok(false) };
        let is_proxy = self.0.opener.current.config().proxy.trusts(client.address);
        let address = (!is_proxy).then(|| subscriber(client.address));
        let cluster = &vhost.cluster;
        let limits = PendingLimits {
            all: cluster.max_pending_pulls,
            of_address: cluster.max_pending_pulls_per_address,
        };
        let answer = self.0.pulls.lock().want(key, client.address, address, limits, Instant::now())?;
        if answer == Answer::Begin {
            tokio::spawn(Pull::new(self.0.clone(), key.clone(), client.hops).run());
        }
        Ok(true)
    }
}

impl OriginCheck for Edge {
    fn check<'a>(
        &'a self,
        vhost: &'a Vhost,
        request: &'a Request,
    ) -> Pin<Box<dyn Future<Output = Result<(), OriginRefusal>> + Send + 'a>> {
        Box::pin(check(&self.0, vhost, request))
    }
}

impl fmt::Debug for Edge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Edge").finish_non_exhaustive()
    }
}
