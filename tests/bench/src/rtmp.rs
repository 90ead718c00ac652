//! The part of RTMP 1.0 that a publisher needs: simple handshake (5.2), chunks (5.3), connect, createStream, publish (7.2).
//!
//! Written by hand and blocking, so that the bench shares no code with the host it measures. Chunks out are 4,096
//! bytes, as OBS sends them. A refusal is an error; unexpected messages are skipped.

use crate::flv::Amf0;
use rustix::net::RecvFlags;
use std::collections::HashMap;
use std::io::{Error, ErrorKind, Read, Result, Write};
use std::net::TcpStream;
use std::time::Duration;

const SET_CHUNK_SIZE: u8 = 1;
const COMMAND: u8 = 20;
const CHUNK_OUT: usize = 4096;
const PATIENCE: Duration = Duration::from_secs(10);

/// A connection that publishes one stream.
pub struct Publisher {
    socket: TcpStream,
    chunk_in: usize,
    incoming: HashMap<u8, Incoming>,
    outgoing: Vec<u8>,
    stream_id: u32,
}

#[derive(Default)]
struct Incoming {
    length: usize,
    kind: u8,
    payload: Vec<u8>,
}

impl Publisher {
    /// Connects to `address` (host:port) and publishes `app`/`key`; returns once the server has agreed.
    ///
    /// # Errors
    /// The socket's; `ConnectionRefused` with the server's answer if it refuses.
    pub fn publish(address: &str, app: &str, key: &str) -> Result<Self> {
        let mut socket = TcpStream::connect(address)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_write_timeout(Some(PATIENCE))?;
        shake_hands(&mut socket)?;
        let incoming = HashMap::new();
        let mut this = Self { socket, chunk_in: 128, incoming, outgoing: Vec::new(), stream_id: 0 };

        this.send(2, SET_CHUNK_SIZE, 0, 0, &(CHUNK_OUT as u32).to_be_bytes())?;
        let url = format!("rtmp://{address}/{app}");
        let connect =
            [("app", Amf0::String(app)), ("type", Amf0::String("nonprivate")), ("tcUrl", Amf0::String(&url))];
        this.command("connect", 1.0, &[Amf0::Object(&connect)])?;
        this.answer("_result")?;
        this.command("createStream", 2.0, &[Amf0::Null])?;
        let result = this.answer("_result")?;
        // The stream id is the last value: a number.
        let id = result.len().checked_sub(8).map(|start| &result[start..]).unwrap_or_default();
        this.stream_id = f64::from_be_bytes(id.try_into().map_err(|_| ErrorKind::InvalidData)?) as u32;
        this.command("publish", 3.0, &[Amf0::Null, Amf0::String(key), Amf0::String("live")])?;
        let status = this.answer("onStatus")?;
        match status.windows(17).any(|window| window == b"NetStream.Publish") {
            true if !status.windows(5).any(|window| window == b"error") => Ok(this),
            _ => Err(refused(&status)),
        }
    }

    /// Sends one message of type `kind` on the published stream, with one write, and discards the server's messages.
    ///
    /// # Errors
    /// The socket's.
    pub fn message(&mut self, kind: u8, timestamp: u32, payload: &[u8]) -> Result<()> {
        self.send(4 + kind % 4, kind, timestamp, self.stream_id, payload)?;
        let mut waste = [0; 4096];
        match rustix::net::recv(&self.socket, &mut waste[..], RecvFlags::DONTWAIT) {
            Ok((0, _)) => Err(ErrorKind::UnexpectedEof.into()),
            Err(error) if error != rustix::io::Errno::AGAIN => Err(error.into()),
            _ => Ok(()),
        }
    }

    fn command(&mut self, name: &str, transaction: f64, values: &[Amf0<'_>]) -> Result<()> {
        let mut payload = Vec::new();
        Amf0::String(name).write(&mut payload);
        Amf0::Number(transaction).write(&mut payload);
        for value in values {
            value.write(&mut payload);
        }
        self.send(3, COMMAND, 0, self.stream_id, &payload)
    }

    /// Type 0 header, then type 3 for each further chunk. The bench ends long before timestamps need extending.
    fn send(
        &mut self,
        chunk_stream: u8,
        kind: u8,
        timestamp: u32,
        stream: u32,
        payload: &[u8],
    ) -> Result<()> {
        let out = &mut self.outgoing;
        out.clear();
        out.push(chunk_stream);
        out.extend(&timestamp.to_be_bytes()[1..]);
        out.extend(&(payload.len() as u32).to_be_bytes()[1..]);
        out.push(kind);
        out.extend(stream.to_le_bytes());
        let chunk = if kind == SET_CHUNK_SIZE { 128 } else { CHUNK_OUT };
        for (index, piece) in payload.chunks(chunk).enumerate() {
            if index > 0 {
                out.push(0xC0 | chunk_stream);
            }
            out.extend(piece);
        }
        self.socket.write_all(out)
    }

    /// Reads up to the command `name` and returns its payload.
    fn answer(&mut self, name: &str) -> Result<Vec<u8>> {
        let mut start = Vec::new();
        Amf0::String(name).write(&mut start);
        let mut failure = Vec::new();
        Amf0::String("_error").write(&mut failure);
        loop {
            let (kind, payload) = self.receive()?;
            match kind {
                SET_CHUNK_SIZE => {
                    let size = payload.get(..4).and_then(|size| size.try_into().ok());
                    self.chunk_in = u32::from_be_bytes(size.ok_or(ErrorKind::InvalidData)?) as usize;
                }
                COMMAND if payload.starts_with(&failure) => return Err(refused(&payload)),
                COMMAND if payload.starts_with(&start) => return Ok(payload),
                _ => {}
            }
        }
    }

    fn receive(&mut self) -> Result<(u8, Vec<u8>)> {
        loop {
            let [basic] = self.bytes()?;
            let message = self.incoming.entry(basic & 0x3F).or_default();
            let mut header = [0; 11];
            let size = [11, 7, 3, 0][usize::from(basic >> 6)];
            self.socket.read_exact(&mut header[..size])?;
            if size >= 7 {
                message.length = u32::from_be_bytes([0, header[3], header[4], header[5]]) as usize;
                message.kind = header[6];
            }
            if size >= 3 && header[..3] == [0xFF; 3] {
                return Err(ErrorKind::Unsupported.into());
            }
            let piece = (message.length - message.payload.len()).min(self.chunk_in);
            let start = message.payload.len();
            message.payload.resize(start + piece, 0);
            self.socket.read_exact(&mut message.payload[start..])?;
            if message.payload.len() == message.length {
                return Ok((message.kind, std::mem::take(&mut message.payload)));
            }
        }
    }

    fn bytes<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        self.socket.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}

fn shake_hands(socket: &mut TcpStream) -> Result<()> {
    let mut c0_c1 = vec![0; 1 + 1536];
    c0_c1[0] = 3;
    for (index, byte) in c0_c1.iter_mut().enumerate().skip(9) {
        *byte = (index * 31) as u8;
    }
    socket.write_all(&c0_c1)?;
    let mut s0_s1_s2 = vec![0; 1 + 1536 + 1536];
    socket.read_exact(&mut s0_s1_s2)?;
    socket.write_all(&s0_s1_s2[1..1 + 1536])
}

fn refused(answer: &[u8]) -> Error {
    Error::new(ErrorKind::ConnectionRefused, String::from_utf8_lossy(answer).into_owned())
}
