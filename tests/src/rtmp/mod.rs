//! An RTMP 1.0 client on a plain socket (Adobe RTMP 1.0; simple handshake), for tests that send raw bytes, stop anywhere
//! or read slowly.

pub mod amf;
pub(crate) mod chunk;

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

pub use amf::Amf;
use chunk::ChunkReader;

use crate::wait::SILENCE;
pub use chunk::{chunks, type0};

/// Message type: set chunk size.
pub const SET_CHUNK_SIZE: u8 = 1;
/// Message type: abort the unfinished message of a chunk stream.
pub const ABORT: u8 = 2;
/// Message type: acknowledgement, bytes received.
pub const ACKNOWLEDGEMENT: u8 = 3;
/// Message type: stream begin, EOF, ping and the like.
pub const USER_CONTROL: u8 = 4;
/// Message type: window acknowledgement size.
pub const WINDOW_ACK_SIZE: u8 = 5;
/// Message type: AMF0 command.
pub const COMMAND: u8 = 20;

/// A message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Message type id.
    pub kind: u8,
    /// Message stream id.
    pub stream: u32,
    /// Timestamp in milliseconds.
    pub timestamp: u32,
    /// Body.
    pub payload: Vec<u8>,
}

impl Message {
    /// Returns the values of an AMF0 command.
    #[must_use]
    pub fn command(&self) -> Option<Vec<Amf>> {
        if self.kind == COMMAND { amf::read(&self.payload) } else { None }
    }

    /// Returns the `code` of an `onStatus`.
    #[must_use]
    pub fn status(&self) -> Option<String> {
        match self.command()?.as_slice() {
            [name, _, _, info, ..] if name.text() == Some("onStatus") => {
                Some(info.property("code")?.text()?.to_owned())
            }
            _ => None,
        }
    }
}

/// A connection after the handshake.
#[derive(Debug)]
pub struct Connection<S = TcpStream> {
    socket: S,
    url: String,
    reader: ChunkReader,
    chunk_size: usize,
    transaction: f64,
    window: u64,
    received: u64,
    acknowledged: u64,
}

impl Connection {
    /// Connects and performs the handshake.
    ///
    /// # Errors
    /// The socket's, or [`io::ErrorKind::InvalidData`] for an answer that is not a handshake.
    pub fn open(address: SocketAddr) -> io::Result<Connection> {
        Connection::over(TcpStream::connect(address)?)
    }

    /// Performs the handshake on an open socket.
    ///
    /// # Errors
    /// As [`Connection::open`].
    pub fn over(socket: TcpStream) -> io::Result<Connection> {
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(SILENCE))?;
        socket.set_write_timeout(Some(Duration::from_secs(20)))?;
        let url = format!("rtmp://{}", socket.peer_addr()?);
        Connection::handshake(socket, url)
    }

    /// Returns the socket.
    #[must_use]
    pub fn socket(&self) -> &TcpStream {
        &self.socket
    }

    /// Returns the local address, which the host logs as the peer's.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.socket.local_addr().expect("the socket is connected")
    }
}

