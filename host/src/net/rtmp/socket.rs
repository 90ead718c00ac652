//! The stream under RTMP: TCP or TLS.

use std::io;
use std::net::TcpStream;

use tokio::io::{AsyncRead, AsyncWrite};

use crate::net::beat::BeatSocket;
use crate::net::tls;

/// A socket of an RTMP connection.
pub(in crate::net) trait Socket: AsyncRead + AsyncWrite + Send + Sized + Unpin {
    /// Whether a fan-out thread can send over it.
    const FANOUT: bool;

    /// Reads the socket on the beat from now on, or at each packet again, if it can do both.
    ///
    /// # Errors
    /// The socket is closed.
    fn set_on_beat(&mut self, on: bool) -> io::Result<()>;

    /// Leaves the runtime, for a fan-out thread.
    fn into_std(self) -> io::Result<TcpStream>;

    /// Comes back from a fan-out thread.
    fn from_std(socket: TcpStream) -> io::Result<Self>;
}

impl Socket for BeatSocket {
    const FANOUT: bool = true;

    fn set_on_beat(&mut self, on: bool) -> io::Result<()> {
        BeatSocket::set_on_beat(self, on)
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

    fn set_on_beat(&mut self, _: bool) -> io::Result<()> {
        Ok(())
    }

    fn into_std(self) -> io::Result<TcpStream> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn from_std(_: TcpStream) -> io::Result<tls::Socket> {
        Err(io::ErrorKind::Unsupported.into())
    }
}
