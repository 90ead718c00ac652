//! HTTP connections: hyper over a socket, or over TLS over a socket.
//!
//! Without TLS the first bytes decide between HTTP/1.1 and HTTP/2, under a deadline: hyper-util's own detection waits for
//! ever (hyper#3756). `max_buf_size` is kept small: hyper pulls that much from a body ahead of a slow viewer's socket,
//! and the ring cannot drop it.

use std::convert::Infallible;
use std::future::pending;
use std::io;
use std::ops::DerefMut;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::{HttpService, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::net::{RecvFlags, recv};
use tokio::io::{AsyncRead, AsyncWrite, Interest};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use crate::budget::{Kind, OverBudget};
use crate::http::{Body, ConnectionContext, Stall};

use super::fanout::{self, Reason};
use super::http1;
use super::opening::Opened;
use super::peer::Peer;
use super::receive_rate::Limited;
use super::server::Server;
use super::stall::{Streams, Watched, stream_stall};
use super::tls;

/// Limit of hyper's buffer for one HTTP/1.1 connection, in bytes; also limits the request head.
pub(super) const MAX_BUFFER: usize = 16 * 1024;

/// Limit of hyper's send buffer for one HTTP/2 stream, in bytes.
const MAX_STREAM_BUFFER: usize = 64 * 1024;

/// Receive window of an HTTP/2 connection and of each stream, in bytes: the least that a peer may assume (RFC 9113, 6.9.2),
/// because no request has a body.
const WINDOW: u32 = 65_535;

/// Bytes of memory of an HTTP/2 connection beside its socket's: the window, a frame in each direction, header tables; an
/// estimate.
const HTTP2_MEMORY: usize = WINDOW as usize + (48 << 10);

/// Limit of concurrent requests on one HTTP/2 connection.
const MAX_STREAMS: u32 = 100;

/// Limit of streams that an HTTP/2 peer opens and resets before they are accepted.
const MAX_EARLY_RESETS: usize = 20;

/// Limit of streams of one HTTP/2 connection that are reset because the peer violates the protocol.
const MAX_ERRORS: usize = 100;

/// Interval of HTTP/2 pings, and time for an answer.
const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// The start of the HTTP/2 connection preface (RFC 9113, 3.4). No HTTP/1.1 method begins so.
pub(super) const HTTP2_PREFACE: &[u8] = b"PRI";

/// Serves one connection until it closes, or its listener is closed or the host drains and its responses are complete.
pub(super) async fn serve(server: Arc<Server>, opened: Opened<impl Socket>) {
    let Opened { socket, peer, deadline, account, receive_rate, left, slot } = opened;
    let guard = Arc::new((slot, server.tasks.token()));
    let lifecycle = server.lifecycle.clone();
    let stall = Stall::new(server.config().limits.send_timeout, None);
    let Peer { address, id } = peer;
    let connection = ConnectionContext { id, peer: address, account, guard, lifecycle, stall: stall.clone() };
    let http2 = tokio::select! {
        detected = timeout_at(deadline, socket.speaks_http2()) => detected,
        () = left.cancelled() => return,
    };
    let first = FirstRequest::new(deadline);
    let result = match http2 {
        Ok(Ok(false)) => http1::serve(&server, &left, socket, &connection, receive_rate, &first).await,
        // Boxed, so that an HTTP/1.1 viewer's task is not as large as this.
        Ok(Ok(true)) => {
            let socket = Limited::new(socket, receive_rate, stall);
            Box::pin(drive_http2(&server, &left, socket, connection, &first)).await
        }
        Ok(Err(error)) => Err(Close::Io(error)),
        Err(_) => Err(Close::NoRequest),
    };
    if let Err(close) = result {
        report(&server, peer, &close);
    }
}

/// Reports that a connection closes early.
fn report(server: &Server, Peer { address: peer, id: connection }: Peer, close: &Close) {
    match close.refusal().map(|reason| server.access.refusals().count(reason)) {
        Some(Some(before)) => info!(%peer, %connection, reason = %close, before, "http connection closed"),
        Some(None) => {}
        None => debug!(%peer, %connection, reason = %close, "http connection closed"),
    }
}

/// Serves HTTP/2 until the connection closes, or the host drains and its responses are complete.
async fn drive_http2(
    server: &Server,
    left: &CancellationToken,
    socket: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    connection: ConnectionContext,
    first: &FirstRequest,
) -> Result<(), Close> {
    let _buffers = connection.account.charge(Kind::Connections, HTTP2_MEMORY)?;
    let config = server.config();
    let (idle_timeout, send_timeout) = (config.limits.handshake_timeout, config.limits.send_timeout);
    drop(config);
    let streams = Streams::new(connection.id, send_timeout, connection.stall.clone());
    let serving = pin!(serve_http2(server, socket, connection, first.clone(), streams.clone()));
    let idle = || streams.none_for(idle_timeout);
    tokio::select! {
        result = drive(left, serving, http2::Connection::graceful_shutdown, first, idle) => result,
        () = streams.useless() => Err(Close::Resets),
    }
}

/// The reason why a connection closes. Culprit: peer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Close {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Http(#[from] hyper::Error),
    #[error("no request in time")]
    NoRequest,
    #[error("no more requests")]
    Idle,
    #[error("{0}")]
    OverBudget(#[from] OverBudget),
    #[error("too many requests were reset before their responses")]
    Resets,
    #[error("{0}")]
    Left(#[from] Reason),
}

impl Close {
    /// The name of the refusal; `None` if the peer has left or does nothing.
    fn refusal(&self) -> Option<&'static str> {
        match self {
            Close::Http(error) if error.is_parse() || error.is_parse_too_large() => Some("http_protocol"),
            Close::OverBudget(_) | Close::Left(Reason::OverBudget(_)) => Some("memory"),
            Close::Resets => Some("http_resets"),
            Close::NoRequest => Some("no_request"),
            Close::Http(_) | Close::Io(_) | Close::Idle | Close::Left(_) => None,
        }
    }
}

/// A stream that carries HTTP: TCP or TLS.
pub(super) trait Socket: AsyncRead + AsyncWrite + Send + Unpin + 'static {
    /// Whether the peer speaks HTTP/2, else HTTP/1.1. Consumes no bytes.
    fn speaks_http2(&self) -> impl Future<Output = io::Result<bool>> + Send;

    /// Leaves the runtime, for a fan-out thread.
    fn into_fanout(self) -> io::Result<fanout::Socket>;
}