impl<S: Read + Write> Connection<S> {
    /// Performs the handshake on any stream; `url` is the start of the tcUrl, without an app.
    ///
    /// # Errors
    /// As [`Connection::open`].
    pub fn handshake(mut socket: S, url: String) -> io::Result<Connection<S>> {
        let mut c0_c1 = vec![0_u8; 1 + 1536];
        c0_c1[0] = 3;
        // Bytes 5..9 are zero: a simple handshake. The rest should be random.
        c0_c1[9..].iter_mut().enumerate().for_each(|(index, byte)| *byte = (index * 7) as u8);
        socket.write_all(&c0_c1)?;
        let mut answer = vec![0_u8; 1 + 1536 + 1536];
        socket.read_exact(&mut answer)?;
        let (s0_s1, s2) = answer.split_at(1 + 1536);
        // librtmp requires the echo.
        if s0_s1[0] != 3 || s2[8..] != c0_c1[9..] {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "S2 does not echo C1"));
        }
        socket.write_all(&s0_s1[1..])?;
        Ok(Connection {
            socket,
            url,
            reader: ChunkReader::default(),
            chunk_size: 128,
            transaction: 0.0,
            window: u64::MAX,
            received: 0,
            acknowledged: 0,
        })
    }

    /// Sends raw bytes.
    ///
    /// # Errors
    /// The socket's.
    pub fn write_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.socket.write_all(bytes)
    }

    /// Sends a message on a chunk stream.
    ///
    /// # Errors
    /// The socket's.
    pub fn write(&mut self, chunk_stream: u8, message: &Message) -> io::Result<()> {
        let bytes = chunks(chunk_stream, message, self.chunk_size);
        self.socket.write_all(&bytes)?;
        if let (SET_CHUNK_SIZE, Some(size)) = (message.kind, message.payload.first_chunk::<4>()) {
            self.chunk_size = u32::from_be_bytes(*size) as usize;
        }
        Ok(())
    }

    /// Sends a command with the next transaction id, which it returns.
    ///
    /// # Errors
    /// The socket's.
    pub fn command(&mut self, stream: u32, name: &str, arguments: &[Amf]) -> io::Result<f64> {
        self.transaction += 1.0;
        let mut values = vec![name.into(), self.transaction.into()];
        values.extend_from_slice(arguments);
        let payload = amf::write(&values);
        self.write(3, &Message { kind: COMMAND, stream, timestamp: 0, payload })?;
        Ok(self.transaction)
    }

    /// Reads the next message. Sends acknowledgements and answers pings.
    ///
    /// # Errors
    /// The socket's; [`io::ErrorKind::UnexpectedEof`] when the host closed.
    pub fn read(&mut self) -> io::Result<Message> {
        loop {
            if let Some(message) = self.reader.next()? {
                self.on_control(&message)?;
                return Ok(message);
            }
            let mut buffer = [0; 65536];
            let length = self.socket.read(&mut buffer)?;
            if length == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.received += length as u64;
            self.reader.push(&buffer[..length]);
            if self.received - self.acknowledged >= self.window / 2 {
                self.acknowledged = self.received;
                let payload = (self.received as u32).to_be_bytes().to_vec();
                self.write(2, &Message { kind: ACKNOWLEDGEMENT, stream: 0, timestamp: 0, payload })?;
            }
        }
    }

    fn on_control(&mut self, message: &Message) -> io::Result<()> {
        let Some(value) = message.payload.first_chunk::<4>().map(|bytes| u32::from_be_bytes(*bytes)) else {
            return Ok(());
        };
        match message.kind {
            SET_CHUNK_SIZE => self.reader.set_chunk_size(value as usize),
            WINDOW_ACK_SIZE => self.window = value.into(),
            // Ping request: the answer carries its time.
            USER_CONTROL if message.payload.get(..2) == Some(&[0, 6]) => {
                let payload = [&[0, 7], &message.payload[2..]].concat();
                self.write(2, &Message { payload, ..message.clone() })?;
            }
            _ => {}
        }
        Ok(())
    }

    /// Reads messages until `wanted` returns a value for one, and returns that value.
    ///
    /// # Errors
    /// As [`Connection::read`].
    pub fn read_until<T>(&mut self, mut wanted: impl FnMut(&Message) -> Option<T>) -> io::Result<T> {
        loop {
            let message = self.read()?;
            if let Some(value) = wanted(&message) {
                return Ok(value);
            }
        }
    }

    /// Sends a command and reads its `_result` or `_error`. Returns that name and the values after the transaction id.
    ///
    /// # Errors
    /// As [`Connection::read`].
    pub fn call(&mut self, name: &str, arguments: &[Amf]) -> io::Result<(String, Vec<Amf>)> {
        let id = self.command(0, name, arguments)?;
        self.read_until(|message| {
            let values = message.command()?;
            let answer = values.first()?.text()?.to_owned();
            (values.get(1)?.number()? == id && answer.starts_with('_'))
                .then(|| (answer, values[2..].to_vec()))
        })
    }

    /// Sends `connect` to an app, and returns the values of the answer.
    ///
    /// # Errors
    /// As [`Connection::read`].
    pub fn connect(&mut self, app: &str) -> io::Result<(String, Vec<Amf>)> {
        self.connect_from(app, "")
    }

    /// As [`Connection::connect`], as a player in a web page.
    ///
    /// # Errors
    /// As [`Connection::read`].
    pub fn connect_from(&mut self, app: &str, page_url: &str) -> io::Result<(String, Vec<Amf>)> {
        let mut object = vec![
            ("app".into(), app.into()),
            ("type".into(), "nonprivate".into()),
            ("flashVer".into(), "FMLE/3.0 (compatible; remuxd-tests)".into()),
            ("tcUrl".into(), Amf::String(format!("{}/{app}", self.url))),
        ];
        if !page_url.is_empty() {
            object.push(("pageUrl".into(), page_url.into()));
        }
        self.call("connect", &[Amf::Object(object)])
    }

    /// Sends `createStream`, and returns the message stream id.
    ///
    /// # Errors
    /// As [`Connection::read`], or when there is no id in the answer.
    pub fn create_stream(&mut self) -> io::Result<u32> {
        let (_, values) = self.call("createStream", &[Amf::Null])?;
        let id = values.get(1).and_then(Amf::number);
        id.map(|id| id as u32)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("{values:?}")))
    }

    /// Sends `publish` on a message stream, and returns the status code of the answer.
    ///
    /// # Errors
    /// As [`Connection::read`].
    pub fn publish(&mut self, stream: u32, name: &str) -> io::Result<String> {
        self.command(stream, "publish", &[Amf::Null, name.into(), "live".into()])?;
        self.read_until(|message| message.status().filter(|_| message.stream == stream))
    }

    /// Sends `play` on a message stream, and returns the first status code other than Reset.
    ///
    /// # Errors
    /// As [`Connection::read`].
    pub fn play(&mut self, stream: u32, name: &str) -> io::Result<String> {
        self.command(stream, "play", &[Amf::Null, name.into(), Amf::Number(-2000.0)])?;
        self.read_until(|message| message.status().filter(|code| code != "NetStream.Play.Reset"))
    }
}

/// Splits `app/stream` at the last slash.
///
/// # Panics
/// When there is none.
#[must_use]
pub fn split_key(key: &str) -> (&str, &str) {
    key.rsplit_once('/').expect("a key names app and stream")
}

/// Adds a token to a stream's name or a path: [`TOKEN`](crate::secrets::TOKEN), which must not reach the host's log.
#[must_use]
pub fn with_token(name: &str) -> String {
    let separator = if name.contains('?') { '&' } else { '?' };
    format!("{name}{separator}token={}", crate::secrets::TOKEN)
}
