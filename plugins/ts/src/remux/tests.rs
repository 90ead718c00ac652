//! Tests of the TS remuxer. Its output for each possible viewer is checked against the test kit's rules of transport streams.

mod bounds;
mod program;
mod state;

use remuxd_bitstream::flv::read_tag;
use remuxd_plugin_api::{Block, BlockFlags, Millis, Options, StreamFacts, Tracks};
use remuxd_tests::ts::{Stream, check, second_opinion};

use super::*;

/// Kind, time and body of a tag.
type Input = (TagKind, i64, Vec<u8>);

const A: TagKind = TagKind::AUDIO;
const V: TagKind = TagKind::VIDEO;

fn tag((kind, dts, body): &Input) -> Tag {
    read_tag(*kind, Millis(*dts), body.clone().into())
}

fn setup(facts: StreamFacts) -> Setup {
    Setup::new(Options::new(vec![(HEADER_WAIT.into(), "500".into())]), facts)
}

fn run(remuxer: &mut TsRemuxer, input: &[Input]) -> Vec<Block> {
    let mut blocks = Vec::new();
    for input in input {
        remuxer.tag(&tag(input), &mut blocks).unwrap();
    }
    remuxer.finish(&mut blocks).unwrap();
    blocks
}

fn remux(input: &[Input]) -> Vec<Block> {
    run(&mut TsRemuxer::new(&setup(StreamFacts::default())), input)
}

fn bytes<'a>(blocks: impl IntoIterator<Item = &'a Block>) -> Vec<u8> {
    blocks.into_iter().flat_map(|block| &block.parts).flat_map(|part| part.iter().copied()).collect()
}

/// Returns the output for possible viewers: from the start, and from at most about twenty join points.
fn viewers(blocks: &[Block]) -> Vec<Vec<u8>> {
    let joins: Vec<usize> = (0..blocks.len()).filter(|at| blocks[*at].flags == BlockFlags::JOIN).collect();
    let joins = joins.iter().copied().step_by(1 + joins.len() / 20);
    let join = |at: usize| {
        let config = blocks[..at].iter().rfind(|block| block.flags == BlockFlags::CONFIG).unwrap();
        bytes(std::iter::once(config).chain(&blocks[at..]))
    };
    std::iter::once(bytes(blocks)).chain(joins.map(join)).collect()
}

/// Checks the output for all possible viewers, and returns that from the start.
fn checked(blocks: &[Block]) -> Stream {
    for (viewer, bytes) in viewers(blocks).iter().enumerate() {
        assert_eq!(check(&Stream::read(bytes)), Ok(()), "viewer {viewer}");
    }
    Stream::read(&bytes(blocks))
}

/// Returns the versions of the program map, each with its stream types.
fn versions(stream: &Stream) -> Vec<(u8, Vec<u8>)> {
    let programs = stream.tables.iter().filter_map(|table| Some((table.version, table.program.as_ref()?)));
    let mut versions: Vec<_> = programs
        .map(|(version, program)| {
            (version, program.streams.iter().map(|stream| stream.stream_type).collect())
        })
        .collect();
    versions.dedup();
    versions
}

fn avc_config(dts: i64) -> Input {
    (V, dts, b"\x17\0\0\0\0\x01\x42\0\x1f\xff\xe1\0\x02\x67a\x01\0\x02\x68b".to_vec())
}

fn avc(dts: i64, key: bool, size: usize) -> Input {
    let header = [if key { 0x17 } else { 0x27 }, 1, 0, 0, 40];
    let unit = [&[if key { 0x65 } else { 0x41 }][..], &vec![0x77; size]].concat();
    (V, dts, [&header[..], &(unit.len() as u32).to_be_bytes(), &unit].concat())
}

fn hevc_config(dts: i64) -> Input {
    let mut body = b"\x1c\0\0\0\0".to_vec();
    body.resize(5 + 21, 1);
    body.extend(b"\xff\x03\x20\0\x01\0\x03\x40\x01v\x21\0\x01\0\x03\x42\x01s\x22\0\x01\0\x03\x44\x01p");
    (V, dts, body)
}

