//! The host: starts modules, listeners and administration, and stops at a signal.

use std::net::SocketAddr;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinSet;
use tracing::{error, info, warn};

use crate::admin::{
    AccessLog, Api, Cause, Control, FaultLog, OpenedLog, Reloader, Running, memory_limit, notes_path,
    raise_descriptor_limit, remove_dead_sockets, serve_control, serve_tcp, socket_path, watch,
};
use crate::budget::Budget;
use crate::candidate::{Candidate, InUse, cannot_listen, formats_of};
use crate::cluster::{Balancer, Directory, Edge, Forwards, Health, Outbox, Relay, Roster};
use crate::conf::{Config, ConfigErrors, Current, ListenerKind, Shutdown, Source, Warnings};
use crate::demo::{self, DemoMount, DemoPages, SAMPLES, Sample};
use crate::http::{Pages, Service};
use crate::lifecycle::Lifecycle;
use crate::module::{
    CrashNote, CrashNotes, FaultNote, FaultObserver, Generation, OffFile, Outcome, Pool, Prepared, Registry,
    Transport,
};
use crate::net::{Certificates, Fanout, NewCertificates, Server, publish_loop};
use crate::output::print;
use crate::policy::Hooks;
use crate::router::Router;
use crate::rtmp::tc_url::StreamName;
use crate::stream::{Hub, StreamKey};
use crate::supervisor;

/// Timeout for connections to finish when their streams have ended.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// Timeout for the events that hooks are told after that.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(4);

/// Everything that a host starts with.
#[derive(Debug)]
pub struct Start {
    /// The config file; `None` if the config came as text, which cannot be reloaded.
    file: Option<PathBuf>,
    source: Arc<Source>,
    warnings: Warnings,
    registry: Registry,
    config: Config,
    modules: Prepared,
    certificates: NewCertificates,
    router: Router,
    /// `None` for a config without a file, or if the file of notes cannot be opened.
    notes: Option<CrashNotes>,
}

impl Start {
    /// Builds what a config file names. A host starts without the modules that are refused, unless their files are missing.
    ///
    /// # Errors
    /// Every error in the file.
    pub fn of_file(file: PathBuf) -> Result<Start, ConfigErrors> {
        let (notes, crashes) = open_notes(&file);
        let registry = Registry::after_crash(crashes);
        let candidate = Candidate::of_file(&file, &not_started(&registry))?;
        Start::new(Some(file), registry, candidate, notes)
    }

    /// Builds what a config that is text names; `name` replaces the path in messages.
    ///
    /// # Errors
    /// Every error in the text.
    pub fn of_text(text: &str, name: &str) -> Result<Start, ConfigErrors> {
        let registry = Registry::empty();
        let candidate = Candidate::of_text(text, name, &not_started(&registry));
        Start::new(None, registry, candidate, None)
    }

    fn new(
        file: Option<PathBuf>,
        registry: Registry,
        mut candidate: Candidate,
        notes: Option<CrashNotes>,
    ) -> Result<Start, ConfigErrors> {
        candidate.report_failures(Outcome::is_unreadable);
        let Candidate { config, modules, certificates, router, diagnostics } = candidate;
        let source = diagnostics.source().clone();
        let warnings = diagnostics.finish()?;
        Ok(Start { file, source, warnings, registry, config, modules, certificates, router, notes })
    }

    /// The config.
    pub fn config(&self) -> &Config {
        &self.config
    }
}

fn not_started(registry: &Registry) -> InUse<'_> {
    InUse { registry, off_file: OffFile::StaysOff, certificates: None }
}

/// Opens the crash notes of the host that runs with `file`. Also returns those of the last one. A host without notes works.
fn open_notes(file: &Path) -> (Option<CrashNotes>, Vec<CrashNote>) {
    let Some(path) = notes_path(file) else { return (None, Vec::new()) };
    match CrashNotes::open(&path) {
        Ok((notes, crashes)) => (Some(notes), crashes),
        Err(_) => (None, Vec::new()),
    }
}

