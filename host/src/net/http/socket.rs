//! The stream under HTTP.

use std::io;

use rustix::net::{RecvFlags, recv};
use tokio::io::{AsyncRead, AsyncWrite, Interest};
use tokio::net::TcpStream;

use crate::net::{fanout, tls};

/// The start of the HTTP/2 connection preface (RFC 9113, 3.4). No HTTP/1.1 method begins so.
pub(in crate::net) const HTTP2_PREFACE: &[u8] = b"PRI";

/// A stream that carries HTTP: TCP or TLS.
pub(in crate::net) trait Socket: AsyncRead + AsyncWrite + Send + Unpin + 'static {
    /// Whether the peer speaks HTTP/2, else HTTP/1.1. Consumes no bytes.
    fn speaks_http2(&self) -> impl Future<Output = io::Result<bool>> + Send;

    /// Whether a fan-out thread can send over it; else hyper sends live responses too.
    const FANOUT: bool = true;

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
pub(in crate::net) fn is_http2(first: &[u8]) -> Option<bool> {
    let is_part = (1..HTTP2_PREFACE.len()).contains(&first.len()) && HTTP2_PREFACE.starts_with(first);
    (!is_part).then_some(first == HTTP2_PREFACE)
}
