//! What comes before the protocol of a connection: the PROXY header, then TLS. Both have until the deadline that the
//! first request has too.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout_at};
use tracing::debug;

use super::proxy;
use super::server::Server;

/// A connection as it was accepted.
pub(super) struct Accepted {
    pub(super) socket: TcpStream,
    pub(super) peer: SocketAddr,
    pub(super) permit: OwnedSemaphorePermit,
}

/// A connection whose next byte is its protocol's.
pub(super) struct Opened<S> {
    pub(super) socket: S,
    /// Who it is; where a proxy says for whom it speaks, they.
    pub(super) peer: SocketAddr,
    /// When the first request must be there: `limits.handshake_timeout` after it was accepted.
    pub(super) deadline: Instant,
    /// Counts the connection until it closes.
    pub(super) permit: OwnedSemaphorePermit,
}

/// What lies between a socket and its protocol.
pub(super) trait Transport: Clone + Send + Sync + 'static {
    /// What the protocol reads and writes.
    type Socket: Send;

    /// Takes the socket so far that the protocol can begin.
    fn open(
        &self,
        socket: TcpStream,
    ) -> impl Future<Output = Result<Self::Socket, OpenError>> + Send + use<'_, Self>;
}

/// Nothing.
#[derive(Clone)]
pub(super) struct Plain;

impl Transport for Plain {
    type Socket = TcpStream;

    async fn open(&self, socket: TcpStream) -> Result<TcpStream, OpenError> {
        Ok(socket)
    }
}

/// Why a connection closes before its protocol begins. Culprit: peer.
#[derive(Debug, thiserror::Error)]
pub(super) enum OpenError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("plain HTTP at a port for TLS")]
    PlainHttp,
    #[error("plain RTMP at a port for TLS")]
    PlainRtmp,
    #[error("no TLS handshake in time")]
    Late,
}

/// Opens a connection, of which a PROXY header is wanted or not, and has it served: in a task of its own, for that one is
/// long and needs no room for what is done here.
pub(super) async fn open<T: Transport, F: Future<Output = ()> + Send + 'static>(
    server: Arc<Server>,
    transport: T,
    proxy_protocol: bool,
    accepted: Accepted,
    serve: fn(Arc<Server>, Opened<T::Socket>) -> F,
) {
    let Accepted { mut socket, mut peer, permit } = accepted;
    let deadline = Instant::now() + server.config.limits.handshake_timeout;
    let opening = async {
        if proxy_protocol {
            peer = proxy::take(&server.config.proxy, &mut socket, peer, deadline).await?;
        }
        Some(timeout_at(deadline, transport.open(socket)).await.unwrap_or(Err(OpenError::Late)))
    };
    let opened = tokio::select! {
        opened = opening => opened,
        () = server.stopping.cancelled() => return,
    };
    match opened {
        Some(Ok(socket)) => {
            let opened = Opened { socket, peer, deadline, permit };
            server.tasks.spawn(serve(server.clone(), opened));
        }
        Some(Err(error)) => debug!(%peer, %error, "connection closed before it began"),
        // The refusal was logged.
        None => {}
    }
}
