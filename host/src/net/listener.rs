//! Listeners: bind, accept, and keep to the limit of connections.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tracing::{debug, error, warn};

use super::opening::{Accepted, Opened, Transport, open};
use super::server::Server;

/// Connections that the kernel holds until they are accepted.
const BACKLOG: i32 = 4_096;

/// After an accept failed for lack of resources, the next is tried this much later.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Why an address cannot be listened on. Culprit: operator.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}")]
pub struct ListenError {
    /// The address.
    pub address: SocketAddr,
    /// What the system said.
    pub source: io::Error,
}

/// Opens a listener; with `reuse_port`, beside those of other processes that do the same.
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

/// Accepts until the server stops, and has each connection opened, with a PROXY header or without, and served.
pub(super) async fn accept<T: Transport, F>(
    server: Arc<Server>,
    listener: TcpListener,
    transport: T,
    proxy_protocol: bool,
    serve: fn(Arc<Server>, Opened<T::Socket>) -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = server.stopping.cancelled() => return,
        };
        let (socket, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of files or memory, or a connection that died in the queue: neither ends the listener.
                error!(%error, "accept failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(permit) = server.connections.clone().try_acquire_owned() else {
            warn!(%peer, limit = server.config.limits.max_connections, "connection refused: too many");
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
    // A peer that takes no byte for this long is gone (RFC 5482; Linux counts a closed window too).
    socket.set_tcp_user_timeout(Some(server.config.limits.send_timeout))
}
