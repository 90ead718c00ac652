//! A remuxer's input.

use crate::{Codec, Millis, Packet, SharedBytes, TagKind, Tracks};

/// One timestamped unit of a stream, as RTMP and FLV carry it.
///
/// The host has parsed the tag header: codec, packet type, keyframe, composition offset, and the position of the codec's data
/// in the payload. With enhanced RTMP multitrack, these describe track 0, or the track that an option of kind
/// [`OptionKind::Track`](crate::OptionKind::Track) selects; the payload may contain others.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Tag {
    /// Audio, video or script.
    pub kind: TagKind,
    /// The codec of the track; [`Codec::NONE`] for script tags and for codecs without a name in FLV.
    pub codec: Codec,
    /// The meaning of the payload to a decoder.
    pub packet: Packet,
    /// Whether the tag is a video access unit that decodes without earlier ones.
    pub keyframe: bool,
    /// Whether the host adjusted the timeline just before this tag, because of a republish or a jump of the publisher's clock. Since
    /// 1.5 also whether viewers have blocks of a remuxer before, whose state this one did not get, such as after a fault.
    pub discontinuity: bool,
    /// The tracks that the stream has at this tag; [`Tracks::UNKNOWN`] from a host before 1.4. Since 1.4.
    pub tracks: Tracks,
    /// Decoding time.
    pub dts: Millis,
    /// Presentation time minus decoding time, in milliseconds (FLV CompositionTime). 0 for audio.
    pub composition_offset: Millis,
    /// The body of the FLV tag: tag header and data.
    pub payload: SharedBytes,
    /// Offset of the track's data in `payload`, after all headers, in bytes.
    pub data_offset: u32,
    /// Length of the track's data, in bytes.
    pub data_len: u32,
}

impl Tag {
    /// Creates a tag without a codec, whose data is the whole payload. Set the public fields that apply.
    pub fn new(kind: TagKind, dts: Millis, payload: SharedBytes) -> Tag {
        let data_len = payload.len() as u32;
        Tag {
            kind,
            codec: Codec::NONE,
            packet: Packet::OTHER,
            keyframe: false,
            discontinuity: false,
            tracks: Tracks::UNKNOWN,
            dts,
            composition_offset: Millis(0),
            payload,
            data_offset: 0,
            data_len,
        }
    }

    /// Returns the track's data: NAL units with lengths, a raw audio frame, or a configuration record. Shares the
    /// payload without a copy.
    pub fn data(&self) -> SharedBytes {
        let start = (self.data_offset as usize).min(self.payload.len());
        let end = start.saturating_add(self.data_len as usize).min(self.payload.len());
        self.payload.slice(start..end)
    }
}
