//! What both ends of a session share: messages in, messages out, and the duties between them.
//!
//! A link reads chunks into commands, tags and control messages, and writes them. It does by itself what needs no
//! decision: acknowledgements (RTMP 1.0 §5.4.3), answers to pings (§7.1.7), aggregates (§7.1.6), the AMF3 envelope
//! of commands and data (§7.1.1, §7.1.2: the first byte is skipped), and `@setDataFrame`.
//!
//! Invariants:
//! - a tag's payload is a slice of the message's, and is sent as such;
//! - answers that the peer does not read are bounded by [`MAX_UNREAD_REPLIES`].

use bytes::{Buf, Bytes, BytesMut};
use remuxd_bitstream::amf0::{self, Value};

use super::chunk::{CONTROL_CHUNK_STREAM, ChunkLimits, ChunkReader, ChunkWriter};
use super::command::Command;
use super::message::{Aggregate, Control, Message, MessageKind};
use super::output::Output;
use super::{SessionError, enhanced};
use crate::media::{Millis, Tag, TagKind};

/// Bytes of answers that may wait for a peer that sends but does not read.
pub const MAX_UNREAD_REPLIES: usize = 64 << 10;

// Chunk streams may be chosen freely above 2; these are SRS's.
const CONNECTION_CHUNK_STREAM: u32 = 3;
const STREAM_CHUNK_STREAM: u32 = 5;
const VIDEO_CHUNK_STREAM: u32 = 6;
const AUDIO_CHUNK_STREAM: u32 = 7;

/// How an encoder says that a data message is to be kept for later players, and that it is not any more.
const SET_DATA_FRAME: &str = "@setDataFrame";
const CLEAR_DATA_FRAME: &str = "@clearDataFrame";
/// How a server says what a Flash player may read of the media it gets. It concerns the connection alone.
const SAMPLE_ACCESS: &str = "|RtmpSampleAccess";

/// The message layer of one connection.
pub(super) struct Link {
    pub input: BytesMut,
    pub output: Output,
    limits: ChunkLimits,
    reader: ChunkReader,
    writer: ChunkWriter,
    aggregate: Option<Aggregate>,
    /// The acknowledgement window that the peer asked for; 0 when it wants none.
    window: u32,
    acknowledged: u64,
    /// Answers written since the peer last read all that there was.
    unread_replies: usize,
}

/// What comes in.
#[derive(Debug)]
pub(super) enum Incoming {
    Command {
        stream_id: u32,
        command: Command,
    },
    Tag {
        stream_id: u32,
        tag: Tag,
    },
    Control(Control),
    /// A message that says nothing to a session: shared objects, unknown types, empty data.
    Ignored,
}

impl Link {
    pub fn new(limits: ChunkLimits) -> Link {
        Link {
            input: BytesMut::new(),
            output: Output::new(),
            limits,
            reader: ChunkReader::new(limits),
            writer: ChunkWriter::new(),
            aggregate: None,
            window: 0,
            acknowledged: 0,
            unread_replies: 0,
        }
    }

    /// The handshake took so many bytes.
    pub fn start(&mut self, handshake: u64) {
        self.reader = ChunkReader::new(self.limits).starting_at(handshake);
    }

    /// All bytes of the connection so far.
    pub fn bytes_received(&self) -> u64 {
        self.reader.bytes_received()
    }

    /// The next message, or part of an aggregate. `None`: needs more input.
    pub fn read(&mut self) -> Result<Option<Incoming>, SessionError> {
        if self.unread_replies > MAX_UNREAD_REPLIES && !self.output.is_empty() {
            return Err(SessionError::UnreadReplies {
                bytes: self.unread_replies,
                limit: MAX_UNREAD_REPLIES,
            });
        }
        if let Some(message) = self.aggregate.as_mut().and_then(Iterator::next).transpose()? {
            return Ok(Some(match message.kind {
                // Only media may hide in an aggregate.
                MessageKind::AUDIO | MessageKind::VIDEO | MessageKind::DATA_AMF0 | MessageKind::DATA_AMF3 => {
                    read_media(message)
                }
                _ => Incoming::Ignored,
            }));
        }
        self.aggregate = None;
        let message = self.reader.read(&mut self.input)?;
        self.acknowledge();
        let Some(message) = message else { return Ok(None) };
        Ok(Some(match message.kind {
            MessageKind::COMMAND_AMF0 | MessageKind::COMMAND_AMF3 => {
                let envelope = usize::from(message.kind == MessageKind::COMMAND_AMF3);
                let payload = message.payload.get(envelope..).unwrap_or_default();
                Incoming::Command { stream_id: message.stream_id, command: Command::read(payload)? }
            }
            MessageKind::AGGREGATE => {
                self.aggregate = Some(Aggregate::new(&message));
                Incoming::Ignored
            }
            _ => match Control::read(&message)? {
                Some(control) => {
                    self.on_control(&control);
                    Incoming::Control(control)
                }
                None => read_media(message),
            },
        }))
    }

