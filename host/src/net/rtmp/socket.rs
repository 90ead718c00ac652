//! The stream under RTMP: TCP or TLS.

use std::io;
use std::net::TcpStream;
use std::pin::pin;
use std::task::{Context, Poll};

use bytes::BufMut;
use tokio::io::{AsyncReadExt, AsyncWrite};

use crate::clock::Beat;
use crate::net::beat::BeatSocket;
use crate::net::tls;

/// A socket of an RTMP connection.
pub(in crate::net) trait Socket: AsyncWrite + Send + Sized + Unpin {
    /// Whether a fan-out thread can send over it.
    const FANOUT: bool;

    /// Reads the socket now and then at these beats, or at each packet again, if it can do both.
    ///
    /// # Errors
    /// The socket is closed.
    fn set_beat(&mut self, beat: Option<Beat>) -> io::Result<()>;

    /// Reads up to `most` bytes into the room of `buffer`, all of which may be used on the beat. Returns their number: 0 at the end.
    fn poll_receive(
        &mut self,
        buffer: &mut Vec<u8>,
        most: usize,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>>;

    /// Leaves the runtime, for a fan-out thread.
    fn into_std(self) -> io::Result<TcpStream>;

    /// Comes back from a fan-out thread.
    fn from_std(socket: TcpStream) -> io::Result<Self>;
}

impl Socket for BeatSocket {
    const FANOUT: bool = true;

    fn set_beat(&mut self, beat: Option<Beat>) -> io::Result<()> {
        BeatSocket::set_beat(self, beat)
    }

    fn poll_receive(
        &mut self,
        buffer: &mut Vec<u8>,
        most: usize,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        BeatSocket::poll_receive(self, buffer, most, cx)
    }

    fn into_std(self) -> io::Result<TcpStream> {
        BeatSocket::into_std(self)
    }

    fn from_std(socket: TcpStream) -> io::Result<BeatSocket> {
        BeatSocket::from_std(socket)
    }
}

/// tokio-rustls takes no connection back.
impl Socket for tls::Socket {
    const FANOUT: bool = false;

    fn set_beat(&mut self, _: Option<Beat>) -> io::Result<()> {
        Ok(())
    }

    fn poll_receive(
        &mut self,
        buffer: &mut Vec<u8>,
        most: usize,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        pin!(self.read_buf(&mut buffer.limit(most))).poll(cx)
    }

    fn into_std(self) -> io::Result<TcpStream> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn from_std(_: TcpStream) -> io::Result<tls::Socket> {
        Err(io::ErrorKind::Unsupported.into())
    }
}