fn hevc(dts: i64, key: bool) -> Input {
    let unit: &[u8] = if key { b"\x26\x01xyz" } else { b"\x02\x01xyz" };
    let header = [if key { 0x1c } else { 0x2c }, 1, 0, 0, 40];
    (V, dts, [&header[..], &(unit.len() as u32).to_be_bytes(), unit].concat())
}

fn aac_config(dts: i64) -> Input {
    (A, dts, b"\xaf\0\x12\x10".to_vec())
}

/// Returns a sequence header of object type 42, for which ADTS has no profile.
fn xhe_aac_config(dts: i64) -> Input {
    (A, dts, b"\xaf\0\xf9\x46\x40".to_vec())
}

fn aac(dts: i64) -> Input {
    (A, dts, [&b"\xaf\x01"[..], &[0x21; 300]].concat())
}

fn mp3(dts: i64) -> Input {
    (A, dts, b"\x2f\xff\xfb\x90\x00data".to_vec())
}

fn opus(dts: i64) -> Input {
    (A, dts, b"\x91Opusdata".to_vec())
}

fn av1(dts: i64) -> Input {
    (V, dts, b"\x91av01data".to_vec())
}

/// Returns pictures every 40 ms and keyframes every `gop` milliseconds, from `from` to `to`.
fn pictures(from: i64, to: i64, gop: i64) -> impl Iterator<Item = Input> {
    (from..to).step_by(40).map(move |dts| avc(dts, (dts - from) % gop == 0, 700))
}

fn frames(from: i64, to: i64) -> impl Iterator<Item = Input> {
    (from..to).step_by(23).map(aac)
}

/// Returns the input in the order of DTS.
fn in_order(mut input: Vec<Input>) -> Vec<Input> {
    input.sort_by_key(|(_, dts, _)| *dts);
    input
}

fn headers(rest: Vec<Input>) -> Vec<Input> {
    let at = rest.first().map_or(0, |(_, dts, _)| *dts);
    [vec![aac_config(at), avc_config(at)], rest].concat()
}

fn both(from: i64, to: i64) -> Vec<Input> {
    headers(in_order(pictures(from, to, 1_000).chain(frames(from, to)).collect()))
}

#[test]
fn every_viewer_gets_a_valid_stream() {
    let stream = checked(&remux(&both(0, 3_000)));
    assert_eq!(versions(&stream), [(0, vec![0x1b, 0x0f])]);
    assert_eq!(stream.units.iter().filter(|unit| unit.is_video()).count(), 75);
}

#[test]
fn audio_frames_are_join_points_while_the_host_reports_no_video() {
    let (both, audio) = (Tracks::known(true, true), Tracks::known(true, false));
    let rows = [
        (audio, mp3(0), false),
        (both, avc_config(0), false),
        (both, avc(0, true, 9), true),
        (both, mp3(26), false),
        (audio, mp3(10_050), true),
        (audio, mp3(10_076), true),
        (both, avc(10_080, true, 9), true),
        (both, mp3(10_102), false),
    ];
    // A host before 1.4 reports no tracks: video that has been seen counts as present.
    for reported in [true, false] {
        let (mut remuxer, mut blocks) = (TsRemuxer::new(&setup(StreamFacts::default())), Vec::new());
        for (tracks, input, _) in &rows {
            let mut tag = tag(input);
            tag.tracks = if reported { *tracks } else { Tracks::UNKNOWN };
            remuxer.tag(&tag, &mut blocks).unwrap();
        }
        checked(&blocks);
        let joins = blocks.iter().filter(|block| block.flags == BlockFlags::JOIN);
        let expected = rows.iter().filter(|(_, (kind, ..), join)| *join && (reported || *kind == V));
        let expected: Vec<_> = expected.map(|(_, (_, dts, _), _)| *dts).collect();
        assert_eq!(joins.map(|block| block.dts.0).collect::<Vec<_>>(), expected, "reported: {reported}");
    }
}

