//! Reload: new modules, vhosts and mounts while streams are live.
//!
//! A reload replaces modules, vhosts with everything in them, certificates, and the limits of sessions. A live stream keeps
//! the settings of the vhost that it was published on until it ends, and a viewer keeps its mount. Listeners, other limits
//! and the log do not change; the report names such keys, and they take effect at the next start.
//!
//! The order: build the [`Candidate`], which changes nothing; a refusal or a dry run ends here. Then map its modules,
//! which fails after all the checks only if the machine has run out of something; swap modules, certificates and router;
//! sweep the live mounts.
//!
//! Reloads run one at a time, in the order in which they were requested. A waiting one holds no thread.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tracing::{debug, error, info, warn};

use super::change::Effect;
use super::diff::{Audience, changes};
use super::report::{ModuleChange, ModuleReport, ReloadOutcome, ReloadReport};
use crate::candidate::{Candidate, InUse, module_dir};
use crate::conf::{Config, ReloadMode};
use crate::module::{OffFile, Outcome, Prepared, Registry};
use crate::net::Certificates;
use crate::policy::{Access, ReloadFacts};
use crate::router::Router;
use crate::stream::{EndReason, Hub, LiveMount};
use crate::supervisor;

/// The cause of a reload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// An operator, by signal or command.
    Operator,
    /// A file has changed. An incomplete file is not a failure, since its last write causes another reload.
    FileChange,
}

/// Replaces modules, vhosts and mounts.
#[derive(Debug)]
pub struct Reloader {
    file: PathBuf,
    /// The config that the host was started with. Its listeners, log and most limits stay in use.
    started: Arc<Config>,
    /// The config whose vhosts and modules are in use.
    current: Mutex<Arc<Config>>,
    /// Held for a whole reload.
    running: Arc<tokio::sync::Mutex<()>>,
    registry: Arc<Registry>,
    certificates: Arc<Certificates>,
    router: Arc<ArcSwap<Router>>,
    hub: Arc<Hub>,
    access: Arc<Access>,
    last: Mutex<Option<ReloadReport>>,
    counts: [AtomicU64; 3],
}

impl Reloader {
    /// Returns a reloader of `file`, whose content is in use as `config`.
    pub fn new(
        file: PathBuf,
        config: Arc<Config>,
        registry: Arc<Registry>,
        certificates: Arc<Certificates>,
        router: Arc<ArcSwap<Router>>,
        hub: Arc<Hub>,
        access: Arc<Access>,
    ) -> Arc<Reloader> {
        Arc::new(Reloader {
            file,
            started: config.clone(),
            current: Mutex::new(config),
            running: Arc::default(),
            registry,
            certificates,
            router,
            hub,
            access,
            last: Mutex::default(),
            counts: Default::default(),
        })
    }

    /// Reloads, or with `dry_run` reports what a reload would do. Waits for a running reload first.
    pub async fn reload(self: &Arc<Self>, dry_run: bool, cause: Cause) -> ReloadReport {
        let (reloader, runtime) = (self.clone(), Handle::current());
        // The caller may be dropped before the work is done, so the work owns the lock.
        let guard = self.running.clone().lock_owned().await;
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
        self.last.lock().clone()
    }

    /// Returns the number of reloads with this outcome, without dry runs.
    pub fn count(&self, outcome: ReloadOutcome) -> u64 {
        self.counts[outcome as usize].load(Ordering::Relaxed)
    }

    /// The config in use.
    pub fn config(&self) -> Arc<Config> {
        self.current.lock().clone()
    }

    /// The directory of the modules.
    pub fn module_dir(&self) -> PathBuf {
        self.config().modules.dir.clone().unwrap_or_else(module_dir)
    }

    fn reload_now(&self, dry_run: bool, cause: Cause, runtime: &Handle) -> ReloadReport {
        let began = Instant::now();
        let mut report = ReloadReport::new(dry_run);
        let in_use = InUse {
            registry: &self.registry,
            off_file: match cause {
                Cause::Operator => OffFile::LoadAgain,
                Cause::FileChange => OffFile::StaysOff,
            },
            certificates: Some(&self.certificates),
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
            *self.last.lock() = Some(report.clone());
            self.tell(&report);
        }
        report
    }

