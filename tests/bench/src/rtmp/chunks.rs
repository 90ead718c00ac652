//! Chunks (5.3): messages in, bytes out, and the reverse.

use super::{COMMAND, SET_CHUNK_SIZE};
use crate::flv::Amf0;
use std::collections::HashMap;
use std::io::{ErrorKind, Result};

/// Size of sent chunks.
pub const CHUNK_OUT: usize = 4096;

/// A limit on messages, far above those of the bench: a larger length is a lost position in the chunk stream.
const MESSAGE_LIMIT: usize = 8 << 20;

/// A received message.
#[derive(Debug, PartialEq, Eq)]
pub struct Message {
    /// The message type; types 8, 9 and 18 are those of FLV tags.
    pub kind: u8,
    /// Milliseconds.
    pub timestamp: u32,
    /// The body.
    pub payload: Vec<u8>,
}

#[derive(Default)]
struct Incoming {
    timestamp: u32,
    delta: u32,
    extended: bool,
    length: usize,
    kind: u8,
    payload: Vec<u8>,
}

/// Reads messages from bytes in any partition.
pub struct ChunkReader {
    chunk: usize,
    streams: HashMap<u32, Incoming>,
    bytes: Vec<u8>,
}

impl Default for ChunkReader {
    fn default() -> Self {
        Self { chunk: 128, streams: HashMap::new(), bytes: Vec::new() }
    }
}

impl ChunkReader {
    /// Adds received bytes.
    pub fn on_bytes(&mut self, bytes: &[u8]) {
        self.bytes.extend(bytes);
    }

    /// Returns the next whole message; Set Chunk Size takes effect here.
    ///
    /// # Errors
    /// `InvalidData` if these are no chunks.
    pub fn next(&mut self) -> Result<Option<Message>> {
        let mut at = 0;
        let mut whole = None;
        while whole.is_none() {
            let Some((length, message)) = self.read_chunk(at)? else { break };
            at += length;
            whole = message;
        }
        self.bytes.drain(..at);
        if let Some(Message { kind: SET_CHUNK_SIZE, payload, .. }) = &whole {
            let size = payload.first_chunk().ok_or(ErrorKind::InvalidData)?;
            self.chunk = u32::from_be_bytes(*size) as usize;
        }
        Ok(whole)
    }

    /// Reads the chunk at `at` if it is whole; returns its length, and the message that it completes.
    fn read_chunk(&mut self, at: usize) -> Result<Option<(usize, Option<Message>)>> {
        let rest = &self.bytes[at..];
        let Some(&basic) = rest.first() else { return Ok(None) };
        let (stream, mut used) = match basic & 0x3F {
            0 => match rest.get(1) {
                Some(&low) => (u32::from(low) + 64, 2),
                None => return Ok(None),
            },
            1 => return Err(ErrorKind::Unsupported.into()),
            stream => (u32::from(stream), 1),
        };
        let format = basic >> 6;
        let size = [11, 7, 3, 0][usize::from(format)];
        let Some(header) = rest.get(used..used + size) else { return Ok(None) };
        used += size;
        let message = self.streams.entry(stream).or_default();
        let (mut length, mut kind) = (message.length, message.kind);
        if size >= 7 {
            length = u32::from_be_bytes([0, header[3], header[4], header[5]]) as usize;
            kind = header[6];
        }
        let begins = message.payload.is_empty();
        if length == 0 || length > MESSAGE_LIMIT || (!begins && format != 3) {
            return Err(ErrorKind::InvalidData.into());
        }
        let mut time =
            if size >= 3 { u32::from_be_bytes([0, header[0], header[1], header[2]]) } else { message.delta };
        let extended = if size >= 3 { time == 0xFF_FFFF } else { message.extended };
        if extended {
            let Some(field) = rest[used..].first_chunk() else { return Ok(None) };
            time = u32::from_be_bytes(*field);
            used += 4;
        }
        let piece = (length - message.payload.len()).min(self.chunk);
        let Some(body) = rest.get(used..used + piece) else { return Ok(None) };
        if begins {
            message.timestamp = if format == 0 { time } else { message.timestamp.wrapping_add(time) };
            message.delta = time;
        }
        (message.length, message.kind, message.extended) = (length, kind, extended);
        message.payload.extend(body);
        let whole = (message.payload.len() == length).then(|| Message {
            kind,
            timestamp: message.timestamp,
            payload: std::mem::take(&mut message.payload),
        });
        Ok(Some((used + piece, whole)))
    }
}

