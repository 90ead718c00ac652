//! HTTP/1.1 connections. hyper reads requests and answers them, until a response is a live stream: then the connection is taken from
//! hyper and handed to the [fan-out](crate::net::fanout), and afterwards, if it may serve another request, back to hyper.

use std::convert::Infallible;
use std::future::{pending, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::SystemTime;

use hyper::body::Incoming;
use hyper::header::{CONNECTION, DATE};
use hyper::server::conn::http1;
use hyper::service::{HttpService, service_fn};
use hyper::{Request, Response, StatusCode, Version};
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::close::Close;
use super::drive::{FirstRequest, MAX_BUFFER, drive};
use super::socket::Socket;
use crate::http::websocket::frames::CloseCode;
use crate::http::websocket::has_token;
use crate::http::{Body, ConnectionContext, Watching};
use crate::net::fanout::{self, Arrival, Farewell, Framing, HandedBack, Part, Position, Reason};
use crate::net::receive_rate::{Limited, ReceiveRate};
use crate::net::server::Server;
use crate::net::stall::is_stall;
use crate::policy::{End, Outcome};

/// Serves a connection until it closes, or its listener is closed or the host drains and its responses are complete.
pub(super) async fn serve(
    server: &Arc<Server>,
    left: &CancellationToken,
    socket: impl Socket,
    connection: &ConnectionContext,
    rate: Option<Arc<ReceiveRate>>,
    first: &FirstRequest,
) -> Result<(), Close> {
    let mut live = converse(server, left, socket, connection, &rate, first).await?;
    while let Some(response) = live.take() {
        let Some(socket) = deliver(server, response, rate.clone()).await? else { break };
        if left.is_cancelled() {
            break;
        }
        live = converse(server, left, socket, connection, &rate, first).await?;
    }
    Ok(())
}

/// A live response that has its head.
struct LiveResponse {
    socket: fanout::Socket,
    begun: Begun,
}

/// A live response whose connection hyper still has.
struct Begun {
    head: Vec<u8>,
    framing: Framing,
    keep_alive: bool,
    watching: Box<Watching>,
}

/// Answers requests until the connection closes, or a response is a live stream.
async fn converse<S: Socket>(
    server: &Server,
    left: &CancellationToken,
    socket: S,
    connection: &ConnectionContext,
    rate: &Option<Arc<ReceiveRate>>,
    first: &FirstRequest,
) -> Result<Option<LiveResponse>, Close> {
    let begun = Arc::<Mutex<Option<Begun>>>::default();
    let socket = Limited::new(socket, rate.clone(), connection.stall.clone());
    let respond = {
        let (service, connection, begun) = (server.service.clone(), connection.clone(), begun.clone());
        let first = first.clone();
        service_fn(move |request: Request<Incoming>| {
            first.arrived();
            let (service, connection, begun) = (service.clone(), connection.clone(), begun.clone());
            // Boxed, because it is dropped once the response begins.
            Box::pin(async move {
                let (version, keep_alive) = (request.version(), keeps_alive(&request));
                let mut response = service.respond(request, &connection).await;
                if S::FANOUT
                    && let Some(watching) = response.body_mut().take_live()
                {
                    *begun.lock() = Some(Begun::new(&response, watching, version, keep_alive));
                    pending::<()>().await;
                }
                Ok::<_, Infallible>(response)
            })
        })
    };
    let hyper = http1::Builder::new()
        .timer(TokioTimer::new())
        // Applies to requests after the first.
        .header_read_timeout(server.config().limits.handshake_timeout)
        .max_buf_size(MAX_BUFFER)
        .serve_connection(TokioIo::new(socket), respond);
    // Boxed, because it is large and gone while a live response is sent.
    let mut conversation = Box::new(Conversation { hyper, begun });
    // Between requests hyper's header_read_timeout applies.
    drive(left, Pin::new(&mut *conversation), Conversation::finish, first, pending).await?;
    let Conversation { hyper, begun } = *conversation;
    let Some(mut begun) = begun.lock().take() else { return Ok(None) };
    let parts = hyper.into_parts();
    // A request that was sent early, or what is none.
    begun.keep_alive &= parts.read_buf.is_empty();
    let socket = parts.io.into_inner().into_inner().into_fanout()?;
    Ok(Some(LiveResponse { socket, begun }))
}

/// A connection that hyper has, until a live response begins.
struct Conversation<S: Socket, R: HttpService<Incoming>> {
    hyper: http1::Connection<TokioIo<Limited<S>>, R>,
    begun: Arc<Mutex<Option<Begun>>>,
}

impl<S: Socket, R> Conversation<S, R>
where
    R: HttpService<Incoming, ResBody = Body, Error = Infallible, Future: Unpin> + Unpin,
{
    /// Closes the connection after the response that is being sent.
    fn finish(self: Pin<&mut Self>) {
        Pin::new(&mut self.get_mut().hyper).graceful_shutdown();
    }
}

impl<S: Socket, R> Future for Conversation<S, R>
where
    R: HttpService<Incoming, ResBody = Body, Error = Infallible, Future: Unpin> + Unpin,
{
    type Output = hyper::Result<()>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        let Conversation { hyper, begun } = self.get_mut();
        match Pin::new(hyper).poll(cx) {
            Poll::Pending if begun.lock().is_some() => Poll::Ready(Ok(())),
            polled => polled,
        }
    }
}

