//! Everything that the pulls of the host share.

use std::sync::Arc;

use parking_lot::Mutex;

use super::directory::{Directory, Sources};
use super::health::{Health, Origin};
use super::origin::Opener;
use super::pulls::Pulls;
use super::transfers::Transfers;
use crate::budget::Budget;
use crate::conf::{Upstream, Vhost};
use crate::lifecycle::Lifecycle;
use crate::log::LineLimit;
use crate::media::Millis;
use crate::policy::Access;
use crate::stream::{Hub, StreamKey};

/// The means of all pulls.
pub(super) struct Means {
    pub opener: Opener,
    pub hub: Arc<Hub>,
    pub access: Arc<Access>,
    pub budget: Budget,
    pub lifecycle: Lifecycle,
    pub health: Arc<Health>,
    pub directory: Directory,
    pub pulls: Mutex<Pulls>,
    pub transfers: Arc<Transfers>,
    /// The start of the clock of arrivals.
    pub started: std::time::Instant,
    /// Limits the lines about streams that cannot be had.
    pub failures: Mutex<LineLimit>,
}

impl Means {
    /// Returns the vhost in the config in force, if it is an edge.
    pub fn edge(&self, key: &StreamKey) -> Option<Arc<Vhost>> {
        let config = self.opener.current.config();
        let vhost = config.vhosts.iter().find(|vhost| *vhost.name == *key.vhost)?;
        (vhost.enabled && vhost.cluster.is_edge()).then(|| vhost.clone())
    }

    /// Returns the origins of a stream in the order in which they are to be tried, and whether there may be others, since the directory
    /// does not answer. `last` had the stream last.
    pub async fn origins(
        &self,
        vhost: &Vhost,
        key: &StreamKey,
        last: Option<&Upstream>,
    ) -> (Vec<Origin>, bool) {
        let Sources { servers, is_unsure } = self.directory.sources(vhost, key).await;
        (self.health.order(vhost, &servers, key, last, std::time::Instant::now()), is_unsure)
    }

    /// Returns the time on the clock of arrivals.
    pub fn now(&self) -> Millis {
        Millis(self.started.elapsed().as_millis() as i64)
    }
}