/// Appends one message in chunks of `chunk` bytes: a type 0 header, then type 3. The bench ends long before timestamps need
/// extending.
pub fn write(
    out: &mut Vec<u8>,
    chunk: usize,
    chunk_stream: u8,
    kind: u8,
    timestamp: u32,
    stream: u32,
    payload: &[u8],
) {
    out.push(chunk_stream);
    out.extend(&timestamp.to_be_bytes()[1..]);
    out.extend(&(payload.len() as u32).to_be_bytes()[1..]);
    out.push(kind);
    out.extend(stream.to_le_bytes());
    for (index, piece) in payload.chunks(chunk).enumerate() {
        if index > 0 {
            out.push(0xC0 | chunk_stream);
        }
        out.extend(piece);
    }
}

/// Appends Set Chunk Size with [`CHUNK_OUT`].
pub fn write_chunk_size(out: &mut Vec<u8>) {
    write(out, 128, 2, SET_CHUNK_SIZE, 0, 0, &(CHUNK_OUT as u32).to_be_bytes());
}

/// Appends an AMF0 command.
pub fn write_command(out: &mut Vec<u8>, stream: u32, name: &str, transaction: f64, values: &[Amf0<'_>]) {
    let mut payload = Vec::new();
    Amf0::String(name).write(&mut payload);
    Amf0::Number(transaction).write(&mut payload);
    for value in values {
        value.write(&mut payload);
    }
    write(out, CHUNK_OUT, 3, COMMAND, 0, stream, &payload);
}

/// Appends the command `connect` to `app` at `address`.
pub fn write_connect(out: &mut Vec<u8>, address: &str, app: &str) {
    let url = format!("rtmp://{address}/{app}");
    let properties =
        [("app", Amf0::String(app)), ("type", Amf0::String("nonprivate")), ("tcUrl", Amf0::String(&url))];
    write_command(out, 0, "connect", 1.0, &[Amf0::Object(&properties)]);
}

/// Whether the message is the command `name`.
pub fn is_command(message: &Message, name: &str) -> bool {
    let mut start = Vec::new();
    Amf0::String(name).write(&mut start);
    message.kind == COMMAND && message.payload.starts_with(&start)
}

/// The message stream id in the `_result` of createStream: the last value, a number.
///
/// # Errors
/// `InvalidData` if the message is too short.
pub fn stream_id(result: &Message) -> Result<u32> {
    let id = result.payload.last_chunk().ok_or(ErrorKind::InvalidData)?;
    Ok(f64::from_be_bytes(*id) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_any_partition() {
        let mut bytes = Vec::new();
        write_chunk_size(&mut bytes);
        let payload: Vec<u8> = (0..10_000).map(|index| index as u8).collect();
        write(&mut bytes, CHUNK_OUT, 6, 9, 40, 1, &payload);
        // Type 2: the header's length and type stay, the timestamp advances by 7; then type 3 repeats that.
        write(&mut bytes, CHUNK_OUT, 5, 8, 100, 1, b"sound");
        bytes.extend([0x80 | 5, 0, 0, 7]);
        bytes.extend(b"other");
        bytes.push(0xC0 | 5);
        bytes.extend(b"third");
        for piece in [1, 3, 4097, bytes.len()] {
            let mut reader = ChunkReader::default();
            let mut messages = Vec::new();
            for piece in bytes.chunks(piece) {
                reader.on_bytes(piece);
                while let Some(message) = reader.next().expect("valid chunks") {
                    messages.push(message);
                }
            }
            let media =
                |kind, timestamp, payload: &[u8]| Message { kind, timestamp, payload: payload.to_vec() };
            assert_eq!(
                messages[1..],
                [
                    media(9, 40, &payload),
                    media(8, 100, b"sound"),
                    media(8, 107, b"other"),
                    media(8, 114, b"third")
                ]
            );
        }
    }

    #[test]
    fn refuses_a_header_inside_a_message() {
        let mut reader = ChunkReader::default();
        let mut bytes = Vec::new();
        write(&mut bytes, 128, 6, 9, 0, 1, &[0; 300]);
        bytes[12 + 128] = 6;
        reader.on_bytes(&bytes);
        assert!(reader.next().is_err());
    }
}
