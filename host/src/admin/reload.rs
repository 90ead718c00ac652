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

use super::report::{ModuleChange, ModuleReport, ReloadOutcome, ReloadReport};
use crate::candidate::{Candidate, InUse, module_dir};
use crate::conf::Config;
use crate::module::{OffFile, Prepared, Registry};
use crate::net::Certificates;
use crate::policy::{Hooks, ReloadFacts};
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
    hooks: Arc<Hooks>,
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
        hooks: Arc<Hooks>,
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
            hooks,
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
        self.hooks.reloaded(&ReloadFacts {
            outcome: report.outcome.to_string(),
            took_ms: report.took_ms as u64,
            modules: report.modules.iter().map(change).collect(),
        });
    }

    /// Puts a candidate in use, unless it is refused, changes nothing, or this is a dry run.
    fn reload_to(&self, candidate: Candidate, report: &mut ReloadReport, runtime: &Handle) {
        let is_new = self.is_new(&candidate);
        let Candidate { config, mut modules, certificates, router, diagnostics } = candidate;
        match diagnostics.finish() {
            Err(errors) => report.errors = errors.to_string(),
            Ok(_) => {
                report.needs_restart = needs_restart(&self.started, &config);
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
        report.modules = modules.outcomes().iter().map(ModuleReport::of).collect();
        if apply && modules.has_failures() {
            report.outcome = ReloadOutcome::Refused;
        } else if apply {
            self.certificates.adopt(certificates);
            self.apply(&Arc::new(config), router, &modules, report, runtime);
        }
    }

    /// Whether a candidate differs from what is in use.
    fn is_new(&self, candidate: &Candidate) -> bool {
        let Candidate { config, modules, certificates, .. } = candidate;
        let current = self.current.lock();
        modules.has_new()
            || certificates.has_new()
            || self.registry.modules().len() != modules.outcomes().len()
            || (&current.modules, &current.vhosts, &current.limits.sessions, &current.http_hooks)
                != (&config.modules, &config.vhosts, &config.limits.sessions, &config.http_hooks)
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
        self.hooks.set_host(&config.http_hooks);
        let swept = self.hub.sweep(config.modules.reload, |name| self.registry.named(name));
        report.handed_over = swept.handed_over;
        report.draining = swept.draining.len();
        if let Some(limit) = config.modules.drain_timeout {
            swept.draining.iter().for_each(|mount| drain(mount, limit, runtime));
        }
        report.modules.extend(adopted.release().iter().map(|name| ModuleReport::removed(name)));
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
    for key in &report.needs_restart {
        warn!("{key} has changed and takes effect at the next start");
    }
    let (took_ms, handed_over, draining) = (report.took_ms as u64, report.handed_over, report.draining);
    match report.outcome {
        ReloadOutcome::Refused if unfinished && cause == Cause::FileChange => {}
        ReloadOutcome::Refused => warn!(dry_run, "reload refused; nothing has changed"),
        ReloadOutcome::Unchanged if cause == Cause::FileChange => debug!("nothing to reload"),
        _ if dry_run => info!(took_ms, outcome = %report.outcome, "dry run of a reload; nothing has changed"),
        ReloadOutcome::Applied => info!(took_ms, handed_over, draining, "reloaded"),
        ReloadOutcome::Unchanged if report.needs_restart.is_empty() => info!(took_ms, "nothing to reload"),
        ReloadOutcome::Unchanged => info!(took_ms, "nothing that a reload changes"),
    }
}

/// Returns the keys that differ from those the host was started with and that no reload changes.
fn needs_restart(old: &Config, new: &Config) -> Vec<String> {
    // A reload replaces certificates and limits of sessions.
    let mut new = new.clone();
    new.limits.sessions = old.limits.sessions;
    new.http_server.https.certificate = old.http_server.https.certificate.clone();
    new.rtmps.certificate = old.rtmps.certificate.clone();
    // Destructured so that a new table cannot be forgotten here.
    let Config {
        rtmp,
        rtmps,
        http_server,
        proxy,
        http_api,
        admin,
        modules,
        log,
        limits,
        shutdown: _,
        http_hooks: _,
        vhosts: _,
    } = old;
    let fixed = [
        ("[rtmp]", *rtmp == new.rtmp),
        ("[rtmps]", *rtmps == new.rtmps),
        ("[http_server]", *http_server == new.http_server),
        ("[proxy]", *proxy == new.proxy),
        ("[http_api]", *http_api == new.http_api),
        ("[admin]", *admin == new.admin),
        ("[log]", *log == new.log),
        ("[limits]", *limits == new.limits),
        ("modules.workers", modules.workers == new.modules.workers),
        ("modules.call_timeout", modules.call_timeout == new.modules.call_timeout),
        ("modules.watch", modules.watch == new.modules.watch),
    ];
    fixed.into_iter().filter(|(_, same)| !same).map(|(key, _)| key.to_owned()).collect()
}