/// Runs the host until a signal ends it. Prints the addresses of its listeners to standard output, then `ready`. With
/// `show_demo` it also publishes the samples and serves the demo's page.
///
/// # Errors
/// A listener cannot be opened.
pub async fn run(start: Start, show_demo: bool) -> anyhow::Result<()> {
    let Start { file, source, warnings, registry, config, modules, certificates, router, notes } = start;
    for line in warnings.lines() {
        warn!("{line}");
    }
    raise_descriptor_limit(&config.limits);
    return_memory_when_idle();
    let budget = Budget::new(memory_limit(&config.limits));
    let mounts = load_modules(modules, &registry, &config);
    for Generation { name, reason, .. } in registry.generations() {
        if let Some(reason) = reason {
            error!(module = name, "{reason}");
        }
    }
    let notes = notes.map(Arc::new);
    let (current, registry) = (Current::new(config), Arc::new(registry));
    let config = current.config();
    let hub = Hub::new();
    let pool = Pool::new(config.modules.workers, config.modules.call_timeout, notes.clone());
    let pages = show_demo.then(|| -> Box<dyn Pages> { Box::new(DemoPages(mounts.clone())) });
    let service = Service::new(current.clone(), router, hub.clone(), registry.clone(), pool.clone(), pages);
    let certificates = Arc::new(Certificates::new(certificates));
    let (router, access) = (service.router().clone(), service.access().clone());
    let hooks = access.hooks().clone();
    hooks.set_host(&config.http_hooks);
    let faults = Arc::<FaultLog>::default();
    pool.faults().observe(fault_observer(hooks.clone(), faults.clone()));
    let access_log = start_access_log(&config)?;
    access.set_log(access_log.clone());
    let lifecycle = Lifecycle::default();
    let health = Arc::<Health>::default();
    let roster = Arc::<Roster>::default();
    let directory = Directory::new(current.clone(), roster.clone());
    let edge = Edge::new(
        current.clone(),
        hub.clone(),
        access.clone(),
        budget.clone(),
        lifecycle.clone(),
        health.clone(),
        directory.clone(),
    );
    hub.set_supply(Arc::new(edge.clone()));
    access.ask_origins(Arc::new(edge.clone()));
    let outbox = Outbox::new(current.clone(), access.clone());
    let forwards = Forwards::new(outbox.clone(), &hub);
    let relay = Relay::new(outbox, health, directory.clone());
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get);
    let fanout = Fanout::start(threads, access.load(), || budget.address().account());
    let fanout = fanout.context("cannot start the threads of the fan-out")?;
    let (streams, phases) = (hub.clone(), lifecycle.clone());
    let server = Server::new(current.clone(), streams, service, relay, fanout, budget.clone(), phases);
    server.set_edge(edge);
    server.set_directory(directory.clone());
    tokio::spawn(directory.clone().keep(lifecycle.clone()));
    let balancer =
        Balancer { current: current.clone(), access: access.clone(), lifecycle: lifecycle.clone(), roster };
    tokio::spawn(balancer.run());
    let running = Running {
        current: current.clone(),
        registry: registry.clone(),
        pool: pool.clone(),
        certificates: certificates.clone(),
        router,
        hub: hub.clone(),
        access,
        server: server.clone(),
        forwards: forwards.clone(),
        access_log: access_log.clone(),
        budget: budget.clone(),
    };
    let reloader = file.clone().map(|file| Reloader::new(file, running));
    let api = Api::new(registry, hub, pool, budget, server.clone(), reloader.clone(), faults);

    server.access().limit_series(config.metrics.max_series());
    let mut signals = StopSignals::new()?;
    let hangup = signal(SignalKind::hangup()).context("cannot handle SIGHUP")?;
    let opened = server.bind(&config).and_then(|mut new| new.listen().map(|()| new));
    let opened = opened.map_err(|error| cannot_listen(&config, &source, &error))?;
    server.adopt(opened, &config, &certificates);
    server.set_certificates(certificates.clone());
    tokio::spawn(certificates.watch(lifecycle.clone()));
    let listening = server.listening();
    for (kind, address) in &listening {
        print(format_args!("listening {kind} {address}\n"))?;
    }
    let mut admin = start_admin(&config, file, &api, &server, reloader.as_ref()).await;
    admin.spawn(on_hangup(hangup, reloader.clone()));
    admin.spawn(on_rotation(
        signal(SignalKind::user_defined1()).context("cannot handle SIGUSR1")?,
        access_log,
    ));
    tokio::spawn(supervisor::keep_alive());
    if show_demo {
        start_demo(&listening, &mounts)?;
    }
    print("ready\n")?;
    supervisor::ready().await;
    let stop = signals.next().await;
    supervisor::stopping().await;
    if stop == Stop::Gracefully {
        let shutdown = current.config().shutdown;
        tokio::select! {
            () = leave(&server, &lifecycle, shutdown) => {}
            _ = signals.next() => {}
        }
    }
    info!("stopping");
    // Ends the admin tasks and removes the control socket.
    drop(admin);
    tokio::select! {
        () = finish(&server, &forwards, &directory, &hooks) => {}
        _ = signals.next() => {}
    }
    if let Some(notes) = notes {
        notes.close();
    }
    Ok(())
}

