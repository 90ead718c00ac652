use bytes::Bytes;

use super::error::ChunkError;
use super::wire::{DEFAULT_CHUNK_SIZE, EXTENDED, MAX_CHUNK_SIZE};
use crate::budget::{Account, Charge, Kind, OverBudget};
use crate::rtmp::Input;
use crate::rtmp::message::{Message, MessageKind};

/// Limits on the memory that one peer can occupy in a [`ChunkReader`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkLimits {
    /// The longest message, in bytes. The format itself allows 16 MiB - 1.
    pub max_message: u32,
    /// Bytes of unfinished messages, over all chunk streams. Their memory, which counts on the peer's account, is at most
    /// twice as much, plus 4 KiB for each chunk stream and once the length of the input.
    pub max_buffered: usize,
    /// Number of chunk streams.
    pub max_chunk_streams: usize,
}

impl Default for ChunkLimits {
    /// 16 MiB for a message, 32 MiB in total, 256 chunk streams.
    fn default() -> ChunkLimits {
        ChunkLimits { max_message: 16 << 20, max_buffered: 32 << 20, max_chunk_streams: 256 }
    }
}

/// Reassembles messages from the chunks of one peer.
///
/// - A message is copied once, into memory of its own that grows with the bytes received, never with the length that a
///   header claims. So a short message never keeps a long buffer alive, and the input never holds more than a part of a
///   header between two calls.
/// - The memory of a message counts on the peer's account until nothing keeps the message, or a slice of it.
/// - Set Chunk Size and Abort take effect here. They are returned like other messages, but need no action.
/// - After `Err` the reader must not be used again, and the connection must close.
///
/// Tolerated: encoders that omit the extended timestamp on type 3 chunks (old Flash encoders). They are recognised by
/// comparing the four bytes with the expected value.
#[derive(Debug)]
pub struct ChunkReader {
    limits: ChunkLimits,
    account: Account,
    chunk_size: u32,
    /// A handful: in order of their first chunks.
    chunk_streams: Vec<ChunkStream>,
    /// The chunk whose payload is being read.
    arriving: Option<Arriving>,
    /// Bytes of all unfinished messages, all of the current chunk included.
    buffered: usize,
    /// Whether the peer has omitted the extended timestamp on a type 3 chunk.
    omits_extended: bool,
    /// Offset in the connection of the current chunk.
    chunk_offset: u64,
    /// Offset in the connection of the next byte to read.
    position: u64,
    /// Bytes of the connection so far, those left in the input included.
    received: u64,
}

/// A chunk stream: its last message header and its unfinished message.
#[derive(Debug)]
struct ChunkStream {
    id: u32,
    header: MessageHeader,
    unfinished: Option<Unfinished>,
    /// Offset in the connection at which the last message began.
    begun: u64,
}

/// The bytes of a message so far, and the charge for their memory.
#[derive(Debug)]
struct Unfinished {
    bytes: Vec<u8>,
    charge: Charge,
}

impl Unfinished {
    fn new(account: &Account) -> Result<Unfinished, OverBudget> {
        Ok(Unfinished { bytes: Vec::new(), charge: account.charge(Kind::Messages, Message::OVERHEAD)? })
    }

    /// Makes room for the first `needed` bytes of `length`, of which `received` have come at most.
    fn grow(&mut self, needed: usize, received: usize, length: usize) -> Result<(), OverBudget> {
        if needed > self.bytes.capacity() {
            let capacity = grown(needed, received, length);
            self.charge.raise_to(capacity + Message::OVERHEAD)?;
            self.bytes.reserve_exact(capacity - self.bytes.len());
        }
        Ok(())
    }
}

/// A complete message header: fields that a chunk omits are taken from the header before it (5.3.1.2).
#[derive(Clone, Copy, Debug)]
struct MessageHeader {
    kind: MessageKind,
    stream_id: u32,
    length: u32,
    timestamp: u32,
    /// The last timestamp field, which a type 3 chunk adds if it starts a message.
    delta: u32,
    /// Whether `delta` was an extended timestamp.
    extended: bool,
}

impl MessageHeader {
    /// The header before a type 1 header that opens a chunk stream.
    const NONE: MessageHeader = MessageHeader {
        kind: MessageKind(0),
        stream_id: 0,
        length: 0,
        timestamp: 0,
        delta: 0,
        extended: false,
    };

