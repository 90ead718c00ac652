//! HTTP/2 connections: hyper sends all responses, also live ones, since its flow control belongs to the connection.

use std::convert::Infallible;
use std::pin::pin;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::{HttpService, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

use super::close::Close;
use super::drive::{FirstRequest, MAX_BUFFER, drive};
use crate::budget::Kind;
use crate::http::{Body, ConnectionContext};
use crate::net::server::Server;
use crate::net::stall::{Streams, Watched, stream_stall};

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

/// Serves HTTP/2 until the connection closes, or the host drains and its responses are complete.
pub(super) async fn serve(
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
    let serving = pin!(connect(server, socket, connection, first.clone(), streams.clone()));
    let idle = || streams.none_for(idle_timeout);
    tokio::select! {
        result = drive(left, serving, http2::Connection::graceful_shutdown, first, idle) => result,
        () = streams.useless() => Err(Close::Resets),
    }
}

/// Makes a socket a connection of hyper.
fn connect<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(
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
