//! RTMP messages, which chunks carry (RTMP 1.0, 5.4, 6 and 7.1).
//!
//! [`Message`] is the envelope, [`Control`] the content of protocol control and user control messages, and
//! [`Aggregate`] the reader of aggregate messages. Commands and data belong to the layer above.
//!
//! Invariant: a payload shares no memory with the buffer that it arrived in.

mod aggregate;
mod control;
mod envelope;

pub use aggregate::{Aggregate, AggregateError};
pub use control::{Control, ControlTooShort, PeerBandwidthLimit};
pub use envelope::{Message, MessageKind};
