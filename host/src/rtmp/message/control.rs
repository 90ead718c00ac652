use bytes::{BufMut, Bytes, BytesMut};

use super::envelope::{Message, MessageKind};

/// The limit type of Set Peer Bandwidth (5.4.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerBandwidthLimit {
    /// Limit output to the window.
    Hard,
    /// Limit output to the window or the limit in effect, whichever is smaller.
    Soft,
    /// Like `Hard` if the limit in effect is hard, else ignored.
    Dynamic,
}

/// A protocol control message (5.4) or user control message (6.2 and 7.1.7).
///
/// Tolerated: Set Peer Bandwidth without its limit type (older FMS relays), read as dynamic.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Control {
    /// Payload bytes of the sender's full chunks from now on.
    SetChunkSize(u32),
    /// The chunk stream whose unfinished message the sender gives up.
    Abort(u32),
    /// Bytes that the sender has received, modulo 2³².
    Acknowledgement(u32),
    /// Bytes after which the sender expects an acknowledgement. 0 asks for none.
    WindowAckSize(u32),
    /// Asks the receiver to limit its unacknowledged output.
    SetPeerBandwidth {
        /// The limit, in bytes.
        window: u32,
        /// How the limit relates to the one in effect.
        limit: PeerBandwidthLimit,
    },
    /// Event 0: the message stream is ready.
    StreamBegin(u32),
    /// Event 1: playback of the message stream is over.
    StreamEof(u32),
    /// Event 3: the length of the client's playback buffer.
    SetBufferLength {
        /// The message stream.
        stream_id: u32,
        /// The length, in milliseconds.
        millis: u32,
    },
    /// Event 6: requests a `PingResponse` with the same timestamp.
    PingRequest(u32),
    /// Event 7: the timestamp of the request.
    PingResponse(u32),
    /// Any other user control event, unparsed: stream dry (2), stream is recorded (4), Flash's SWF verification
    /// (26), FMS's buffer empty (31) and ready (32).
    OtherEvent {
        /// The event type.
        event: u16,
        /// The bytes after the event type.
        data: Bytes,
    },
}

/// A control message that is shorter than its type requires. The culprit is the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("control message {kind:?} with {length} bytes, needs {needed}")]
pub struct ControlTooShort {
    /// The message type.
    pub kind: MessageKind,
    /// Length of the payload, in bytes.
    pub length: usize,
    /// Bytes that the type or event requires.
    pub needed: usize,
}

impl Control {
    /// Parses a message. Returns `None` if it is of another kind. Bytes past the end are ignored.
    ///
    /// # Errors
    ///
    /// The payload ends early.
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
                    3 => Control::SetBufferLength { millis: u32_at(6)?, stream_id: u32_at(2)? },
                    6 => Control::PingRequest(u32_at(2)?),
                    7 => Control::PingResponse(u32_at(2)?),
                    event => Control::OtherEvent { event, data: payload.slice(2..) },
                }
            }
            _ => return Ok(None),
        }))
    }

    /// Returns the type of the message that carries this.
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

    /// Appends the message body to `out`.
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
            Control::SetBufferLength { stream_id, millis } => {
                write_event(3, stream_id, out);
                out.put_u32(millis);
            }
            Control::PingRequest(value) => write_event(6, value, out),
            Control::PingResponse(value) => write_event(7, value, out),
            Control::OtherEvent { event, ref data } => {
                out.put_u16(event);
                out.put_slice(data);
            }
        }
    }

    /// Returns the message that carries this, on message stream 0 at timestamp 0, as 5.4 and 6.2 require.
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
            (
                MessageKind::USER_CONTROL,
                b"\x00\x03\x00\x00\x00\x01\x00\x00\x0B\xB8",
                Control::SetBufferLength { stream_id: 1, millis: 3000 },
            ),
            (MessageKind::USER_CONTROL, b"\x00\x06\x01\x02\x03\x04", Control::PingRequest(0x0102_0304)),
            (MessageKind::USER_CONTROL, b"\x00\x07\x01\x02\x03\x04", Control::PingResponse(0x0102_0304)),
            (
                MessageKind::USER_CONTROL,
                b"\x00\x1A\x01",
                Control::OtherEvent { event: 0x1A, data: Bytes::from_static(b"\x01") },
            ),
            (MessageKind::USER_CONTROL, b"\x00\x05", Control::OtherEvent { event: 5, data: Bytes::new() }),
        ];
        for (kind, wire, control) in rows {
            let wire = message(*kind, wire);
            assert_eq!(Control::read(&wire).as_ref(), Ok(&Some(control.clone())));
            assert_eq!(control.to_message(), wire, "{control:?}");
            // Every shorter message is refused, except those whose tail is optional.
            for length in 0..wire.payload.len() {
                let short = Message { payload: wire.payload.slice(..length), ..wire.clone() };
                let tolerated = match control {
                    Control::SetPeerBandwidth { .. } => length == 4,
                    Control::OtherEvent { .. } => length >= 2,
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
}
