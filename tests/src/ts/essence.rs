//! Access units of a transport stream and of published tags, in one form.
//!
//! The form has NAL units without delimiters and parameter sets, which a transport stream adds, and audio
//! frames without their headers; times in milliseconds.

use std::hash::{DefaultHasher, Hasher};

use super::stream::{Stream, Unit};
use crate::flv::{AUDIO, AccessUnit, Content, Tag, VIDEO};

/// Returns the access units of a transport stream, with times relative to the first one.
///
/// # Errors
/// A description of the first access unit that cannot be read.
pub fn access_units(stream: &Stream) -> Result<Vec<AccessUnit>, String> {
    let start = stream.units.first().map_or(0, |unit| unit.dts);
    stream
        .units
        .iter()
        .map(|unit| access_unit(unit, start).map_err(|fault| format!("unit at packet {}: {fault}", unit.at)))
        .collect()
}

fn access_unit(unit: &Unit, start: i64) -> Result<AccessUnit, String> {
    let payload = &unit.payload[..];
    let (codec, data) = match unit.stream_type {
        0x1b => (*b"avc1", essence(b"avc1", &nal_units(payload))),
        0x24 => (*b"hvc1", essence(b"hvc1", &nal_units(payload))),
        0x0f => (*b"mp4a", adts_frame(payload)?.to_vec()),
        0x03 | 0x04 => (*b".mp3", payload.to_vec()),
        0x06 => (*b"Opus", opus_packet(payload)?.to_vec()),
        other => return Err(format!("stream type {other:#04x}")),
    };
    let (dts, pts) = (unit.dts - start, unit.pts - start);
    if dts % 90 != 0 || pts % 90 != 0 {
        return Err(format!("times {dts} and {pts} are not whole milliseconds"));
    }
    let kind = if unit.is_video() { VIDEO } else { AUDIO };
    let (dts, cts) = (dts / 90, ((pts - dts) / 90) as i32);
    Ok(digest(kind, codec, unit.is_video() && unit.random_access, dts, cts, &data))
}

/// Returns the published access units of codecs that a transport stream carries, in the same form: without empty frames,
/// and with timestamps that do not wrap.
#[must_use]
pub fn published_units(tags: &[Tag]) -> Vec<AccessUnit> {
    let mut length_size = 4;
    let mut time = None;
    let mut units = Vec::new();
    for tag in tags {
        if tag.kind == VIDEO && tag.content() == Content::SequenceHeader {
            length_size = length_size_of(tag).unwrap_or(length_size);
        }
        let Some(unit) = tag.access_unit().filter(|unit| unit.size > 0) else { continue };
        let dts = time.map_or(i64::from(tag.timestamp), |last: i64| {
            last + i64::from(tag.timestamp.wrapping_sub(last as u32) as i32)
        });
        time = Some(dts);
        let data = &tag.payload[tag.payload.len() - unit.size..];
        let data = match &unit.codec {
            b"avc1" | b"hvc1" => essence(&unit.codec, &prefixed_units(data, length_size)),
            _ => data.to_vec(),
        };
        units.push(digest(unit.kind, unit.codec, unit.keyframe, dts, unit.cts, &data));
    }
    units
}

/// Returns the size of NAL unit lengths, from the decoder configuration record: byte 4 of AVC's, 21 of HEVC's.
fn length_size_of(tag: &Tag) -> Option<usize> {
    let hevc = tag.payload[0] & 0x80 != 0 && tag.payload.get(1..5)? == b"hvc1" || tag.payload[0] & 0x8f == 12;
    let byte = tag.payload.get(5 + if hevc { 21 } else { 4 })?;
    Some(usize::from(byte & 3) + 1)
}

fn digest(kind: u8, codec: [u8; 4], keyframe: bool, dts: i64, cts: i32, data: &[u8]) -> AccessUnit {
    let mut hasher = DefaultHasher::new();
    hasher.write(data);
    AccessUnit { kind, codec, keyframe, dts, cts, size: data.len(), hash: hasher.finish() }
}

/// Returns the NAL units of the picture, each after its length.
fn essence(codec: &[u8; 4], units: &[&[u8]]) -> Vec<u8> {
    let picture = units.iter().filter(|unit| {
        let kind = nal_type(codec, unit);
        if codec == b"hvc1" { !(32..=35).contains(&kind) } else { !matches!(kind, 7..=9) }
    });
    picture.flat_map(|unit| [&(unit.len() as u32).to_be_bytes(), *unit].concat()).collect()
}

/// Returns the type of a NAL unit.
pub(super) fn nal_type(codec: &[u8; 4], unit: &[u8]) -> u8 {
    let first = unit.first().copied().unwrap_or_default();
    if codec == b"hvc1" { first >> 1 & 0x3f } else { first & 0x1f }
}

fn prefixed_units(mut data: &[u8], length_size: usize) -> Vec<&[u8]> {
    let mut units = Vec::new();
    while let Some((length, rest)) = data.split_at_checked(length_size) {
        let length = length.iter().fold(0, |length, &byte| length << 8 | usize::from(byte));
        let Some((unit, after)) = rest.split_at_checked(length) else { break };
        units.push(unit);
        data = after;
    }
    units
}

/// Returns the NAL units of a byte stream (annex B). Zero bytes before a start code belong to the start code.
pub(super) fn nal_units(bytes: &[u8]) -> Vec<&[u8]> {
    start_codes(bytes)
        .windows(2)
        .map(|pair| {
            let unit = &bytes[pair[0] + 3..pair[1]];
            let end = unit.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
            &unit[..end]
        })
        .collect()
}

/// Returns the positions of `00 00 01`, and the end.
pub(super) fn start_codes(bytes: &[u8]) -> Vec<usize> {
    let codes = bytes.windows(3).enumerate().filter(|(_, code)| *code == [0, 0, 1]).map(|(at, _)| at);
    codes.chain([bytes.len()]).collect()
}

/// Returns the content of the only ADTS frame in `payload`.
pub(super) fn adts_frame(payload: &[u8]) -> Result<&[u8], String> {
    let [0xff, second, _, a, b, c, d, frame @ ..] = payload else {
        return Err(format!("not an ADTS frame: {:02x?}", &payload[..payload.len().min(7)]));
    };
    let length = usize::from(a & 3) << 11 | usize::from(*b) << 3 | usize::from(c >> 5);
    if second & 0xf7 != 0xf1 || length != payload.len() || d & 3 != 0 {
        return Err(format!("ADTS of {length} bytes in {}: {:02x?}", payload.len(), &payload[..7]));
    }
    Ok(frame)
}

/// Returns the packet after the only control header in `payload`.
pub(super) fn opus_packet(payload: &[u8]) -> Result<&[u8], String> {
    let [0x7f, 0xe0, rest @ ..] = payload else {
        return Err(format!("not an Opus control header: {:02x?}", &payload[..payload.len().min(3)]));
    };
    let full = rest.iter().take_while(|&&byte| byte == 0xff).count();
    let last = rest.get(full).ok_or("an Opus control header is cut off")?;
    let packet = &rest[full + 1..];
    if full * 255 + usize::from(*last) != packet.len() {
        return Err(format!("an Opus packet of {} bytes", packet.len()));
    }
    Ok(packet)
}
