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

    /// Changes the composition offset, in the header and in a copy of the payload. Has no effect on a tag without one.
    pub fn set_composition_offset(&mut self, offset: Millis) {
        // A header that states another offset than 0 ends with it: 24 bits, signed.
        let end = self.header.data_offset as usize;
        let Some(start) = end.checked_sub(3).filter(|_| self.header.composition_offset != Millis(0)) else {
            return;
        };
        let mut bytes = self.payload.to_vec();
        bytes[start..end].copy_from_slice(&(offset.0 as i32).to_be_bytes()[1..]);
        self.header.composition_offset = offset;
        self.payload = Bytes::from_owner(Changed { bytes, _original: self.payload.clone() });
    }
}

/// A changed copy of a payload. The original is kept with it, since memory of peers counts while their payload exists.
struct Changed {
    bytes: Vec<u8>,
    _original: Bytes,
}

impl AsRef<[u8]> for Changed {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_the_composition_offset_in_header_and_payload() {
        let rows: [(&[u8], i64, &[u8]); 6] = [
            (b"\x17\x01\0\0\x50nal", 39, b"\x17\x01\0\0\x27nal"),
            (b"\x27\x01\xff\xff\xd8nal", 0, b"\x27\x01\0\0\0nal"),
            (b"\x91hvc1\0\0\x50nal", 0x1_0203, b"\x91hvc1\x01\x02\x03nal"),
            (
                b"\x96\x21hvc1\x01\0\0\x01yavc1\x00\0\0\x05\0\0\x28xx",
                1,
                b"\x96\x21hvc1\x01\0\0\x01yavc1\x00\0\0\x05\0\0\x01xx",
            ),
            // Without an offset, and of a codec that has none.
            (b"\x93hvc1nal", 7, b"\x93hvc1nal"),
            (b"\x91av01obu", 7, b"\x91av01obu"),
        ];
        for (payload, offset, expected) in rows {
            let mut tag = Tag::new(TagKind::VIDEO, Millis(0), Bytes::copy_from_slice(payload));
            tag.set_composition_offset(Millis(offset));
            assert_eq!(tag.payload, expected);
            assert_eq!(tag.header, TagHeader::parse(TagKind::VIDEO, expected), "{payload:x?}");
        }
    }
}