/// How an operator ends the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    /// SIGTERM or SIGQUIT: clients have time to move elsewhere.
    Gracefully,
    /// SIGINT: streams end at once.
    AtOnce,
}

/// The signals that end the host. Any of them shortens what an earlier one began.
struct StopSignals {
    terminate: Signal,
    quit: Signal,
    interrupt: Signal,
}

impl StopSignals {
    fn new() -> anyhow::Result<StopSignals> {
        let signal = |kind, name| signal(kind).with_context(|| format!("cannot handle {name}"));
        Ok(StopSignals {
            terminate: signal(SignalKind::terminate(), "SIGTERM")?,
            quit: signal(SignalKind::quit(), "SIGQUIT")?,
            interrupt: signal(SignalKind::interrupt(), "SIGINT")?,
        })
    }

    async fn next(&mut self) -> Stop {
        tokio::select! {
            _ = self.terminate.recv() => Stop::Gracefully,
            _ = self.quit.recv() => Stop::Gracefully,
            _ = self.interrupt.recv() => Stop::AtOnce,
        }
    }
}

/// Gives clients time to move elsewhere: new ones come for `grace_start_wait`, and sessions go on for `shutdown_grace` after that,
/// as long as there are any.
async fn leave(server: &Server, lifecycle: &Lifecycle, shutdown: Shutdown) {
    let Shutdown { grace_start_wait, shutdown_grace } = shutdown;
    info!(?grace_start_wait, ?shutdown_grace, "not ready any more; a further signal stops at once");
    lifecycle.leave();
    tokio::time::sleep(grace_start_wait).await;
    lifecycle.drain();
    let _ = tokio::time::timeout(shutdown_grace, server.idle()).await;
}

/// Ends all sessions and forwards, then tells the directory and the hooks.
async fn finish(server: &Server, forwards: &Forwards, directory: &Directory, hooks: &Hooks) {
    let ended = async {
        server.stop().await;
        forwards.finish().await;
        directory.close().await;
    };
    let _ = tokio::time::timeout(STOP_TIMEOUT, ended).await;
    hooks.flush(FLUSH_TIMEOUT).await;
}

/// Returns what tells the hooks and the API about faults of modules.
fn fault_observer(hooks: Arc<Hooks>, faults: Arc<FaultLog>) -> FaultObserver {
    Box::new(move |note| {
        faults.add(note);
        let FaultNote { vhost, app, stream, module, generation, fault } = note;
        let key = StreamKey::new(vhost, app, stream);
        hooks.fault(&key, module, *generation, &fault.to_string());
    })
}

/// Makes the allocator return unused memory to the system also while nothing is allocated, on a thread of its own.
fn return_memory_when_idle() {
    #[cfg(not(fuzzing))]
    if let Err(error) = tikv_jemalloc_ctl::background_thread::write(true) {
        warn!(%error, "memory is returned to the system only as other memory is requested");
    }
}

/// Loads the modules that were not refused. Returns the mounts of the demo.
fn load_modules(modules: Prepared, registry: &Registry, config: &Config) -> Vec<DemoMount> {
    let modules = registry.load_all(modules, &config.modules);
    for failure in modules.failures() {
        error!("{failure}");
    }
    registry.adopt(&modules).release();
    demo_mounts(config, &modules)
}

