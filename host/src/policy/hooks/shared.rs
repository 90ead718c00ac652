//! State that all hooks of the host share, and the hooks of the host itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::warn;

use super::client::Client;
use super::event::{Sender, host_event, stream_event};
use super::{HookAction, HookCounts};
use crate::conf::{Endpoint, HostHooks};
use crate::log::LineLimit;
use crate::policy::sessions::Sessions;
use crate::stream::StreamKey;

/// State that all hooks of the host share. It outlives the config.
#[derive(Debug)]
pub struct Hooks {
    server_id: String,
    service_id: String,
    events: AtomicU64,
    pub(super) sessions: Arc<Sessions>,
    host: ArcSwapOption<HostClient>,
    counts: HookCounts,
    /// `None` outside of a runtime: nothing is sent.
    pub(super) runtime: Option<Handle>,
    pub(super) tasks: TaskTracker,
    /// Cancelled when the host stops: events are tried once more, without a pause.
    pub(super) stopping: CancellationToken,
    lines: Mutex<LineLimit>,
}

/// The host's own hooks.
#[derive(Debug)]
struct HostClient {
    config: HostHooks,
    client: Arc<Client>,
}

/// The facts about a reload in events.
#[derive(Clone, Debug)]
pub struct ReloadFacts {
    /// `applied`, `unchanged` or `refused`.
    pub outcome: String,
    /// The duration, in milliseconds.
    pub took_ms: u64,
    /// The modules that a candidate has, each with what became of it.
    pub modules: Vec<(String, String)>,
}

impl Hooks {
    /// Creates it; `service_id` is of this process. Without a runtime around it, nothing is sent.
    pub(in crate::policy) fn new(service_id: String, sessions: Arc<Sessions>) -> Arc<Hooks> {
        Arc::new(Hooks {
            server_id: host_name(),
            service_id,
            sessions,
            events: AtomicU64::new(1),
            host: ArcSwapOption::empty(),
            counts: HookCounts::default(),
            runtime: Handle::try_current().ok(),
            tasks: TaskTracker::new(),
            stopping: CancellationToken::new(),
            lines: Mutex::default(),
        })
    }

    /// Replaces the host's own hooks.
    pub fn set_host(&self, config: &HostHooks) {
        let host = config.enabled.then(|| {
            let client = Arc::new(Client::new(&config.requests));
            Arc::new(HostClient { config: config.clone(), client })
        });
        self.host.store(host);
    }

    /// Tells that a module failed on a stream.
    pub fn fault(self: &Arc<Self>, key: &StreamKey, module: &str, generation: u64, reason: &str) {
        let Some(host) = self.host.load_full() else { return };
        let facts = serde_json::json!({ "module": module, "generation": generation, "reason": reason });
        self.tell(&host.client, &host.config.on_fault, HookAction::Fault, |sender| {
            stream_event(sender, HookAction::Fault, key, facts.clone())
        });
    }

    /// Tells about a reload, those of the config that is in use now.
    pub fn reloaded(self: &Arc<Self>, facts: &ReloadFacts) {
        let Some(host) = self.host.load_full() else { return };
        let ReloadFacts { outcome, took_ms, modules } = facts;
        let modules: Vec<_> = modules
            .iter()
            .map(|(name, change)| serde_json::json!({ "name": name, "change": change }))
            .collect();
        let facts = serde_json::json!({ "outcome": outcome, "took_ms": took_ms, "modules": modules });
        self.tell(&host.client, &host.config.on_reload, HookAction::Reload, |sender| {
            host_event(sender, HookAction::Reload, facts.clone())
        });
    }

    /// Sends what waits, each once more at most, for at most `limit`. Called when all sessions have ended.
    pub async fn flush(&self, limit: Duration) {
        self.stopping.cancel();
        self.tasks.close();
        if tokio::time::timeout(limit, self.tasks.wait()).await.is_err() {
            warn!(events = self.tasks.len(), "hooks: the host stops before all events were sent");
        }
    }

    /// The names of the machine and of this process, as events have them.
    pub fn ids(&self) -> (&str, &str) {
        (&self.server_id, &self.service_id)
    }

    /// The counters.
    pub fn counts(&self) -> &HookCounts {
        &self.counts
    }

    /// Returns a new id of an event.
    pub(super) fn next_event(&self) -> String {
        format!("{}-{}", self.service_id, self.events.fetch_add(1, Ordering::Relaxed))
    }

    /// Returns the sender of an event.
    pub(super) fn sender<'a>(&'a self, event_id: &'a str) -> Sender<'a> {
        Sender { server_id: &self.server_id, service_id: &self.service_id, event_id }
    }

    /// Logs that a hook failed, in a line every few seconds.
    pub(super) fn report(&self, action: HookAction, endpoint: &Endpoint, problem: &str) {
        let line = self.lines.lock().line(Instant::now());
        if let Some(before) = line {
            warn!(%action, url = %endpoint, problem, before, "hook failed");
        }
    }
}

/// Returns the name of this machine.
fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().to_owned()
}
