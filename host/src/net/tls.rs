//! TLS 1.2 and 1.3 over accepted sockets.
//!
//! TLS costs one copy per viewer: hyper passes slices of the shared bytes to rustls, which encrypts them into its
//! records. Every wrapper between the two must forward `is_write_vectored` and `poll_write_vectored`; those of
//! tokio-rustls and hyper-util do.

use std::io;
use std::sync::Arc;
use std::time::SystemTime;

use rustls::server::ResolvesServerCert;
use rustls::version::{TLS12, TLS13};
use rustls::{ServerConfig, ServerConnection};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::crypto::provider;
use super::opening::{OpenError, Plain, Transport};
use crate::http::linger;

/// HTTP/2 and HTTP/1.1, as ALPN names them (RFC 7301, 6; RFC 9113, 3.2), preferred ones first. RTMP has no ALPN name.
const HTTP: &[&[u8]] = &[HTTP2, b"http/1.1"];
const HTTP2: &[u8] = b"h2";

/// First byte of RTMP without TLS: C0, the version.
const RTMP_VERSION: u8 = 3;

/// Limit of rustls' output buffer, in bytes: two full records instead of its default of 64 KiB, because the ring cannot
/// drop what is buffered here for a slow peer.
const MAX_UNSENT: usize = 32 * 1024;

/// A TLS connection. Boxed, because it is ten times the size of a plain socket.
pub(super) type Socket = Box<TlsStream<TcpStream>>;

/// The application protocol inside TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Inside {
    Http,
    /// The API, which speaks HTTP/1.1 alone.
    Api,
    Rtmp,
}

/// The TLS transport of one listener.
#[derive(Clone)]
pub(super) struct Tls {
    acceptor: TlsAcceptor,
    inside: Inside,
}

impl Tls {
    /// Creates a transport with the settings of a listener.
    pub(super) fn new(config: Arc<ServerConfig>, inside: Inside) -> Tls {
        Tls { acceptor: TlsAcceptor::from(config), inside }
    }
}

/// Returns the settings of rustls for a listener.
pub(super) fn server_config(certificates: Arc<dyn ResolvesServerCert>, inside: Inside) -> ServerConfig {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13, &TLS12])
        .expect("aws-lc has cipher suites of both versions")
        .with_no_client_auth()
        .with_cert_resolver(certificates);
    let names = match inside {
        Inside::Http => HTTP,
        Inside::Api => &HTTP[1..],
        Inside::Rtmp => &[],
    };
    config.alpn_protocols = names.iter().map(|name| name.to_vec()).collect();
    config
}

impl Transport for Tls {
    type Socket = Socket;

    /// With records that are being read and written, and the state of rustls.
    const MEMORY: usize = Plain::MEMORY + MAX_UNSENT + (32 << 10);

    /// Performs the TLS handshake. A peer that starts without TLS is disconnected; a plain HTTP request is answered with
    /// 400.
    async fn open(&self, mut socket: TcpStream) -> Result<Socket, OpenError> {
        let mut first = [0];
        socket.peek(&mut first).await?;
        match first[0] {
            b'A'..=b'Z' | b'a'..=b'z' => {
                if self.inside == Inside::Http {
                    refuse_plain(&mut socket).await?;
                }
                return Err(OpenError::PlainHttp);
            }
            RTMP_VERSION => return Err(OpenError::PlainRtmp),
            // rustls answers anything else with the right alert.
            _ => {}
        }
        let limit = |connection: &mut ServerConnection| connection.set_buffer_limit(Some(MAX_UNSENT));
        Ok(Box::new(self.acceptor.accept_with(socket, limit).await?))
    }
}

/// Answers a plain HTTP request on a TLS port, and gives the peer time to read the answer.
async fn refuse_plain(socket: &mut TcpStream) -> io::Result<()> {
    const BODY: &str = "a plain HTTP request came to an HTTPS port\n";
    let head = format!(
        "HTTP/1.1 400 Bad Request\r\nDate: {}\r\nContent-Type: text/plain; charset=utf-8\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{BODY}",
        httpdate::fmt_http_date(SystemTime::now()),
        BODY.len(),
    );
    socket.write_all(head.as_bytes()).await?;
    socket.shutdown().await?;
    linger(socket).await;
    Ok(())
}

/// Whether the handshake has chosen HTTP/2.
pub(super) fn is_http2(socket: &Socket) -> bool {
    socket.get_ref().1.alpn_protocol() == Some(HTTP2)
}
