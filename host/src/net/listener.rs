//! Listeners: bind, accept, and the limit of connections.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tracing::{debug, error};

use crate::conf::{Limits, ListenerKind};
use crate::log::LineLimit;

use super::beat::PlainOnBeat;
use super::listeners::Listener;
use super::opening::{Accepted, Plain, open};
use super::peer::Peer;
use super::server::Server;
use super::tls::{Inside, Tls};
use super::{http, rtmp};

/// Limit of connections that wait in the kernel to be accepted.
const BACKLOG: i32 = 4_096;

/// Pause after a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// An address that cannot be listened on. Culprit: operator.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}")]
pub struct ListenError {
    /// The address.
    pub address: SocketAddr,
    /// The error of the system.
    pub source: io::Error,
}

/// The limit of all connections. Culprit: peer, or the operator who expects more.
#[derive(Debug, thiserror::Error)]
#[error("{0} connections are open (limits.max_connections)")]
struct ConnectionLimit(usize);

/// Binds an address; with `reuse_port`, others may listen on it too.
pub(super) fn bind(address: SocketAddr, reuse_port: bool) -> Result<Socket, ListenError> {
    let bound = || {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(reuse_port)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        Ok(socket)
    };
    bound().map_err(|source| ListenError { address, source })
}

/// Makes a bound socket listen.
pub(super) fn listen(address: SocketAddr, socket: &Socket) -> Result<TcpListener, ListenError> {
    let listening = || {
        socket.listen(BACKLOG)?;
        TcpListener::from_std(socket.try_clone()?.into())
    };
    listening().map_err(|source| ListenError { address, source })
}

/// Accepts connections until the listener is closed or the host drains, and then those that wait already. Its connections may stay;
/// those over HTTP close when they have nothing to serve.
pub(super) async fn accept(server: Arc<Server>, listener: Arc<Listener>) {
    let mut failures = LineLimit::default();
    loop {
        let accepted = tokio::select! {
            accepted = listener.socket.accept() => accepted,
            () = listener.closed.cancelled() => break,
        };
        match accepted {
            Ok((socket, address)) => serve(&server, &listener, socket, address),
            Err(error) => {
                // The process is out of files or memory, or a connection died in the queue: the listener goes on.
                if let Some(before) = failures.line(Instant::now()) {
                    error!(%error, before, "accept failed");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    while let Some((socket, peer)) = accept_waiting(&listener) {
        serve(&server, &listener, socket, peer);
    }
    server.forget(&listener);
    let left = listener.left.clone();
    // Closes the socket.
    drop(listener);
    // Who was accepted just now has the time of a first request.
    tokio::select! {
        () = tokio::time::sleep(server.config().limits.handshake_timeout) => left.cancel(),
        () = server.lifecycle.draining() => {}
    }
}

/// Accepts a connection that waits, whether or not the runtime knows of it.
fn accept_waiting(listener: &Listener) -> Option<(TcpStream, SocketAddr)> {
    let (socket, peer) = SockRef::from(&*listener.socket).accept().ok()?;
    socket.set_nonblocking(true).ok()?;
    Some((TcpStream::from_std(socket.into()).ok()?, peer.as_socket()?))
}

/// Opens a connection and serves it, in a task of its own.
fn serve(server: &Arc<Server>, listener: &Arc<Listener>, socket: TcpStream, address: SocketAddr) {
    let peer = Peer { address, id: server.access.next_connection() };
    let limits = &server.config().limits;
    let Some(slot) = server.connections.enter(limits.max_connections) else {
        return server.refuse("connection_limit", peer, ConnectionLimit(limits.max_connections));
    };
    if let Err(error) = tune(&socket, limits) {
        return debug!(peer = %peer.address, connection = %peer.id, %error, "connection lost at once");
    }
    // Counted for the report of a reload only.
    let Some(of_listener) = listener.connections.enter(usize::MAX) else { return };
    let serving = listener.serving();
    let accepted = Accepted { socket, peer, slots: [slot, of_listener], left: listener.left.clone() };
    let (server, tasks) = (server.clone(), server.tasks.clone());
    let (proxy, tls) = (serving.accept.proxy_protocol, serving.tls.clone());
    match (serving.kind, tls) {
        (ListenerKind::Rtmp, _) => {
            tasks.spawn(open(server, PlainOnBeat, proxy, accepted, rtmp::serve));
        }
        (ListenerKind::Http, _) => {
            tasks.spawn(open(server, Plain, proxy, accepted, http::serve));
        }
        (ListenerKind::Rtmps, Some(tls)) => {
            tasks.spawn(open(server, Tls::new(tls, Inside::Rtmp), proxy, accepted, rtmp::serve));
        }
        (ListenerKind::Https, Some(tls)) => {
            tasks.spawn(open(server, Tls::new(tls, Inside::Http), proxy, accepted, http::serve));
        }
        // A TLS listener has a certificate, and the API accepts by itself.
        (ListenerKind::Rtmps | ListenerKind::Https | ListenerKind::HttpApi | ListenerKind::HttpsApi, _) => {}
    }
}

fn tune(socket: &TcpStream, limits: &Limits) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let socket = SockRef::from(socket);
    socket.set_keepalive(true)?;
    // The kernel closes a connection whose peer accepts no byte for this long (RFC 5482; on Linux also with a closed
    // window).
    socket.set_tcp_user_timeout(Some(limits.send_timeout))
}
