//! The host, put together: config, modules, streams, listeners, signals.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};
use tracing::{error, info, warn};

use crate::conf::{Config, Diagnostics, HttpServer, Mount, Place, Report, Vhost};
use crate::demo::{self, DemoMount};
use crate::http::{Client, Pages, Service};
use crate::net::{Certificates, ListenError, Listening, Server, publish_loop};
use crate::plugin::{LoadFailure, Module, OptionError, Pool, Registry, Transport, check_options};
use crate::rtmp::tc_url::StreamName;
use crate::stream::Hub;

/// How long connections may take to finish when the host stops.
const STOP_LIMIT: Duration = Duration::from_secs(5);

/// A config and the modules that it names.
#[derive(Debug)]
pub struct Loaded {
    config: Config,
    registry: Registry,
    /// Modules that were refused. The host runs without them.
    failures: Vec<LoadFailure>,
    certificates: Certificates,
}

/// What a config names: modules, those that were refused, and certificates.
type Named = (Registry, Vec<LoadFailure>, Certificates);

/// Reads a config file, loads its modules and certificates, and checks each against the other.
///
/// # Errors
/// Every mistake in the file. A module that is refused is none: the host goes on without it.
pub fn load(file: &Path) -> Result<Loaded, Report> {
    Config::load_and(file, load_named).map(Loaded::new)
}

/// As [`load`], from text; `name` stands in messages for the file.
///
/// # Errors
/// As [`load`].
pub fn load_text(text: &str, name: &str) -> Result<Loaded, Report> {
    Config::parse_and(text, name, load_named).map(Loaded::new)
}

/// As [`load`], for `remuxd check`: a module that is refused is a mistake too. Returns the warnings.
///
/// # Errors
/// Every mistake in the file.
pub fn check(file: &Path) -> Result<Report, Report> {
    let checked = Config::load_and(file, |config, diagnostics| {
        let (_, failures, _) = load_named(config, diagnostics);
        for failure in &failures {
            let place = config.modules.load.iter().position(|name| *name == failure.name);
            let place = place.and_then(|at| config.modules.load_places.get(at)).cloned().unwrap_or_default();
            diagnostics.error(failure.to_string(), &place, "cannot be loaded");
        }
    });
    checked.map(|(config, ())| config.warnings)
}

impl Loaded {
    fn new((mut config, (registry, failures, certificates)): (Config, Named)) -> Loaded {
        // What is ignored shall cost no stream a window of its audio.
        for vhost in &mut config.vhosts {
            for mount in &mut Arc::make_mut(vhost).mounts {
                let modules = modules_of(mount, &registry);
                if !modules.is_empty() && !modules.iter().any(|module| module.is_audio_only()) {
                    Arc::make_mut(mount).fast_cache = Duration::ZERO;
                }
            }
        }
        Loaded { config, registry, failures, certificates }
    }

    /// The config.
    pub fn config(&self) -> &Config {
        &self.config
    }
}

fn load_named(config: &Config, diagnostics: &mut Diagnostics) -> Named {
    let (registry, failures) = load_modules(config, diagnostics);
    (registry, failures, Certificates::load(config, diagnostics))
}

fn load_modules(config: &Config, diagnostics: &mut Diagnostics) -> (Registry, Vec<LoadFailure>) {
    let program = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("remuxd"));
    let beside = program.parent().map_or_else(|| PathBuf::from("."), Path::to_owned);
    // Child processes run what runs here, also when an update has replaced the file.
    let running = PathBuf::from("/proc/self/exe");
    let program = if running.exists() { running } else { program };
    let (registry, failures) = Registry::load(&config.modules, &beside, &program);
    check_directory(config, diagnostics);
    for vhost in &config.vhosts {
        for mount in &vhost.mounts {
            check_mount(mount, &registry, !failures.is_empty(), diagnostics);
        }
    }
    (registry, failures)
}

/// Static files need a directory.
fn check_directory(config: &Config, diagnostics: &mut Diagnostics) {
    let HttpServer { dir: Some(dir), dir_place, .. } = &config.http_server else { return };
    let problem = match std::fs::metadata(dir) {
        Ok(metadata) if metadata.is_dir() => return,
        Ok(_) => "not a directory".to_owned(),
        Err(error) => error.to_string(),
    };
    diagnostics.error("no files can be served from `http_server.dir`", dir_place, problem);
}

/// A mount needs a module that answers its extension, and that knows its options.
fn check_mount(mount: &Mount, registry: &Registry, some_refused: bool, diagnostics: &mut Diagnostics) {
    let modules = modules_of(mount, registry);
    if modules.is_empty() && !some_refused {
        let title = format!("no loaded module answers `.{}`", mount.pattern.extension);
        let help = "name a module that does in modules.load";
        diagnostics.error(title, &mount.place, "this mount would be empty").help(help);
    }
    for module in modules.iter().filter(|module| mount.fast_cache > Duration::ZERO && !module.is_audio_only())
    {
        let title = format!("fast_cache is ignored: {} carries video", module.name());
        diagnostics.warning(title, &mount.fast_cache_place, "for formats of audio alone");
    }
    // An option is known when one of the modules that share the mount knows it.
    let mistakes: Vec<Vec<OptionError>> =
        modules.iter().map(|module| check_options(module.options(), &mount.options)).collect();
    let Some((first, others)) = mistakes.split_first() else { return };
    for mistake in first.iter().filter(|mistake| others.iter().all(|other| other.contains(mistake))) {
        let at = mount.options.iter().position(|(key, _)| key == mistake.key());
        let places = at.and_then(|at| mount.option_places.get(at)).cloned().unwrap_or_default();
        let place = if matches!(mistake, OptionError::Unknown { .. }) { places.key } else { places.value };
        diagnostics.error(mistake, &place, "");
    }
}

