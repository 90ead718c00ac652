//! TLS 1.2 and 1.3 over accepted sockets.
//!
//! A viewer over TLS costs one copy: hyper hands slices of the shared bytes to rustls, which encrypts from them into
//! its records. Every wrapper between the two has to forward `is_write_vectored` and `poll_write_vectored`; those of
//! tokio-rustls and hyper-util do.

use std::io;
use std::sync::Arc;

use rustls::server::ResolvesServerCert;
use rustls::version::{TLS12, TLS13};
use rustls::{ServerConfig, ServerConnection};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::Server;
use super::certificates::provider;

/// HTTP/2 and HTTP/1.1, as ALPN names them (RFC 7301, 6; RFC 9113, 3.2), preferred ones first.
pub(super) const HTTP: &[&[u8]] = &[HTTP2, b"http/1.1"];
const HTTP2: &[u8] = b"h2";

/// RTMP has no name there.
pub(super) const RTMP: &[&[u8]] = &[];

/// What rustls holds for a slow peer, in bytes, out of reach of the ring's rules: two full records. Its default is
/// 64 KiB.
const MAX_UNSENT: usize = 32 * 1024;

/// A socket that speaks TLS. Boxed, for it is ten times the size of a plain one.
pub(super) type Socket = Box<TlsStream<TcpStream>>;

/// What accepts for a listener that shows these certificates and speaks these protocols.
pub(super) fn acceptor(certificates: Arc<dyn ResolvesServerCert>, protocols: &[&[u8]]) -> TlsAcceptor {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13, &TLS12])
        .expect("aws-lc has cipher suites of both versions")
        .with_no_client_auth()
        .with_cert_resolver(certificates);
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    TlsAcceptor::from(Arc::new(config))
}

/// Shakes hands within `limits.handshake_timeout`. The connection's permit bounds how many do so at once.
///
/// # Errors
/// When the peer fails or is late, or the server stops. Culprit: peer.
pub(super) async fn accept(server: &Server, acceptor: &TlsAcceptor, socket: TcpStream) -> io::Result<Socket> {
    let limit = |connection: &mut ServerConnection| connection.set_buffer_limit(Some(MAX_UNSENT));
    // Boxed, because it is gone once the peer is served.
    let handshake = Box::pin(acceptor.accept_with(socket, limit));
    tokio::select! {
        accepted = timeout(server.config.limits.handshake_timeout, handshake) => Ok(Box::new(accepted??)),
        () = server.stopping.cancelled() => Err(io::ErrorKind::ConnectionAborted.into()),
    }
}

/// Whether the handshake has chosen HTTP/2.
pub(super) fn is_http2(socket: &Socket) -> bool {
    socket.get_ref().1.alpn_protocol() == Some(HTTP2)
}
