//! The header at the start of an audio or video tag's body, legacy and enhanced.
//!
//! FLV 10.1, E.4.2.1 and E.4.3.1; Enhanced RTMP v2, ExAudioTagHeader and ExVideoTagHeader. An unknown
//! or truncated header is [`Packet::OTHER`], never an error, as enhanced RTMP requires.
//!
//! Tolerated deviations: HEVC with the legacy codec id 12 in the layout of AVC, which Chinese CDNs and their players used before
//! enhanced RTMP. Empty sequence headers, which FFmpeg sends for an encoder without a configuration, are
//! [`Packet::OTHER`], so that they do not replace a real one. So are sequence headers and metadata of a track that are longer than
//! [`MAX_CONFIGURATION`], since they are kept, and written again and again.

mod multitrack;

use remuxd_plugin_api::{Codec, Millis, Packet, SharedBytes, Tag, TagKind};

use multitrack::Multitrack;

/// The longest data of a sequence header, or of metadata of a track, in bytes. Those of encoders have less than 4 KiB.
pub const MAX_CONFIGURATION: u32 = 32 << 10;

/// The parsed header of an audio or video tag.
///
/// With enhanced RTMP multitrack, codec, packet and data describe track 0; a tag without track 0 is
/// [`Packet::OTHER`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TagHeader {
    /// The codec; [`Codec::NONE`] for script tags and unknown codec numbers.
    pub codec: Codec,
    /// The meaning of the data to a decoder.
    pub packet: Packet,
    /// Whether the tag is a video access unit that decodes without earlier ones.
    pub keyframe: bool,
    /// Whether the header is an enhanced one.
    pub enhanced: bool,
    /// Whether the header is wrapped in multitrack framing or ModEx.
    pub wrapped: bool,
    /// Presentation time minus decoding time.
    pub composition_offset: Millis,
    /// Offset of the codec's data in the tag body, in bytes.
    pub data_offset: u32,
    /// Length of the codec's data, in bytes.
    pub data_len: u32,
}

mod sound {
    pub(super) const MP3: u8 = 2;
    pub(super) const EX_HEADER: u8 = 9;
    pub(super) const AAC: u8 = 10;
    pub(super) const MP3_8K: u8 = 14;
}

mod video {
    pub(super) const AVC: u8 = 7;
    /// Not in the specification.
    pub(super) const HEVC: u8 = 12;
    pub(super) const KEYFRAME: u8 = 1;
    pub(super) const INTER: u8 = 2;
    /// A keyframe that a server repeats.
    pub(super) const GENERATED_KEYFRAME: u8 = 4;
    pub(super) const COMMAND: u8 = 5;
    pub(super) const EX_HEADER: u8 = 0x80;
}

/// Packet types of enhanced RTMP. Audio and video differ only in the number of multitrack.
mod ex {
    pub(super) const SEQUENCE_START: u8 = 0;
    pub(super) const CODED_FRAMES: u8 = 1;
    pub(super) const SEQUENCE_END: u8 = 2;
    pub(super) const CODED_FRAMES_X: u8 = 3;
    /// Colour metadata of video, MultichannelConfig of audio.
    pub(super) const METADATA: u8 = 4;
    pub(super) const AUDIO_MULTITRACK: u8 = 5;
    pub(super) const VIDEO_MULTITRACK: u8 = 6;
    pub(super) const MOD_EX: u8 = 7;
}

impl TagHeader {
    /// Reads the header of a tag body. Never fails: a header that cannot be parsed gives [`Packet::OTHER`], with the whole body as
    /// data.
    pub fn parse(kind: TagKind, body: &[u8]) -> TagHeader {
        let header = match read_body(kind, body) {
            Some(Body::Plain(header)) => header,
            Some(Body::Multitrack(mut tracks)) => {
                let header = tracks.header();
                tracks.find(|(track, _)| *track == 0).map_or(header, |(_, header)| header)
            }
            None => TagHeader::default(),
        };
        match header {
            _ if is_no_configuration(&header) => TagHeader { packet: Packet::OTHER, ..header },
            _ if header.data_offset > 0 => header,
            _ => TagHeader { data_len: body.len() as u32, ..header },
        }
    }

    /// Reads the headers of a body with multitrack framing, by track number; no header of another body.
    pub fn tracks(kind: TagKind, body: &[u8]) -> impl Iterator<Item = (u8, TagHeader)> + '_ {
        let tracks = match read_body(kind, body) {
            Some(Body::Multitrack(tracks)) => Some(tracks),
            _ => None,
        };
        tracks.into_iter().flatten().map(|(track, header)| match header {
            _ if is_no_configuration(&header) => (track, TagHeader { packet: Packet::OTHER, ..header }),
            _ => (track, header),
        })
    }
}

