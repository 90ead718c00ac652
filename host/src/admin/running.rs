//! The parts of a running host that a config decides on, and how they change.
//!
//! First everything is opened that can fail, then everything is replaced. Nothing that a peer is connected to is touched.

use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tracing::warn;

use super::access_log::{AccessLog, OpenedLog};
use super::resources::{memory_limit, raise_descriptor_limit};
use crate::budget::Budget;
use crate::cluster::Forwards;
use crate::conf::{Config, Current};
use crate::log;
use crate::module::{Pool, Registry};
use crate::net::{Certificates, ListenError, ListenerChange, NewCertificates, NewListeners, Server};
use crate::policy::Access;
use crate::router::Router;
use crate::stream::Hub;

/// The parts of a running host.
pub struct Running {
    /// The config in force.
    pub current: Arc<Current>,
    /// The modules.
    pub registry: Arc<Registry>,
    /// The threads that call them.
    pub pool: Arc<Pool>,
    /// The certificates.
    pub certificates: Arc<Certificates>,
    /// The vhosts.
    pub router: Arc<ArcSwap<Router>>,
    /// The streams.
    pub hub: Arc<Hub>,
    /// The listeners and connections.
    pub server: Arc<Server>,
    /// The streams that are sent to other servers.
    pub forwards: Arc<Forwards>,
    /// The sessions and hooks.
    pub access: Arc<Access>,
    /// The access log.
    pub access_log: Arc<AccessLog>,
    /// The memory for peers.
    pub budget: Budget,
}

/// Resources of a new config that the machine may refuse, opened and not in use.
pub(super) struct Opened {
    /// Another access log, or none; `None` keeps the one that is there.
    access_log: Option<Option<OpenedLog>>,
    listeners: NewListeners,
}

impl Opened {
    /// Returns the listeners that are opened and closed.
    pub fn listeners(&self) -> Vec<ListenerChange> {
        self.listeners.changes()
    }
}

/// Something that cannot be opened. Culprit: operator.
#[derive(Debug, thiserror::Error)]
pub(super) enum OpenError {
    #[error("cannot open {}: {source}", file.display())]
    AccessLog { file: PathBuf, source: std::io::Error },
    #[error("{0}")]
    Listener(#[from] ListenError),
}

impl Running {
    /// Opens what `new` needs beyond the config in force, `listeners` among it, which are bound.
    pub(super) fn open(&self, new: &Config, mut listeners: NewListeners) -> Result<Opened, OpenError> {
        let access_log = (self.current.config().log.access != new.log.access).then(|| {
            let open = |file: &crate::conf::AccessLogFile| {
                let opened = OpenedLog::open(file);
                opened.map_err(|source| OpenError::AccessLog { file: file.file.clone(), source })
            };
            new.log.access.as_ref().map(open).transpose()
        });
        let access_log = access_log.transpose()?;
        listeners.listen()?;
        Ok(Opened { access_log, listeners })
    }

    /// Puts the settings of `new` in force that belong to the host as a whole.
    pub(super) fn adopt(&self, new: &Arc<Config>, opened: Opened, certificates: NewCertificates) {
        let old = self.current.config();
        self.current.replace(new.clone());
        self.certificates.adopt(certificates);
        self.server.adopt(opened.listeners, new, &self.certificates);
        if let Some(access_log) = opened.access_log {
            self.access_log.replace(access_log);
        }
        if old.log != new.log
            && let Err(error) = log::set(&new.log)
        {
            warn!(%error, "the log keeps its level");
        }
        if old.limits.max_memory != new.limits.max_memory {
            self.budget.set_limit(memory_limit(&new.limits));
        }
        if old.limits.max_connections != new.limits.max_connections {
            raise_descriptor_limit(&new.limits);
        }
        self.pool.set(new.modules.workers, new.modules.call_timeout);
        self.access.hooks().set_host(&new.http_hooks);
    }
}
