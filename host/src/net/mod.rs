//! Sockets: listeners, connections, deadlines and limits.
//!
//! Purpose: carry bytes between sockets and the sans-IO layers. Every wait for a peer has a deadline, every
//! buffer a limit, and every connection counts against `limits.max_connections`.
//!
//! Used by `main`; uses `http`, `rtmp`, `stream` and `conf`.

mod certificates;
mod http;
mod listener;
mod opening;
pub mod proxy;
mod publish;
mod rtmp;
mod stall;
mod tls;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use certificates::{CertificateError, Certificates, NewCertificates, Part};
pub use listener::ListenError;
pub use publish::{PublishLoopError, publish_loop};

use crate::conf::{Accept, Config, TlsListener};
use crate::http::{Service, SharedRouter};
use crate::media::Millis;
use crate::stream::Hub;

use certificates::Owner;
use opening::{Opened, Plain, Transport};
use tls::{Inside, Tls};

/// How long a closing connection has to take its last bytes.
const LINGER: Duration = Duration::from_secs(1);

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
    pub fn listen(self: &Arc<Self>, certificates: &Arc<Certificates>) -> Result<Listening, ListenError> {
        let Config { rtmp, rtmps, http_server: http, .. } = &*self.config;
        let https = &http.https;
        let bind = |address: &SocketAddr, accept: &Accept| listener::bind(*address, accept.reuse_port);
        let bind_tls = |owner: &Owner, tls: &TlsListener| {
            let shown = certificates.shown(owner);
            shown.map(|shown| Ok((bind(&tls.listen, &tls.accept)?, shown))).transpose()
        };
        let on_rtmp: Vec<_> =
            rtmp.listen.iter().map(|at| bind(at, &rtmp.accept)).collect::<Result<_, _>>()?;
        let on_http = http.enabled.then(|| bind(&http.listen, &http.accept)).transpose()?;
        let (on_https, on_rtmps) = (bind_tls(&Owner::Https, https)?, bind_tls(&Owner::Rtmps, rtmps)?);

        let address = |listener: &TcpListener| listener.local_addr().ok();
        let listening = Listening {
            rtmp: on_rtmp.iter().filter_map(address).collect(),
            rtmps: on_rtmps.as_ref().and_then(|(listener, _)| address(listener)),
            http: on_http.as_ref().and_then(address),
            https: on_https.as_ref().and_then(|(listener, _)| address(listener)),
        };
        for listener in on_rtmp {
            self.serve(listener, &rtmp.accept, Plain, rtmp::serve);
        }
        if let Some((listener, shown)) = on_rtmps {
            self.serve(listener, &rtmps.accept, Tls::new(shown, Inside::Rtmp), rtmp::serve);
        }
        if let Some(listener) = on_http {
            self.serve(listener, &http.accept, Plain, http::serve);
        }
        if let Some((listener, shown)) = on_https {
            self.serve(listener, &https.accept, Tls::new(shown, Inside::Http), http::serve);
        }
        self.tasks.spawn(certificates.clone().watch(self.stopping.clone()));
        Ok(listening)
    }

    fn serve<T: Transport, F: Future<Output = ()> + Send + 'static>(
        self: &Arc<Self>,
        listener: TcpListener,
        accept: &Accept,
        transport: T,
        serve: fn(Arc<Server>, Opened<T::Socket>) -> F,
    ) {
        let proxy_protocol = accept.proxy_protocol;
        self.tasks.spawn(listener::accept(self.clone(), listener, transport, proxy_protocol, serve));
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
