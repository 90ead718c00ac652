//! The part of a session that is equal at both ends: handshake, chunks and messages.
//!
//! A [`Link`] reads commands, tags and control messages and writes them. It handles what needs no decision:
//! acknowledgements (RTMP 1.0, 5.4.3), ping responses (7.1.7), aggregates (7.1.6), the AMF3 envelope of commands and
//! data (7.1.1 and 7.1.2: the first byte is skipped) and `@setDataFrame`.
//!
//! Invariants:
//! - a tag's payload is the message's own memory, in both directions;
//! - replies that the peer does not read are bounded by [`MAX_UNREAD_REPLIES`].

use std::net::Ipv4Addr;

use bytes::{Buf, Bytes};
use remuxd_bitstream::amf0::{self, Value};

use super::chunk::{CONTROL_CHUNK_STREAM, ChunkLimits, ChunkReader, ChunkWriter};
use super::command::Command;
use super::error::SessionError;
use super::handshake::{Handshake, HandshakeError};
use super::input::Input;
use super::message::{Aggregate, Control, Message, MessageKind};
use super::output::Output;
use super::player::{STREAM_CHUNK_STREAM, write_tag};
use crate::budget::Account;
use crate::media::{Millis, Tag, TagKind};

/// Limit of queued reply bytes for a peer that sends but does not read.
pub const MAX_UNREAD_REPLIES: usize = 64 << 10;

// Any chunk stream above 2 may be used; this is SRS's.
const CONNECTION_CHUNK_STREAM: u32 = 3;

/// Precedes a data message that a server keeps for later players; the second name revokes it.
const SET_DATA_FRAME: &str = "@setDataFrame";
const CLEAR_DATA_FRAME: &str = "@clearDataFrame";
/// Tells a Flash player whether it may read samples of the media. It concerns one connection only.
const SAMPLE_ACCESS: &str = "|RtmpSampleAccess";

/// The buffers between a session and its socket.
#[derive(Debug, Default)]
pub struct Buffers {
    /// Bytes from the peer. The owner appends; the session consumes from the front.
    pub input: Input,
    /// Bytes to be written to the peer.
    pub output: Output,
}

/// The message layer of one connection.
pub(super) struct Link {
    pub buffers: Buffers,
    /// `None` once the handshake is complete.
    handshake: Option<Handshake>,
    /// See [`Handshake::proxied_client`].
    pub proxied_client: Option<Ipv4Addr>,
    reader: ChunkReader,
    writer: ChunkWriter,
    aggregate: Option<Aggregate>,
    /// The acknowledgement window that the peer set, in bytes; 0 if it expects no acknowledgements.
    window: u32,
    /// Bytes received at the last acknowledgement.
    acknowledged: u64,
    /// Bytes of replies queued since the output was last empty.
    unread_replies: usize,
}

/// An incoming message.
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
    /// A message without meaning for a session: shared objects, unknown types, empty data.
    Ignored,
}

impl Link {
    pub fn new(handshake: Handshake, limits: ChunkLimits) -> Link {
        let mut buffers = Buffers::default();
        handshake.start(&mut buffers.output);
        Link {
            buffers,
            handshake: Some(handshake),
            proxied_client: None,
            reader: ChunkReader::new(limits),
            writer: ChunkWriter::new(),
            aggregate: None,
            window: 0,
            acknowledged: 0,
            unread_replies: 0,
        }
    }

    /// Advances the handshake. Returns true once it is complete.
    pub fn complete_handshake(&mut self) -> Result<bool, HandshakeError> {
        let Some(handshake) = &mut self.handshake else { return Ok(true) };
        let complete = handshake.read(&mut self.buffers.input, &mut self.buffers.output)?;
        if complete {
            self.reader.start_at(handshake.bytes_received());
            self.proxied_client = handshake.proxied_client();
            self.handshake = None;
        }
        Ok(complete)
    }

    /// Charges messages that begin from now on to `account`.
    pub fn charge_to(&mut self, account: Account) {
        self.reader.charge_to(account);
    }

    /// Returns the number of bytes received on the connection, after the handshake.
    pub fn bytes_received(&self) -> u64 {
        self.reader.bytes_received()
    }

    /// Returns the offset in the connection at which the oldest unfinished message began.
    pub fn oldest_unfinished(&self) -> Option<u64> {
        self.reader.oldest_unfinished()
    }