    fn message(&self, payload: Bytes) -> Message {
        Message { kind: self.kind, timestamp: self.timestamp, stream_id: self.stream_id, payload }
    }
}

/// A chunk, partly read.
#[derive(Clone, Copy, Debug)]
struct Arriving {
    /// Index in `chunk_streams`.
    chunk_stream: usize,
    /// Payload bytes that have not been read.
    left: usize,
}

/// The headers of a chunk, parsed.
#[derive(Debug)]
struct ChunkHeader {
    chunk_stream: u32,
    /// Whether the chunk continues a message.
    continues: bool,
    message: MessageHeader,
    /// Length of the headers, in bytes.
    size: usize,
    /// Whether the chunk should have an extended timestamp but has none.
    omits_extended: bool,
}

enum Step {
    NeedsMore,
    Progress,
    Message(Message),
}

impl ChunkReader {
    /// Creates a reader that expects chunks of 128 bytes, the default (5.4.1). It charges no account until
    /// [`charge_to`](Self::charge_to).
    pub fn new(limits: ChunkLimits) -> ChunkReader {
        ChunkReader {
            limits,
            account: Account::unlimited(),
            chunk_size: DEFAULT_CHUNK_SIZE,
            chunk_streams: Vec::new(),
            arriving: None,
            buffered: 0,
            omits_extended: false,
            chunk_offset: 0,
            position: 0,
            received: 0,
        }
    }

    /// Charges messages that begin from now on to `account`.
    pub fn charge_to(&mut self, account: Account) {
        self.account = account;
    }

    /// The account that messages are charged to.
    pub fn account(&self) -> &Account {
        &self.account
    }

    /// Sets the number of bytes that the connection received before the first chunk: those of the handshake.
    /// Must be called before the first [`read`](Self::read).
    pub fn start_at(&mut self, offset: u64) {
        (self.position, self.received) = (offset, offset);
    }

    /// Returns the number of bytes received on the connection, as acknowledgements count them: those read, and those that
    /// the last [`read`](Self::read) left in its input.
    pub fn bytes_received(&self) -> u64 {
        self.received
    }

    /// Returns the peer's chunk size, in bytes.
    #[cfg(test)]
    pub(super) fn chunk_size(&self) -> u32 {
        self.chunk_size
    }

    /// Returns the bytes of unfinished messages, as [`ChunkLimits::max_buffered`] counts them: a chunk counts in full from
    /// its header on.
    pub fn buffered(&self) -> usize {
        self.buffered
    }

    /// Returns the offset in the connection at which the oldest unfinished message began.
    pub fn oldest_unfinished(&self) -> Option<u64> {
        if self.buffered == 0 {
            return None;
        }
        self.chunk_streams.iter().filter(|s| s.unfinished.is_some()).map(|s| s.begun).min()
    }

    /// Returns the memory of unfinished messages, in bytes.
    #[cfg(test)]
    pub(super) fn memory(&self) -> usize {
        self.chunk_streams.iter().filter_map(|s| s.unfinished.as_ref()).map(|u| u.bytes.capacity()).sum()
    }

    /// Reads the next message from `input`. `None` means that more bytes must be appended to `input`.
    ///
    /// # Errors
    ///
    /// See [`ChunkError`].
    pub fn read(&mut self, input: &mut Input) -> Result<Option<Message>, ChunkError> {
        self.received = self.position + input.len() as u64;
        loop {
            let step = match self.arriving {
                Some(arriving) => self.read_payload(arriving, input)?,
                None => self.read_chunk(input)?,
            };
            self.position = self.received - input.len() as u64;
            match step {
                Step::NeedsMore => return Ok(None),
                Step::Progress => {}
                Step::Message(message) => {
                    self.apply_control(&message)?;
                    return Ok(Some(message));
                }
            }
        }
    }

