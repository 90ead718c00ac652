//! One viewer or player: how it connects, and who reads it.

use remuxd_bench::rtmp::{Player, Progress};
use remuxd_bench::viewer::{Arrival, Fault, Viewer, request, upgrade};
use remuxd_bench::{clock, secure};
use rustix::net::{AddressFamily, SocketType, sockopt};
use rustls::ClientConfig;
use std::io::{Error, ErrorKind, Result, Write};
use std::net::{SocketAddr, TcpStream};
use std::str::FromStr;
use std::sync::Arc;

/// Receive buffer of a viewer that stalls.
const STALLED_BUFFER: usize = 8 << 10;

/// A way to ask for the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Http,
    WebSocket,
    Tls,
    Rtmp,
}

impl FromStr for Protocol {
    type Err = ();

    fn from_str(name: &str) -> std::result::Result<Self, ()> {
        match name {
            "http" => Ok(Self::Http),
            "ws" => Ok(Self::WebSocket),
            "tls" => Ok(Self::Tls),
            "rtmp" => Ok(Self::Rtmp),
            _ => Err(()),
        }
    }
}

/// What becomes of a viewer's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// They are discarded in the kernel.
    Drained,
    /// They are read and checked.
    Checked,
    /// They stay in the socket after the first ones.
    Stalled,
}

/// Who reads a connection.
pub enum Reader {
    Discard,
    Viewer(Box<Viewer>),
    Player(Box<Player>),
}

/// A viewer or player.
pub struct Connection {
    pub socket: Option<TcpStream>,
    pub kind: Kind,
    pub requested: u64,
    /// Whether the stream has begun.
    pub begun: bool,
    pub reader: Reader,
}

impl Connection {
    /// Reads received bytes, and returns whether the stream has begun.
    pub fn on_bytes(
        &mut self,
        bytes: &[u8],
        mut arrived: impl FnMut(u64),
    ) -> std::result::Result<bool, Fault> {
        let arrived = |arrival: Arrival| arrived(arrival.instant);
        match &mut self.reader {
            Reader::Discard => Ok(true),
            Reader::Viewer(viewer) => viewer.on_bytes(bytes, arrived).map(|()| true),
            Reader::Player(player) => {
                let mut out = Vec::new();
                let progress = player.on_bytes(bytes, &mut out, arrived)?;
                if let (Some(socket), false) = (&mut self.socket, out.is_empty()) {
                    // Some hundred bytes, which an empty buffer takes.
                    socket.write_all(&out).map_err(|_| Fault::Ended)?;
                }
                let playing = progress == Progress::Playing;
                if playing && self.kind != Kind::Checked {
                    self.reader = Reader::Discard;
                }
                Ok(playing)
            }
        }
    }

    /// Number of tags that the reader has missed.
    pub fn lost(&self) -> u64 {
        match &self.reader {
            Reader::Discard => 0,
            Reader::Viewer(viewer) => viewer.lost(),
            Reader::Player(player) => player.lost(),
        }
    }
}

/// What all viewers ask for.
pub struct Source {
    pub address: String,
    pub path: String,
    protocol: Protocol,
    tls: Arc<ClientConfig>,
}

impl Source {
    pub fn new(address: String, protocol: Protocol, path: String) -> Result<Self> {
        Ok(Self { address, path, protocol, tls: secure::client()? })
    }

    /// Connects and asks for the stream.
    pub fn open(&self, kind: Kind) -> Result<Connection> {
        let requested = clock::now();
        let mut socket = self.connect(kind)?;
        socket.set_nodelay(true)?;
        let checked = || Reader::Viewer(Box::default());
        let reader = match self.protocol {
            Protocol::Http | Protocol::WebSocket => {
                let ask = if self.protocol == Protocol::Http { request } else { upgrade };
                socket.write_all(ask(&self.address, &self.path).as_bytes())?;
                if kind == Kind::Checked { checked() } else { Reader::Discard }
            }
            Protocol::Tls => {
                secure::request(&self.tls, &mut socket, request(&self.address, &self.path).as_bytes())?;
                Reader::Discard
            }
            Protocol::Rtmp => {
                let (player, hello) = Player::new(&self.address, &self.path);
                socket.write_all(&hello)?;
                Reader::Player(Box::new(player))
            }
        };
        socket.set_nonblocking(true)?;
        Ok(Connection { socket: Some(socket), kind, requested, begun: false, reader })
    }

    fn connect(&self, kind: Kind) -> Result<TcpStream> {
        if kind != Kind::Stalled {
            return TcpStream::connect(&self.address);
        }
        // The buffer's size must be set before the connect: it bounds the window that is announced.
        let address: SocketAddr = self.address.parse().map_err(|_| Error::from(ErrorKind::InvalidInput))?;
        let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None)?;
        sockopt::set_socket_recv_buffer_size(&socket, STALLED_BUFFER)?;
        rustix::net::connect(&socket, &address)?;
        Ok(socket.into())
    }
}