    /// Tells the hooks.
    fn tell(&self, report: &ReloadReport) {
        let change = |module: &ModuleReport| (module.name.clone(), module.change.to_string());
        self.access.hooks().reloaded(&ReloadFacts {
            outcome: report.outcome.to_string(),
            took_ms: report.took_ms as u64,
            modules: report.modules.iter().map(change).collect(),
        });
    }

    /// Puts a candidate in use, unless it is refused, changes nothing, or this is a dry run.
    fn reload_to(&self, candidate: Candidate, report: &mut ReloadReport, runtime: &Handle) {
        let Candidate { config, mut modules, certificates, router, diagnostics } = candidate;
        let audience = Audience::of(&self.access, &self.hub);
        let removed = self.removed(&modules);
        match diagnostics.finish() {
            Err(errors) => report.errors = errors.to_string(),
            Ok(_) => {
                report.changes = changes(&self.started, &self.config(), &config, &audience);
                let is_new = report.has_changes()
                    || modules.has_new()
                    || certificates.has_new()
                    || !removed.is_empty();
                report.outcome = match modules.has_failures() {
                    true => ReloadOutcome::Refused,
                    false if is_new => ReloadOutcome::Applied,
                    false => ReloadOutcome::Unchanged,
                };
            }
        }
        let apply = report.outcome == ReloadOutcome::Applied && !report.dry_run;
        if apply {
            modules = self.registry.load_all(modules, &config.modules);
        }
        let of_module = |name: &str| audience.of_module(name);
        let outcomes = modules.outcomes().iter();
        report.modules =
            outcomes.map(|outcome| ModuleReport::of(outcome, of_module(&outcome.name))).collect();
        if report.outcome == ReloadOutcome::Applied {
            report.modules.extend(removed.iter().map(|name| ModuleReport::removed(name, of_module(name))));
        }
        if apply && modules.has_failures() {
            report.outcome = ReloadOutcome::Refused;
        } else if apply {
            self.certificates.adopt(certificates);
            self.apply(&Arc::new(config), router, &modules, report, runtime);
        } else if report.outcome == ReloadOutcome::Applied {
            let stays = |name: &str| match modules.outcomes().iter().find(|one| one.name == name) {
                Some(Outcome { result: Ok(change), .. }) => change.is_new().then_some(config.modules.reload),
                _ => Some(ReloadMode::Drain),
            };
            (report.handed_over, report.draining) = self.hub.foresee(stays);
        }
    }

    /// Returns the names of the loaded modules that are not among `prepared`.
    fn removed(&self, prepared: &Prepared) -> Vec<String> {
        let modules = self.registry.modules();
        let is_gone = |name: &&str| prepared.outcomes().iter().all(|outcome| outcome.name != **name);
        modules.iter().map(|module| module.name()).filter(is_gone).map(str::to_owned).collect()
    }

    fn apply(
        &self,
        config: &Arc<Config>,
        router: Router,
        prepared: &Prepared,
        report: &mut ReloadReport,
        runtime: &Handle,
    ) {
        *self.current.lock() = config.clone();
        let adopted = self.registry.adopt(prepared);
        self.router.store(Arc::new(router));
        self.access.hooks().set_host(&config.http_hooks);
        let swept = self.hub.sweep(config.modules.reload, |name| self.registry.named(name));
        report.handed_over = swept.handed_over;
        report.draining = swept.draining.len();
        if let Some(limit) = config.modules.drain_timeout {
            swept.draining.iter().for_each(|mount| drain(mount, limit, runtime));
        }
        adopted.release();
    }
}

/// Ends a mount after `limit`, unless it goes over to another generation before.
fn drain(mount: &Arc<LiveMount>, limit: Duration, runtime: &Handle) {
    // The task must keep neither the mount nor its generation in memory.
    let (mount, generation) = (Arc::downgrade(mount), mount.module().generation());
    runtime.spawn(async move {
        tokio::time::sleep(limit).await;
        if let Some(mount) = mount.upgrade()
            && mount.module().generation() == generation
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
    for change in report.changes.iter().filter(|change| change.effect != Effect::NextStart && !dry_run) {
        info!("reload: {change}");
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