/// A tag body.
enum Body<'a> {
    Plain(TagHeader),
    Multitrack(Multitrack<'a>),
}

/// Returns `None` for a header that cannot be parsed.
fn read_body(kind: TagKind, body: &[u8]) -> Option<Body<'_>> {
    let fields = Fields { body, at: 0 };
    match kind {
        TagKind::AUDIO => read_audio(fields),
        TagKind::VIDEO => read_video(fields),
        _ => is_metadata(body)
            .then(|| Body::Plain(TagHeader { packet: Packet::METADATA, ..TagHeader::default() })),
    }
}

/// Returns the tag with this body, as the host passes it to a remuxer.
pub fn read_tag(kind: TagKind, dts: Millis, payload: SharedBytes) -> Tag {
    let header = TagHeader::parse(kind, &payload);
    let mut tag = Tag::new(kind, dts, payload);
    tag.codec = header.codec;
    tag.packet = header.packet;
    tag.keyframe = header.keyframe;
    tag.composition_offset = header.composition_offset;
    tag.data_offset = header.data_offset;
    tag.data_len = header.data_len;
    tag
}

/// Returns whether the tag is a sequence header without data, which only decoders of Opus with up to two channels can use, or a
/// configuration longer than [`MAX_CONFIGURATION`].
fn is_no_configuration(header: &TagHeader) -> bool {
    let is_empty = header.data_len == 0 && header.codec != Codec::OPUS;
    let is_too_long = header.data_len > MAX_CONFIGURATION;
    match header.packet {
        Packet::SEQUENCE_HEADER => is_empty || is_too_long,
        Packet::METADATA => is_too_long,
        _ => false,
    }
}

/// Reads big-endian fields; `None` past the end.
struct Fields<'a> {
    body: &'a [u8],
    at: usize,
}

impl Fields<'_> {
    fn bytes<const N: usize>(&mut self) -> Option<[u8; N]> {
        let field = self.body.get(self.at..self.at + N)?.try_into().ok()?;
        self.at += N;
        Some(field)
    }

    fn u8(&mut self) -> Option<u8> {
        self.bytes().map(|[byte]| byte)
    }

    fn u24(&mut self) -> Option<u32> {
        self.bytes().map(|[a, b, c]| u32::from_be_bytes([0, a, b, c]))
    }

    /// Sign-extends 24 bits.
    fn i24(&mut self) -> Option<i64> {
        self.u24().map(|value| i64::from((value << 8) as i32 >> 8))
    }

    fn codec(&mut self) -> Option<Codec> {
        self.bytes().map(|code: [u8; 4]| Codec::fourcc(&code))
    }

    /// Takes the rest of the body as the data of this header.
    fn rest(&self, header: TagHeader) -> TagHeader {
        self.data(self.body.len() - self.at, header)
    }

    fn data(&self, len: usize, header: TagHeader) -> TagHeader {
        TagHeader { data_offset: self.at as u32, data_len: len as u32, ..header }
    }

    /// Skips ModEx packets, which extend the header. Returns the packet type after them.
    fn skip_mod_ex(&mut self, mut packet_type: u8) -> Option<u8> {
        while packet_type == ex::MOD_EX {
            let size = match usize::from(self.u8()?) + 1 {
                256 => usize::from(u16::from_be_bytes(self.bytes()?)) + 1,
                size => size,
            };
            self.at = self.at.checked_add(size).filter(|at| *at <= self.body.len())?;
            packet_type = self.u8()? & 0x0f;
        }
        Some(packet_type)
    }
}

