//! Reload: another config and other modules while streams are live.
//!
//! A reload replaces the config as a whole. What it means for clients that are there, each change in the report says; nobody is
//! disconnected by it. Keys that it cannot change are named in the report, and take effect at the next start.
//!
//! The order: build the [`Candidate`], which changes nothing; a refusal or a dry run ends here. Then map its modules and open
//! what its settings need, which fails after all the checks only if the machine has run out of something; swap settings, modules,
//! certificates and router; sweep the live mounts.
//!
//! Reloads run one at a time, in the order in which they were requested. A waiting one holds no thread.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tracing::{debug, error, info, warn};

use super::change::{ChangeReport, Effect};
use super::diff::{Audience, changes};
use super::report::{
    ListenerReport, ModuleChange, ModuleReport, ReloadEntry, ReloadHistory, ReloadOutcome, ReloadReport,
};
use super::running::{OpenError, Opened, Running};
use crate::candidate::{Candidate, InUse, cannot_listen, module_dir};
use crate::conf::Config;
use crate::module::{OffFile, Outcome, Prepared};
use crate::net::NewCertificates;
use crate::policy::ReloadFacts;
use crate::router::Router;
use crate::stream::{EndReason, LiveMount};
use crate::supervisor;

/// The cause of a reload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// An operator, by signal or command.
    Operator,
    /// A file has changed. An incomplete file is not a failure, since its last write causes another reload.
    FileChange,
}

/// Puts another content of the config file in force.
pub struct Reloader {
    file: PathBuf,
    /// The config that the host was started with, for what needs a restart.
    started: Arc<Config>,
    running: Running,
    /// Held for a whole reload.
    turn: Arc<tokio::sync::Mutex<()>>,
    /// Notified when another config is in force.
    applied: Notify,
    reports: Mutex<ReloadHistory>,
    counts: [AtomicU64; 3],
}

impl Reloader {
    /// Returns a reloader of `file`, whose content is in force in `running`.
    pub fn new(file: PathBuf, running: Running) -> Arc<Reloader> {
        Arc::new(Reloader {
            file,
            started: running.current.config(),
            running,
            turn: Arc::default(),
            applied: Notify::new(),
            reports: Mutex::default(),
            counts: Default::default(),
        })
    }

    /// Reloads, or with `dry_run` reports what a reload would do. Waits for a running reload first.
    pub async fn reload(self: &Arc<Self>, dry_run: bool, cause: Cause) -> ReloadReport {
        let (reloader, runtime) = (self.clone(), Handle::current());
        // The caller may be dropped before the work is done, so the work owns the lock.
        let guard = self.turn.clone().lock_owned().await;
        let work = move || {
            let _guard = guard;
            reloader.reload_now(dry_run, cause, &runtime)
        };
        if !dry_run {
            supervisor::reloading().await;
        }
        let reloaded = tokio::task::spawn_blocking(work).await;
        if !dry_run {
            supervisor::ready().await;
        }
        match reloaded {
            Ok(report) => report,
            Err(error) => {
                if error.is_panic() {
                    error!(%error, "reload panicked");
                }
                ReloadReport { errors: error.to_string(), ..ReloadReport::new(dry_run) }
            }
        }
    }

    /// Returns the report of the last reload that was not a dry run.
    pub fn last(&self) -> Option<ReloadReport> {
        self.reports.lock().last().cloned()
    }

    /// Returns the number of reloads that were no dry runs, and those after the first `known` ones that are kept.
    pub(super) fn reports_since(&self, known: u64) -> (u64, Vec<ReloadEntry>) {
        self.reports.lock().since(known)
    }

    /// Returns the number of reloads with this outcome, without dry runs.
    pub fn count(&self, outcome: ReloadOutcome) -> u64 {
        self.counts[outcome as usize].load(Ordering::Relaxed)
    }

    /// The config in force.
    pub fn config(&self) -> Arc<Config> {
        self.running.current.config()
    }

    /// Waits until the config in force satisfies `wanted`.
    pub async fn wait_for(&self, wanted: impl Fn(&Config) -> bool) {
        loop {
            let applied = self.applied.notified();
            if wanted(&self.config()) {
                return;
            }
            applied.await;
        }
    }

    /// The directory of the modules.
    pub fn module_dir(&self) -> PathBuf {
        self.config().modules.dir.clone().unwrap_or_else(module_dir)
    }

