//! Chunks (RTMP 1.0, section 5.3).

use std::collections::HashMap;
use std::io;

use super::Message;

/// Returns the header of a type 0 chunk, with any message length.
#[must_use]
pub fn type0(chunk_stream: u8, kind: u8, stream: u32, timestamp: u32, length: u32) -> Vec<u8> {
    assert!((2..64).contains(&chunk_stream), "tests use one-byte chunk stream ids");
    let mut out = vec![chunk_stream];
    out.extend_from_slice(&timestamp.min(0xff_ffff).to_be_bytes()[1..]);
    out.extend_from_slice(&length.to_be_bytes()[1..]);
    out.push(kind);
    out.extend_from_slice(&stream.to_le_bytes());
    if timestamp >= 0xff_ffff {
        out.extend_from_slice(&timestamp.to_be_bytes());
    }
    out
}

/// Returns a message as one type 0 chunk and as many type 3 chunks as it needs.
#[must_use]
pub fn chunks(chunk_stream: u8, message: &Message, chunk_size: usize) -> Vec<u8> {
    let length = message.payload.len() as u32;
    let mut out = type0(chunk_stream, message.kind, message.stream, message.timestamp, length);
    for (index, piece) in message.payload.chunks(chunk_size).enumerate() {
        if index > 0 {
            out.push(0xc0 | chunk_stream);
            if message.timestamp >= 0xff_ffff {
                out.extend_from_slice(&message.timestamp.to_be_bytes());
            }
        }
        out.extend_from_slice(piece);
    }
    out
}

/// An incremental parser that assembles messages from chunks.
#[derive(Debug)]
pub struct ChunkReader {
    pending: Vec<u8>,
    chunk_size: usize,
    streams: HashMap<u32, ChunkStream>,
}

#[derive(Clone, Debug, Default)]
struct ChunkStream {
    kind: u8,
    stream: u32,
    timestamp: u32,
    delta: u32,
    extended: bool,
    length: usize,
    payload: Vec<u8>,
}

impl Default for ChunkReader {
    fn default() -> Self {
        ChunkReader { pending: Vec::new(), chunk_size: 128, streams: HashMap::new() }
    }
}

impl ChunkReader {
    pub fn set_chunk_size(&mut self, size: usize) {
        self.chunk_size = size;
    }

    pub fn push(&mut self, bytes: &[u8]) {
        self.pending.extend_from_slice(bytes);
    }

    /// Returns the next whole message, or `None` when bytes are missing.
    pub fn next(&mut self) -> io::Result<Option<Message>> {
        loop {
            let mut input = Input { bytes: &self.pending, at: 0 };
            let Some(chunk) = read_chunk(&mut input, &self.streams, self.chunk_size)? else {
                return Ok(None);
            };
            let used = input.at;
            self.pending.drain(..used);
            let (id, mut state) = chunk;
            let whole = state.payload.len() == state.length;
            let payload = if whole { std::mem::take(&mut state.payload) } else { Vec::new() };
            let message =
                Message { kind: state.kind, stream: state.stream, timestamp: state.timestamp, payload };
            self.streams.insert(id, state);
            if whole {
                return Ok(Some(message));
            }
        }
    }
}

struct Input<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Input<'_> {
    fn take(&mut self, length: usize) -> Option<&[u8]> {
        let taken = self.bytes.get(self.at..self.at + length)?;
        self.at += length;
        Some(taken)
    }

    fn number(&mut self, length: usize) -> Option<u32> {
        Some(self.take(length)?.iter().fold(0, |number, byte| number << 8 | u32::from(*byte)))
    }
}

/// Reads one chunk, and returns the id of its chunk stream and the new state of that stream.
fn read_chunk(
    input: &mut Input<'_>,
    streams: &HashMap<u32, ChunkStream>,
    chunk_size: usize,
) -> io::Result<Option<(u32, ChunkStream)>> {
    let Some(first) = input.number(1) else { return Ok(None) };
    let (format, id) = (first >> 6, first & 63);
    let id = match id {
        0 => input.number(1).map(|low| low + 64),
        1 => input.take(2).map(|id| u32::from(id[0]) + u32::from(id[1]) * 256 + 64),
        id => Some(id),
    };
    let Some(id) = id else { return Ok(None) };
    let Some(mut state) = streams.get(&id).cloned().or((format == 0).then(ChunkStream::default)) else {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("chunk stream {id} starts with type {format}"),
        ));
    };
    let starts = state.payload.is_empty();
    Ok(read_header(input, format, &mut state, starts).and_then(|()| {
        let missing = (state.length - state.payload.len()).min(chunk_size);
        state.payload.extend_from_slice(input.take(missing)?);
        Some((id, state))
    }))
}

fn read_header(input: &mut Input<'_>, format: u32, state: &mut ChunkStream, starts: bool) -> Option<()> {
    let mut time = None;
    if format < 3 {
        time = Some(input.number(3)?);
        state.extended = time == Some(0xff_ffff);
    }
    if format < 2 {
        state.length = input.number(3)? as usize;
        state.kind = input.number(1)? as u8;
    }
    if format == 0 {
        let id = input.take(4)?;
        state.stream = u32::from_le_bytes([id[0], id[1], id[2], id[3]]);
    }
    if state.extended {
        let extended = input.number(4)?;
        time = time.map(|_| extended);
    }
    match (format, time) {
        (0, Some(time)) => (state.timestamp, state.delta) = (time, 0),
        (_, Some(delta)) => {
            state.delta = delta;
            state.timestamp = state.timestamp.wrapping_add(delta);
        }
        (_, None) if starts => state.timestamp = state.timestamp.wrapping_add(state.delta),
        (_, None) => {}
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u8, timestamp: u32, length: usize) -> Message {
        Message { kind, stream: 1, timestamp, payload: (0..length).map(|n| n as u8).collect() }
    }

    fn read_all(bytes: &[u8], step: usize) -> Vec<Message> {
        let mut reader = ChunkReader::default();
        let mut messages = Vec::new();
        for piece in bytes.chunks(step) {
            reader.push(piece);
            while let Some(message) = reader.next().unwrap() {
                messages.push(message);
            }
        }
        messages
    }

    #[test]
    fn reads_what_it_writes_whole_and_byte_by_byte() {
        let messages =
            [message(9, 5, 1000), message(8, 0xff_ffff, 128), message(9, 0x0100_0000, 300), message(8, 9, 0)];
        let bytes: Vec<u8> =
            messages.iter().enumerate().flat_map(|(n, m)| chunks(3 + n as u8, m, 128)).collect();
        assert_eq!(read_all(&bytes, bytes.len()), messages);
        assert_eq!(read_all(&bytes, 1), messages);
    }

    #[test]
    fn type_3_starts_a_message_with_the_last_delta() {
        let mut bytes = chunks(4, &message(8, 100, 2), 128);
        bytes.extend_from_slice(&[0x84, 0, 0, 23, 0, 1]); // type 2, delta 23
        bytes.extend_from_slice(&[0xc4, 0, 1]);
        let times: Vec<u32> = read_all(&bytes, 1).iter().map(|message| message.timestamp).collect();
        assert_eq!(times, [100, 123, 146]);
    }
}
