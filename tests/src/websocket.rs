//! A WebSocket client over tungstenite.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use tungstenite::client::IntoClientRequest;
use tungstenite::handshake::client::Response;
use tungstenite::{HandshakeError, WebSocket};

use crate::wait::SILENCE;

/// An open WebSocket.
pub type Socket = WebSocket<TcpStream>;

/// Opens `path`, with `headers` in addition to those of the handshake.
///
/// # Errors
/// [`tungstenite::Error::Http`] carries the response of a server that answers anything but 101.
pub fn open(
    address: SocketAddr,
    path: &str,
    headers: &[(&'static str, &str)],
) -> Result<(Socket, Response), tungstenite::Error> {
    let socket = TcpStream::connect(address)?;
    socket.set_read_timeout(Some(SILENCE))?;
    open_over(socket, &format!("ws://{address}{path}"), headers)
}

/// As [`open`], on an open connection, with or without TLS.
///
/// # Errors
/// As [`open`].
pub fn open_over<S: Read + Write>(
    socket: S,
    url: &str,
    headers: &[(&'static str, &str)],
) -> Result<(WebSocket<S>, Response), tungstenite::Error> {
    let mut request = url.into_client_request()?;
    for (name, value) in headers {
        request.headers_mut().insert(*name, value.parse().expect("tests send valid header values"));
    }
    tungstenite::client(request, socket).map_err(|error| match error {
        HandshakeError::Failure(error) => error,
        HandshakeError::Interrupted(_) => tungstenite::Error::Io(std::io::ErrorKind::TimedOut.into()),
    })
}
