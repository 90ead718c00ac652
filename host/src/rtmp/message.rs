//! RTMP messages: what chunks carry (RTMP 1.0, 5.4, 6 and 7.1).
//!
//! [`Message`] is the envelope; [`Control`] is what the protocol control and user control messages say;
//! [`Aggregate`] takes aggregate messages apart. Commands and data are in the layer above.
//!
//! Invariants: payloads are shared with the buffer they arrived in; reading never copies them.
//!
//! Tolerated: Set Peer Bandwidth without its limit type (older FMS relays), read as dynamic; user control
//! events without a name here (Flash's SWF verification 0x1a, FMS's buffer empty 31 and ready 32), kept as
//! they are.

use bytes::{BufMut, Bytes, BytesMut};

/// The message type id (7.1 and 5.4).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(transparent)]
pub struct MessageKind(pub u8);

macro_rules! message_kinds {
    ($($(#[$doc:meta])* $name:ident = $value:literal;)*) => {
        impl MessageKind {
            $($(#[$doc])* pub const $name: MessageKind = MessageKind($value);)*
        }

        impl std::fmt::Debug for MessageKind {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                match *self {
                    $(MessageKind::$name => f.write_str(stringify!($name)),)*
                    MessageKind(other) => write!(f, "{other}"),
                }
            }
        }
    };
}

message_kinds! {
    /// Set Chunk Size (5.4.1).
    SET_CHUNK_SIZE = 1;
    /// Abort Message (5.4.2).
    ABORT = 2;
    /// Acknowledgement (5.4.3).
    ACKNOWLEDGEMENT = 3;
    /// User Control (6.2).
    USER_CONTROL = 4;
    /// Window Acknowledgement Size (5.4.4).
    WINDOW_ACK_SIZE = 5;
    /// Set Peer Bandwidth (5.4.5).
    SET_PEER_BANDWIDTH = 6;
    /// Audio (7.1.4).
    AUDIO = 8;
    /// Video (7.1.5).
    VIDEO = 9;
    /// Data in AMF3 (7.1.2).
    DATA_AMF3 = 15;
    /// Shared object in AMF3 (7.1.3).
    SHARED_OBJECT_AMF3 = 16;
    /// Command in AMF3 (7.1.1).
    COMMAND_AMF3 = 17;
    /// Data in AMF0 (7.1.2).
    DATA_AMF0 = 18;
    /// Shared object in AMF0 (7.1.3).
    SHARED_OBJECT_AMF0 = 19;
    /// Command in AMF0 (7.1.1).
    COMMAND_AMF0 = 20;
    /// Aggregate (7.1.6).
    AGGREGATE = 22;
}

/// One RTMP message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The message type.
    pub kind: MessageKind,
    /// Milliseconds; wraps after 2³² of them.
    pub timestamp: u32,
    /// The message stream: 0 for the connection itself, else what createStream returned.
    pub stream_id: u32,
    /// The message body.
    pub payload: Bytes,
}

/// Who may exceed a peer bandwidth (5.4.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerBandwidthLimit {
    /// Limit output to the window.
    Hard,
    /// Limit output to the window or the limit in effect, whichever is smaller.
    Soft,
    /// As hard if the limit in effect is hard, else ignored.
    Dynamic,
}

/// A protocol control message (5.4) or user control message (6.2 and 7.1.7).
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Control {
    /// The sender's chunks have up to so many payload bytes from now on.
    SetChunkSize(u32),
    /// The rest of the unfinished message on this chunk stream will not come.
    Abort(u32),
    /// The sender has received so many bytes, modulo 2³².
    Acknowledgement(u32),
    /// The sender expects an acknowledgement after so many bytes. 0 asks for none.
    WindowAckSize(u32),
    /// The receiver shall limit its output.
    SetPeerBandwidth {
        /// Unacknowledged bytes.
        window: u32,
        /// How strict.
        limit: PeerBandwidthLimit,
    },
    /// Event 0: this message stream is ready.
    StreamBegin(u32),
    /// Event 1: playback of this message stream is over.
    StreamEof(u32),
    /// Event 2: no more data on this message stream for a time.
    StreamDry(u32),
    /// Event 3: the client buffers so much of a message stream.
    SetBufferLength {
        /// The message stream.
        stream_id: u32,
        /// The buffer, in milliseconds.
        millis: u32,
    },
    /// Event 4: this message stream is a recording.
    StreamIsRecorded(u32),
    /// Event 6: answer with the same timestamp.
    PingRequest(u32),
    /// Event 7: the timestamp of the request.
    PingResponse(u32),
    /// Any other user control event.
    UnknownEvent {
        /// The event type.
        event: u16,
        /// What follows it.
        data: Bytes,
    },
}

/// A control message that is shorter than its type demands. The culprit is the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("control message {kind:?} with {length} bytes, needs {needed}")]
pub struct ControlTooShort {
    /// The message type.
    pub kind: MessageKind,
    /// Bytes of the payload.
    pub length: usize,
    /// Bytes that the type or the event needs.
    pub needed: usize,
}

impl Control {
    /// Reads a message. `None` when it is of another kind.
    ///
    /// # Errors
    ///
    /// A payload that ends early. Bytes past the end are ignored.
    pub fn read(message: &Message) -> Result<Option<Control>, ControlTooShort> {
        let kind = message.kind;
        let payload = &message.payload;
        let u32_at = |at: usize| match payload.get(at..at + 4) {
            Some(&[a, b, c, d]) => Ok(u32::from_be_bytes([a, b, c, d])),
            _ => Err(ControlTooShort { kind, length: payload.len(), needed: at + 4 }),
        };
        Ok(Some(match kind {
            MessageKind::SET_CHUNK_SIZE => Control::SetChunkSize(u32_at(0)?),
            MessageKind::ABORT => Control::Abort(u32_at(0)?),
            MessageKind::ACKNOWLEDGEMENT => Control::Acknowledgement(u32_at(0)?),
            MessageKind::WINDOW_ACK_SIZE => Control::WindowAckSize(u32_at(0)?),
            MessageKind::SET_PEER_BANDWIDTH => Control::SetPeerBandwidth {
                window: u32_at(0)?,
                limit: match payload.get(4) {
                    Some(0) => PeerBandwidthLimit::Hard,
                    Some(1) => PeerBandwidthLimit::Soft,
                    _ => PeerBandwidthLimit::Dynamic,
                },
            },
            MessageKind::USER_CONTROL => {
                let Some(&[high, low]) = payload.get(..2) else {
                    return Err(ControlTooShort { kind, length: payload.len(), needed: 2 });
                };
                match u16::from_be_bytes([high, low]) {
                    0 => Control::StreamBegin(u32_at(2)?),
                    1 => Control::StreamEof(u32_at(2)?),
                    2 => Control::StreamDry(u32_at(2)?),
                    3 => Control::SetBufferLength { millis: u32_at(6)?, stream_id: u32_at(2)? },
                    4 => Control::StreamIsRecorded(u32_at(2)?),
                    6 => Control::PingRequest(u32_at(2)?),
                    7 => Control::PingResponse(u32_at(2)?),
                    event => Control::UnknownEvent { event, data: payload.slice(2..) },
                }
            }
            _ => return Ok(None),
        }))
    }

    /// The type of the message that says this.
    pub fn kind(&self) -> MessageKind {
        match self {
            Control::SetChunkSize(_) => MessageKind::SET_CHUNK_SIZE,
            Control::Abort(_) => MessageKind::ABORT,
            Control::Acknowledgement(_) => MessageKind::ACKNOWLEDGEMENT,
            Control::WindowAckSize(_) => MessageKind::WINDOW_ACK_SIZE,
            Control::SetPeerBandwidth { .. } => MessageKind::SET_PEER_BANDWIDTH,
            _ => MessageKind::USER_CONTROL,
        }
    }

    /// Writes the message body.
    pub fn write(&self, out: &mut BytesMut) {
        match *self {
            Control::SetChunkSize(value)
            | Control::Abort(value)
            | Control::Acknowledgement(value)
            | Control::WindowAckSize(value) => out.put_u32(value),
            Control::SetPeerBandwidth { window, limit } => {
                out.put_u32(window);
                out.put_u8(match limit {
                    PeerBandwidthLimit::Hard => 0,
                    PeerBandwidthLimit::Soft => 1,
                    PeerBandwidthLimit::Dynamic => 2,
                });
            }
            Control::StreamBegin(value) => write_event(0, value, out),
            Control::StreamEof(value) => write_event(1, value, out),
            Control::StreamDry(value) => write_event(2, value, out),
            Control::SetBufferLength { stream_id, millis } => {
                write_event(3, stream_id, out);
                out.put_u32(millis);
            }
            Control::StreamIsRecorded(value) => write_event(4, value, out),
            Control::PingRequest(value) => write_event(6, value, out),
            Control::PingResponse(value) => write_event(7, value, out),
            Control::UnknownEvent { event, ref data } => {
                out.put_u16(event);
                out.put_slice(data);
            }
        }
    }

    /// The message that says this: on message stream 0 at timestamp 0, as 5.4 and 6.2 demand.
    pub fn to_message(&self) -> Message {
        let mut payload = BytesMut::with_capacity(10);
        self.write(&mut payload);
        Message { kind: self.kind(), timestamp: 0, stream_id: 0, payload: payload.freeze() }
    }
}

fn write_event(event: u16, value: u32, out: &mut BytesMut) {
    out.put_u16(event);
    out.put_u32(value);
}

/// An aggregate message that cannot be taken apart further. The culprit is the peer.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AggregateError {
    /// The payload ends within a sub-message.
    #[error("byte {offset} of an aggregate message: needs {needed} bytes, has {left}")]
    Truncated {
        /// Of the sub-message in the payload.
        offset: usize,
        /// Bytes of the sub-message with its header and back pointer, as far as known.
        needed: usize,
        /// Bytes of the payload from `offset` on.
        left: usize,
    },
    /// An aggregate within an aggregate.
    #[error("byte {offset} of an aggregate message: another aggregate")]
    Nested {
        /// Of the sub-message in the payload.
        offset: usize,
    },
}

