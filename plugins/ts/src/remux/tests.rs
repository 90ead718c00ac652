//! Tests of the TS remuxer. Its output for each possible viewer is checked against the test kit's rules of transport streams.

use remuxd_bitstream::flv::read_tag;
use remuxd_plugin_api::{Block, BlockFlags, Millis, Options, StreamFacts};
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

/// Checks what every viewer gets, and returns what the first gets.
fn checked(blocks: &[Block]) -> Stream {
    for (viewer, bytes) in viewers(blocks).iter().enumerate() {
        assert_eq!(check(&Stream::read(bytes)), Ok(()), "viewer {viewer}");
    }
    Stream::read(&bytes(blocks))
}

/// The versions of the program map and its stream types.
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
    let header = [if key { 0x17 } else { 0x27 }, 1, 0, 0, if key { 0 } else { 40 }];
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
    let header = [if key { 0x1c } else { 0x2c }, 1, 0, 0, 0];
    (V, dts, [&header[..], &(unit.len() as u32).to_be_bytes(), unit].concat())
}

fn aac_config(dts: i64) -> Input {
    (A, dts, b"\xaf\0\x12\x10".to_vec())
}

/// Object type 42, which ADTS has no profile for.
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

/// Pictures each 40 ms, a keyframe each `gop`, from `from` to `to`.
fn pictures(from: i64, to: i64, gop: i64) -> impl Iterator<Item = Input> {
    (from..to).step_by(40).map(move |dts| avc(dts, (dts - from) % gop == 0, 700))
}

fn frames(from: i64, to: i64) -> impl Iterator<Item = Input> {
    (from..to).step_by(23).map(aac)
}

/// In the order in which they are due.
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
fn every_viewer_gets_a_whole_stream() {
    let stream = checked(&remux(&both(0, 3_000)));
    assert_eq!(versions(&stream), [(0, vec![0x1b, 0x0f])]);
    assert_eq!(stream.units.iter().filter(|unit| unit.is_video()).count(), 75);
}

#[test]
fn streams_of_one_kind_are_whole_too() {
    let video = std::iter::once(avc_config(0)).chain(pictures(0, 2_000, 400)).collect::<Vec<_>>();
    let slow =
        std::iter::once(avc_config(0)).chain((0..6).map(|n| avc(n * 1_000, true, 900))).collect::<Vec<_>>();
    let audio = std::iter::once(aac_config(0)).chain(frames(0, 2_000)).collect::<Vec<_>>();
    let rare = std::iter::once(aac_config(0)).chain((0..20).map(|n| aac(n * 150))).collect::<Vec<_>>();
    let mp3s = (0..80).map(|n| mp3(n * 26)).collect::<Vec<_>>();
    let packets = (0..80).map(|n| opus(n * 20)).collect::<Vec<_>>();
    let hevcs = std::iter::once(hevc_config(0)).chain((0..50).map(|n| hevc(n * 40, n % 25 == 0)));
    for (input, stream_type, joins) in [
        (video, 0x1b, 5),
        (slow, 0x1b, 6),
        (audio, 0x0f, 87),
        (rare, 0x0f, 20),
        (mp3s, 0x03, 80),
        (packets, 0x06, 80),
        (hevcs.collect(), 0x24, 2),
    ] {
        let blocks = remux(&input);
        assert_eq!(versions(&checked(&blocks)), [(0, vec![stream_type])]);
        let found = blocks.iter().filter(|block| block.flags == BlockFlags::JOIN).count();
        assert_eq!(found, joins, "{stream_type:#x}");
    }
}