    /// Reads a chunk's headers.
    fn read_chunk(&mut self, input: &mut Input) -> Result<Step, ChunkError> {
        self.chunk_offset = self.position;
        let Some(header) = self.read_headers(input)? else { return Ok(Step::NeedsMore) };
        let length = header.message.length as usize;
        input.advance(header.size);
        self.omits_extended |= header.omits_extended;
        let index = self.position_of(header.chunk_stream).unwrap_or(self.chunk_streams.len());
        if index == self.chunk_streams.len() {
            let (id, header) = (header.chunk_stream, header.message);
            self.chunk_streams.push(ChunkStream { id, header, unfinished: None, begun: 0 });
        }
        let chunk_stream = &mut self.chunk_streams[index];
        chunk_stream.header = header.message;
        if !header.continues {
            chunk_stream.begun = self.chunk_offset;
        }
        let unfinished = match &mut chunk_stream.unfinished {
            Some(unfinished) => unfinished,
            none => none.insert(Unfinished::new(&self.account)?),
        };
        let received = unfinished.bytes.len();
        let left = (length - received).min(self.chunk_size as usize);
        let (needed, limit) = (self.buffered + left, self.limits.max_buffered);
        if needed > limit {
            return Err(ChunkError::TooMuchBuffered { offset: self.chunk_offset, needed, limit });
        }
        self.buffered = needed;
        self.arriving = Some(Arriving { chunk_stream: index, left });
        Ok(Step::Progress)
    }

    /// Returns the index of a chunk stream, if it has had a chunk.
    fn position_of(&self, id: u32) -> Option<usize> {
        self.chunk_streams.iter().position(|known| known.id == id)
    }

    /// Parses a chunk's basic header, message header and extended timestamp (5.3.1). `None` means that bytes are missing.
    fn read_headers(&self, input: &[u8]) -> Result<Option<ChunkHeader>, ChunkError> {
        let offset = self.chunk_offset;
        let Some((header_type, chunk_stream, basic_size)) = read_basic_header(input) else { return Ok(None) };

        let mut message = MessageHeader::NONE;
        let mut continues = false;
        match self.position_of(chunk_stream).map(|index| &self.chunk_streams[index]) {
            Some(known) => {
                message = known.header;
                continues = known.unfinished.is_some();
                if let Some(unfinished) = known.unfinished.as_ref().filter(|_| header_type < 3) {
                    return Err(ChunkError::HeaderWithinMessage {
                        offset,
                        chunk_stream,
                        header_type,
                        received: unfinished.bytes.len() as u32,
                        length: message.length,
                    });
                }
            }
            None if header_type >= 2 => {
                return Err(ChunkError::NoEarlierHeader { offset, chunk_stream, header_type });
            }
            None if self.chunk_streams.len() >= self.limits.max_chunk_streams => {
                let limit = self.limits.max_chunk_streams;
                return Err(ChunkError::TooManyChunkStreams { offset, chunk_stream, limit });
            }
            None => {}
        }

        let message_size = [11, 7, 3, 0][usize::from(header_type)];
        let size = basic_size + message_size;
        let Some(fields) = input.get(basic_size..size) else { return Ok(None) };
        if let [t0, t1, t2, ..] = *fields {
            message.delta = u32::from_be_bytes([0, t0, t1, t2]);
            message.extended = message.delta == EXTENDED;
        }
        if let [_, _, _, l0, l1, l2, kind, ..] = *fields {
            message.length = u32::from_be_bytes([0, l0, l1, l2]);
            message.kind = MessageKind(kind);
        }
        if let [_, _, _, _, _, _, _, s0, s1, s2, s3] = *fields {
            message.stream_id = u32::from_le_bytes([s0, s1, s2, s3]);
        }
        if message.length > self.limits.max_message {
            let (length, limit) = (message.length, self.limits.max_message);
            return Err(ChunkError::MessageTooLong { offset, length, limit });
        }

        let mut header = ChunkHeader { chunk_stream, continues, message, size, omits_extended: false };
        if message.extended {
            let bytes = &input[size..input.len().min(size + 4)];
            if header_type == 3 && self.omits_extended_here(bytes, &header) {
                header.omits_extended = true;
            } else if let [e0, e1, e2, e3] = *bytes {
                header.size += 4;
                if !continues {
                    header.message.delta = u32::from_be_bytes([e0, e1, e2, e3]);
                }
            } else {
                return Ok(None);
            }
        }
        if !continues {
            let base = if header_type == 0 { 0 } else { message.timestamp };
            header.message.timestamp = header.message.delta.wrapping_add(base);
        }
        Ok(Some(header))
    }