#[test]
fn a_new_resolution_writes_its_parameter_sets() {
    let larger = (V, 1_000, b"\x17\0\0\0\0\x01\x42\0\x1f\xff\xe1\0\x03\x67cd\x01\0\x02\x68e".to_vec());
    let mut input = both(0, 1_000);
    input.push(larger);
    // A picture that is not a keyframe, then a keyframe.
    input.extend([avc(1_000, false, 9), avc(1_040, true, 9), avc(1_080, false, 9)]);
    let stream = checked(&remux(&input));
    assert_eq!(versions(&stream).len(), 1);
    let has_sets =
        |unit: &remuxd_tests::ts::Unit| unit.payload.windows(4).any(|bytes| bytes == b"\x01\x67cd");
    let found: Vec<bool> = stream.units.iter().filter(|unit| unit.dts >= 2_000 * 90).map(has_sets).collect();
    assert_eq!(found, [true, true, false]);
}

#[test]
fn in_band_parameter_sets_apply_until_a_new_sequence_header() {
    let key = |dts, sets: &[u8]| (V, dts, [b"\x17\x01\0\0\0", sets, b"\0\0\0\x02\x65k"].concat());
    let own = b"\0\0\0\x02\x67x\0\0\0\x02\x68y";
    let other = b"\x17\0\0\0\0\x01\x42\0\x1f\xff\xe1\0\x02\x67c\x01\0\x02\x68d".to_vec();
    let input = [
        avc_config(0),
        key(0, b""),
        key(1_000, own),
        key(2_000, b""),
        // The same sequence header again: no change.
        avc_config(3_000),
        key(3_000, b""),
        (V, 4_000, other),
        key(4_000, b""),
    ];
    let stream = checked(&remux(&input));
    let sps = stream.units.iter().map(|unit| unit.payload.split(|&byte| byte == 0x67).nth(1).unwrap()[0]);
    assert_eq!(sps.map(char::from).collect::<String>(), "axxxc");
}

#[test]
fn pictures_of_every_size_fit() {
    let sizes = (0..400).chain([65_000, 65_500, 70_000, 1_000_000]);
    let input = sizes.enumerate().map(|(n, size)| avc(n as i64 * 40, n % 9 == 0, size));
    let input: Vec<Input> = std::iter::once(avc_config(0)).chain(input).collect();
    let stream = Stream::read(&bytes(&remux(&input)));
    assert_eq!(check(&stream), Ok(()));
    assert_eq!(stream.units.len(), 404);
    assert_eq!(stream.units.iter().filter(|unit| unit.length == 0).count(), 2);
    let audio = (1..400).map(|size| (A, size as i64 * 20, [&b"\xaf\x01"[..], &vec![0x21; size]].concat()));
    let audio: Vec<Input> = std::iter::once(aac_config(0)).chain(audio).collect();
    assert_eq!(check(&Stream::read(&bytes(&remux(&audio)))), Ok(()));
}

#[test]
fn timestamps_wrap() {
    let clock = (1i64 << 33) / 90 - 1_000;
    for edge in [clock, clock * 7, 1 << 31, 1 << 32] {
        let blocks = remux(&both(edge - 1_000, edge + 1_000));
        let stream = checked(&blocks);
        let (first, last) = (stream.units.first().unwrap().dts, stream.units.last().unwrap().dts);
        assert!((1_900 * 90..2_000 * 90).contains(&(last - first)), "{edge}: {first} {last}");
        assert_eq!(first % (1 << 33), (edge * 90) % (1 << 33));
    }
}