#[test]
fn waits_for_both_tracks_no_longer_than_it_must() {
    let first_out = |facts: StreamFacts, input: &[Input]| {
        let (mut remuxer, mut blocks) = (TsRemuxer::new(&setup(facts)), Vec::new());
        input.iter().position(|input| {
            remuxer.tag(&tag(input), &mut blocks).unwrap();
            !blocks.is_empty()
        })
    };
    let new = StreamFacts::default();
    let video: Vec<_> = std::iter::once(avc_config(0)).chain(pictures(0, 2_000, 1_000)).collect();
    assert_eq!(first_out(new, &video), Some(14), "half a second for audio");
    let old = StreamFacts::new(Codec::H264, Codec::NONE, 60_000);
    assert_eq!(first_out(old, &video), Some(1), "an old stream has no other track");
    assert_eq!(first_out(new, &both(0, 1_000)), Some(2), "both sequence headers");
    let with_mp3 = [vec![avc_config(0), avc(0, true, 9), avc(40, false, 9), mp3(41)], video.clone()].concat();
    let known = StreamFacts::new(Codec::H264, Codec::MP3, 60_000);
    assert_eq!(first_out(known, &with_mp3), Some(3), "MP3 is described by its first frame");
    assert_eq!(first_out(known, &video), Some(14), "a track that the host knows is waited for, not for ever");
    let left_out = StreamFacts::new(Codec::AV1, Codec::AAC, 0);
    assert_eq!(first_out(left_out, &[av1(0), aac_config(0), aac(0)]), Some(2));
}

#[test]
fn late_and_changed_tracks_get_versions() {
    let late_audio = [headers(pictures(0, 1_000, 1_000).collect()), both(1_000, 2_000)].concat();
    let late_audio: Vec<Input> =
        late_audio.into_iter().filter(|(kind, dts, _)| *kind == V || *dts >= 1_000).collect();
    let late_video = [aac_config(0)].into_iter().chain(frames(0, 1_000)).chain(both(1_000, 2_000)).collect();
    let hevcs = (0..25).map(|n| hevc(1_000 + n * 40, n == 0));
    let changed =
        std::iter::once(hevc_config(1_000)).chain(in_order(hevcs.chain(frames(1_000, 2_000)).collect()));
    let changed: Vec<Input> = both(0, 1_000).into_iter().chain(changed).collect();
    let to_mp3 =
        in_order(pictures(1_000, 2_000, 1_000).chain((0..38).map(|n| mp3(1_000 + n * 26))).collect());
    let to_mp3: Vec<Input> = both(0, 1_000).into_iter().chain(to_mp3).collect();
    let to_av1 = in_order((0..25).map(|n| av1(1_000 + n * 40)).chain(frames(1_000, 2_000)).collect());
    let to_av1: Vec<Input> = both(0, 1_000).into_iter().chain(to_av1).collect();
    let (video, audio, all) = (vec![0x1b], vec![0x0f], vec![0x1b, 0x0f]);
    for (name, input, expected) in [
        ("late audio", late_audio, [(0, video), (1, all.clone())]),
        ("late video", late_video, [(0, audio.clone()), (1, all.clone())]),
        ("another video codec", changed, [(0, all.clone()), (1, vec![0x24, 0x0f])]),
        ("another audio codec", to_mp3, [(0, all.clone()), (1, vec![0x1b, 0x03])]),
        ("a codec without a place", to_av1, [(0, all), (1, audio)]),
    ] {
        assert_eq!(versions(&checked(&remux(&input))), expected, "{name}");
    }
}

#[test]
fn a_changed_stream_type_gets_a_new_pid() {
    let hevc_from = |at| [hevc_config(at), hevc(at, true), hevc(at + 40, false)];
    let again = [avc_config(2_000), avc(2_000, true, 9), avc(2_040, false, 9), mp3(2_050)];
    let input = [&both(0, 1_000)[..], &hevc_from(1_000), &again].concat();
    let pids = |stream: &Stream| {
        let mut pids: Vec<_> = stream.units.iter().map(|unit| (unit.is_video(), unit.pid)).collect();
        pids.sort_unstable();
        pids.dedup();
        pids
    };
    let all = [(false, 0x101), (false, 0x103), (true, 0x100), (true, 0x102), (true, 0x104)];
    let blocks = remux(&input);
    let stream = checked(&blocks);
    assert_eq!(pids(&stream), all);
    let seen = second_opinion(&bytes(&blocks)).unwrap();
    let types: Vec<_> = seen.iter().map(|(pid, seen)| (*pid, seen.stream_type)).collect();
    assert_eq!(types, [(0x100, 0x1b), (0x101, 0x0f), (0x102, 0x24), (0x103, 0x03), (0x104, 0x1b)]);
    assert_eq!(seen.values().map(|seen| seen.units).sum::<usize>(), stream.units.len());

    // A successor goes on with them, and one of a state without PIDs begins with the first.
    let mut first = TsRemuxer::new(&setup(StreamFacts::default()));
    let mut blocks = run(&mut first, &input);
    let mut next = setup(StreamFacts::new(Codec::H264, Codec::MP3, 3_000));
    next.state = first.state();
    let more = [avc_config(3_000), avc(3_000, true, 9), mp3(3_010)];
    blocks.extend(run(&mut TsRemuxer::new(&next), &more));
    assert_eq!(pids(&checked(&blocks)), all);
    next.state.truncate(next.state.len() - 4);
    next.state[0] = 1;
    assert_eq!(pids(&checked(&run(&mut TsRemuxer::new(&next), &more))), [(false, 0x101), (true, 0x100)]);
}