impl Begun {
    fn new(response: &Response<Body>, watching: Box<Watching>, version: Version, keep_alive: bool) -> Begun {
        let framing = match version {
            _ if response.status() == StatusCode::SWITCHING_PROTOCOLS => Framing::WebSocket,
            Version::HTTP_10 => Framing::Plain,
            _ => Framing::Chunked,
        };
        let keep_alive = keep_alive && framing == Framing::Chunked;
        Begun { head: head(response, framing, keep_alive), framing, keep_alive, watching }
    }
}

/// Returns the head of a response (RFC 9112, 4).
fn head(response: &Response<Body>, framing: Framing, keep_alive: bool) -> Vec<u8> {
    let version = if framing == Framing::Plain { "HTTP/1.0" } else { "HTTP/1.1" };
    let mut head = format!("{version} {}\r\n", response.status()).into_bytes();
    let mut add = |name: &str, value: &[u8]| {
        [name.as_bytes(), b": ", value, b"\r\n"].iter().for_each(|part| head.extend_from_slice(part));
    };
    response.headers().iter().for_each(|(name, value)| add(name.as_str(), value.as_bytes()));
    add(DATE.as_str(), httpdate::fmt_http_date(SystemTime::now()).as_bytes());
    if framing == Framing::Chunked {
        add("transfer-encoding", b"chunked");
        if !keep_alive {
            add(CONNECTION.as_str(), b"close");
        }
    }
    head.extend_from_slice(b"\r\n");
    head
}

/// Whether the connection may serve another request after this one (RFC 9112, 9.3). HTTP/1.0 has no length for a live stream.
fn keeps_alive(request: &Request<Incoming>) -> bool {
    request.version() == Version::HTTP_11 && !has_token(request.headers(), CONNECTION.as_str(), "close")
}

/// Sends a live response until it ends. Returns the socket if it may serve another request.
async fn deliver(
    server: &Server,
    LiveResponse { socket, begun }: LiveResponse,
    rate: Option<Arc<ReceiveRate>>,
) -> Result<Option<TcpStream>, Close> {
    let Begun { head, framing, keep_alive, watching } = begun;
    let Watching { viewer, first, room, mut admission, stall } = *watching;
    // tokio-rustls takes no connection back.
    let keep_alive = keep_alive && matches!(socket, fanout::Socket::Plain(_));
    let session = admission.session().clone();
    let connection = session.connection();
    let (position, counted) = viewer.into_parts();
    let (first, position, counted) = (Some(Part::Blocks(first)), Position::Mount(position), Some(counted));
    let arrival = Arrival { socket, head, first, position, counted, framing, session, rate, keep_alive };
    let mut served = server.fanout.serve(arrival);
    let left = tokio::select! {
        left = served.left() => left,
        end = poll_fn(|cx| admission.poll_end(cx)) => {
            served.end(farewell(end));
            served.left().await
        }
    };
    let Some(fanout::Left { reason, closed }) = left else { return Ok(None) };
    let outcome = match &reason {
        Reason::StreamEnded => Some(Outcome::StreamEnded),
        // The admission has noted why, or the client left.
        Reason::Ordered | Reason::ClientLeft | Reason::NoAnswer | Reason::Input => None,
        Reason::Io(error) if is_stall(error) => {
            stall.note();
            stall.outcome()
        }
        Reason::Io(_) if framing != Framing::WebSocket => None,
        Reason::Io(_) | Reason::Violation(_) | Reason::OverBudget(_) => {
            Some(Outcome::Broken { reason: reason.to_string() })
        }
    };
    if let Some(outcome) = outcome {
        admission.session().ends_because(outcome);
    }
    drop((admission, room));
    if framing == Framing::WebSocket {
        debug!(%connection, %reason, "closing a WebSocket");
    }
    match closed.await {
        Ok(HandedBack { socket, .. }) => Ok(Some(TcpStream::from_std(socket)?)),
        Err(_) if matches!(reason, Reason::StreamEnded | Reason::Ordered) => Ok(None),
        Err(_) => Err(reason.into()),
    }
}

/// Returns what a WebSocket is told about the end of its session.
fn farewell(end: End) -> Farewell {
    match end {
        End::Expired => Farewell { code: Some(CloseCode::NORMAL), text: "access expired" },
        End::Order(_) | End::Bitrate { .. } => {
            Farewell { code: Some(CloseCode::POLICY), text: "ended by the server" }
        }
    }
}
