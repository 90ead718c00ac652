use bytes::Bytes;

use super::envelope::{Message, MessageKind};
use crate::budget::{Account, Kind, OverBudget};

/// A malformed aggregate message. The culprit is the peer.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AggregateError {
    /// The payload ends within a sub-message.
    #[error("byte {offset} of an aggregate message: needs {needed} bytes, has {left}")]
    Truncated {
        /// Offset of the sub-message in the payload.
        offset: usize,
        /// Bytes of the sub-message with its header and back pointer, as far as they are known.
        needed: usize,
        /// Bytes of the payload from `offset` on.
        left: usize,
    },
    /// The memory of a sub-message exceeds the peer's share of the budget.
    #[error(transparent)]
    OverBudget(#[from] OverBudget),
    /// An aggregate within an aggregate.
    #[error("byte {offset} of an aggregate message: another aggregate")]
    Nested {
        /// Offset of the sub-message in the payload.
        offset: usize,
    },
}

/// An iterator over the sub-messages of an aggregate message (7.1.6).
///
/// A sub-message has the layout of an FLV tag, followed by a back pointer. Its message stream is the aggregate's, its
/// payload a copy, which is charged to the peer's account: a slice would keep the whole aggregate alive. Timestamps are
/// shifted so that the first sub-message has the aggregate's.
/// After an error the iterator ends.
///
/// A sub-message may claim any type. Callers must accept audio, video and data only.
#[derive(Clone, Debug)]
pub struct Aggregate {
    account: Account,
    timestamp: u32,
    stream_id: u32,
    payload: Bytes,
    offset: usize,
    /// The aggregate's timestamp minus the first sub-message's.
    shift: Option<u32>,
}

// Type, length, timestamp, extended timestamp, stream id.
const SUB_HEADER: usize = 1 + 3 + 3 + 1 + 3;
const BACK_POINTER: usize = 4;

impl Aggregate {
    /// Creates an iterator over `message`, which must be of kind [`MessageKind::AGGREGATE`]. Its sub-messages are charged to
    /// `account`.
    pub fn new(message: &Message, account: &Account) -> Aggregate {
        Aggregate {
            account: account.clone(),
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
        let charge = self.account.charge(Kind::Messages, length + Message::OVERHEAD)?;
        self.offset += needed;
        Ok(Message {
            kind,
            timestamp: timestamp.wrapping_add(shift),
            stream_id: self.stream_id,
            payload: charge.bind(self.payload[start..start + length].to_vec()),
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

    /// Three sub-messages at 0x01000005, 0x0100000F and 0x01000005 again.
    const AGGREGATE: &[u8] = b"\x08\x00\x00\x02\x00\x00\x05\x01\x00\x00\x00ab\x00\x00\x00\x0D\
        \x09\x00\x00\x01\x00\x00\x0F\x01\x00\x00\x00c\x00\x00\x00\x0C\
        \x12\x00\x00\x00\x00\x00\x05\x01\x00\x00\x00\x00\x00\x00\x0B";

    fn aggregate(timestamp: u32, payload: impl Into<Bytes>) -> Message {
        Message { kind: MessageKind::AGGREGATE, timestamp, stream_id: 3, payload: payload.into() }
    }

    #[test]
    fn splits_an_aggregate() {
        let whole = aggregate(1000, AGGREGATE);
        let parts: Vec<_> =
            Aggregate::new(&whole, &Account::unlimited()).collect::<Result<_, _>>().expect("well-formed");
        let facts: Vec<_> =
            parts.iter().map(|m| (m.kind, m.timestamp, m.stream_id, &m.payload[..])).collect();
        let expected = [
            (MessageKind::AUDIO, 1000, 3, &b"ab"[..]),
            (MessageKind::VIDEO, 1010, 3, b"c"),
            (MessageKind::DATA_AMF0, 1000, 3, b""),
        ];
        assert_eq!(facts, expected);
    }

    #[test]
    fn aggregate_timestamps_wrap() {
        let parts: Vec<_> =
            Aggregate::new(&aggregate(u32::MAX, AGGREGATE), &Account::unlimited()).flatten().collect();
        assert_eq!(parts.iter().map(|m| m.timestamp).collect::<Vec<_>>(), [u32::MAX, 9, u32::MAX]);
    }

    #[test]
    fn an_aggregate_that_ends_early_is_an_error_at_its_offset() {
        let starts = [0, 17, 33];
        for length in 0..AGGREGATE.len() {
            let parts: Vec<_> =
                Aggregate::new(&aggregate(0, &AGGREGATE[..length]), &Account::unlimited()).collect();
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
        let parts: Vec<_> =
            Aggregate::new(&aggregate(0, [AGGREGATE, nested].concat()), &Account::unlimited()).collect();
        assert_eq!(parts.len(), 4);
        assert_eq!(parts[3], Err(AggregateError::Nested { offset: AGGREGATE.len() }));
    }
}