#[test]
fn versions_wrap_at_32() {
    let input = (0..70).flat_map(|n| {
        let at = n * 2_000;
        let audio = if n % 2 == 0 { aac } else { mp3 };
        std::iter::once(aac_config(at)).chain((0..40).map(move |n| audio(at + n * 50)))
    });
    let stream = checked(&remux(&input.collect::<Vec<_>>()));
    let versions: Vec<u8> = versions(&stream).iter().map(|(version, _)| *version).collect();
    assert_eq!(versions, (0..70).map(|n| n % 32).collect::<Vec<u8>>());
}

#[test]
fn another_resolution_writes_its_parameter_sets() {
    let larger = (V, 1_000, b"\x17\0\0\0\0\x01\x42\0\x1f\xff\xe1\0\x03\x67cd\x01\0\x02\x68e".to_vec());
    let mut input = both(0, 1_000);
    input.push(larger);
    // A picture that is no keyframe, then one.
    input.extend([avc(1_000, false, 9), avc(1_040, true, 9), avc(1_080, false, 9)]);
    let stream = checked(&remux(&input));
    assert_eq!(versions(&stream).len(), 1);
    let has_sets =
        |unit: &remuxd_tests::ts::Unit| unit.payload.windows(4).any(|bytes| bytes == b"\x01\x67cd");
    let found: Vec<bool> = stream.units.iter().filter(|unit| unit.dts >= 2_000 * 90).map(has_sets).collect();
    assert_eq!(found, [true, true, false]);
}