    fn reload_now(&self, dry_run: bool, cause: Cause, runtime: &Handle) -> ReloadReport {
        let began = Instant::now();
        let mut report = ReloadReport::new(dry_run);
        let in_use = InUse {
            registry: &self.running.registry,
            off_file: match cause {
                Cause::Operator => OffFile::LoadAgain,
                Cause::FileChange => OffFile::StaysOff,
            },
            certificates: Some(&self.running.certificates),
        };
        let mut unfinished = false;
        match Candidate::of_file(&self.file, &in_use) {
            Err(errors) => report.errors = errors.to_string(),
            Ok(candidate) => {
                unfinished = candidate.modules.is_unfinished();
                self.reload_to(candidate, &mut report, runtime);
            }
        }
        report.took_ms = began.elapsed().as_secs_f64() * 1e3;
        log(&report, cause, unfinished);
        let pending = cause == Cause::FileChange && unfinished;
        if !dry_run && !pending {
            self.counts[report.outcome as usize].fetch_add(1, Ordering::Relaxed);
            self.reports.lock().add(report.clone());
            self.tell(&report);
        }
        report
    }

    /// Tells the hooks.
    fn tell(&self, report: &ReloadReport) {
        let change = |module: &ModuleReport| (module.name.clone(), module.change.to_string());
        self.running.access.hooks().reloaded(&ReloadFacts {
            outcome: report.outcome.to_string(),
            took_ms: report.took_ms as u64,
            modules: report.modules.iter().map(change).collect(),
        });
    }

    /// Puts a candidate in use, unless it is refused, changes nothing, or this is a dry run.
    fn reload_to(&self, candidate: Candidate, report: &mut ReloadReport, runtime: &Handle) {
        let Candidate { config, mut modules, certificates, router, diagnostics } = candidate;
        let audience = Audience::of(&self.running.access, &self.running.hub);
        let removed = self.removed(&modules);
        let source = diagnostics.source().clone();
        let bound = match diagnostics.finish() {
            Ok(_) => {
                self.running.server.bind(&config).map_err(|error| cannot_listen(&config, &source, &error))
            }
            Err(errors) => Err(errors),
        };
        let listeners = bound.inspect_err(|errors| report.errors = errors.to_string()).ok();
        if let Some(listeners) = &listeners {
            report.changes = changes(&self.started, &self.config(), &config, &audience);
            report.listeners = listeners.changes().iter().map(ListenerReport::of).collect();
            let is_new =
                report.has_changes() || modules.has_new() || certificates.has_new() || !removed.is_empty();
            report.outcome = match modules.has_failures() {
                true => ReloadOutcome::Refused,
                false if is_new => ReloadOutcome::Applied,
                false => ReloadOutcome::Unchanged,
            };
        }
        let applies = report.outcome == ReloadOutcome::Applied;
        let mut opened = None;
        if applies && !report.dry_run {
            modules = self.running.registry.load_all(modules, &config.modules);
            opened = listeners.filter(|_| !modules.has_failures());
            if modules.has_failures() {
                report.outcome = ReloadOutcome::Refused;
            }
        }
        let of_module = |name: &str| audience.of_module(name);
        let outcomes = modules.outcomes().iter();
        report.modules =
            outcomes.map(|outcome| ModuleReport::of(outcome, of_module(&outcome.name))).collect();
        if applies {
            report.modules.extend(removed.iter().map(|name| ModuleReport::removed(name, of_module(name))));
        }
        if applies && report.dry_run {
            let is_new = |name: &str| match modules.outcomes().iter().find(|one| one.name == name)? {
                Outcome { result: Ok(change), .. } => Some(change.is_new()),
                Outcome { result: Err(_), .. } => None,
            };
            let hub = &self.running.hub;
            (report.handed_over, report.draining) =
                hub.foresee(&router.vhosts(), config.modules.reload, is_new);
        }
        let Some(listeners) = opened else { return };
        match self.running.open(&config, listeners) {
            Ok(opened) => {
                report.listeners = opened.listeners().iter().map(ListenerReport::of).collect();
                let settings = Settings { config: Arc::new(config), opened, certificates, router };
                self.apply(settings, &modules, report, runtime);
            }
            Err(OpenError::Listener(error)) => {
                report.outcome = ReloadOutcome::Refused;
                report.errors = cannot_listen(&config, &source, &error).to_string();
            }
            Err(error) => {
                report.outcome = ReloadOutcome::Refused;
                report.errors = format!("error: {error}\n");
            }
        }
    }

