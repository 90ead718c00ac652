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

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: MessageKind, payload: &'static [u8]) -> Message {
        Message { kind, timestamp: 0, stream_id: 0, payload: Bytes::from_static(payload) }
    }

    #[test]
    fn reads_and_writes_every_control_message() {
        let rows: &[(MessageKind, &[u8], Control)] = &[
            (MessageKind::SET_CHUNK_SIZE, b"\x00\x00\xEA\x60", Control::SetChunkSize(60_000)),
            (MessageKind::ABORT, b"\x00\x00\x00\x06", Control::Abort(6)),
            (MessageKind::ACKNOWLEDGEMENT, b"\xFF\xFF\xFF\xFF", Control::Acknowledgement(u32::MAX)),
            (MessageKind::WINDOW_ACK_SIZE, b"\x00\x26\x25\xA0", Control::WindowAckSize(2_500_000)),
            (MessageKind::WINDOW_ACK_SIZE, b"\x00\x00\x00\x00", Control::WindowAckSize(0)),
            (
                MessageKind::SET_PEER_BANDWIDTH,
                b"\x00\x00\x00\x01\x00",
                Control::SetPeerBandwidth { window: 1, limit: PeerBandwidthLimit::Hard },
            ),
            (
                MessageKind::SET_PEER_BANDWIDTH,
                b"\x00\x00\x00\x01\x01",
                Control::SetPeerBandwidth { window: 1, limit: PeerBandwidthLimit::Soft },
            ),
            (
                MessageKind::SET_PEER_BANDWIDTH,
                b"\x00\x00\x00\x01\x02",
                Control::SetPeerBandwidth { window: 1, limit: PeerBandwidthLimit::Dynamic },
            ),
            (MessageKind::USER_CONTROL, b"\x00\x00\x00\x00\x00\x01", Control::StreamBegin(1)),
            (MessageKind::USER_CONTROL, b"\x00\x01\x00\x00\x00\x01", Control::StreamEof(1)),
            (MessageKind::USER_CONTROL, b"\x00\x02\x00\x00\x00\x01", Control::StreamDry(1)),
            (
                MessageKind::USER_CONTROL,
                b"\x00\x03\x00\x00\x00\x01\x00\x00\x0B\xB8",
                Control::SetBufferLength { stream_id: 1, millis: 3000 },
            ),
            (MessageKind::USER_CONTROL, b"\x00\x04\x00\x00\x00\x01", Control::StreamIsRecorded(1)),
            (MessageKind::USER_CONTROL, b"\x00\x06\x01\x02\x03\x04", Control::PingRequest(0x0102_0304)),
            (MessageKind::USER_CONTROL, b"\x00\x07\x01\x02\x03\x04", Control::PingResponse(0x0102_0304)),
            (
                MessageKind::USER_CONTROL,
                b"\x00\x1A\x01",
                Control::UnknownEvent { event: 0x1A, data: Bytes::from_static(b"\x01") },
            ),
            (MessageKind::USER_CONTROL, b"\x00\x05", Control::UnknownEvent { event: 5, data: Bytes::new() }),
        ];
        for (kind, wire, control) in rows {
            let wire = message(*kind, wire);
            assert_eq!(Control::read(&wire).as_ref(), Ok(&Some(control.clone())));
            assert_eq!(control.to_message(), wire, "{control:?}");
            // Every shorter one is refused, but for what has a defined meaning without its tail.
            for length in 0..wire.payload.len() {
                let short = Message { payload: wire.payload.slice(..length), ..wire.clone() };
                let tolerated = match control {
                    Control::SetPeerBandwidth { .. } => length == 4,
                    Control::UnknownEvent { .. } => length >= 2,
                    _ => false,
                };
                assert_eq!(Control::read(&short).is_ok(), tolerated, "{control:?} of {length}");
            }
        }
    }

    #[test]
    fn reads_no_control_from_other_kinds() {
        for kind in (0..=255).map(MessageKind).filter(|kind| !(1..=6).contains(&kind.0)) {
            assert_eq!(Control::read(&message(kind, b"")), Ok(None));
        }
    }

    #[test]
    fn short_control_names_what_it_needs() {
        let short = message(MessageKind::USER_CONTROL, b"\x00\x03\x00\x00\x00\x01");
        let error = ControlTooShort { kind: MessageKind::USER_CONTROL, length: 6, needed: 10 };
        assert_eq!(Control::read(&short), Err(error));
    }

    #[test]
    fn peer_bandwidth_without_limit_type_is_dynamic() {
        let control = Control::read(&message(MessageKind::SET_PEER_BANDWIDTH, b"\x00\x00\x00\x01"));
        let expected = Control::SetPeerBandwidth { window: 1, limit: PeerBandwidthLimit::Dynamic };
        assert_eq!(control, Ok(Some(expected)));
    }

    /// Three sub-messages at 0x01000005, 0x0100000F and 0x01000005 again.
    const AGGREGATE: &[u8] = b"\x08\x00\x00\x02\x00\x00\x05\x01\x00\x00\x00ab\x00\x00\x00\x0D\
        \x09\x00\x00\x01\x00\x00\x0F\x01\x00\x00\x00c\x00\x00\x00\x0C\
        \x12\x00\x00\x00\x00\x00\x05\x01\x00\x00\x00\x00\x00\x00\x0B";

    fn aggregate(timestamp: u32, payload: impl Into<Bytes>) -> Message {
        Message { kind: MessageKind::AGGREGATE, timestamp, stream_id: 3, payload: payload.into() }
    }

    #[test]
    fn takes_an_aggregate_apart_without_copying() {
        let whole = aggregate(1000, AGGREGATE);
        let parts: Vec<_> = Aggregate::new(&whole).collect::<Result<_, _>>().expect("well-formed");
        let facts: Vec<_> =
            parts.iter().map(|m| (m.kind, m.timestamp, m.stream_id, &m.payload[..])).collect();
        let expected = [
            (MessageKind::AUDIO, 1000, 3, &b"ab"[..]),
            (MessageKind::VIDEO, 1010, 3, b"c"),
            (MessageKind::DATA_AMF0, 1000, 3, b""),
        ];
        assert_eq!(facts, expected);
        assert_eq!(parts[0].payload.as_ptr(), whole.payload[11..].as_ptr());
    }

    #[test]
    fn aggregate_timestamps_wrap() {
        let parts: Vec<_> = Aggregate::new(&aggregate(u32::MAX, AGGREGATE)).flatten().collect();
        assert_eq!(parts.iter().map(|m| m.timestamp).collect::<Vec<_>>(), [u32::MAX, 9, u32::MAX]);
    }

    #[test]
    fn an_aggregate_that_ends_early_is_an_error_at_its_offset() {
        let starts = [0, 17, 33];
        for length in 0..AGGREGATE.len() {
            let parts: Vec<_> = Aggregate::new(&aggregate(0, &AGGREGATE[..length])).collect();
            let whole = starts.iter().filter(|start| **start < length).count();
            if starts.contains(&length) {
                assert!(parts.iter().all(Result::is_ok) && parts.len() == whole, "{length}");
                continue;
            }
            assert_eq!(parts.len(), whole, "{length}");
            let Some(&Err(AggregateError::Truncated { offset, needed, left })) = parts.last() else {
                panic!("{length}: {parts:?}");
            };
            assert_eq!((offset, left), (starts[whole - 1], length - starts[whole - 1]));
            assert!(needed > left);
        }
    }

    #[test]
    fn aggregates_do_not_nest() {
        let nested = b"\x16\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x0B";
        let parts: Vec<_> = Aggregate::new(&aggregate(0, [AGGREGATE, nested].concat())).collect();
        assert_eq!(parts.len(), 4);
        assert_eq!(parts[3], Err(AggregateError::Nested { offset: AGGREGATE.len() }));
    }
}