#[test]
fn parameter_sets_that_a_picture_brings_hold_until_there_are_others() {
    let key = |dts, sets: &[u8]| (V, dts, [b"\x17\x01\0\0\0", sets, b"\0\0\0\x02\x65k"].concat());
    let own = b"\0\0\0\x02\x67x\0\0\0\x02\x68y";
    let other = b"\x17\0\0\0\0\x01\x42\0\x1f\xff\xe1\0\x02\x67c\x01\0\x02\x68d".to_vec();
    let input = [
        avc_config(0),
        key(0, b""),
        key(1_000, own),
        key(2_000, b""),
        // The same as before, which says nothing new.
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
fn times_wrap_and_go_on() {
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
    // Audio comes 800 ms late, all the time.
    let mut input: Vec<(i64, Input)> = both(0, 4_000).into_iter().map(|input| (input.1, input)).collect();
    for (at, (kind, ..)) in &mut input {
        *at += if *kind == A { 800 } else { 0 };
    }
    input.sort_by_key(|(at, _)| *at);
    let input: Vec<Input> = input.into_iter().map(|(_, input)| input).collect();
    let stream = Stream::read(&bytes(&remux(&input)));
    assert_eq!(check(&stream), Ok(()));
    // It comes late once more: the clock is set back, and says so.
    let mut input = both(0, 4_000);
    let late = input.iter().position(|(kind, dts, _)| *kind == A && *dts > 2_000).unwrap();
    let mut audio = input.remove(late);
    audio.1 -= 700;
    input.insert(late, audio);
    let stream = Stream::read(&bytes(&remux(&input)));
    let broken: Vec<_> = check(&stream).unwrap_err().into_iter().map(|(rule, _)| rule).collect();
    assert_eq!(broken, ["timestamps"], "that of the tag");
    assert_eq!(stream.clocks.iter().filter(|clock| clock.discontinuity).count(), 1);
}

#[test]
fn a_long_gap_is_another_time_base() {
    let input = [both(0, 1_000), both(61_000, 62_000)].concat();
    let stream = checked(&remux(&input));
    assert_eq!(stream.clocks.iter().filter(|clock| clock.discontinuity).count(), 1);
    let gap = [both(0, 1_000), both(21_000, 22_000)].concat();
    let stream = checked(&remux(&gap));
    assert!(stream.clocks.iter().all(|clock| !clock.discontinuity));
    assert!(stream.clocks.len() > 500);
}

#[test]
fn a_picture_is_never_due_before_it_is_decoded() {
    let (kind, dts, mut body) = avc(40, false, 9);
    body[2..5].copy_from_slice(&[0xff, 0xff, 0xd8]);
    let stream = checked(&remux(&[avc_config(0), avc(0, true, 9), (kind, dts, body), avc(80, false, 9)]));
    assert_eq!(stream.units[1].pts, stream.units[1].dts);
}

#[test]
fn what_cannot_be_read_is_left_out() {
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
fn an_audio_frame_that_no_pes_packet_can_tell_the_length_of_is_left_out() {
    let mp3 = |dts, size: usize| (A, dts, [&b"\x2f\xff\xfb\x90\x00"[..], &vec![0; size - 4]].concat());
    let blocks = remux(&[mp3(0, 100), mp3(26, 65_527), mp3(52, 65_528), mp3(78, 100)]);
    let stream = checked(&blocks);
    let sizes: Vec<_> = stream.units.iter().map(|unit| (unit.dts / 90 - 1_000, unit.payload.len())).collect();
    assert_eq!(sizes, [(0, 100), (26, 65_527), (78, 100)]);
}

#[test]
fn the_rest_of_an_audio_frame_has_no_time_of_its_own_and_is_no_place_to_join() {
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
fn a_stream_of_nothing_but_aac_that_adts_cannot_carry_is_unsupported() {
    let flac = || (A, 50, b"\x91fLaCdata".to_vec());
    let aac_alone = StreamFacts::new(Codec::NONE, Codec::AAC, 60_000);
    for (name, facts, input, blocks, unsupported) in [
        ("beside a codec without a place", StreamFacts::default(), vec![av1(0), xhe_aac_config(0)], 0, true),
        ("an old stream", aac_alone, vec![xhe_aac_config(0)], 0, true),
        ("a new one", StreamFacts::default(), vec![xhe_aac_config(0), aac(0), aac(480)], 0, false),
        ("a new one after the wait", StreamFacts::default(), vec![xhe_aac_config(0), aac(500)], 0, true),
        (
            "beside video",
            StreamFacts::default(),
            vec![xhe_aac_config(0), avc_config(0), avc(0, true, 9)],
            2,
            false,
        ),
        (
            "after video",
            StreamFacts::default(),
            vec![xhe_aac_config(0), avc_config(0), avc(0, true, 9), av1(40)],
            2,
            true,
        ),
        // That one the host sees by itself.
        ("another codec", aac_alone, vec![aac_config(0), aac(0), flac(), aac_config(50)], 2, false),
        ("after audio", aac_alone, vec![aac_config(0), aac(0), xhe_aac_config(23)], 2, true),
    ] {
        let (mut remuxer, mut out) = (TsRemuxer::new(&setup(facts)), Vec::new());
        let answer = input.iter().try_for_each(|input| remuxer.tag(&tag(input), &mut out));
        let expected = if unsupported { Err(RemuxError::Unsupported(Codec::AAC)) } else { Ok(()) };
        assert_eq!((answer, out.len()), (expected, blocks), "{name}");
    }
}

#[test]
fn aac_that_adts_cannot_carry_is_left_out_while_it_lasts() {
    let xhe_aac = |from| {
        in_order(pictures(from, from + 1_000, 1_000).chain(frames(from, from + 1_000)).collect::<Vec<_>>())
    };
    let input = [
        vec![xhe_aac_config(0), avc_config(0)],
        xhe_aac(0),
        both(1_000, 2_000),
        vec![xhe_aac_config(2_000)],
        xhe_aac(2_000),
    ];
    let stream = checked(&remux(&input.concat()));
    let (video, all) = (vec![0x1b], vec![0x1b, 0x0f]);
    assert_eq!(versions(&stream), [(0, video.clone()), (1, all), (2, video)]);
    let audio: Vec<_> = stream.units.iter().filter(|unit| !unit.is_video()).collect();
    assert_eq!(audio.len(), frames(1_000, 2_000).count());
}

#[test]
fn nothing_comes_of_nothing() {
    assert!(remux(&[]).is_empty());
    let zero: Vec<Input> = (0..100).map(|n| (A, n * 20, b"\xaf\x01".to_vec())).collect();
    assert!(remux(&zero).is_empty());
    assert!(remux(&[vec![aac_config(0)], zero].concat()).is_empty());
}

#[test]
fn a_successor_goes_on_where_its_predecessor_stopped() {
    let mp3s = || in_order(pictures(0, 2_000, 1_000).chain((0..77).map(|n| mp3(n * 26))).collect());
    for input in [both(0, 4_000), [vec![avc_config(0)], mp3s()].concat()] {
        let alone = checked(&remux(&input));
        let key = input.iter().rposition(|input| tag(input).keyframe).unwrap();
        let facts = StreamFacts::new(Codec::H264, tag(input.last().unwrap()).codec, 2_000);
        let mut first = TsRemuxer::new(&setup(facts));
        let mut blocks = run(&mut first, &input[..key]);
        let mut successor_setup = setup(facts);
        successor_setup.state = first.state();
        let mut second = TsRemuxer::new(&successor_setup);
        // The host says again what it has of configurations.
        let replay: Vec<Input> = input
            .iter()
            .filter(|(_, _, body)| body[1] == 0)
            .map(|(kind, _, body)| (*kind, input[key].1, body.clone()))
            .collect();
        blocks.extend(run(&mut second, &[&replay, &input[key..]].concat()));
        let stream = checked(&blocks);
        assert_eq!(versions(&stream), versions(&alone));
        assert_eq!(stream.units.len(), alone.units.len());
    }
}

#[test]
fn a_state_that_cannot_be_read_is_a_fresh_start() {
    let mut remuxer = TsRemuxer::new(&setup(StreamFacts::default()));
    assert!(remuxer.state().is_empty(), "nothing to hand over yet");
    run(&mut remuxer, &both(0, 1_000));
    let state = remuxer.state();
    let fresh = bytes(&remux(&both(0, 1_000)));
    let with_state = |state: &[u8]| {
        let mut setup = setup(StreamFacts::default());
        setup.state = state.to_vec();
        bytes(&run(&mut TsRemuxer::new(&setup), &both(0, 1_000)))
    };
    assert_ne!(with_state(&state), fresh);
    for end in 0..state.len() {
        assert_eq!(with_state(&state[..end]), fresh);
    }
    let mut longer = state.clone();
    longer.push(0);
    let mut newer = state.clone();
    newer[0] += 1;
    let mut far = state.clone();
    far[9] = 0x7f;
    for state in [longer, newer, far] {
        assert_eq!(with_state(&state), fresh);
    }
    for at in 0..state.len() {
        for value in [0, 0x7f, 0xff] {
            let mut changed = state.clone();
            changed[at] = value;
            assert!(!with_state(&changed).is_empty());
        }
    }
}

#[test]
fn any_tags_make_whole_packets_and_right_counters() {
    let mut seed = 1u64;
    let mut random = move |limit: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % limit
    };
    for round in 0..300 {
        // Times that are 33 bits apart look the same, so that the clock cannot be judged then.
        let extreme = round % 2 == 0;
        let mut input = both(0, 200);
        input.extend([hevc_config(100), hevc(100, true), opus(120), mp3(140), av1(160)]);
        for _ in 0..random(60) {
            let at = random(input.len() as u64) as usize;
            let (kind, dts, mut body) = input[random(input.len() as u64) as usize].clone();
            match random(4) {
                0 => body.truncate(random(body.len() as u64 + 1) as usize),
                1 if !body.is_empty() => {
                    let place = random(body.len().min(40) as u64) as usize;
                    body[place] = random(256) as u8;
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
        assert_eq!(bytes(&carried()), bytes(&blocks), "the same tags make the same bytes");
    }
}