/// Takes an aggregate message apart (7.1.6): yields its sub-messages in order.
///
/// Sub-messages look like FLV tags, each with a back pointer behind it. Their timestamps are shifted so that
/// the first has the aggregate's; their message stream is the aggregate's; their payloads are slices of the
/// aggregate's payload. After an error it yields nothing more.
///
/// A sub-message may claim any type: take audio, video and data, ignore the rest.
#[derive(Clone, Debug)]
pub struct Aggregate {
    timestamp: u32,
    stream_id: u32,
    payload: Bytes,
    offset: usize,
    /// Aggregate's timestamp less the first sub-message's.
    shift: Option<u32>,
}

/// Type, length, timestamp, extended timestamp, stream id.
const SUB_HEADER: usize = 1 + 3 + 3 + 1 + 3;
const BACK_POINTER: usize = 4;

impl Aggregate {
    /// Takes apart `message`, which is of kind [`MessageKind::AGGREGATE`].
    pub fn new(message: &Message) -> Aggregate {
        Aggregate {
            timestamp: message.timestamp,
            stream_id: message.stream_id,
            payload: message.payload.clone(),
            offset: 0,
            shift: None,
        }
    }

    fn read(&mut self) -> Result<Message, AggregateError> {
        let offset = self.offset;
        let left = self.payload.len() - offset;
        let truncated = |needed| AggregateError::Truncated { offset, needed, left };

        let Some(&[kind, l0, l1, l2, t1, t2, t3, t0, _, _, _]) =
            self.payload.get(offset..offset + SUB_HEADER)
        else {
            return Err(truncated(SUB_HEADER));
        };
        let length = u32::from_be_bytes([0, l0, l1, l2]) as usize;
        let timestamp = u32::from_be_bytes([t0, t1, t2, t3]);

        let needed = SUB_HEADER + length + BACK_POINTER;
        if left < needed {
            return Err(truncated(needed));
        }
        let kind = MessageKind(kind);
        if kind == MessageKind::AGGREGATE {
            return Err(AggregateError::Nested { offset });
        }
        let shift = *self.shift.get_or_insert(self.timestamp.wrapping_sub(timestamp));
        let start = offset + SUB_HEADER;
        self.offset += needed;
        Ok(Message {
            kind,
            timestamp: timestamp.wrapping_add(shift),
            stream_id: self.stream_id,
            payload: self.payload.slice(start..start + length),
        })
    }
}

impl Iterator for Aggregate {
    type Item = Result<Message, AggregateError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.offset == self.payload.len() {
            return None;
        }
        let result = self.read();
        if result.is_err() {
            self.offset = self.payload.len();
        }
        Some(result)
    }
}