#[test]
fn badly_interleaved_tracks_keep_the_clock_right() {
    // Audio is always 800 ms late.
    let mut input: Vec<(i64, Input)> = both(0, 4_000).into_iter().map(|input| (input.1, input)).collect();
    for (at, (kind, ..)) in &mut input {
        *at += if *kind == A { 800 } else { 0 };
    }
    input.sort_by_key(|(at, _)| *at);
    let input: Vec<Input> = input.into_iter().map(|(_, input)| input).collect();
    let broken = |stream: &Stream| -> Vec<_> {
        check(stream).err().into_iter().flatten().map(|(rule, _)| rule).collect()
    };
    // The clock is set back once, with a discontinuity, when the first late frame comes.
    let stream = Stream::read(&bytes(&remux(&input)));
    assert_eq!(broken(&stream), ["clock often"]);
    assert_eq!(stream.clocks.iter().filter(|clock| clock.discontinuity).count(), 1);
    // One frame is even later: so is the clock.
    let mut input = both(0, 4_000);
    let late = input.iter().position(|(kind, dts, _)| *kind == A && *dts > 2_000).unwrap();
    let mut audio = input.remove(late);
    audio.1 -= 700;
    input.insert(late, audio);
    let stream = Stream::read(&bytes(&remux(&input)));
    assert_eq!(broken(&stream), ["clock often", "timestamps"], "the DTS of the late frame");
    assert_eq!(stream.clocks.iter().skip(1).filter(|clock| clock.discontinuity).count(), 1);
}

#[test]
fn a_long_gap_starts_a_new_time_base() {
    let input = [both(0, 1_000), both(61_000, 62_000)].concat();
    let stream = checked(&remux(&input));
    assert_eq!(stream.clocks.iter().skip(1).filter(|clock| clock.discontinuity).count(), 1);
    let gap = [both(0, 1_000), both(21_000, 22_000)].concat();
    let stream = checked(&remux(&gap));
    assert!(stream.clocks.iter().skip(1).all(|clock| !clock.discontinuity));
    assert!(stream.clocks.len() > 500);
}

#[test]
fn the_pts_is_not_before_the_dts() {
    let (kind, dts, mut body) = avc(80, false, 9);
    body[2..5].copy_from_slice(&[0xff, 0xff, 0xd8]);
    let stream = checked(&remux(&[avc_config(0), avc(0, true, 9), (kind, dts, body), avc(120, false, 9)]));
    assert_eq!(stream.units[1].pts, stream.units[1].dts);
}

#[test]
fn malformed_tags_are_dropped() {
    let cut = |(kind, dts, body): Input| (kind, dts, body[..body.len() - 1].to_vec());
    let input = [
        headers(vec![]),
        vec![
            avc(0, false, 9),
            aac(0),
            cut(avc(40, true, 9)),
            avc(80, false, 9),
            (V, 100, b"\x17\0\0\0\0\x01".to_vec()),
            (A, 100, b"\xaf\0".to_vec()),
            avc(120, true, 9),
            (A, 130, b"\xaf\x01".to_vec()),
            (A, 130, [&b"\xaf\x01"[..], &[0; 9_000]].concat()),
            (V, 150, b"\x17\x01\0\0\0\0\0\0\0".to_vec()),
            (TagKind::SCRIPT, 150, b"\x02\0\x0aonMetaData".to_vec()),
            (V, 155, b"\x57\0".to_vec()),
            aac(160),
        ],
    ];
    let stream = Stream::read(&bytes(&remux(&input.concat())));
    let units: Vec<(bool, i64)> =
        stream.units.iter().map(|unit| (unit.is_video(), unit.dts / 90 - 1_000)).collect();
    assert_eq!(units, [(false, 0), (true, 120), (false, 160)]);
    assert_eq!(check(&stream), Ok(()));
}

