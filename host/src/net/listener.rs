//! Listeners: bind, accept, and the limit of connections.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tracing::{debug, error};

use crate::log::LineLimit;

use super::opening::{Accepted, Opened, Transport, open};
use super::server::Server;

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

/// Opens a listener; with `reuse_port`, several processes may listen on the same address.
pub(super) fn bind(address: SocketAddr, reuse_port: bool) -> Result<TcpListener, ListenError> {
    let open = || {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(reuse_port)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        TcpListener::from_std(socket.into())
    };
    open().map_err(|source| ListenError { address, source })
}

/// Accepts connections until the host drains; a task each opens it, with or without a PROXY header, and serves it.
pub(super) async fn accept<T: Transport, F>(
    server: Arc<Server>,
    listener: TcpListener,
    transport: T,
    proxy_protocol: bool,
    serve: fn(Arc<Server>, Opened<T::Socket>) -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let mut failures = LineLimit::default();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = server.lifecycle.draining() => return,
        };
        let (socket, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // The process is out of files or memory, or a connection died in the queue: the listener goes on.
                if let Some(before) = failures.line(Instant::now()) {
                    error!(%error, before, "accept failed");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(permit) = server.connections.clone().try_acquire_owned() else {
            server.refuse(peer, ConnectionLimit(server.config.limits.max_connections));
            continue;
        };
        if let Err(error) = tune(&socket, &server) {
            debug!(%peer, %error, "connection lost at once");
            continue;
        }
        let accepted = Accepted { socket, peer, permit };
        server.tasks.spawn(open(server.clone(), transport.clone(), proxy_protocol, accepted, serve));
    }
}

fn tune(socket: &TcpStream, server: &Server) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let socket = SockRef::from(socket);
    socket.set_keepalive(true)?;
    // The kernel closes a connection whose peer accepts no byte for this long (RFC 5482; on Linux also with a closed
    // window).
    socket.set_tcp_user_timeout(Some(server.config.limits.send_timeout))
}
