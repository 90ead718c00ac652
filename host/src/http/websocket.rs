//! Live streams over WebSocket (RFC 6455).
//!
//! The handshake over HTTP/1.1 is answered here; tokio-websockets reads and writes the frames. Each piece of a span is one
//! binary message: players concatenate messages and ignore their boundaries (mpegts.js, flv.js), and a message is the
//! largest unit that is sent without a copy. The first message of a viewer holds at least the preamble.
//!
//! Players send only pongs and close. Text and binary messages are read and dropped. A protocol violation is reported
//! to the peer by the code of the close frame.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use futures_util::{SinkExt, StreamExt};
use hyper::header::{
    CONNECTION, HeaderMap, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use hyper::upgrade::OnUpgrade;
use hyper::{Method, Request, Response, StatusCode, Version};
use hyper_util::rt::TokioIo;
use sha1_smol::Sha1;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};
use tokio_websockets::{CloseCode, Config, Error, Limits, Message, ServerBuilder, WebSocketStream};
use tracing::debug;

use crate::budget::Charge;
use crate::policy::{Admission, End, Outcome};
use crate::stream::{Span, Viewer};

use super::connection::Stall;
use super::{Body, ConnectionContext, Refusal, linger};

/// Suffix of the key in the hash of the handshake (RFC 6455, 1.3).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Interval of pings.
const PING_EVERY: Duration = Duration::from_secs(20);

/// Number of unanswered pings after which the viewer is considered gone.
const PINGS_MISSED: u32 = 2;

/// The largest message that a viewer may send, in bytes.
pub(super) const MAX_INCOMING: usize = 64 * 1024;

/// Protocols that clients offer but do not need (curl's `--http2` on every request): a server may ignore the offer. A
/// client that asks for any other protocol could not use the stream.
const IGNORED_UPGRADES: [&str; 1] = ["h2c"];

/// An opening handshake.
#[derive(Debug)]
pub(super) struct Upgrade {
    accept: HeaderValue,
    protocol: Option<HeaderValue>,
    upgraded: OnUpgrade,
}

impl Upgrade {
    /// Reads the handshake of a request; `None` if it does not ask for a WebSocket.
    ///
    /// # Errors
    /// [`Refusal::Handshake`] and [`Refusal::WebSocketVersion`] for an invalid handshake; [`Refusal::UnknownUpgrade`] for
    /// another protocol.
    pub(super) fn of<B>(request: &mut Request<B>) -> Result<Option<Upgrade>, Refusal> {
        let headers = request.headers();
        // HTTP/1.0 has no upgrades (RFC 9110, 7.8), and HTTP/2 no such header.
        if request.version() != Version::HTTP_11 || !headers.contains_key(UPGRADE) {
            return Ok(None);
        }
        let asks = has_token(headers, CONNECTION.as_str(), "upgrade");
        if !has_token(headers, UPGRADE.as_str(), "websocket") {
            let ignored = IGNORED_UPGRADES.iter().any(|one| has_token(headers, UPGRADE.as_str(), one));
            return if asks && !ignored { Err(Refusal::UnknownUpgrade) } else { Ok(None) };
        }
        let key = headers.get(SEC_WEBSOCKET_KEY).ok_or(Refusal::Handshake)?;
        // Sixteen random bytes.
        let is_key = BASE64.decode(key).is_ok_and(|bytes| bytes.len() == 16);
        if request.method() != Method::GET || !asks || !is_key {
            return Err(Refusal::Handshake);
        }
        if headers.get(SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
            return Err(Refusal::WebSocketVersion);
        }
        let digest = Sha1::from([key.as_bytes(), GUID].concat()).digest();
        let accept = HeaderValue::from_str(&BASE64.encode(digest.bytes())).map_err(|_| Refusal::Handshake)?;
        // The first subprotocol that the client offers (RFC 6455, 4.2.2); the host gives it no meaning.
        let protocol = headers
            .get(SEC_WEBSOCKET_PROTOCOL)
            .and_then(|offered| offered.to_str().ok()?.split(',').next())
            .and_then(|first| HeaderValue::from_str(first.trim()).ok());
        Ok(Some(Upgrade { accept, protocol, upgraded: hyper::upgrade::on(request) }))
    }

    /// Answers the handshake; once the connection is upgraded, a task sends `first` and the spans of `viewer`, and holds the
    /// viewer's memory, `room`, and its admission.
    pub(super) fn accept(
        self,
        connection: &ConnectionContext,
        viewer: Viewer,
        first: Arc<Span>,
        room: Charge,
        admission: Admission,
    ) -> Response<Body> {
        let (upgraded, guard, stall) = (self.upgraded, connection.guard.clone(), connection.stall.clone());
        tokio::spawn(async move {
            let _held = (guard, room);
            match upgraded.await {
                Ok(upgraded) => serve(TokioIo::new(upgraded), viewer, first, admission, &stall).await,
                Err(error) => {
                    let connection = admission.session().connection();
                    debug!(%connection, %error, "a WebSocket was not opened");
                }
            }
        });
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(SEC_WEBSOCKET_ACCEPT, self.accept);
        if let Some(protocol) = self.protocol {
            headers.insert(SEC_WEBSOCKET_PROTOCOL, protocol);
        }
        response
    }
}

