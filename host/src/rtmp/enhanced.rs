//! Conversion of enhanced RTMP bodies for peers that do not support all of it (enhanced RTMP v2, "Enhanced Audio",
//! "Enhanced Video").
//!
//! A peer announces in `capsEx` whether it reads multitrack bodies and ModEx packets. Other peers get the default track,
//! track 0, as a plain body without ModEx. Only bodies that need this are copied; all others are shared.

use bytes::{BufMut, Bytes};

use super::connect::caps_ex::{MOD_EX, MULTITRACK};
use crate::media::{Tag, TagKind};

/// `VideoPacketType.ModEx` and `AudioPacketType.ModEx`.
const PACKET_MOD_EX: u8 = 7;
/// `AvMultitrackType`: one track without size; several tracks of one codec; several tracks, each with its codec.
const ONE_TRACK: u8 = 0;
const MANY_TRACKS: u8 = 1;
const MANY_TRACKS_MANY_CODECS: u8 = 2;

/// Returns the tag's body in a form that a peer with these `capsEx` reads, or `None` if the body has no track 0.
pub(super) fn body_for(tag: &Tag, caps_ex: u32) -> Option<Bytes> {
    let multitrack = match tag.kind {
        TagKind::AUDIO => 5,
        TagKind::VIDEO => 6,
        _ => return Some(tag.payload.clone()),
    };
    let body = &tag.payload[..];
    let is_enhanced = body.first().is_some_and(|&first| match tag.kind {
        TagKind::VIDEO => first & 0x80 != 0,
        _ => first >> 4 == 9,
    });
    if !is_enhanced {
        return Some(tag.payload.clone());
    }
    let strips = |packet| {
        packet == multitrack && caps_ex & MULTITRACK == 0 || packet == PACKET_MOD_EX && caps_ex & MOD_EX == 0
    };
    let Some((packet, rest)) = skip_mod_ex(body) else { return Some(tag.payload.clone()) };
    if !strips(body[0] & 0x0f) && !strips(packet) {
        return Some(tag.payload.clone());
    }
    let (packet, four_cc, data) =
        if packet == multitrack { default_track(rest)? } else { (packet, &[][..], rest) };
    let mut plain = Vec::with_capacity(1 + four_cc.len() + data.len());
    plain.put_u8(body[0] & 0xf0 | packet);
    plain.put_slice(four_cc);
    plain.put_slice(data);
    Some(plain.into())
}

/// Returns the packet type after any ModEx prefixes, and the bytes after it. Returns `None` if the body ends early.
fn skip_mod_ex(body: &[u8]) -> Option<(u8, &[u8])> {
    let (&first, mut rest) = body.split_first()?;
    let mut packet = first & 0x0f;
    while packet == PACKET_MOD_EX {
        let (&size, after) = rest.split_first()?;
        let (size, after) = match size {
            // 255 means that a 16-bit size follows.
            255 => (usize::from(u16::from_be_bytes(*after.first_chunk()?)) + 1, after.get(2..)?),
            size => (usize::from(size) + 1, after),
        };
        let (&kind_and_packet, after) = after.get(size..)?.split_first()?;
        packet = kind_and_packet & 0x0f;
        rest = after;
    }
    Some((packet, rest))
}

/// Returns packet type, FourCC and data of track 0 in a multitrack body.
fn default_track(body: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&kind_and_packet, mut rest) = body.split_first()?;
    let (kind, packet) = (kind_and_packet >> 4, kind_and_packet & 0x0f);
    let mut four_cc: &[u8] = &[];
    if kind != MANY_TRACKS_MANY_CODECS {
        (four_cc, rest) = rest.split_at_checked(4)?;
    }
    loop {
        if kind == MANY_TRACKS_MANY_CODECS {
            (four_cc, rest) = rest.split_at_checked(4)?;
        }
        let (&track, after) = rest.split_first()?;
        let data;
        (data, rest) = match kind {
            ONE_TRACK => (after, &[][..]),
            MANY_TRACKS | MANY_TRACKS_MANY_CODECS => {
                let &[high, mid, low] = after.first_chunk()?;
                after.get(3..)?.split_at_checked(u32::from_be_bytes([0, high, mid, low]) as usize)?
            }
            _ => return None,
        };
        if track == 0 {
            return Some((packet, four_cc, data));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::Millis;

    /// Checks the body sent to a peer with these `capsEx`.
    fn check(kind: TagKind, body: &'static [u8], caps_ex: u32, expected: Option<&[u8]>) {
        let tag = Tag::new(kind, Millis(0), Bytes::from_static(body));
        assert_eq!(body_for(&tag, caps_ex).as_deref(), expected, "{kind:?} {body:?}");
    }

    #[test]
    #[rustfmt::skip]
    fn rewrites_bodies_for_peers_without_support() {
        // Plain, legacy and empty bodies are unchanged.
        check(TagKind::VIDEO, b"\x17\x01\0\0\0data", 0, Some(b"\x17\x01\0\0\0data"));
        check(TagKind::VIDEO, b"\x91hvc1\0\0\0data", 0, Some(b"\x91hvc1\0\0\0data"));
        check(TagKind::AUDIO, b"", 0, Some(b""));
        check(TagKind::SCRIPT, b"\x96", 0, Some(b"\x96"));
        // One track.
        check(TagKind::VIDEO, b"\x96\x01avc1\0\0\0\0data", MULTITRACK, Some(b"\x96\x01avc1\0\0\0\0data"));
        check(TagKind::VIDEO, b"\x96\x01avc1\0\0\0\0data", 0, Some(b"\x91avc1\0\0\0data"));
        check(TagKind::VIDEO, b"\x96\x01avc1\x01\0\0\0data", 0, None);
        check(TagKind::AUDIO, b"\x95\x01Opus\0data", 0, Some(b"\x91Opusdata"));
        // Several tracks of one codec; then each with its codec.
        check(TagKind::AUDIO, b"\x95\x11mp4a\x01\0\0\x02no\0\0\0\x03yes", 0, Some(b"\x91mp4ayes"));
        check(TagKind::AUDIO, b"\x95\x21mp4a\x01\0\0\x02noOpus\0\0\0\x03yes", 0, Some(b"\x91Opusyes"));
        // ModEx, alone and before multitrack.
        check(TagKind::VIDEO, b"\x97\x02abc\x01avc1\0\0\0data", 0, Some(b"\x91avc1\0\0\0data"));
        check(TagKind::VIDEO, b"\x97\x02abc\x01avc1\0\0\0data", MOD_EX, Some(b"\x97\x02abc\x01avc1\0\0\0data"));
        check(TagKind::VIDEO, b"\x97\x02abc\x06\x01avc1\0\0\0\0data", MOD_EX, Some(b"\x91avc1\0\0\0data"));
        // Truncated.
        check(TagKind::VIDEO, b"\x96", 0, None);
        check(TagKind::VIDEO, b"\x97\xff", 0, Some(b"\x97\xff"));
        check(TagKind::AUDIO, b"\x95\x11mp4a\0\0\0\x09short", 0, None);
    }

    #[test]
    fn shares_bodies_that_stay_unchanged() {
        let tag = Tag::new(TagKind::VIDEO, Millis(0), Bytes::from_static(b"\x91hvc1\0\0\0data"));
        assert_eq!(body_for(&tag, 0).unwrap().as_ptr(), tag.payload.as_ptr());
    }
}
