use bytes::Bytes;

use super::wire::{DEFAULT_CHUNK_SIZE, EXTENDED, MAX_CHUNK_SIZE, MAX_CHUNK_STREAM, MAX_MESSAGE_LENGTH};
use crate::rtmp::message::MessageKind;
use crate::rtmp::output::Output;

/// The largest basic header, message header and extended timestamp together, in bytes.
const MAX_HEADER: usize = 3 + 11 + 4;

/// Splits messages into chunks for one direction of a connection.
///
/// Headers are written for each connection; payloads are shared, so that a message can go to any number of connections
/// without a copy.
#[derive(Debug)]
pub struct ChunkWriter {
    chunk_size: u32,
    /// The last message header of each chunk stream in use: a handful, so linear search is fast.
    last: Vec<LastHeader>,
}

/// The last message header of a chunk stream; the next header may omit fields that are equal.
#[derive(Debug)]
struct LastHeader {
    chunk_stream: u32,
    stream_id: u32,
    kind: MessageKind,
    length: u32,
    timestamp: u32,
    /// `None` after a type 0 header, since readers disagree on the value that type 3 repeats then.
    delta: Option<u32>,
}

impl Default for ChunkWriter {
    fn default() -> ChunkWriter {
        ChunkWriter::new()
    }
}

impl ChunkWriter {
    /// Creates a writer of chunks of 128 bytes, the default (5.4.1).
    pub fn new() -> ChunkWriter {
        ChunkWriter { chunk_size: DEFAULT_CHUNK_SIZE, last: Vec::new() }
    }

    /// Sets the chunk size for later messages, in bytes, clamped to 1..=16 MiB. Must be called right after writing the Set
    /// Chunk Size message that announces it.
    pub fn set_chunk_size(&mut self, size: u32) {
        self.chunk_size = size.clamp(1, MAX_CHUNK_SIZE);
    }

    /// Makes the next header of each chunk stream a whole one.
    pub fn forget(&mut self) {
        self.last.clear();
    }

    /// Queues a message: its chunk headers, and slices of `payload`.
    ///
    /// The chunk format limits `chunk_stream_id` to 2..=65,599 and `payload` to 16 MiB - 1; other messages are not written.
    /// `timestamp` is in milliseconds and may wrap; one before the last is sent in full.
    pub fn write(
        &mut self,
        chunk_stream_id: u32,
        kind: MessageKind,
        stream_id: u32,
        timestamp: u32,
        payload: &Bytes,
        out: &mut Output,
    ) {
        let (2..=MAX_CHUNK_STREAM, 0..=MAX_MESSAGE_LENGTH) =
            (chunk_stream_id, u32::try_from(payload.len()).unwrap_or(u32::MAX))
        else {
            debug_assert!(false, "chunk stream {chunk_stream_id}, {} bytes", payload.len());
            return;
        };
        let length = payload.len() as u32;

        let (header_type, field) = self.compress(chunk_stream_id, kind, stream_id, timestamp, length);
        let mut header = Header::new(header_type, chunk_stream_id);
        if header_type < 3 {
            header.push_u24(field.min(EXTENDED));
        }
        if header_type < 2 {
            header.push_u24(length);
            header.push(&[kind.0]);
        }
        if header_type < 1 {
            header.push(&stream_id.to_le_bytes());
        }
        header.push_extended(field);
        out.extend_from_slice(header.as_slice());

        let chunk_size = self.chunk_size as usize;
        out.push_bytes(payload.slice(..chunk_size.min(payload.len())));
        if payload.len() > chunk_size {
            let mut header = Header::new(3, chunk_stream_id);
            header.push_extended(field);
            for start in (chunk_size..payload.len()).step_by(chunk_size) {
                out.extend_from_slice(header.as_slice());
                out.push_bytes(payload.slice(start..payload.len().min(start + chunk_size)));
            }
        }
    }

    /// Returns the type of the shortest sufficient header, and its timestamp field before extension.
    fn compress(
        &mut self,
        chunk_stream: u32,
        kind: MessageKind,
        stream_id: u32,
        timestamp: u32,
        length: u32,
    ) -> (u8, u32) {
        let now = LastHeader { chunk_stream, stream_id, kind, length, timestamp, delta: None };
        let Some(slot) = self.last.iter_mut().find(|last| last.chunk_stream == chunk_stream) else {
            self.last.push(now);
            return (0, timestamp);
        };
        let last = std::mem::replace(slot, now);
        let delta = timestamp.wrapping_sub(last.timestamp);
        if last.stream_id != stream_id || delta > u32::MAX / 2 {
            return (0, timestamp);
        }
        slot.delta = Some(delta);
        let header_type = match () {
            () if last.kind != kind || last.length != length => 1,
            () if last.delta != Some(delta) => 2,
            () => 3,
        };
        (header_type, delta)
    }
}

/// A chunk header under construction.
struct Header {
    bytes: [u8; MAX_HEADER],
    len: usize,
}

impl Header {
    /// Creates a header that begins with the basic header (5.3.1.1).
    fn new(header_type: u8, chunk_stream: u32) -> Header {
        let mut header = Header { bytes: [0; MAX_HEADER], len: 0 };
        let format = header_type << 6;
        match chunk_stream {
            2..=63 => header.push(&[format | chunk_stream as u8]),
            64..=319 => header.push(&[format, (chunk_stream - 64) as u8]),
            _ => {
                let [low, high, ..] = (chunk_stream - 64).to_le_bytes();
                header.push(&[format | 1, low, high]);
            }
        }
        header
    }

    fn push(&mut self, bytes: &[u8]) {
        self.bytes[self.len..self.len + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }

    fn push_u24(&mut self, value: u32) {
        self.push(&value.to_be_bytes()[1..]);
    }

    /// Appends the extended timestamp, on chunks of every type, if `field` needs one (5.3.1.3).
    fn push_extended(&mut self, field: u32) {
        if field >= EXTENDED {
            self.push(&field.to_be_bytes());
        }
    }

    fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}
