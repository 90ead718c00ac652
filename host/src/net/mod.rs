//! Sockets: listeners, connections, deadlines and limits.
//!
//! Purpose: carry bytes between sockets and the sans-IO layers. Every wait for a peer has a deadline, every
//! buffer a limit, and every connection counts against `limits.max_connections`.
//!
//! Used by `main`; uses `http`, `rtmp`, `stream` and `conf`.

mod http;
mod listener;
mod publish;
mod rtmp;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use listener::ListenError;
pub use publish::{PublishLoopError, publish_loop};

use crate::conf::Config;
use crate::http::{Service, SharedRouter};
use crate::media::Millis;
use crate::stream::Hub;

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

    /// Opens all listeners of the config; returns where they listen, HTTP last, or what could not be opened.
    ///
    /// # Errors
    /// [`ListenError`] for the first address that cannot be bound; nothing listens then.
    pub fn listen(self: &Arc<Self>) -> Result<Listening, ListenError> {
        let mut rtmp = Vec::new();
        for &address in &self.config.rtmp.listen {
            rtmp.push(listener::bind(address)?);
        }
        let http = match self.config.http_server.enabled {
            true => Some(listener::bind(self.config.http_server.listen)?),
            false => None,
        };
        let address = |listener: &TcpListener| listener.local_addr();
        let listening = Listening {
            rtmp: rtmp.iter().filter_map(|listener| address(listener).ok()).collect(),
            http: http.as_ref().and_then(|listener| address(listener).ok()),
        };
        for listener in rtmp {
            let server = self.clone();
            self.tasks.spawn(listener::accept(self.clone(), listener, move |socket, peer, permit| {
                rtmp::serve(server.clone(), socket, peer, permit)
            }));
        }
        if let Some(listener) = http {
            let server = self.clone();
            self.tasks.spawn(listener::accept(self.clone(), listener, move |socket, peer, permit| {
                http::serve(server.clone(), socket, peer, permit)
            }));
        }
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
    /// The HTTP listener.
    pub http: Option<SocketAddr>,
}
