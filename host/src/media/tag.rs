use bytes::Bytes;
use remuxd_bitstream::flv::TagHeader;

use super::{Millis, TagKind, Tracks};

/// One timestamped unit of a stream, as RTMP and FLV carry it.
#[derive(Clone, Debug)]
pub struct Tag {
    /// Audio, video or script.
    pub kind: TagKind,
    /// Decoding time. In an RTMP session the message's 32-bit timestamp; in a stream a time on its timeline.
    pub dts: Millis,
    /// The parsed header.
    pub header: TagHeader,
    /// Whether the timeline has a seam just before this tag.
    pub discontinuity: bool,
    /// The tracks that the stream has at this tag. Set by the stream that the tag is pushed to; unknown before.
    pub tracks: Tracks,
    /// The FLV tag body, in memory of its own.
    pub payload: Bytes,
}

impl Tag {
    /// Creates a tag and parses its header. A payload that cannot be parsed yields [`Packet::OTHER`](super::Packet::OTHER).
    pub fn new(kind: TagKind, dts: Millis, payload: Bytes) -> Tag {
        let header = TagHeader::parse(kind, &payload);
        Tag { kind, dts, header, discontinuity: false, tracks: Tracks::UNKNOWN, payload }
    }
}