    /// Returns whether a type 3 chunk omits the extended timestamp that it should have. `bytes` are the up to four bytes at
    /// its position.
    ///
    /// A chunk that continues a message repeats the message's value (or, with some encoders, its absolute timestamp), so any
    /// other bytes are payload. A chunk that starts a message may carry a new value, so there the timestamp counts as
    /// omitted only if the peer has omitted one before.
    fn omits_extended_here(&self, bytes: &[u8], header: &ChunkHeader) -> bool {
        let MessageHeader { delta, timestamp, .. } = header.message;
        let expected = |value: u32| value.to_be_bytes().starts_with(bytes);
        if header.continues {
            !expected(delta) && !expected(timestamp)
        } else {
            self.omits_extended && !expected(delta)
        }
    }

    /// Copies available payload bytes of a chunk.
    fn read_payload(&mut self, arriving: Arriving, input: &mut Input) -> Result<Step, ChunkError> {
        let count = arriving.left.min(input.len());
        if count == 0 && arriving.left > 0 {
            return Ok(Step::NeedsMore);
        }
        let chunk_stream = &mut self.chunk_streams[arriving.chunk_stream];
        let length = chunk_stream.header.length as usize;
        let unfinished =
            chunk_stream.unfinished.as_mut().expect("an arriving chunk has an unfinished message");

        // The rest of the input may be of this message, unless several are under way. It then gets its memory at once.
        let is_alone = self.buffered == unfinished.bytes.len() + arriving.left;
        let ahead = if is_alone { input.len() - count } else { 0 };
        let needed = unfinished.bytes.len() + count;
        unfinished.grow(needed, needed + ahead, length)?;
        unfinished.bytes.extend_from_slice(&input[..count]);
        input.advance(count);

        self.arriving = Some(Arriving { left: arriving.left - count, ..arriving }).filter(|a| a.left > 0);
        if needed < length {
            return Ok(Step::Progress);
        }
        let Unfinished { bytes, charge } =
            chunk_stream.unfinished.take().expect("an arriving chunk has an unfinished message");
        self.buffered -= bytes.len();
        Ok(Step::Message(chunk_stream.header.message(charge.bind(bytes))))
    }

    /// Applies Set Chunk Size (5.4.1) and Abort (5.4.2).
    fn apply_control(&mut self, message: &Message) -> Result<(), ChunkError> {
        if !matches!(message.kind, MessageKind::SET_CHUNK_SIZE | MessageKind::ABORT) {
            return Ok(());
        }
        let offset = self.chunk_offset;
        let Some(&[a, b, c, d]) = message.payload.get(..4) else {
            let (kind, length) = (message.kind, message.payload.len());
            return Err(ChunkError::ControlTooShort { offset, kind, length });
        };
        let value = u32::from_be_bytes([a, b, c, d]);
        if message.kind == MessageKind::SET_CHUNK_SIZE {
            if !(1..=MAX_CHUNK_SIZE).contains(&value) {
                return Err(ChunkError::ChunkSize { offset, size: value });
            }
            self.chunk_size = value;
        } else if let Some(index) = self.position_of(value)
            && let Some(dropped) = self.chunk_streams[index].unfinished.take()
        {
            self.buffered -= dropped.bytes.len();
        }
        Ok(())
    }
}

/// Parses a basic header (5.3.1.1) into header type, chunk stream id and its own length.
fn read_basic_header(input: &[u8]) -> Option<(u8, u32, usize)> {
    let &first = input.first()?;
    let (chunk_stream, size) = match first & 0x3F {
        0 => (u32::from(*input.get(1)?) + 64, 2),
        1 => (u32::from(u16::from_le_bytes([*input.get(1)?, *input.get(2)?])) + 64, 3),
        id => (u32::from(id), 1),
    };
    Some((first >> 6, chunk_stream, size))
}

/// Returns the capacity for the first `needed` bytes of a message of `length` bytes: twice those or `received`, whatever
/// `length` claims, and in the end exactly `length`.
fn grown(needed: usize, received: usize, length: usize) -> usize {
    const FIRST: usize = 4096;
    needed.saturating_mul(2).max(received).max(FIRST).min(length)
}