/// Starts the access log, whose file may be none.
fn start_access_log(config: &Config) -> anyhow::Result<Arc<AccessLog>> {
    let log = AccessLog::default();
    if let Some(config) = &config.log.access {
        let opened = OpenedLog::open(config);
        log.replace(Some(opened.with_context(|| format!("cannot open {}", config.file.display()))?));
    }
    Ok(Arc::new(log))
}

/// Opens the access log again at SIGUSR1, which a rotation sends.
async fn on_rotation(mut rotated: Signal, log: Arc<AccessLog>) {
    while rotated.recv().await.is_some() {
        log.reopen();
    }
}

/// Reloads at SIGHUP. Signals that arrive during a reload cause one more.
async fn on_hangup(mut hangup: Signal, reloader: Option<Arc<Reloader>>) {
    while hangup.recv().await.is_some() {
        match &reloader {
            Some(reloader) => drop(reloader.reload(false, Cause::Operator).await),
            None => warn!("SIGHUP ignored: there is no config file to reload"),
        }
    }
}

/// Starts the control socket, the API and the file watch.
async fn start_admin(
    config: &Config,
    file: Option<PathBuf>,
    api: &Arc<Api>,
    server: &Server,
    reloader: Option<&Arc<Reloader>>,
) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    match file.map(|file| Control::open(socket_path(&file, config))) {
        Some(Ok(control)) => {
            tasks.spawn(serve_control(api.clone(), control));
            // Blocking: the directory may be large.
            let _ = tokio::task::spawn_blocking(remove_dead_sockets).await;
        }
        Some(Err(error)) => {
            warn!(%error, "no control socket; `remuxd reload` and `remuxd status` will not work")
        }
        None => {}
    }
    tasks.spawn(serve_tcp(api.clone(), server.api_listeners()));
    if let Some(reloader) = reloader {
        tasks.spawn(watch(reloader.clone()));
    }
    tasks
}

/// Returns the mounts of all vhosts that play a sample, one for each format that answers and carries one.
fn demo_mounts(config: &Config, modules: &Prepared) -> Vec<DemoMount> {
    let mounts = config.vhosts.iter().flat_map(|vhost| &vhost.mounts);
    mounts
        .flat_map(|mount| {
            formats_of(mount, modules).into_iter().filter_map(move |format| {
                Some(DemoMount {
                    name: format.name.clone(),
                    url: mount.pattern.url_path(demo::APP, Sample::of(format)?.stream),
                    transport: if format.transports.contains(&Transport::HTTP) {
                        "http"
                    } else {
                        "websocket"
                    },
                    content_type: format.content_type.clone(),
                })
            })
        })
        .collect()
}

fn start_demo(listening: &[(ListenerKind, SocketAddr)], mounts: &[DemoMount]) -> std::io::Result<()> {
    let local = |kind| {
        let (_, mut address) = *listening.iter().find(|(one, _)| *one == kind)?;
        if address.ip().is_unspecified() {
            address.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
        }
        Some(address)
    };
    if let Some(http) = local(ListenerKind::Http) {
        print(format_args!("page       http://{http}/\n"))?;
        for mount in mounts {
            let scheme = if mount.transport == "http" { "http" } else { "ws" };
            print(format_args!("{:10} {scheme}://{http}{}\n", mount.transport, mount.url))?;
        }
    }
    let Some(rtmp) = local(ListenerKind::Rtmp) else { return Ok(()) };
    for sample in &SAMPLES {
        let url = format!("rtmp://{rtmp}/{}/{}", demo::APP, sample.stream);
        print(format_args!("rtmp       {url}\n"))?;
        tokio::spawn(async move {
            match StreamName::parse_url(&url) {
                Ok(name) => match publish_loop(rtmp, name, sample.tags()).await {
                    Ok(()) => info!("demo publisher finished"),
                    Err(error) => error!(%error, "demo publisher failed"),
                },
                Err(error) => error!(%error, "demo stream has an invalid URL"),
            }
        });
    }
    Ok(())
}