    /// Returns the names of the loaded modules that are not among `prepared`.
    fn removed(&self, prepared: &Prepared) -> Vec<String> {
        let modules = self.running.registry.modules();
        let is_gone = |name: &&str| prepared.outcomes().iter().all(|outcome| outcome.name != **name);
        modules.iter().map(|module| module.name()).filter(is_gone).map(str::to_owned).collect()
    }

    fn apply(&self, settings: Settings, prepared: &Prepared, report: &mut ReloadReport, runtime: &Handle) {
        let Settings { config, opened, certificates, router } = settings;
        self.running.adopt(&config, opened, certificates);
        let adopted = self.running.registry.adopt(prepared);
        let vhosts = router.vhosts();
        self.running.router.store(Arc::new(router));
        let registry = &self.running.registry;
        let swept = self.running.hub.sweep(&vhosts, config.modules.reload, |name| registry.named(name));
        report.handed_over = swept.handed_over;
        report.draining = swept.draining.len();
        self.running.forwards.follow();
        if let Some(limit) = config.modules.drain_timeout {
            swept.draining.iter().for_each(|mount| drain(mount, limit, runtime));
        }
        adopted.release();
        self.applied.notify_waiters();
    }
}

/// The settings that a reload puts in force beside modules.
struct Settings {
    config: Arc<Config>,
    opened: Opened,
    certificates: NewCertificates,
    router: Router,
}

/// Ends a mount after `limit`, unless it goes over to another generation before.
fn drain(mount: &Arc<LiveMount>, limit: Duration, runtime: &Handle) {
    // The task must keep neither the mount nor its generation in memory.
    let (mount, generation) = (Arc::downgrade(mount), mount.module().generation());
    runtime.spawn(async move {
        tokio::time::sleep(limit).await;
        if let Some(mount) = mount.upgrade()
            && mount.module().generation() == generation
            && mount.is_draining()
        {
            info!(module = %mount.module().name(), generation, ?limit, "drained mount ended");
            mount.end(EndReason::Drained);
        }
    });
}

fn log(report: &ReloadReport, cause: Cause, unfinished: bool) {
    let dry_run = report.dry_run;
    for module in report.modules.iter().filter(|module| module.change == ModuleChange::Refused) {
        let step = module.step.map(|step| step.name()).unwrap_or_default();
        let reason = module.reason.as_deref().unwrap_or_default();
        match cause {
            Cause::FileChange if unfinished => {
                debug!(module = %module.name, step, reason, "module file incomplete; waiting for its next change");
            }
            _ => {
                let file = module.file.display();
                warn!(module = %module.name, %file, step, reason, dry_run, "module refused");
            }
        }
    }
    if !report.errors.is_empty() {
        warn!(dry_run, "config refused\n{}", report.errors);
    }
    for change in report.needs_restart() {
        warn!(dry_run, "{change}");
    }
    let is_made = |change: &&ChangeReport| change.effect != Effect::NextStart;
    let applied = !dry_run && report.outcome == ReloadOutcome::Applied;
    for change in report.changes.iter().filter(is_made).filter(|_| applied) {
        info!("reload: {change}");
    }
    for listener in report.listeners.iter().filter(|_| applied) {
        info!("reload: {listener}");
    }
    let (took_ms, handed_over, draining) = (report.took_ms as u64, report.handed_over, report.draining);
    match report.outcome {
        ReloadOutcome::Refused if unfinished && cause == Cause::FileChange => {}
        ReloadOutcome::Refused => warn!(dry_run, "reload refused; nothing has changed"),
        ReloadOutcome::Unchanged if cause == Cause::FileChange => debug!("nothing to reload"),
        _ if dry_run => info!(took_ms, outcome = %report.outcome, "dry run of a reload; nothing has changed"),
        ReloadOutcome::Applied => info!(took_ms, handed_over, draining, "reloaded"),
        ReloadOutcome::Unchanged if report.changes.is_empty() => info!(took_ms, "nothing to reload"),
        ReloadOutcome::Unchanged => info!(took_ms, "nothing that a reload changes"),
    }
}