/// Whether a list header contains `token`, ignoring case.
fn has_token(headers: &HeaderMap, name: &str, token: &str) -> bool {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|one| one.trim().eq_ignore_ascii_case(token))
}

type Socket = WebSocketStream<TokioIo<hyper::upgrade::Upgraded>>;

async fn serve(
    io: TokioIo<hyper::upgrade::Upgraded>,
    viewer: Viewer,
    first: Arc<Span>,
    mut admission: Admission,
    stall: &Stall,
) {
    let mut socket = ServerBuilder::new()
        .limits(Limits::default().max_payload_len(Some(MAX_INCOMING)))
        // A whole span goes out in one write.
        .config(Config::default().flush_threshold(usize::MAX))
        .serve(io);
    let session = admission.session().clone();
    let outcome = watch(&mut socket, viewer, first, &mut admission).await;
    debug!(connection = %session.connection(), ?outcome, "closing a WebSocket");
    if let Some(outcome) = stall.outcome() {
        session.ends_because(outcome);
    }
    match &outcome {
        Ok(Reason::StreamEnded) => session.ends_because(Outcome::StreamEnded),
        // The admission has noted why.
        Ok(Reason::Ended(_)) => {}
        Ok(Reason::ViewerClosed | Reason::ViewerGone) => session.ends_because(Outcome::ClientLeft),
        Err(error) => session.ends_because(Outcome::Broken { reason: error.to_string() }),
    }
    drop(admission);
    let (code, reason) = match outcome {
        Ok(Reason::StreamEnded) => (CloseCode::NORMAL_CLOSURE, "end of stream"),
        Ok(Reason::Ended(End::Expired)) => (CloseCode::NORMAL_CLOSURE, "access expired"),
        Ok(Reason::Ended(End::Order(_) | End::Bitrate { .. })) => {
            (CloseCode::POLICY_VIOLATION, "ended by the server")
        }
        Ok(Reason::ViewerGone) => (CloseCode::GOING_AWAY, "no answer to pings"),
        // tokio-websockets has queued the answer.
        Ok(Reason::ViewerClosed) => (CloseCode::NORMAL_CLOSURE, ""),
        Err(Error::Io(_)) => return,
        Err(Error::PayloadTooLong { .. }) => (CloseCode::MESSAGE_TOO_BIG, "message too long"),
        // The code that tokio-websockets itself sends for an invalid frame (RFC 6455, 7.1.7).
        Err(_) => (CloseCode::PROTOCOL_ERROR, ""),
    };
    let _ = timeout(PING_EVERY, close(&mut socket, Message::close(Some(code), reason))).await;
}

/// Sends the close frame, unless one is queued already, and waits for the peer's, so that the last messages arrive
/// (RFC 6455, 7.1.1); then shuts the connection down, over TLS with close_notify (RFC 8446, 6.1).
async fn close(socket: &mut Socket, message: Message) -> Result<(), Error> {
    match socket.send(message).await {
        Ok(()) | Err(Error::AlreadyClosed) => socket.close().await?,
        Err(error) => return Err(error),
    }
    linger(socket.get_mut()).await;
    Ok(())
}

#[derive(Debug)]
enum Reason {
    StreamEnded,
    Ended(End),
    ViewerClosed,
    ViewerGone,
}

async fn watch(
    socket: &mut Socket,
    mut viewer: Viewer,
    first: Arc<Span>,
    admission: &mut Admission,
) -> Result<Reason, Error> {
    send(socket, &first, admission).await?;
    drop(first);
    let mut ping = interval_at(Instant::now() + PING_EVERY, PING_EVERY);
    ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut unanswered = 0;
    loop {
        tokio::select! {
            span = poll_fn(|cx| viewer.poll_next(cx)) => match span {
                Some(span) => {
                    admission.session().set_progress(viewer.skipped(), viewer.lag().0);
                    send(socket, &span, admission).await?;
                }
                None => return Ok(Reason::StreamEnded),
            },
            message = socket.next() => match message {
                // tokio-websockets queues the answer to a ping. It must be on its way before the next message is read, or
                // a peer that sends pings and reads nothing would fill the memory.
                Some(Ok(message)) if !message.is_close() => {
                    unanswered = 0;
                    socket.flush().await?;
                }
                Some(Ok(_)) | None => return Ok(Reason::ViewerClosed),
                Some(Err(error)) => return Err(error),
            },
            end = poll_fn(|cx| admission.poll_end(cx)) => return Ok(Reason::Ended(end)),
            _ = ping.tick() => {
                if unanswered == PINGS_MISSED {
                    return Ok(Reason::ViewerGone);
                }
                unanswered += 1;
                socket.send(Message::ping("")).await?;
            }
        }
    }
}

async fn send(socket: &mut Socket, span: &Span, admission: &Admission) -> Result<(), Error> {
    admission.session().add_bytes(span.len());
    for part in span.parts() {
        socket.feed(Message::binary(part.clone())).await?;
    }
    socket.flush().await
}