#[test]
fn an_audio_frame_too_long_for_a_pes_packet_is_dropped() {
    let mp3 = |dts, size: usize| (A, dts, [&b"\x2f\xff\xfb\x90\x00"[..], &vec![0; size - 4]].concat());
    let blocks = remux(&[mp3(0, 100), mp3(26, 65_527), mp3(52, 65_528), mp3(78, 100)]);
    let stream = checked(&blocks);
    let sizes: Vec<_> = stream.units.iter().map(|unit| (unit.dts / 90 - 1_000, unit.payload.len())).collect();
    assert_eq!(sizes, [(0, 100), (26, 65_527), (78, 100)]);
}

#[test]
fn the_rest_of_an_audio_frame_has_no_timestamp_and_is_no_join_point() {
    let rest = (A, 20, b"\x2fthe rest of it".to_vec());
    let blocks = remux(&[mp3(0), rest, mp3(26)]);
    let joins = blocks.iter().filter(|block| block.flags == BlockFlags::JOIN);
    assert_eq!(joins.map(|block| block.dts.0).collect::<Vec<_>>(), [0, 26]);
    let stream = checked(&blocks);
    let units: Vec<_> = stream.units.iter().map(|unit| (unit.random_access, unit.has_pts)).collect();
    assert_eq!(units, [(true, true), (false, false), (true, true)]);
    let bytes = bytes(&blocks);
    // `data_alignment_indicator` is not set, and there are no fields.
    let header = b"\0\0\x01\xc0\0\x11\x80\0\0the rest of it";
    assert!(bytes.windows(header.len()).any(|window| window == header));
}

#[test]
fn empty_input_has_no_output() {
    assert!(remux(&[]).is_empty());
    let zero: Vec<Input> = (0..100).map(|n| (A, n * 20, b"\xaf\x01".to_vec())).collect();
    assert!(remux(&zero).is_empty());
    assert!(remux(&[vec![aac_config(0)], zero].concat()).is_empty());
}

#[test]
fn random_tags_give_valid_packets_and_counters() {
    let mut seed = 1u64;
    let mut random = move |limit: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % limit
    };
    for round in 0..300 {
        // Times that are 2^33 ticks apart look the same, so the rule of the clock is not checked then.
        let extreme = round % 2 == 0;
        let mut input = both(0, 200);
        input.extend([hevc_config(100), hevc(100, true), opus(120), mp3(140), av1(160)]);
        for _ in 0..random(60) {
            let at = random(input.len() as u64) as usize;
            let (kind, dts, mut body) = input[random(input.len() as u64) as usize].clone();
            match random(4) {
                0 => body.truncate(random(body.len() as u64 + 1) as usize),
                1 if !body.is_empty() => {
                    let index = random(body.len().min(40) as u64) as usize;
                    body[index] = random(256) as u8;
                }
                _ => {}
            }
            let dts = match random(12) {
                0 if extreme => i64::MIN,
                1 if extreme => i64::MAX,
                2 => dts.saturating_add(random(100_000) as i64),
                _ => dts,
            };
            input.insert(at, (kind, dts, body));
        }
        let carried = || {
            let (mut remuxer, mut blocks) = (TsRemuxer::new(&setup(StreamFacts::default())), Vec::new());
            match input.iter().try_for_each(|input| remuxer.tag(&tag(input), &mut blocks)) {
                Ok(()) => remuxer.finish(&mut blocks).unwrap(),
                Err(error) => assert!(matches!(error, RemuxError::Unsupported(_)), "{error}"),
            }
            blocks
        };
        let blocks = carried();
        let broken = check(&Stream::read(&bytes(&blocks))).err().unwrap_or_default();
        let kept =
            ["sync", "adaptation fields", "continuity", "tables", "version", "clock PID", "clock before DTS"];
        let kept = &kept[..kept.len() - usize::from(extreme)];
        let broken: Vec<_> = broken.iter().filter(|(rule, _)| kept.contains(rule)).collect();
        assert!(blocks.is_empty() || broken.is_empty(), "round {round}: {broken:?}");
        assert_eq!(bytes(&carried()), bytes(&blocks), "the same tags give the same bytes");
    }
}