    /// Returns the next message, or the next part of an aggregate. `None` means that more input is needed.
    pub fn read(&mut self) -> Result<Option<Incoming>, SessionError> {
        if self.unread_replies > MAX_UNREAD_REPLIES && !self.buffers.output.is_empty() {
            return Err(SessionError::UnreadReplies {
                bytes: self.unread_replies,
                limit: MAX_UNREAD_REPLIES,
            });
        }
        if let Some(message) = self.aggregate.as_mut().and_then(Iterator::next).transpose()? {
            return Ok(Some(match message.kind {
                // An aggregate may contain media only.
                MessageKind::AUDIO | MessageKind::VIDEO | MessageKind::DATA_AMF0 | MessageKind::DATA_AMF3 => {
                    read_media(message)
                }
                _ => Incoming::Ignored,
            }));
        }
        self.aggregate = None;
        let message = self.reader.read(&mut self.buffers.input)?;
        self.acknowledge();
        let Some(message) = message else { return Ok(None) };
        Ok(Some(match message.kind {
            MessageKind::COMMAND_AMF0 | MessageKind::COMMAND_AMF3 => {
                let envelope = usize::from(message.kind == MessageKind::COMMAND_AMF3);
                let payload = message.payload.get(envelope..).unwrap_or_default();
                Incoming::Command { stream_id: message.stream_id, command: Command::read(payload)? }
            }
            MessageKind::AGGREGATE => {
                self.aggregate = Some(Aggregate::new(&message, self.reader.account()));
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

    /// Acknowledges each half window, as SRS does, so that a peer that stops at a full window never stops.
    fn acknowledge(&mut self) {
        let received = self.reader.bytes_received();
        if self.window > 0 && received - self.acknowledged >= u64::from(self.window / 2).max(1) {
            self.acknowledged = received;
            // The sequence number counts modulo 2^32 (5.4.3).
            self.send_control(&Control::Acknowledgement(received as u32));
        }
    }

    /// Queues a control message. Set Chunk Size takes effect for the messages after it.
    pub fn send_control(&mut self, control: &Control) {
        let message = control.to_message();
        self.reply(CONTROL_CHUNK_STREAM, message.kind, 0, &message.payload);
        if let Control::SetChunkSize(size) = control {
            self.writer.set_chunk_size(*size);
        }
    }

    /// Queues a command.
    pub fn send_command(&mut self, stream_id: u32, command: &Command) {
        let chunk_stream = if stream_id == 0 { CONNECTION_CHUNK_STREAM } else { STREAM_CHUNK_STREAM };
        // AMF0 also for peers with objectEncoding 3: they read both, and SRS sends AMF0 only.
        self.reply(chunk_stream, MessageKind::COMMAND_AMF0, stream_id, &command.to_payload());
    }

    /// Queues a data message that is a reply, not media.
    pub fn send_data(&mut self, stream_id: u32, payload: &Bytes) {
        self.reply(STREAM_CHUNK_STREAM, MessageKind::DATA_AMF0, stream_id, payload);
    }

    fn reply(&mut self, chunk_stream: u32, kind: MessageKind, stream_id: u32, payload: &Bytes) {
        if self.buffers.output.is_empty() {
            self.unread_replies = 0;
        }
        let before = self.buffers.output.len();
        self.writer.write(chunk_stream, kind, stream_id, 0, payload, &mut self.buffers.output);
        self.unread_replies += self.buffers.output.len() - before;
    }

    /// Queues a tag in the form that a peer with these `capsEx` understands. The payload is shared, not copied.
    pub fn send_tag(&mut self, stream_id: u32, tag: &Tag, caps_ex: u32) {
        if self.buffers.output.is_empty() {
            self.unread_replies = 0;
        }
        write_tag(&mut self.writer, stream_id, tag, caps_ex, &mut self.buffers.output);
    }

    /// Whether nothing of a message has come, and nothing is queued.
    pub fn is_idle(&self) -> bool {
        self.buffers.input.is_empty() && self.buffers.output.is_empty() && self.oldest_unfinished().is_none()
    }

    /// Prepares for bytes that others send: releases the buffers, and repeats nothing of the headers so far. The link must be idle.
    pub fn pause(&mut self) {
        self.buffers = Buffers::default();
        self.writer.forget();
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

/// Returns the script data of a data message, without a leading `@setDataFrame`. Returns `None` if it has none.
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

/// Builds a data message that permits a Flash player to read audio and video samples.
pub(super) fn sample_access() -> Bytes {
    let mut payload = Vec::with_capacity(24);
    amf0::write_str(SAMPLE_ACCESS, &mut payload);
    amf0::write(&Value::Boolean(true), &mut payload);
    amf0::write(&Value::Boolean(true), &mut payload);
    payload.into()
}

/// Prepends `@setDataFrame` to script data.
pub(super) fn set_data_frame(script: &Bytes) -> Bytes {
    let mut payload = Vec::with_capacity(3 + SET_DATA_FRAME.len() + script.len());
    amf0::write_str(SET_DATA_FRAME, &mut payload);
    payload.extend_from_slice(script);
    payload.into()
}
