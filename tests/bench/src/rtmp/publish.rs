//! A blocking publisher.

use super::chunks::{self, ChunkReader, Message};
use super::{HANDSHAKE, hello};
use crate::flv::Amf0;
use rustix::net::RecvFlags;
use std::io::{Error, ErrorKind, Read, Result, Write};
use std::net::TcpStream;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(10);

/// A connection that publishes one stream.
pub struct Publisher {
    socket: TcpStream,
    reader: ChunkReader,
    outgoing: Vec<u8>,
    stream_id: u32,
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
        let mut this = Self { socket, reader: ChunkReader::default(), outgoing: Vec::new(), stream_id: 0 };

        chunks::write_chunk_size(&mut this.outgoing);
        chunks::write_connect(&mut this.outgoing, address, app);
        this.answer("_result")?;
        chunks::write_command(&mut this.outgoing, 0, "createStream", 2.0, &[Amf0::Null]);
        this.stream_id = chunks::stream_id(&this.answer("_result")?)?;
        let values = [Amf0::Null, Amf0::String(key), Amf0::String("live")];
        chunks::write_command(&mut this.outgoing, this.stream_id, "publish", 3.0, &values);
        let status = this.answer("onStatus")?;
        let says = |text: &[u8]| status.payload.windows(text.len()).any(|window| window == text);
        if says(b"NetStream.Publish") && !says(b"error") { Ok(this) } else { Err(refused(&status)) }
    }

    /// Sends one message of type `kind` on the published stream, with one write, and discards the server's messages.
    ///
    /// # Errors
    /// The socket's.
    pub fn message(&mut self, kind: u8, timestamp: u32, payload: &[u8]) -> Result<()> {
        let out = &mut self.outgoing;
        chunks::write(out, chunks::CHUNK_OUT, 4 + kind % 4, kind, timestamp, self.stream_id, payload);
        self.socket.write_all(out)?;
        out.clear();
        let mut waste = [0; 4096];
        match rustix::net::recv(&self.socket, &mut waste[..], RecvFlags::DONTWAIT) {
            Ok((0, _)) => Err(ErrorKind::UnexpectedEof.into()),
            Err(error) if error != rustix::io::Errno::AGAIN => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Sends what is queued, then reads up to the command `name` and returns it.
    fn answer(&mut self, name: &str) -> Result<Message> {
        self.socket.write_all(&self.outgoing)?;
        self.outgoing.clear();
        let mut buffer = [0; 4096];
        loop {
            while let Some(message) = self.reader.next()? {
                if chunks::is_command(&message, "_error") {
                    return Err(refused(&message));
                }
                if chunks::is_command(&message, name) {
                    return Ok(message);
                }
            }
            let length = self.socket.read(&mut buffer)?;
            if length == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            self.reader.on_bytes(&buffer[..length]);
        }
    }
}

fn shake_hands(socket: &mut TcpStream) -> Result<()> {
    socket.write_all(&hello())?;
    let mut s0_s1_s2 = vec![0; 1 + 2 * HANDSHAKE];
    socket.read_exact(&mut s0_s1_s2)?;
    socket.write_all(&s0_s1_s2[1..1 + HANDSHAKE])
}

fn refused(answer: &Message) -> Error {
    Error::new(ErrorKind::ConnectionRefused, String::from_utf8_lossy(&answer.payload).into_owned())
}