impl Socket for TcpStream {
    /// Waits for the first bytes.
    async fn speaks_http2(&self) -> io::Result<bool> {
        // A part of the preface counts as nothing to read: the task sleeps until the kernel reports more.
        let detect = || {
            let mut first = [0; HTTP2_PREFACE.len()];
            let (count, _) = recv(self, &mut first, RecvFlags::PEEK)?;
            is_http2(&first[..count]).ok_or_else(|| io::ErrorKind::WouldBlock.into())
        };
        self.async_io(Interest::READABLE, detect).await
    }

    fn into_fanout(self) -> io::Result<fanout::Socket> {
        Ok(fanout::Socket::Plain(self.into_std()?))
    }
}

impl Socket for tls::Socket {
    /// Returns what the handshake has negotiated.
    async fn speaks_http2(&self) -> io::Result<bool> {
        Ok(tls::is_http2(self))
    }

    fn into_fanout(self) -> io::Result<fanout::Socket> {
        let (tcp, tls) = self.into_inner();
        Ok(fanout::Socket::Tls(tcp.into_std()?, Box::new(tls)))
    }
}

/// Returns whether a connection that begins with these bytes speaks HTTP/2, else HTTP/1.1; `None` if that needs more bytes. A
/// connection that was closed at once begins with no bytes.
pub(super) fn is_http2(first: &[u8]) -> Option<bool> {
    let is_part = (1..HTTP2_PREFACE.len()).contains(&first.len()) && HTTP2_PREFACE.starts_with(first);
    (!is_part).then_some(first == HTTP2_PREFACE)
}

/// Serves HTTP/2.
fn serve_http2<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(
    server: &Server,
    socket: S,
    connection: ConnectionContext,
    first: FirstRequest,
    streams: Streams,
) -> http2::Connection<
    TokioIo<S>,
    impl HttpService<Incoming, ResBody = Watched<Body>, Future: Send> + use<S>,
    Streams,
> {
    let service = server.service.clone();
    let respond = service_fn(move |request| {
        first.arrived();
        let (service, mut connection) = (service.clone(), connection.clone());
        async move {
            connection.stall = stream_stall().unwrap_or(connection.stall);
            Ok::<_, Infallible>(service.respond(request, &connection).await.map(Watched::new))
        }
    });
    http2::Builder::new(streams)
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .max_send_buf_size(MAX_STREAM_BUFFER)
        .initial_connection_window_size(WINDOW)
        .initial_stream_window_size(WINDOW)
        .max_concurrent_streams(MAX_STREAMS)
        .max_pending_accept_reset_streams(MAX_EARLY_RESETS)
        .max_local_error_reset_streams(MAX_ERRORS)
        .max_header_list_size(MAX_BUFFER as u32)
        .serve_connection(TokioIo::new(socket), respond)
}

/// Drives a connection until it closes or its first request is late. When it should close (`left`) or is `idle`,
/// calls `finish` to shut it down gracefully; if its peer leaves it open and it becomes idle again, it is closed.
pub(super) async fn drive<C: Future<Output = hyper::Result<()>>, I: Future<Output = ()>>(
    left: &CancellationToken,
    mut connection: Pin<impl DerefMut<Target = C>>,
    finish: fn(Pin<&mut C>),
    first: &FirstRequest,
    idle: impl Fn() -> I,
) -> Result<(), Close> {
    tokio::select! {
        result = connection.as_mut() => return Ok(result?),
        () = first.late() => return Err(Close::NoRequest),
        () = idle() => {}
        () = left.cancelled() => {}
    }
    finish(connection.as_mut());
    tokio::select! {
        result = connection.as_mut() => Ok(result?),
        () = first.late() => Err(Close::NoRequest),
        () = idle() => Err(Close::Idle),
    }
}

/// The first request of a connection and its deadline, which counts from accept: hyper's timeouts do not.
#[derive(Clone)]
pub(super) struct FirstRequest {
    deadline: Instant,
    has_arrived: Arc<AtomicBool>,
}

impl FirstRequest {
    fn new(deadline: Instant) -> FirstRequest {
        FirstRequest { deadline, has_arrived: Arc::default() }
    }

    pub(super) fn arrived(&self) {
        self.has_arrived.store(true, Ordering::Relaxed);
    }

    /// Resolves at the deadline unless the request has arrived; else never.
    async fn late(&self) {
        // Boxed, because it is dropped long before the connection.
        Box::pin(sleep_until(self.deadline)).await;
        if self.has_arrived.load(Ordering::Relaxed) {
            pending::<()>().await;
        }
    }
}
