//! Tests of the limits on what a call writes, whatever a publisher sends.

use remuxd_bitstream::flv::MAX_CONFIGURATION;
use remuxd_bitstream::nal::MAX_UNITS;
use remuxd_plugin_api::Full;

use super::*;

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

/// Remuxes tags, each call within its limit.
fn within_the_limit(input: &[Input]) -> Vec<Block> {
    let mut remuxer = TsRemuxer::new(&setup(StreamFacts::default()));
    let mut blocks = Vec::new();
    let mut held = 0;
    for input in input {
        held += input.2.len();
        let mut sink = Limited { left: (1 << 20) + 16 * held, blocks: Vec::new() };
        remuxer.tag(&tag(input), &mut sink).unwrap();
        if !sink.blocks.is_empty() {
            held = 0;
        }
        blocks.extend(sink.blocks);
    }
    blocks
}

/// Returns a sequence header with `count` picture parameter sets of `len` bytes.
fn config_of(count: u8, len: u16) -> Input {
    let mut body = b"\x17\0\0\0\0\x01\x42\0\x1f\xff\xe1\0\x02\x67a".to_vec();
    body.push(count);
    for _ in 0..count {
        body.extend(len.to_be_bytes());
        body.extend([&[0x68][..], &vec![b'p'; usize::from(len) - 1]].concat());
    }
    (V, 0, body)
}

/// Returns a keyframe of NAL units with lengths of four bytes.
fn keyframe_of<'a>(dts: i64, units: impl IntoIterator<Item = &'a [u8]>) -> Input {
    let mut body = b"\x17\x01\0\0\0".to_vec();
    for unit in units {
        body.extend((unit.len() as u32).to_be_bytes());
        body.extend(unit);
    }
    (V, dts, body)
}

fn joins(blocks: &[Block]) -> Vec<&Block> {
    blocks.iter().filter(|block| block.flags == BlockFlags::JOIN).collect()
}

#[test]
fn parameter_sets_that_are_too_long_are_not_repeated() {
    let long = [&[0x68][..], &[b'p'; 59_999]].concat();
    let sets = std::iter::once(&b"\x67a"[..]).chain([&long[..]; 20]);
    let with_sets = keyframe_of(0, sets.chain([&b"\x65x"[..]]));
    for (name, first) in [
        ("in a sequence header", vec![config_of(20, 60_000)]),
        ("in a picture", vec![avc_config(0), with_sets]),
    ] {
        let audio = [aac_config(0), aac(0)];
        let keyframes = (1..200).map(|n| avc(40 * n, true, 10));
        let input: Vec<_> = audio.into_iter().chain(first).chain(keyframes).collect();
        let blocks = within_the_limit(&input);
        let later = blocks.iter().filter(|block| block.dts > Millis(0)).map(Block::len).max().unwrap();
        assert!(later < 1_000, "{name}: {later}");
        checked(&blocks);
    }
}

#[test]
fn parameter_sets_of_the_longest_sequence_header_are_repeated() {
    let config = config_of(28, 1_024);
    assert!(config.2.len() <= MAX_CONFIGURATION as usize);
    let blocks = within_the_limit(&[config, avc(0, true, 10), avc(600, true, 10)]);
    let sizes: Vec<_> = joins(&blocks).iter().map(|block| block.len() > 28_672).collect();
    assert_eq!(sizes, [true, true]);
    checked(&blocks);
}

#[test]
fn the_first_output_is_bounded_whatever_is_held() {
    let keyframes = (0..=500).map(|n| avc(n, true, 1));
    // Frames that wait for their sequence header, each half a minute after the one before.
    let gaps = (0..998).map(|n| aac(29_000 * n));
    for (name, input) in [
        (
            "keyframes with long parameter sets",
            std::iter::once(config_of(28, 1_024)).chain(keyframes).collect(),
        ),
        (
            "clock references between frames",
            gaps.chain([aac_config(0), aac(29_000 * 998)]).collect::<Vec<_>>(),
        ),
    ] {
        let blocks = within_the_limit(&input);
        let size: usize = blocks.iter().map(Block::len).sum();
        assert!((500_000..1 << 20).contains(&size), "{name}: {size}");
        checked(&blocks);
    }
}

#[test]
fn tags_that_were_dropped_at_the_start_still_describe_the_stream() {
    let keyframes = (0..997).map(|_| avc(0, true, 1));
    let mut input: Vec<_> = std::iter::once(config_of(28, 1_024)).chain(keyframes).collect();
    // The limit of held tags is reached by the new sequence header; the next picture is no keyframe.
    input.extend([
        avc_config(0),
        avc(0, true, 1),
        avc(40, false, 50),
        avc(80, true, 50),
        avc(120, false, 50),
    ]);
    let blocks = within_the_limit(&input);
    let times: Vec<_> = joins(&blocks).iter().map(|block| block.dts.0).filter(|dts| *dts > 0).collect();
    assert_eq!(times, [80]);
    let last = blocks.last().unwrap();
    assert_eq!((last.dts, last.flags), (Millis(120), BlockFlags::NONE));
    assert!(joins(&blocks).last().unwrap().len() < 1_000, "the sets of the new sequence header");
}

#[test]
fn pictures_of_too_many_units_are_dropped() {
    let short = |count: usize| {
        let mut config = avc_config(0);
        // NAL units have lengths of one byte.
        config.2[9] = 0xfc;
        let units = b"\x01\x65".repeat(count);
        let blocks = within_the_limit(&[
            config,
            (V, 0, [&b"\x17\x01\0\0\0"[..], &units].concat()),
            (V, 1_000, b"\x17\x01\0\0\0\x02\x65x".to_vec()),
        ]);
        joins(&blocks).iter().map(|block| (block.dts.0, block.len())).collect::<Vec<_>>()
    };
    let [(0, longest), (1_000, 188)] = short(MAX_UNITS)[..] else { panic!("two pictures") };
    assert!((4 * MAX_UNITS..5 * MAX_UNITS).contains(&longest), "{longest}");
    for count in [MAX_UNITS + 1, 8 << 20] {
        assert_eq!(short(count), [(1_000, 188)]);
    }
}