fn modules_of(mount: &Mount, registry: &Registry) -> Vec<Arc<Module>> {
    let transports = [Transport::HTTP, Transport::WEBSOCKET];
    transports.iter().filter_map(|one| registry.find(&mount.pattern.extension, *one)).collect()
}

/// Runs the host until a signal ends it. Prints where it listens to standard output, then `ready`. With `show_demo` it
/// also publishes the sample and serves the page.
///
/// # Errors
/// An address that cannot be listened on.
pub async fn run(loaded: Loaded, show_demo: bool) -> anyhow::Result<()> {
    let Loaded { config, registry, failures, certificates } = loaded;
    for line in config.warnings.lines() {
        warn!("{line}");
    }
    for failure in &failures {
        error!("{failure}");
    }
    let (config, registry) = (Arc::new(config), Arc::new(registry));
    for module in registry.modules() {
        info!(name = module.name(), version = module.version(), "module loaded");
    }
    let hub = Hub::new();
    let pool = Pool::new(config.modules.workers, config.modules.call_timeout);
    let mounts = if show_demo { demo_mounts(&config, &registry) } else { Vec::new() };
    let pages: Option<Pages> = show_demo.then(|| {
        let mounts = mounts.clone();
        Box::new(move |path: &str, client: &Client| demo::page(path, client, &mounts)) as Pages
    });
    let service = Service::new(config.clone(), hub.clone(), registry, pool, pages);
    let server = Server::new(config.clone(), hub, service);

    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM cannot be handled")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT cannot be handled")?;
    let listening = server.listen(certificates).map_err(|error| cannot_listen(&config, &error))?;
    for address in &listening.rtmp {
        println!("listening rtmp {address}");
    }
    let others = [("rtmps", listening.rtmps), ("http", listening.http), ("https", listening.https)];
    for (protocol, address) in others.into_iter().filter_map(|(protocol, at)| Some((protocol, at?))) {
        println!("listening {protocol} {address}");
    }
    if show_demo {
        start_demo(&listening, &mounts);
    }
    println!("ready");
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    info!("stopping");
    let _ = tokio::time::timeout(STOP_LIMIT, server.stop()).await;
    Ok(())
}

/// The line of the file with the address that cannot be listened on.
fn cannot_listen(config: &Config, error: &ListenError) -> Report {
    let (rtmp, rtmps, http) = (&config.rtmp, &config.rtmps, &config.http_server);
    let others = [
        (&http.listen, &http.listen_place),
        (&http.https.listen, &http.https.listen_place),
        (&rtmps.listen, &rtmps.listen_place),
    ];
    let mut listeners = rtmp.listen.iter().zip(&rtmp.listen_places).chain(others);
    let place = listeners.find(|(address, _)| **address == error.address).map_or(&Place::NONE, |(_, at)| at);
    let mut diagnostics = config.diagnostics();
    let diagnostic = diagnostics.error(format!("cannot listen on {}", error.address), place, &error.source);
    if error.source.kind() == std::io::ErrorKind::AddrInUse {
        diagnostic.help("another process has it; they share it if both have `reuse_port = true`");
    }
    diagnostics.report()
}

/// The default vhost's mounts of the demo stream, one for each module that answers.
fn demo_mounts(config: &Config, registry: &Registry) -> Vec<DemoMount> {
    let of_vhost = |vhost: &Arc<Vhost>| vhost.mounts.clone();
    let mounts = config.vhosts.iter().flat_map(of_vhost);
    mounts
        .flat_map(|mount| {
            let path = mount.pattern.url_path(demo::APP, demo::STREAM);
            modules_of(&mount, registry).into_iter().map(move |module| DemoMount {
                name: module.name().into(),
                url: path.clone(),
                transport: if module.transport() == Transport::HTTP { "http" } else { "websocket" },
                content_type: module.content_type().into(),
            })
        })
        .collect()
}

fn start_demo(listening: &Listening, mounts: &[DemoMount]) {
    let local = |mut address: std::net::SocketAddr| {
        if address.ip().is_unspecified() {
            address.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
        }
        address
    };
    if let Some(http) = listening.http.map(local) {
        println!("page       http://{http}/");
        for mount in mounts {
            let scheme = if mount.transport == "http" { "http" } else { "ws" };
            println!("{:10} {scheme}://{http}{}", mount.transport, mount.url);
        }
    }
    let Some(rtmp) = listening.rtmp.first().copied().map(local) else { return };
    let url = format!("rtmp://{rtmp}/{}/{}", demo::APP, demo::STREAM);
    println!("rtmp       {url}");
    tokio::spawn(async move {
        match StreamName::parse_url(&url) {
            Ok(name) => match publish_loop(rtmp, name, demo::tags()).await {
                Ok(()) => info!("the demo's publisher is done"),
                Err(error) => error!(%error, "the demo's publisher ended"),
            },
            Err(error) => error!(%error, "the demo's stream has no name"),
        }
    });
}
