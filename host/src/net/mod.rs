//! Sockets: listeners, connections, deadlines and limits.
//!
//! Purpose: carry bytes between sockets and the sans-IO layers. Every wait for a peer has a deadline, every
//! buffer a limit, and every connection counts against `limits.max_connections`.
//!
//! Used by `main`; uses `http`, `rtmp`, `stream` and `conf`.

mod certificates;
mod http;
mod listener;
pub mod proxy;
mod publish;
mod rtmp;
mod stall;
mod tls;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use certificates::{CertificateError, Certificates, Part};
pub use listener::ListenError;
pub use publish::{PublishLoopError, publish_loop};

use crate::conf::{Accept, Config, TlsListener};
use crate::http::{Service, SharedRouter};
use crate::media::Millis;
use crate::stream::Hub;

use certificates::Owner;

/// What connections share.
pub struct Server {
    config: Arc<Config>,
    hub: Arc<Hub>,
    router: SharedRouter,
    service: Arc<Service>,
    connections: Arc<Semaphore>,
    /// Cancelled when the host stops: listeners close, connections finish.
    stopping: CancellationToken,
    tasks: TaskTracker,
    started: Instant,
}

impl Server {
    /// A server without listeners.
    pub fn new(config: Arc<Config>, hub: Arc<Hub>, service: Arc<Service>) -> Arc<Server> {
        Arc::new(Server {
            router: service.router().clone(),
            connections: Arc::new(Semaphore::new(config.limits.max_connections.min(Semaphore::MAX_PERMITS))),
            config,
            hub,
            service,
            stopping: CancellationToken::new(),
            tasks: TaskTracker::new(),
            started: Instant::now(),
        })
    }

    /// Opens all listeners of the config, those with TLS with `certificates`; returns where they listen, or what could
    /// not be opened.
    ///
    /// # Errors
    /// [`ListenError`] for the first address that cannot be bound; nothing listens then.
    pub fn listen(self: &Arc<Self>, certificates: Certificates) -> Result<Listening, ListenError> {
        let (plain, https) = (&self.config.http_server, &self.config.http_server.https);
        let (rtmp, rtmps) = (&self.config.rtmp, &self.config.rtmps);
        let bind = |address: &SocketAddr, accept: &Accept| listener::bind(*address, accept.reuse_port);
        let tls = |owner: &Owner, tls: &TlsListener| {
            let shown = certificates.shown(owner);
            shown.map(|shown| Ok((bind(&tls.listen, &tls.accept)?, shown))).transpose()
        };
        let rtmp: Vec<_> = rtmp.listen.iter().map(|at| bind(at, &rtmp.accept)).collect::<Result<_, _>>()?;
        let http = plain.enabled.then(|| bind(&plain.listen, &plain.accept)).transpose()?;
        let (https, rtmps) = (tls(&Owner::Https, https)?, tls(&Owner::Rtmps, rtmps)?);

        let address = |listener: &TcpListener| listener.local_addr().ok();
        let listening = Listening {
            rtmp: rtmp.iter().filter_map(address).collect(),
            rtmps: rtmps.as_ref().and_then(|(listener, _)| address(listener)),
            http: http.as_ref().and_then(address),
            https: https.as_ref().and_then(|(listener, _)| address(listener)),
        };
        for listener in rtmp {
            let server = self.clone();
            self.tasks.spawn(listener::accept(self.clone(), listener, move |socket, peer, permit| {
                rtmp::serve(server.clone(), socket, peer, permit)
            }));
        }
        if let Some((listener, shown)) = rtmps {
            let (server, acceptor) = (self.clone(), tls::acceptor(shown, tls::RTMP));
            self.tasks.spawn(listener::accept(self.clone(), listener, move |socket, peer, permit| {
                rtmp::serve_tls(server.clone(), acceptor.clone(), socket, peer, permit)
            }));
        }
        if let Some(listener) = http {
            let server = self.clone();
            self.tasks.spawn(listener::accept(self.clone(), listener, move |socket, peer, permit| {
                http::serve(server.clone(), socket, peer, permit)
            }));
        }
        if let Some((listener, shown)) = https {
            let (server, acceptor) = (self.clone(), tls::acceptor(shown, tls::HTTP));
            self.tasks.spawn(listener::accept(self.clone(), listener, move |socket, peer, permit| {
                http::serve_tls(server.clone(), acceptor.clone(), socket, peer, permit)
            }));
        }
        self.tasks.spawn(certificates.watch(self.stopping.clone()));
        Ok(listening)
    }

    /// Stops: closes the listeners, ends all streams, and waits for the connections to finish what they have.
    pub async fn stop(&self) {
        self.stopping.cancel();
        self.hub.end_all();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// The steady clock that tags arrive on.
    fn now(&self) -> Millis {
        Millis(self.started.elapsed().as_millis() as i64)
    }
}

/// Where a server listens.
#[derive(Clone, Debug, Default)]
pub struct Listening {
    /// RTMP listeners.
    pub rtmp: Vec<SocketAddr>,
    /// RTMP over TLS.
    pub rtmps: Option<SocketAddr>,
    /// HTTP.
    pub http: Option<SocketAddr>,
    /// HTTP over TLS.
    pub https: Option<SocketAddr>,
}
