//! The open listeners of a server.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::connections::Connections;
use crate::conf::{Accept, HttpApi, ListenerConfig, ListenerKind};
use crate::lifecycle::Lifecycle;

/// The open listeners of a server.
#[derive(Debug)]
pub(super) struct Listeners {
    pub open: Mutex<Vec<Arc<Listener>>>,
    pub api: watch::Sender<Vec<ApiListener>>,
}

/// A listener of the API and its rules. Whoever serves the API accepts from it.
#[derive(Clone, Debug)]
pub struct ApiListener {
    /// The socket, which closes when this is dropped.
    pub socket: Arc<TcpListener>,
    /// The settings of TLS, if it speaks it.
    pub tls: Option<Arc<ServerConfig>>,
    /// The rules.
    pub config: HttpApi,
}

/// An open listener.
#[derive(Debug)]
pub(super) struct Listener {
    /// The address in the config.
    pub address: SocketAddr,
    /// The address that it listens on: with port 0 in the config, another one.
    pub local: SocketAddr,
    pub socket: Arc<TcpListener>,
    serving: ArcSwap<Serving>,
    /// Its connections.
    pub connections: Arc<Connections>,
    /// Cancelled when it is to accept no more.
    pub closed: CancellationToken,
    /// Cancelled when its connections are to close once they have nothing to serve.
    pub left: CancellationToken,
}

/// How a listener serves the connections that it accepts.
#[derive(Debug)]
pub(super) struct Serving {
    pub kind: ListenerKind,
    pub accept: Accept,
    /// The settings of TLS, if the listener speaks it.
    pub tls: Option<Arc<ServerConfig>>,
}

impl Default for Listeners {
    fn default() -> Listeners {
        Listeners { open: Mutex::default(), api: watch::Sender::new(Vec::new()) }
    }
}

impl PartialEq for ApiListener {
    fn eq(&self, other: &ApiListener) -> bool {
        Arc::ptr_eq(&self.socket, &other.socket)
            && self.tls.is_some() == other.tls.is_some()
            && self.config == other.config
    }
}

impl Listener {
    /// The listener that `want` names, on a socket that listens already.
    pub fn new(
        want: &ListenerConfig,
        socket: TcpListener,
        serving: Serving,
        lifecycle: &Lifecycle,
    ) -> io::Result<Listener> {
        Ok(Listener {
            address: want.address,
            local: socket.local_addr()?,
            socket: Arc::new(socket),
            serving: ArcSwap::from_pointee(serving),
            connections: Arc::default(),
            closed: lifecycle.until_draining(),
            left: lifecycle.until_draining(),
        })
    }

    /// Its protocol.
    pub fn kind(&self) -> ListenerKind {
        self.serving.load().kind
    }

    /// How connections are served that are accepted now.
    pub fn serving(&self) -> Arc<Serving> {
        self.serving.load_full()
    }

    /// Serves later connections in another way.
    pub fn serve(&self, serving: Serving) {
        self.serving.store(Arc::new(serving));
    }
}
