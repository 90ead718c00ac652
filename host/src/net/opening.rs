//! Opening of connections: the PROXY header, then the TLS handshake, both within the deadline of the first request.

use std::io;
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use super::addresses::AddressSlot;
use super::connections::ConnectionSlot;
use super::peer::Peer;
use super::proxy;
use super::receive_rate::ReceiveRate;
use super::server::Server;
use crate::budget::{Account, Charge, Kind};
use crate::conf::Config;

/// A connection that was accepted.
pub(super) struct Accepted {
    pub(super) socket: TcpStream,
    pub(super) peer: Peer,
    /// Its slots of all connections, and of those of its listener.
    pub(super) slots: [ConnectionSlot; 2],
    /// Cancelled when the listener is closed or the host drains.
    pub(super) left: CancellationToken,
}

/// A connection whose PROXY header and TLS handshake are complete; the next byte belongs to the application protocol.
pub(super) struct Opened<S> {
    pub(super) socket: S,
    pub(super) peer: Peer,
    /// Deadline for the first complete request, or for RTMP publish or play: `limits.handshake_timeout` after accept.
    pub(super) deadline: Instant,
    /// The memory that the host keeps for this peer.
    pub(super) account: Account,
    /// The limit of what the peer may send over HTTP; `None` for a trusted proxy, or if there is no limit.
    pub(super) receive_rate: Option<Arc<ReceiveRate>>,
    /// Cancelled when the connection should close once it has nothing to serve.
    pub(super) left: CancellationToken,
    /// Held until the connection closes.
    pub(super) slot: Slot,
}

/// A slot of `limits.max_connections`, one of its listener, one of `limits.max_connections_per_address` unless the peer is a trusted proxy, and
/// the memory of the connection's own buffers.
pub(super) struct Slot {
    _connection: [ConnectionSlot; 2],
    _address: Option<AddressSlot>,
    _buffers: Charge,
}

/// The transport layer under an application protocol: plain TCP or TLS.
pub(super) trait Transport: Clone + Send + Sync + 'static {
    /// The stream that the application protocol reads and writes.
    type Socket: Send;

    /// Bytes of memory of a connection, before any publisher or viewer: an estimate.
    const MEMORY: usize;

    /// Performs the transport's handshake, if it has one.
    fn open(
        &self,
        socket: TcpStream,
    ) -> impl Future<Output = Result<Self::Socket, OpenError>> + Send + use<'_, Self>;
}

/// Plain TCP, without a handshake.
#[derive(Clone, Debug)]
pub(super) struct Plain;

impl Transport for Plain {
    type Socket = TcpStream;

    const MEMORY: usize = 16 << 10;

    async fn open(&self, socket: TcpStream) -> Result<TcpStream, OpenError> {
        Ok(socket)
    }
}

/// The reason why a connection closes before its protocol begins. Culprit: peer.
#[derive(Debug, thiserror::Error)]
pub(super) enum OpenError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("plain HTTP on a TLS port")]
    PlainHttp,
    #[error("plain RTMP on a TLS port")]
    PlainRtmp,
    #[error("no TLS handshake in time")]
    Late,
}

impl OpenError {
    /// Whether the peer has left, which is no fault of it.
    fn is_left(&self) -> bool {
        // rustls reports a violation of its protocol as invalid data.
        matches!(self, OpenError::Io(error) if error.kind() != io::ErrorKind::InvalidData)
    }
}

/// Reads the PROXY header if one is required, performs the TLS handshake, then spawns `serve` as a separate task so that
/// the long-lived task does not keep the handshake's stack.
pub(super) async fn open<T: Transport, F: Future<Output = ()> + Send + 'static>(
    server: Arc<Server>,
    transport: T,
    proxy_protocol: bool,
    accepted: Accepted,
    serve: fn(Arc<Server>, Opened<T::Socket>) -> F,
) {
    let Accepted { mut socket, mut peer, slots, left } = accepted;
    let config = server.config();
    let deadline = Instant::now() + config.limits.handshake_timeout;
    let opening = async {
        if proxy_protocol {
            peer.address = proxy::take(&server, &config, &mut socket, peer, deadline).await?;
        }
        let (account, receive_rate, slot) = admit(&server, &config, peer, slots, T::MEMORY)?;
        let opened = timeout_at(deadline, transport.open(socket)).await.unwrap_or(Err(OpenError::Late));
        Some(opened.map(|socket| (socket, account, receive_rate, slot)))
    };
    let opened = tokio::select! {
        opened = opening => opened,
        () = server.lifecycle.stopping() => return,
    };
    match opened {
        Some(Ok((socket, account, receive_rate, slot))) => {
            let opened = Opened { socket, peer, deadline, account, receive_rate, left, slot };
            server.tasks.spawn(serve(server.clone(), opened));
        }
        Some(Err(error)) => report(&server, peer, &error),
        // The refusal was logged.
        None => {}
    }
}

/// Reports that a connection closes before its protocol begins. A peer that left is no refusal.
fn report(server: &Server, Peer { address: peer, id: connection }: Peer, error: &OpenError) {
    if error.is_left() {
        debug!(%peer, %connection, %error, "connection closed before it began");
    } else if let Some(before) = server.access.refusals().count("tls") {
        info!(%peer, %connection, %error, before, "connection closed before it began");
    }
}

/// Counts a connection that needs `memory` bytes, and returns what [`Opened`] has of it. `None` if the peer has reached a limit,
/// which is logged.
pub(super) fn admit(
    server: &Server,
    config: &Config,
    peer: Peer,
    connection: [ConnectionSlot; 2],
    memory: usize,
) -> Option<(Account, Option<Arc<ReceiveRate>>, Slot)> {
    let client = peer.address.ip();
    let address = if config.proxy.trusts(client) {
        None
    } else {
        let entered = server.addresses.enter(client, &config.limits);
        Some(entered.inspect_err(|limit| server.refuse("connection_limit", peer, *limit)).ok()?)
    };
    let account = match &address {
        Some(slot) => slot.account().clone(),
        None => server.addresses.account_of_proxy(),
    };
    let receive_rate = address.as_ref().and_then(AddressSlot::receive_rate).cloned();
    let buffers = account.charge(Kind::Connections, memory);
    let buffers = buffers.inspect_err(|over| server.refuse("memory", peer, *over)).ok()?;
    Some((account, receive_rate, Slot { _connection: connection, _address: address, _buffers: buffers }))
}
