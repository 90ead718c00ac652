//! The host, put together: config, modules, streams, listeners, signals.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinSet;
use tracing::{error, info, warn};

use crate::admin::{
    Api, Cause, Control, Reloader, remove_dead_sockets, serve_control, serve_tcp, socket_path, watch,
};
use crate::conf::{Config, Place, Report, Vhost};
use crate::demo::{self, DemoMount, DemoPages, SAMPLES, Sample};
use crate::http::{Pages, Service};
use crate::load::{Loaded, declared, modules_of};
use crate::module::{Pool, Registry, Transport};
use crate::net::{ListenError, Listening, Server, publish_loop};
use crate::output::print;
use crate::router::Router;
use crate::rtmp::tc_url::StreamName;
use crate::stream::Hub;

/// How long connections may take to finish when the host stops.
const STOP_LIMIT: Duration = Duration::from_secs(5);

/// Runs the host until a signal ends it. Prints where it listens to standard output, then `ready`. With `show_demo` it
/// also publishes the samples and serves the page.
///
/// # Errors
/// An address that cannot be listened on.
pub async fn run(loaded: Loaded, show_demo: bool) -> anyhow::Result<()> {
    let Loaded { file, config, registry, failures, certificates } = loaded;
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
    let pages = show_demo.then(|| -> Box<dyn Pages> { Box::new(DemoPages(mounts.clone())) });
    let router = Router::new(config.vhosts.clone());
    let service = Service::new(config.clone(), router, hub.clone(), registry.clone(), pool.clone(), pages);
    let certificates = Arc::new(certificates);
    let reloader = file.clone().map(|file| {
        let (router, certificates) = (service.router().clone(), certificates.clone());
        Reloader::new(file, config.clone(), registry.clone(), certificates, router, hub.clone())
    });
    let api = Api::new(registry, hub.clone(), pool, reloader.clone());
    let server = Server::new(config.clone(), hub, service);

    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM cannot be handled")?;
    let hangup = signal(SignalKind::hangup()).context("SIGHUP cannot be handled")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT cannot be handled")?;
    let listening = server.listen(&certificates).map_err(|error| cannot_listen(&config, &error))?;
    for address in &listening.rtmp {
        print(format_args!("listening rtmp {address}\n"))?;
    }
    let others = [("rtmps", listening.rtmps), ("http", listening.http), ("https", listening.https)];
    for (protocol, address) in others.into_iter().filter_map(|(protocol, at)| Some((protocol, at?))) {
        print(format_args!("listening {protocol} {address}\n"))?;
    }
    let mut admin = start_admin(&config, file, &api, reloader.as_ref()).await?;
    admin.spawn(on_hangup(hangup, reloader));
    if show_demo {
        start_demo(&listening, &mounts)?;
    }
    print("ready\n")?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    info!("stopping");
    // Nobody asks for more, and the control socket is removed.
    drop(admin);
    let _ = tokio::time::timeout(STOP_LIMIT, server.stop()).await;
    Ok(())
}

/// Reloads at SIGHUP. Those that come during a reload are one.
async fn on_hangup(mut hangup: Signal, reloader: Option<Arc<Reloader>>) {
    while hangup.recv().await.is_some() {
        match &reloader {
            Some(reloader) => drop(reloader.reload(false, Cause::Operator).await),
            None => warn!("there is no config file to reload"),
        }
    }
}

/// Starts what administrators use: the control socket, the API, the file watch.
async fn start_admin(
    config: &Config,
    file: Option<PathBuf>,
    api: &Arc<Api>,
    reloader: Option<&Arc<Reloader>>,
) -> anyhow::Result<JoinSet<()>> {
    let mut tasks = JoinSet::new();
    match file.map(|file| Control::open(socket_path(&file, config))) {
        Some(Ok(control)) => {
            tasks.spawn(serve_control(api.clone(), control));
            // Not on a thread that serves: the directory may be a large one.
            let _ = tokio::task::spawn_blocking(remove_dead_sockets).await;
        }
        Some(Err(error)) => {
            warn!(%error, "no control socket; `remuxd reload` and `remuxd status` will not work")
        }
        None => {}
    }
    if config.http_api.enabled {
        let address = config.http_api.listen;
        let listener = TcpListener::bind(address).await;
        let listener = listener.map_err(|source| cannot_listen(config, &ListenError { address, source }))?;
        print(format_args!("listening http_api {}\n", listener.local_addr()?))?;
        tasks.spawn(serve_tcp(api.clone(), listener));
    }
    if let Some(reloader) = reloader.filter(|_| config.modules.watch) {
        tasks.spawn(watch(reloader.clone()));
    }
    Ok(tasks)
}

/// The line of the file with the address that cannot be listened on.
fn cannot_listen(config: &Config, error: &ListenError) -> Report {
    let (rtmp, rtmps, http) = (&config.rtmp, &config.rtmps, &config.http_server);
    let others = [
        (&http.listen, &http.listen_place),
        (&http.https.listen, &http.https.listen_place),
        (&rtmps.listen, &rtmps.listen_place),
        (&config.http_api.listen, &config.http_api.listen_place),
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

/// All vhosts' mounts of the samples, one for each module that answers and carries one.
fn demo_mounts(config: &Config, registry: &Registry) -> Vec<DemoMount> {
    let of_vhost = |vhost: &Arc<Vhost>| vhost.mounts.clone();
    let find = declared(registry);
    let mounts = config.vhosts.iter().flat_map(of_vhost);
    mounts
        .flat_map(|mount| {
            modules_of(&mount, &find).into_iter().filter_map(move |module| {
                Some(DemoMount {
                    name: module.name.clone(),
                    url: mount.pattern.url_path(demo::APP, Sample::of(&module)?.stream),
                    transport: if module.transports.contains(&Transport::HTTP) {
                        "http"
                    } else {
                        "websocket"
                    },
                    content_type: module.content_type.clone(),
                })
            })
        })
        .collect()
}

fn start_demo(listening: &Listening, mounts: &[DemoMount]) -> std::io::Result<()> {
    let local = |mut address: std::net::SocketAddr| {
        if address.ip().is_unspecified() {
            address.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
        }
        address
    };
    if let Some(http) = listening.http.map(local) {
        print(format_args!("page       http://{http}/\n"))?;
        for mount in mounts {
            let scheme = if mount.transport == "http" { "http" } else { "ws" };
            print(format_args!("{:10} {scheme}://{http}{}\n", mount.transport, mount.url))?;
        }
    }
    let Some(rtmp) = listening.rtmp.first().copied().map(local) else { return Ok(()) };
    for sample in &SAMPLES {
        let url = format!("rtmp://{rtmp}/{}/{}", demo::APP, sample.stream);
        print(format_args!("rtmp       {url}\n"))?;
        tokio::spawn(async move {
            match StreamName::parse_url(&url) {
                Ok(name) => match publish_loop(rtmp, name, sample.tags()).await {
                    Ok(()) => info!("the demo's publisher is done"),
                    Err(error) => error!(%error, "the demo's publisher ended"),
                },
                Err(error) => error!(%error, "the demo's stream has no name"),
            }
        });
    }
    Ok(())
}
