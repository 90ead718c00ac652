//! The unit that goes into a remuxer.

use crate::{Codec, Millis, Packet, SharedBytes, TagKind, Tracks};

/// One timestamped unit of a stream, as RTMP and FLV carry it.
///
/// The host has parsed the tag header once: codec, packet type, keyframe, composition offset and where the
/// codec's own data lie in the payload. With enhanced RTMP multitrack, these describe track 0; the whole
/// payload is there for modules that can use the others.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Tag {
    /// Audio, video or script.
    pub kind: TagKind,
    /// The codec of track 0; [`Codec::NONE`] for script tags and codecs that FLV has no name for.
    pub codec: Codec,
    /// What the payload means to a decoder.
    pub packet: Packet,
    /// A video access unit that decodes without earlier ones.
    pub keyframe: bool,
    /// The timeline was mended just before this tag: a republish, or a jump of the publisher's clock.
    pub discontinuity: bool,
    /// Which tracks the stream has at this tag. [`Tracks::UNKNOWN`] from a host before 1.4. Since 1.4.
    pub tracks: Tracks,
    /// Decoding time.
    pub dts: Millis,
    /// Presentation time less decoding time, in milliseconds (FLV CompositionTime). 0 for audio.
    pub composition_offset: Millis,
    /// The body of the FLV tag: tag header and data.
    pub payload: SharedBytes,
    /// Where in `payload` the data of track 0 start, past all headers.
    pub data_offset: u32,
    /// How many bytes of data track 0 has.
    pub data_len: u32,
}

impl Tag {
    /// A tag without codec facts; set the public fields that apply.
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

    /// The codec's own data of track 0: NAL units with lengths, a raw audio frame, a configuration record.
    /// Shares the payload; nothing is copied.
    pub fn data(&self) -> SharedBytes {
        let start = (self.data_offset as usize).min(self.payload.len());
        let end = start.saturating_add(self.data_len as usize).min(self.payload.len());
        self.payload.slice(start..end)
    }
}
