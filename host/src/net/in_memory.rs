//! HTTP connections to peers in memory, and the TLS settings of a listener, for fuzz targets.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use parking_lot::Mutex;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::oneshot;
use tokio::time::{Instant, Sleep, sleep, timeout};

use super::certificates::{Certificates, NewCertificates, Owner};
use super::fanout;
use super::http::{self, HTTP2_PREFACE, is_http2};
use super::opening::{Opened, Plain, Transport, admit};
use super::server::Server;
use super::tls::{Inside, server_config};
use crate::conf::{Config, Diagnostics};

/// How long the host may take to notice that a peer has left.
const UNNOTICED: Duration = Duration::from_secs(60);

/// A peer whose bytes are known from the start.
#[derive(Clone, Debug)]
pub struct Peer {
    /// The bytes that it sends.
    pub sends: Bytes,
    /// Number of bytes that the host reads at once.
    pub step: usize,
    /// Number of bytes that it reads before it reads no more.
    pub reads: usize,
    /// How long it stays after its last byte. The connection then ends, or is reset if the peer does not read.
    pub stays: Duration,
}

/// Serves a connection until both the host and the peer have left. Returns the bytes that the peer has read, and whether the host
/// left first; `None` if the host accepts no connection.
pub async fn serve(server: &Arc<Server>, peer: Peer) -> Option<(Vec<u8>, bool)> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
    let config = server.config();
    let enter = || server.connections.enter(config.limits.max_connections);
    let connection = [enter()?, enter()?];
    let client = super::peer::Peer { address, id: server.access.next_connection() };
    let (account, receive_rate, slot) = admit(server, &config, client, connection, Plain::MEMORY)?;
    let (read, left) = (Arc::<Mutex<Vec<u8>>>::default(), Arc::<Mutex<bool>>::default());
    let (open, closed) = oneshot::channel();
    let deadline = Instant::now() + config.limits.handshake_timeout;
    // A viewer of a stream that sends nothing may leave without the host's notice.
    let longest = peer.stays.saturating_add(UNNOTICED);
    let socket = Socket { peer, read: read.clone(), left: left.clone(), leaves: None, _open: open };
    let drains = server.lifecycle().until_draining();
    let opened = Opened { socket, peer: client, deadline, account, receive_rate, left: drains, slot };
    if timeout(longest, http::serve(server.clone(), opened)).await.is_err() {
        *left.lock() = true;
    }
    let _ = closed.await;
    let (read, left) = (std::mem::take(&mut *read.lock()), *left.lock());
    Some((read, !left))
}

/// Returns the TLS settings of the HTTPS listener of a config; `None` if it has no usable certificate.
pub fn https_settings(config: &Config) -> Option<Arc<ServerConfig>> {
    let read = NewCertificates::read(config, None, &mut Diagnostics::default());
    Some(Arc::new(server_config(Certificates::new(read).resolver(&Owner::Https)?, Inside::Http)))
}

/// The host's end of a connection.
struct Socket {
    peer: Peer,
    read: Arc<Mutex<Vec<u8>>>,
    /// Whether the peer has left.
    left: Arc<Mutex<bool>>,
    leaves: Option<Pin<Box<Sleep>>>,
    _open: oneshot::Sender<()>,
}

impl Socket {
    /// Waits until the peer leaves.
    fn poll_left(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.peer.stays > Duration::ZERO {
            let stays = self.peer.stays;
            ready!(self.leaves.get_or_insert_with(|| Box::pin(sleep(stays))).as_mut().poll(cx));
            self.peer.stays = Duration::ZERO;
        }
        *self.left.lock() = true;
        Poll::Ready(())
    }
}

impl http::Socket for Socket {
    const FANOUT: bool = false;

    async fn speaks_http2(&self) -> io::Result<bool> {
        match is_http2(&self.peer.sends[..self.peer.sends.len().min(HTTP2_PREFACE.len())]) {
            Some(is_http2) => Ok(is_http2),
            None => std::future::pending().await,
        }
    }

    fn into_fanout(self) -> io::Result<fanout::Socket> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.peer.sends.is_empty() {
            ready!(self.poll_left(cx));
        }
        let count = self.peer.step.min(self.peer.sends.len()).min(buffer.remaining());
        buffer.put_slice(&self.peer.sends[..count]);
        self.peer.sends.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let count = bytes.len().min(self.peer.reads);
        if count == 0 && !bytes.is_empty() {
            ready!(self.poll_left(cx));
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        self.peer.reads -= count;
        self.read.lock().extend_from_slice(&bytes[..count]);
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
