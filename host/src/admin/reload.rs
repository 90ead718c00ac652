//! Reload: new modules, vhosts and mounts while streams are live.
//!
//! What a reload changes: which modules are loaded, and of which build; vhosts with all that is in them; which certificates
//! are shown. A stream that is live keeps the settings of the vhost that it was published on until it ends, and a viewer
//! the mount that it came by. What it does not change: listeners, limits, the log. Those are named in the report, and count
//! from the next start.
//!
//! The order: read the file, take the modules through all checks, in child processes, check each against the other, and
//! read new certificates. Up to here nothing has changed and nothing is mapped; a mistake ends it, and a dry run is over.
//! Then map the modules, which refuses one that passed all checks only when the machine has run out of something; swap
//! them, the certificates and the routes, and sweep the live mounts.
//!
//! There is one reload at a time, in the order in which they were asked for; who waits holds no thread.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tracing::{debug, error, info, warn};

use super::report::{ModuleReport, Report, Verdict};
use crate::conf::Config;
use crate::load::{beside, check_named, drop_ignored, program};
use crate::module::{Prepared, Quarantined, Registry};
use crate::net::{Certificates, NewCertificates};
use crate::router::Router;
use crate::stream::{Hub, LiveMount};

/// Who asked for a reload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// An operator, by signal or command.
    Operator,
    /// A file has changed. One that is not whole yet is no failure: its last write asks again.
    FileChange,
}

/// Replaces modules, vhosts and mounts.
#[derive(Debug)]
pub struct Reloader {
    file: PathBuf,
    /// What the host was started with: the rest of it is in force until it ends.
    started: Arc<Config>,
    /// The vhosts and modules in force.
    current: Mutex<Arc<Config>>,
    /// Held for a whole reload.
    turn: Arc<tokio::sync::Mutex<()>>,
    registry: Arc<Registry>,
    certificates: Arc<Certificates>,
    router: Arc<ArcSwap<Router>>,
    hub: Arc<Hub>,
    last: Mutex<Option<Report>>,
    counts: [AtomicU64; 3],
}

impl Reloader {
    /// A reloader of the config in `file`, which is in force as `config`.
    pub fn new(
        file: PathBuf,
        config: Arc<Config>,
        registry: Arc<Registry>,
        certificates: Arc<Certificates>,
        router: Arc<ArcSwap<Router>>,
        hub: Arc<Hub>,
    ) -> Arc<Reloader> {
        Arc::new(Reloader {
            file,
            started: config.clone(),
            current: Mutex::new(config),
            turn: Arc::default(),
            registry,
            certificates,
            router,
            hub,
            last: Mutex::default(),
            counts: Default::default(),
        })
    }

    /// Reloads, or with `dry_run` says what a reload would do. Waits for a reload that is under way.
    pub async fn reload(self: &Arc<Self>, dry_run: bool, cause: Cause) -> Report {
        let (reloader, runtime) = (self.clone(), Handle::current());
        // Whoever asked may be gone before the work is done, so the work holds it.
        let turn = self.turn.clone().lock_owned().await;
        let work = move || {
            let _turn = turn;
            reloader.reload_now(dry_run, cause, &runtime)
        };
        match tokio::task::spawn_blocking(work).await {
            Ok(report) => report,
            Err(error) => {
                if error.is_panic() {
                    error!(%error, "a reload panicked in the host's own code");
                }
                Report { mistakes: error.to_string(), ..Report::new(dry_run) }
            }
        }
    }

    /// How the last reload went that was no dry run.
    pub fn last(&self) -> Option<Report> {
        self.last.lock().clone()
    }

    /// How many reloads there were with this verdict, without dry runs.
    pub fn count(&self, verdict: Verdict) -> u64 {
        self.counts[verdict as usize].load(Ordering::Relaxed)
    }

    /// The directory that modules are in.
    pub fn module_dir(&self) -> PathBuf {
        self.current.lock().modules.dir.clone().unwrap_or_else(beside)
    }

    fn reload_now(&self, dry_run: bool, cause: Cause, runtime: &Handle) -> Report {
        let current = self.current.lock().clone();
        let began = Instant::now();
        let mut report = Report::new(dry_run);
        let mut unfinished = false;
        match Config::load(&self.file) {
            Err(mistakes) => report.mistakes = mistakes.to_string(),
            Ok(mut config) => {
                let quarantined = match cause {
                    Cause::Operator => Quarantined::TryAgain,
                    Cause::FileChange => Quarantined::Stays,
                };
                let mut prepared = self.registry.prepare(&config.modules, &beside(), &program(), quarantined);
                report.needs_restart = needs_restart(&self.started, &config);
                unfinished = prepared.is_unfinished();
                let certificates = self.check(&mut config, &prepared, &mut report);
                if let Some(certificates) = &certificates {
                    report.verdict = self.verdict(&current, &config, &prepared, certificates);
                }
                if report.verdict == Verdict::Applied && !dry_run {
                    prepared = self.registry.load_all(prepared, &config.modules);
                    if prepared.has_failures() {
                        report.verdict = Verdict::Refused;
                    }
                }
                report.modules = prepared.outcomes().iter().map(ModuleReport::of).collect();
                if let Some(certificates) = certificates
                    && report.verdict == Verdict::Applied
                    && !dry_run
                {
                    self.certificates.adopt(certificates);
                    self.apply(&Arc::new(config), &prepared, &mut report, runtime);
                }
            }
        }
        report.took_ms = began.elapsed().as_secs_f64() * 1e3;
        tell(&report, cause, unfinished);
        let pending = cause == Cause::FileChange && unfinished;
        if !dry_run && !pending {
            self.counts[report.verdict as usize].fetch_add(1, Ordering::Relaxed);
            *self.last.lock() = Some(report.clone());
        }
        report
    }

