//! The unit of a stream.

use bytes::Bytes;
use remuxd_bitstream::flv::TagHeader;

use super::{Millis, TagKind, Tracks};

/// One timestamped unit of a stream, as RTMP and FLV carry it.
#[derive(Clone, Debug)]
pub struct Tag {
    /// Audio, video or script.
    pub kind: TagKind,
    /// Decoding time. From an RTMP session: the message's 32-bit timestamp; past
    /// the stream's timeline: continuous.
    pub dts: Millis,
    /// What the tag's header says, parsed once.
    pub header: TagHeader,
    /// The timeline was mended just before this tag.
    pub discontinuity: bool,
    /// Which tracks the stream has at this tag. Reported by the stream that it was pushed to, unknown before.
    pub tracks: Tracks,
    /// The FLV tag body, shared with the buffer that the socket was read into.
    pub payload: Bytes,
}

impl Tag {
    /// Parses the tag's header. A payload that cannot be parsed gives a tag of
    /// [`Packet::OTHER`](super::Packet::OTHER).
    pub fn new(kind: TagKind, dts: Millis, payload: Bytes) -> Tag {
        let header = TagHeader::parse(kind, &payload);
        Tag { kind, dts, header, discontinuity: false, tracks: Tracks::UNKNOWN, payload }
    }
}
