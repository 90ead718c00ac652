//! Live streams over WebSocket (RFC 6455).
//!
//! The handshake over HTTP/1.1 is answered here; [`frames`] has the framing, and the fan-out the socket. Each batch is one binary
//! message: players concatenate messages and ignore their boundaries (mpegts.js, flv.js). The first message of a viewer holds at
//! least the preamble.
//!
//! Players send only pongs and close. Text and binary messages are read and dropped. A protocol violation is reported
//! to the peer by the code of the close frame.

pub mod frames;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hyper::header::{
    CONNECTION, HeaderMap, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use hyper::{Method, Request, Response, StatusCode, Version};
use sha1_smol::Sha1;

use super::{Body, Refusal};

/// Suffix of the key in the hash of the handshake (RFC 6455, 1.3).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Protocols that clients offer but do not need (curl's `--http2` on every request): a server may ignore the offer. A
/// client that asks for any other protocol could not use the stream.
const IGNORED_UPGRADES: [&str; 1] = ["h2c"];

/// An opening handshake.
#[derive(Debug)]
pub(super) struct Upgrade {
    accept: HeaderValue,
    protocol: Option<HeaderValue>,
}

impl Upgrade {
    /// Reads the handshake of a request; `None` if it does not ask for a WebSocket.
    ///
    /// # Errors
    /// [`Refusal::Handshake`] and [`Refusal::WebSocketVersion`] for an invalid handshake; [`Refusal::UnknownUpgrade`] for
    /// another protocol.
    pub(super) fn of<B>(request: &Request<B>) -> Result<Option<Upgrade>, Refusal> {
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
        Ok(Some(Upgrade { accept, protocol }))
    }

    /// Accepts the handshake. The owner of the connection sends what the viewer in `body` reads, as messages.
    pub(super) fn accept(self, body: Body) -> Response<Body> {
        let mut response = Response::new(body);
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
pub fn has_token(headers: &HeaderMap, name: &str, token: &str) -> bool {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|one| one.trim().eq_ignore_ascii_case(token))
}