    /// Checks modules and config against each other, and reads new certificates. `None`: something is wrong.
    fn check(
        &self,
        config: &mut Config,
        prepared: &Prepared,
        report: &mut Report,
    ) -> Option<NewCertificates> {
        let find = |extension: &str, transport| prepared.find(extension, transport).cloned();
        let mut diagnostics = config.diagnostics();
        check_named(config, &find, prepared.has_failures(), &mut diagnostics);
        drop_ignored(config, &find);
        let certificates = self.certificates.prepare(config, &mut diagnostics);
        if let Err(mistakes) = diagnostics.finish() {
            report.mistakes = mistakes.to_string();
            return None;
        }
        (!prepared.has_failures()).then_some(certificates)
    }

    fn verdict(
        &self,
        current: &Config,
        config: &Config,
        prepared: &Prepared,
        certificates: &NewCertificates,
    ) -> Verdict {
        let modules = |config: &Config| (config.modules.clone(), config.vhosts.clone());
        let same_names = self.registry.modules().len() == prepared.outcomes().len();
        if !prepared.has_new() && !certificates.has_new() && same_names && modules(current) == modules(config)
        {
            Verdict::Unchanged
        } else {
            Verdict::Applied
        }
    }

    fn apply(&self, config: &Arc<Config>, prepared: &Prepared, report: &mut Report, runtime: &Handle) {
        *self.current.lock() = config.clone();
        let router = Arc::new(Router::new(config.vhosts.clone()));
        let removed = self.registry.adopt(prepared);
        self.router.store(router);
        let swept = self.hub.sweep(config.modules.reload, |name| self.registry.named(name));
        report.handed_over = swept.handed_over;
        report.draining = swept.draining.len();
        if let Some(limit) = config.modules.drain_timeout {
            swept.draining.iter().for_each(|mount| drain(mount, limit, runtime));
        }
        report.modules.extend(removed.iter().map(|name| ModuleReport::removed(name)));
    }
}

impl Report {
    fn new(dry_run: bool) -> Report {
        Report {
            verdict: Verdict::Refused,
            dry_run,
            took_ms: 0.0,
            modules: Vec::new(),
            handed_over: 0,
            draining: 0,
            needs_restart: Vec::new(),
            mistakes: String::new(),
        }
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
            mount.end();
        }
    });
}

fn tell(report: &Report, cause: Cause, unfinished: bool) {
    let dry_run = report.dry_run;
    for module in report.modules.iter().filter(|module| module.change == "refused") {
        let step = module.step.as_deref().unwrap_or_default();
        let reason = module.reason.as_deref().unwrap_or_default();
        match cause {
            Cause::FileChange if unfinished => {
                debug!(module = %module.name, step, reason, "a module file is not whole yet");
            }
            _ => warn!(module = %module.name, file = module.file, step, reason, dry_run, "module refused"),
        }
    }
    if !report.mistakes.is_empty() {
        warn!(dry_run, "config refused\n{}", report.mistakes);
    }
    for key in &report.needs_restart {
        warn!("{key} has changed, which counts from the next start");
    }
    let (took_ms, handed_over, draining) = (report.took_ms as u64, report.handed_over, report.draining);
    match report.verdict {
        Verdict::Applied => info!(dry_run, took_ms, handed_over, draining, "reloaded"),
        Verdict::Unchanged if cause == Cause::FileChange => debug!("reloaded; nothing has changed"),
        Verdict::Unchanged => info!(dry_run, took_ms, "reloaded; nothing has changed"),
        Verdict::Refused if unfinished && cause == Cause::FileChange => {}
        Verdict::Refused => warn!(dry_run, "not reloaded; everything stays as it was"),
    }
}

/// The keys in which `new` differs from what the host was started with, and which no reload changes.
fn needs_restart(old: &Config, new: &Config) -> Vec<String> {
    // Certificates are taken over.
    let mut new = new.clone();
    new.http_server.https.certificate = old.http_server.https.certificate.clone();
    new.rtmps.certificate = old.rtmps.certificate.clone();
    // Every table is named, so that none is forgotten.
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
        vhosts: _,
        source: _,
        warnings: _,
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
