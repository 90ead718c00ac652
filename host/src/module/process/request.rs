//! Requests: the bodies of frames from the host.

use bytes::{BufMut, Bytes};
use remuxd_plugin_api::{Codec, Options, Packet, Setup, StreamFacts, TagKind};

use super::error::WireError;
use super::frame::{bytes, i64, list, put_bytes, put_list, text, u8, u32};
use crate::media::{Millis, Tag, Tracks};

/// Writes the setup of a remuxer.
pub fn put_setup(to: &mut Vec<u8>, setup: &Setup) {
    to.put_u32(setup.stream.video.0);
    to.put_u32(setup.stream.audio.0);
    to.put_u32(setup.stream.age_ms);
    put_bytes(to, &setup.state);
    let options: Vec<_> = setup.options.iter().collect();
    put_list(to, &options, |to, (name, value)| {
        put_bytes(to, name.as_bytes());
        put_bytes(to, value.as_bytes());
    });
}

/// Reads the setup of a remuxer.
pub fn setup(from: &mut Bytes) -> Result<Setup, WireError> {
    let (video, audio) = (u32(from, "codec")?, u32(from, "codec")?);
    let facts = StreamFacts::new(Codec(video), Codec(audio), u32(from, "age")?);
    let state = bytes(from, "state")?;
    let options = list(from, "option", |from, what| Ok((text(from, what)?, text(from, what)?)))?;
    let mut setup = Setup::new(Options::new(options), facts);
    setup.state = state.into();
    Ok(setup)
}

/// Writes a tag without its payload, which is sent separately.
pub fn put_tag(to: &mut Vec<u8>, tag: &Tag) {
    let header = &tag.header;
    to.put_u8(tag.kind.0);
    to.put_i64(tag.dts.0);
    to.put_u8(u8::from(header.keyframe) | u8::from(tag.discontinuity) << 1);
    to.put_u8(tag.tracks.0);
    to.put_u32(header.codec.0);
    to.put_u8(header.packet.0);
    to.put_i64(header.composition_offset.0);
    to.put_u32(header.data_offset);
    to.put_u32(header.data_len);
}

/// Reads a tag; the rest of the body is its payload.
pub fn tag(mut from: Bytes) -> Result<Tag, WireError> {
    let what = "tag";
    let from = &mut from;
    let kind = TagKind(u8(from, what)?);
    let mut tag = Tag::new(kind, Millis(i64(from, what)?), Bytes::new());
    let flags = u8(from, what)?;
    tag.header.keyframe = flags & 1 != 0;
    tag.discontinuity = flags & 2 != 0;
    tag.tracks = Tracks(u8(from, what)?);
    tag.header.codec = Codec(u32(from, what)?);
    tag.header.packet = Packet(u8(from, what)?);
    tag.header.composition_offset = Millis(i64(from, what)?);
    tag.header.data_offset = u32(from, what)?;
    tag.header.data_len = u32(from, what)?;
    tag.payload = from.split_off(0);
    Ok(tag)
}
