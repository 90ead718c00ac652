//! Tests of the limits on what a call writes, whatever a publisher sends.

use remuxd_plugin_api::Full;

use super::*;
use crate::flv::MAX_CONFIGURATION;

/// Fails beyond the output that a host allows for a call: 1 MiB, and 16 times the bytes of the tags before the first output. Blocks
/// and parts cost what the host counts for them.
struct Limited {
    left: usize,
    blocks: Vec<Block>,
}

impl Sink for Limited {
    fn block(&mut self, block: Block) -> Result<(), Full> {
        let cost = 256 + 64 * block.parts.len() + block.len();
        self.left = self.left.checked_sub(cost).ok_or(Full)?;
        self.blocks.push(block);
        Ok(())
    }
}

/// Remuxes tags, each call within the limit that is left by small tags.
fn within_the_limit(remuxer: &mut FlvRemuxer, tags: &[Tag]) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut held = 0;
    for tag in tags {
        held += tag.payload.len();
        let mut sink = Limited { left: (1 << 20) + 16 * held, blocks: Vec::new() };
        remuxer.tag(tag, &mut sink).unwrap();
        if !sink.blocks.is_empty() {
            held = 0;
        }
        blocks.extend(sink.blocks);
    }
    blocks
}

fn young() -> FlvRemuxer {
    remuxer("as_published", StreamFacts::default())
}

fn padded(start: &[u8], len: usize) -> Vec<u8> {
    let mut body = start.to_vec();
    body.resize(len, 7);
    body
}

#[test]
fn configurations_that_are_too_long_are_dropped() {
    for (name, config) in [
        ("sequence header", &b"\x17\x00\0\0\0"[..]),
        ("enhanced sequence header", b"\x90hvc1"),
        ("metadata of video", b"\x94hvc1"),
        ("of one of several tracks", b"\x96\x10hvc1\x00\x15\x5c\xc0"),
    ] {
        let audio = [tag(A, 0, MP3), tag(A, 500, MP3)];
        let long = tag(V, 500, &padded(config, 1_400_000 + config.len()));
        assert_eq!(long.packet, Packet::OTHER, "{name}");
        let more = (0..14).map(|n| tag(A, 510 + n, MP3)).chain([tag(V, 540, AVC_KEY)]);
        let tags: Vec<_> = audio.into_iter().chain([long]).chain(more).collect();
        let blocks = within_the_limit(&mut young(), &tags);
        assert_eq!(media(&blocks).len(), 16, "{name}: audio alone");
    }
    let longest = tag(V, 0, &padded(b"\x17\x00\0\0\0", 5 + MAX_CONFIGURATION as usize));
    assert_eq!(longest.packet, Packet::SEQUENCE_HEADER);
}

#[test]
fn a_file_begins_with_the_newest_codec_and_sequence_header_of_a_track() {
    // Metadata of almost 16 KiB follow each file header.
    let name = "x".repeat(16_000);
    let mut body = Vec::new();
    amf0::write(&Value::String("onMetaData".into()), &mut body);
    amf0::write(&Value::Object(vec![("comment".into(), Value::String(name))]), &mut body);
    let mut tags = vec![tag(TagKind::SCRIPT, 0, &body)];
    for _ in 0..200 {
        let video = [b"\x12h263", b"\x14vp6!", AVC_CONFIG_2, AVC_KEY, AVC_CONFIG, AVC_KEY];
        tags.extend(video.map(|body| tag(V, 0, body)));
    }
    tags.push(tag(A, 0, MP3));
    let blocks = within_the_limit(&mut young(), &tags);
    assert_eq!(describe(&blocks), "av meta(av)@0 V0@0 K@0 a@0");
}

#[test]
fn a_track_that_ends_before_the_file_begins_is_announced_once() {
    let mut tags: Vec<_> =
        [AVC_CONFIG, AVC_KEY].into_iter().chain([AVC_INTER; 900]).map(|body| tag(V, 0, body)).collect();
    tags.iter_mut().for_each(|tag| tag.tracks = Tracks::known(false, true));
    let mut gone = tag(A, 0, MP3);
    gone.tracks = Tracks::known(true, false);
    tags.push(gone);
    let mut late = tag(A, 500, MP3);
    late.tracks = Tracks::known(true, false);
    tags.push(late);
    let mut remuxer = young();
    let mut blocks = within_the_limit(&mut remuxer, &tags);
    remuxer.finish(&mut blocks).unwrap();
    let headers = blocks.iter().filter(|block| block.flags == BlockFlags::PREAMBLE).count();
    assert!(headers <= 2, "{headers}");
}

#[test]
fn bodies_that_are_too_long_for_a_tag_are_dropped() {
    let mut remuxer = young();
    let mut blocks = Vec::new();
    for (kind, start) in [(TagKind::SCRIPT, &b"\x02\x00\x01x"[..]), (A, b"\x2f"), (V, b"\x12")] {
        for len in [MAX_BODY + 1, MAX_BODY] {
            remuxer.tag(&tag(kind, 0, &padded(start, len)), &mut blocks).unwrap();
        }
    }
    remuxer.finish(&mut blocks).unwrap();
    let bodies: Vec<_> = blocks.iter().filter(|block| block.len() > MAX_BODY).map(Block::len).collect();
    assert_eq!(bodies, [MAX_BODY + 15; 3]);
}

#[test]
fn extreme_times_are_survived() {
    let times = [0, i64::MIN, i64::MAX, -1, i64::MIN + 1, 1];
    let mut remuxer = remuxer("as_published", StreamFacts::new(Codec::NONE, Codec::MP3, u32::MAX));
    let mut blocks = Vec::new();
    for first in times {
        for dts in times {
            let mut audio = tag(A, dts, MP3);
            audio.tracks = Tracks::known(true, first == 0);
            remuxer.tag(&audio, &mut blocks).unwrap();
        }
    }
    assert!(!blocks.is_empty());
    for first in times {
        let mut remuxer = young();
        for dts in [first].into_iter().chain(times) {
            remuxer.tag(&tag(A, dts, MP3), &mut blocks).unwrap();
        }
    }
}