    fn on_control(&mut self, control: &Control) {
        match control {
            Control::WindowAckSize(window) => self.window = *window,
            Control::PingRequest(timestamp) => self.send_control(&Control::PingResponse(*timestamp)),
            _ => {}
        }
    }

    /// Acknowledges each half window, as SRS does: a peer that stops at a full window never has to.
    fn acknowledge(&mut self) {
        let received = self.reader.bytes_received();
        if self.window > 0 && received - self.acknowledged >= u64::from(self.window / 2).max(1) {
            self.acknowledged = received;
            // The sequence number counts modulo 2^32 (§5.4.3).
            self.send_control(&Control::Acknowledgement(received as u32));
        }
    }

    pub fn send_control(&mut self, control: &Control) {
        let message = control.to_message();
        self.reply(CONTROL_CHUNK_STREAM, message.kind, 0, &message.payload);
        if let Control::SetChunkSize(size) = control {
            self.writer.set_chunk_size(*size);
        }
    }

    pub fn send_command(&mut self, stream_id: u32, command: &Command) {
        let chunk_stream = if stream_id == 0 { CONNECTION_CHUNK_STREAM } else { STREAM_CHUNK_STREAM };
        // AMF0 also for peers with objectEncoding 3: they know both, and SRS sends nothing else.
        self.reply(chunk_stream, MessageKind::COMMAND_AMF0, stream_id, &command.to_payload());
    }

    pub fn send_data(&mut self, stream_id: u32, payload: &Bytes) {
        self.reply(STREAM_CHUNK_STREAM, MessageKind::DATA_AMF0, stream_id, payload);
    }

    fn reply(&mut self, chunk_stream: u32, kind: MessageKind, stream_id: u32, payload: &Bytes) {
        if self.output.is_empty() {
            self.unread_replies = 0;
        }
        let before = self.output.len();
        self.writer.write(chunk_stream, kind, stream_id, 0, payload, &mut self.output);
        self.unread_replies += self.output.len() - before;
    }

    /// Queues a tag, its payload shared, in the form that a peer with these `capsEx` understands.
    pub fn send_tag(&mut self, stream_id: u32, tag: &Tag, caps_ex: u32) {
        if self.output.is_empty() {
            self.unread_replies = 0;
        }
        let (chunk_stream, kind) = match tag.kind {
            TagKind::AUDIO => (AUDIO_CHUNK_STREAM, MessageKind::AUDIO),
            TagKind::VIDEO => (VIDEO_CHUNK_STREAM, MessageKind::VIDEO),
            TagKind::SCRIPT => (STREAM_CHUNK_STREAM, MessageKind::DATA_AMF0),
            _ => return,
        };
        // A message's timestamp counts modulo 2^32 (§5.1).
        let timestamp = tag.dts.0 as u32;
        if let Some(payload) = enhanced::body_for(tag, caps_ex) {
            self.writer.write(chunk_stream, kind, stream_id, timestamp, &payload, &mut self.output);
        }
    }
}

fn read_media(message: Message) -> Incoming {
    let Message { kind, timestamp, stream_id, mut payload } = message;
    let kind = match kind {
        MessageKind::AUDIO => TagKind::AUDIO,
        MessageKind::VIDEO => TagKind::VIDEO,
        MessageKind::DATA_AMF0 | MessageKind::DATA_AMF3 => {
            if kind == MessageKind::DATA_AMF3 {
                payload.advance(payload.len().min(1));
            }
            match read_script(payload) {
                Some(script) => {
                    payload = script;
                    TagKind::SCRIPT
                }
                None => return Incoming::Ignored,
            }
        }
        _ => return Incoming::Ignored,
    };
    Incoming::Tag { stream_id, tag: Tag::new(kind, Millis(timestamp.into()), payload) }
}

/// The script data of a data message: what follows `@setDataFrame`.
fn read_script(payload: Bytes) -> Option<Bytes> {
    let after = |name: &str| {
        let mut prefix = Vec::with_capacity(3 + name.len());
        amf0::write_str(name, &mut prefix);
        payload.starts_with(&prefix).then(|| payload.slice(prefix.len()..))
    };
    if after(CLEAR_DATA_FRAME).or_else(|| after(SAMPLE_ACCESS)).is_some() {
        return None;
    }
    let script = after(SET_DATA_FRAME).unwrap_or_else(|| payload.clone());
    (!script.is_empty()).then_some(script)
}

/// A data message that lets a Flash player read audio and video samples.
pub(super) fn sample_access() -> Bytes {
    let mut payload = Vec::with_capacity(24);
    amf0::write_str(SAMPLE_ACCESS, &mut payload);
    amf0::write(&Value::Boolean(true), &mut payload);
    amf0::write(&Value::Boolean(true), &mut payload);
    payload.into()
}

/// Script data with `@setDataFrame` before it.
pub(super) fn set_data_frame(script: &Bytes) -> Bytes {
    let mut payload = Vec::with_capacity(3 + SET_DATA_FRAME.len() + script.len());
    amf0::write_str(SET_DATA_FRAME, &mut payload);
    payload.extend_from_slice(script);
    payload.into()
}
