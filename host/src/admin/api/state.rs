//! The parts of the host that the pages of the API read and change.

use std::sync::Arc;

use super::events::Feed;
use super::srs::{Identity, Rates, Samples};
use crate::admin::faults::FaultLog;
use crate::admin::reload::Reloader;
use crate::budget::Budget;
use crate::conf::Config;
use crate::lifecycle::Lifecycle;
use crate::module::{Pool, Registry};
use crate::net::Server;
use crate::policy::Access;
use crate::stream::Hub;

/// The host as the API sees it.
pub struct Api {
    pub(super) registry: Arc<Registry>,
    pub(super) hub: Arc<Hub>,
    pub(super) pool: Arc<Pool>,
    pub(super) budget: Budget,
    pub(super) access: Arc<Access>,
    pub(super) server: Arc<Server>,
    /// `None` without a config file.
    pub(super) reloader: Option<Arc<Reloader>>,
    pub(super) lifecycle: Lifecycle,
    pub(super) faults: Arc<FaultLog>,
    pub(super) feed: Feed,
    /// For the pages with SRS's shapes.
    pub(super) identity: Identity,
    pub(super) rates: Rates,
    pub(super) samples: Samples,
}

impl Api {
    /// Returns the API; `reloader` is `None` without a config file.
    pub fn new(
        registry: Arc<Registry>,
        hub: Arc<Hub>,
        pool: Arc<Pool>,
        budget: Budget,
        server: Arc<Server>,
        reloader: Option<Arc<Reloader>>,
        faults: Arc<FaultLog>,
    ) -> Arc<Api> {
        let (access, lifecycle) = (server.access().clone(), server.lifecycle().clone());
        let (identity, rates, samples) =
            (Identity::new(access.hooks().ids()), Rates::default(), Samples::default());
        Arc::new(Api {
            registry,
            hub,
            pool,
            budget,
            access,
            server,
            reloader,
            lifecycle,
            faults,
            feed: Feed::default(),
            identity,
            rates,
            samples,
        })
    }

    /// The config in use.
    pub(super) fn config(&self) -> Arc<Config> {
        self.server.config()
    }
}