fn read_audio(mut fields: Fields<'_>) -> Option<Body<'_>> {
    let first = fields.u8()?;
    let format = first >> 4;
    if format == sound::EX_HEADER {
        return read_enhanced(fields, TagKind::AUDIO, first & 0x0f, false);
    }
    let codec = match format {
        0 | 1 | 3 => Codec::PCM,
        sound::MP3 | sound::MP3_8K => Codec::MP3,
        4..=6 => Codec::NELLYMOSER,
        7 => Codec::ALAW,
        8 => Codec::ULAW,
        sound::AAC => Codec::AAC,
        11 => Codec::SPEEX,
        _ => return None,
    };
    let packet = match codec {
        Codec::AAC => match fields.u8() {
            Some(0) => Packet::SEQUENCE_HEADER,
            Some(1) | None => Packet::CODED_FRAME,
            Some(_) => Packet::OTHER,
        },
        _ => Packet::CODED_FRAME,
    };
    Some(Body::Plain(fields.rest(TagHeader { codec, packet, ..TagHeader::default() })))
}

fn read_video(mut fields: Fields<'_>) -> Option<Body<'_>> {
    let first = fields.u8()?;
    let frame_type = first >> 4 & 7;
    if first & video::EX_HEADER != 0 {
        let keyframe = is_keyframe(frame_type);
        let packet_type = first & 0x0f;
        if frame_type == video::COMMAND && packet_type != ex::METADATA {
            return None;
        }
        return read_enhanced(fields, TagKind::VIDEO, packet_type, keyframe);
    }
    if frame_type == video::COMMAND {
        return None;
    }
    let keyframe = is_keyframe(frame_type);
    let codec = match first & 0x0f {
        2 => Codec::H263,
        4 | 5 => Codec::VP6,
        video::AVC => Codec::H264,
        video::HEVC => Codec::HEVC,
        _ => return None,
    };
    let header = TagHeader { codec, ..TagHeader::default() };
    if !matches!(codec, Codec::H264 | Codec::HEVC) {
        let header = TagHeader { packet: Packet::CODED_FRAME, keyframe, ..header };
        return Some(Body::Plain(fields.rest(header)));
    }
    let packet = match fields.u8()? {
        0 => Packet::SEQUENCE_HEADER,
        1 => Packet::CODED_FRAME,
        2 => Packet::SEQUENCE_END,
        _ => Packet::OTHER,
    };
    // Some encoders omit the composition time in the end of sequence.
    let offset = match packet {
        Packet::SEQUENCE_END => fields.i24().unwrap_or(0),
        _ => fields.i24()?,
    };
    Some(Body::Plain(fields.rest(frame(header, packet, keyframe, offset))))
}

fn is_keyframe(frame_type: u8) -> bool {
    matches!(frame_type, video::KEYFRAME | video::GENERATED_KEYFRAME)
}

/// Adds packet, keyframe flag and composition offset. Only frames have the latter two.
fn frame(header: TagHeader, packet: Packet, keyframe: bool, offset: i64) -> TagHeader {
    let coded = packet == Packet::CODED_FRAME;
    let composition_offset = Millis(if coded { offset } else { 0 });
    TagHeader { packet, keyframe: keyframe && coded, composition_offset, ..header }
}

fn read_enhanced(mut fields: Fields<'_>, kind: TagKind, packet_type: u8, keyframe: bool) -> Option<Body<'_>> {
    let modified = packet_type == ex::MOD_EX;
    let packet_type = fields.skip_mod_ex(packet_type)?;
    let multitrack =
        packet_type == if kind == TagKind::VIDEO { ex::VIDEO_MULTITRACK } else { ex::AUDIO_MULTITRACK };
    let header = TagHeader { enhanced: true, wrapped: modified || multitrack, ..TagHeader::default() };
    if !multitrack {
        let codec = fields.codec()?;
        let end = fields.body.len();
        let header = TagHeader { codec, ..header };
        return read_packet(&mut fields, end, kind, packet_type, keyframe, header).map(Body::Plain);
    }
    Some(Body::Multitrack(Multitrack::read(fields, kind, keyframe, header)?))
}

/// Reads the packet of one track, which ends at `end`.
fn read_packet(
    fields: &mut Fields<'_>,
    end: usize,
    kind: TagKind,
    packet_type: u8,
    keyframe: bool,
    header: TagHeader,
) -> Option<TagHeader> {
    let is_video = kind == TagKind::VIDEO;
    let packet = match packet_type {
        ex::SEQUENCE_START => Packet::SEQUENCE_HEADER,
        ex::CODED_FRAMES => Packet::CODED_FRAME,
        ex::SEQUENCE_END => Packet::SEQUENCE_END,
        ex::CODED_FRAMES_X if is_video => Packet::CODED_FRAME,
        ex::METADATA => Packet::METADATA,
        _ => Packet::OTHER,
    };
    let has_offset = is_video && packet_type == ex::CODED_FRAMES && has_composition_time(header.codec);
    let offset = if has_offset { fields.i24()? } else { 0 };
    let len = end.checked_sub(fields.at)?;
    Some(fields.data(len, frame(header, packet, keyframe, offset)))
}

/// Returns whether CodedFrames of the codec have a composition time.
fn has_composition_time(codec: Codec) -> bool {
    matches!(codec, Codec::H264 | Codec::HEVC | Codec::VVC)
}

/// Returns whether a script tag's body is `onMetaData`, with or without `@setDataFrame` before it.
fn is_metadata(body: &[u8]) -> bool {
    const SET_DATA_FRAME: &[u8] = b"\x02\x00\x0d@setDataFrame";
    const ON_META_DATA: &[u8] = b"\x02\x00\x0aonMetaData";
    body.strip_prefix(SET_DATA_FRAME).unwrap_or(body).starts_with(ON_META_DATA)
}

/// Returns the enhanced header to write before the data of `header`.
pub fn enhanced_video_header(header: &TagHeader) -> Vec<u8> {
    let with_offset = header.packet == Packet::CODED_FRAME
        && header.composition_offset != Millis(0)
        && has_composition_time(header.codec);
    let packet_type = match header.packet {
        Packet::SEQUENCE_HEADER => ex::SEQUENCE_START,
        Packet::SEQUENCE_END => ex::SEQUENCE_END,
        Packet::METADATA => ex::METADATA,
        _ if with_offset => ex::CODED_FRAMES,
        // Without a composition time both types mean the same, but only these codecs have the short one.
        _ if has_composition_time(header.codec) => ex::CODED_FRAMES_X,
        _ => ex::CODED_FRAMES,
    };
    let mut bytes = vec![video::EX_HEADER | frame_type(header) << 4 | packet_type];
    bytes.extend_from_slice(&header.codec.0.to_be_bytes());
    if with_offset {
        bytes.extend_from_slice(&(header.composition_offset.0 as i32).to_be_bytes()[1..]);
    }
    bytes
}

/// Returns the enhanced header to write before the data of `header`.
pub fn enhanced_audio_header(header: &TagHeader) -> Vec<u8> {
    let packet_type = match header.packet {
        Packet::SEQUENCE_HEADER => ex::SEQUENCE_START,
        Packet::SEQUENCE_END => ex::SEQUENCE_END,
        Packet::METADATA => ex::METADATA,
        _ => ex::CODED_FRAMES,
    };
    let mut bytes = vec![sound::EX_HEADER << 4 | packet_type];
    bytes.extend_from_slice(&header.codec.0.to_be_bytes());
    bytes
}

/// Returns the legacy header to write before the data of `header`; `None` if there is no equivalent.
pub fn legacy_video_header(header: &TagHeader) -> Option<Vec<u8>> {
    let codec_id = match header.codec {
        Codec::H264 => video::AVC,
        Codec::HEVC => video::HEVC,
        _ => return None,
    };
    let packet_type = match header.packet {
        Packet::SEQUENCE_HEADER => 0,
        Packet::CODED_FRAME => 1,
        Packet::SEQUENCE_END => 2,
        _ => return None,
    };
    let mut bytes = vec![frame_type(header) << 4 | codec_id, packet_type];
    bytes.extend_from_slice(&(header.composition_offset.0 as i32).to_be_bytes()[1..]);
    Some(bytes)
}

/// Returns the legacy header to write before the data of `header`; `None` if there is no equivalent. It states 44 kHz, 16 bits
/// and stereo, as AAC always does; players of MP3 read its frames instead.
pub fn legacy_audio_header(header: &TagHeader) -> Option<Vec<u8>> {
    const FLAGS: u8 = 0x0f;
    match (header.codec, header.packet) {
        (Codec::AAC, Packet::SEQUENCE_HEADER) => Some(vec![sound::AAC << 4 | FLAGS, 0]),
        (Codec::AAC, Packet::CODED_FRAME) => Some(vec![sound::AAC << 4 | FLAGS, 1]),
        (Codec::MP3, Packet::CODED_FRAME) => Some(vec![sound::MP3 << 4 | FLAGS]),
        _ => None,
    }
}

/// Returns whether frames of the codec cannot be decoded without a sequence header.
pub fn needs_configuration(codec: Codec) -> bool {
    matches!(codec, Codec::H264 | Codec::HEVC | Codec::VVC | Codec::AAC)
}

/// Returns a codec's number in metadata, for legacy or enhanced tags; `None` for codecs that are not rewritten.
pub fn codec_id(codec: Codec, enhanced: bool) -> Option<u32> {
    match codec {
        _ if enhanced => Some(codec.0),
        Codec::H264 => Some(video::AVC.into()),
        Codec::HEVC => Some(video::HEVC.into()),
        Codec::AAC => Some(sound::AAC.into()),
        Codec::MP3 => Some(sound::MP3.into()),
        _ => None,
    }
}

/// Returns the frame type: keyframe for all tags but inter frames, as encoders write it.
fn frame_type(header: &TagHeader) -> u8 {
    let inter = header.packet == Packet::CODED_FRAME && !header.keyframe;
    if inter { video::INTER } else { video::KEYFRAME }
}

#[cfg(test)]
mod tests;
