//! HTTP connections: hyper over a socket, or over TLS over a socket.
//!
//! Without TLS the protocol is told by the first bytes, under a deadline: hyper-util's own detection waits for ever
//! (hyper#3756).
//! `max_buf_size` is kept small: hyper pulls that much from a body ahead of a slow viewer's socket, out of reach of
//! the ring's rules.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, Interest};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_rustls::TlsAcceptor;
use tracing::debug;

use super::stall::{Streams, Watched};
use super::{Server, proxy, tls};

/// What hyper may buffer for one HTTP/1.1 connection, in bytes; limits the request head too.
const MAX_BUFFER: usize = 16 * 1024;

/// What hyper may buffer for one HTTP/2 stream, in bytes.
const MAX_STREAM_BUFFER: usize = 64 * 1024;

/// Requests at a time on one HTTP/2 connection.
const MAX_STREAMS: u32 = 100;

/// An HTTP/2 peer that does not answer a ping for this long is gone.
const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// The start of the HTTP/2 connection preface (RFC 9113, 3.4). No HTTP/1.1 method begins so.
const HTTP2_PREFACE: &[u8] = b"PRI";

/// Between two looks at a connection that has sent a part of `PRI` only.
const PREFACE_PAUSE: Duration = Duration::from_millis(10);

/// Serves one connection until it closes, or the server stops and its responses are over.
pub(super) async fn serve(
    server: Arc<Server>,
    mut socket: TcpStream,
    peer: SocketAddr,
    _permit: OwnedSemaphorePermit,
) {
    let deadline = Instant::now() + server.config.limits.handshake_timeout;
    let accept = &server.config.http_server.accept;
    let Some(peer) = proxy::take(&server, accept, &mut socket, peer, deadline).await else { return };
    let result = match timeout_at(deadline, starts_http2(&socket)).await {
        // Boxed: an HTTP/1.1 viewer's task need not have room for it.
        Ok(Ok(true)) => Box::pin(serve_http2(&server, socket, peer)).await,
        Ok(Ok(false)) => serve_http1(&server, socket, peer).await,
        Ok(Err(error)) => return debug!(%peer, %error, "connection closed before a request"),
        Err(_) => return debug!(%peer, "no request in time"),
    };
    if let Err(error) = result {
        debug!(%peer, %error, "connection closed");
    }
}

/// As [`serve`], over TLS, whose handshake tells the protocol.
pub(super) async fn serve_tls(
    server: Arc<Server>,
    acceptor: TlsAcceptor,
    mut socket: TcpStream,
    peer: SocketAddr,
    _permit: OwnedSemaphorePermit,
) {
    let deadline = Instant::now() + server.config.limits.handshake_timeout;
    let accept = &server.config.http_server.https.accept;
    let Some(peer) = proxy::take(&server, accept, &mut socket, peer, deadline).await else { return };
    let socket = match tls::accept(&server, &acceptor, socket).await {
        Ok(socket) => socket,
        Err(error) => return debug!(%peer, %error, "TLS failed"),
    };
    let result = match tls::is_http2(&socket) {
        true => Box::pin(serve_http2(&server, socket, peer)).await,
        false => serve_http1(&server, socket, peer).await,
    };
    if let Err(error) = result {
        debug!(%peer, %error, "connection closed");
    }
}

/// A socket, with TLS or without.
trait Io: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Io for T {}

async fn serve_http1(server: &Server, socket: impl Io, peer: SocketAddr) -> hyper::Result<()> {
    let service = &server.service;
    let respond = service_fn(move |request| {
        let service = service.clone();
        // Boxed, because it is gone once the response has begun.
        Box::pin(async move { Ok::<_, Infallible>(service.respond(request, peer).await) })
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(server.config.limits.handshake_timeout)
        .max_buf_size(MAX_BUFFER)
        .serve_connection(TokioIo::new(socket), respond)
        .with_upgrades();
    tokio::pin!(connection);
    tokio::select! {
        result = connection.as_mut() => return result,
        () = server.stopping.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    connection.await
}

async fn serve_http2(server: &Server, socket: impl Io, peer: SocketAddr) -> hyper::Result<()> {
    let asked = Arc::new(AtomicBool::new(false));
    let seen = asked.clone();
    let service = server.service.clone();
    let respond = service_fn(move |request| {
        asked.store(true, Ordering::Relaxed);
        let service = service.clone();
        async move { Ok::<_, Infallible>(service.respond(request, peer).await.map(Watched::new)) }
    });
    let connection = http2::Builder::new(Streams { limit: server.config.limits.send_timeout })
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .max_send_buf_size(MAX_STREAM_BUFFER)
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_BUFFER as u32)
        .serve_connection(TokioIo::new(socket), respond);
    tokio::pin!(connection);
    tokio::select! {
        result = connection.as_mut() => return result,
        () = server.stopping.cancelled() => connection.as_mut().graceful_shutdown(),
        () = no_request(server.config.limits.handshake_timeout, &seen) => {
            debug!(%peer, "no request in time");
            return Ok(());
        }
    }
    connection.await
}

/// Resolves when no request was seen until the deadline: HTTP/2 has no such limit of its own.
async fn no_request(deadline: Duration, seen: &AtomicBool) {
    sleep(deadline).await;
    if seen.load(Ordering::Relaxed) {
        std::future::pending::<()>().await;
    }
}

/// Waits for the first bytes and leaves them in the socket.
async fn starts_http2(socket: &TcpStream) -> std::io::Result<bool> {
    let mut first = [0; HTTP2_PREFACE.len()];
    loop {
        socket.ready(Interest::READABLE).await?;
        let count = socket.peek(&mut first).await?;
        let whole = count == first.len();
        if count == 0 || whole || !HTTP2_PREFACE.starts_with(&first[..count]) {
            return Ok(whole && first == HTTP2_PREFACE);
        }
        sleep(PREFACE_PAUSE).await;
    }
}
