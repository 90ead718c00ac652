//! Tests of the program map: when it is written, what it names, and how it changes.

use super::*;

#[test]
fn a_stream_of_one_track_is_valid() {
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
fn waits_for_both_tracks_no_longer_than_necessary() {
    let first_out = |facts: StreamFacts, input: &[Input]| {
        let (mut remuxer, mut blocks) = (TsRemuxer::new(&setup(facts)), Vec::new());
        input.iter().position(|input| {
            remuxer.tag(&tag(input), &mut blocks).unwrap();
            !blocks.is_empty()
        })
    };
    let new = StreamFacts::default();
    let video: Vec<_> = std::iter::once(avc_config(0)).chain(pictures(0, 2_000, 1_000)).collect();
    assert_eq!(first_out(new, &video), Some(14), "the wait for audio is half a second");
    let old = StreamFacts::new(Codec::H264, Codec::NONE, 60_000);
    assert_eq!(first_out(old, &video), Some(1), "an old stream has no other track");
    assert_eq!(first_out(new, &both(0, 1_000)), Some(2), "both sequence headers");
    let with_mp3 = [vec![avc_config(0), avc(0, true, 9), avc(40, false, 9), mp3(41)], video.clone()].concat();
    let known = StreamFacts::new(Codec::H264, Codec::MP3, 60_000);
    assert_eq!(first_out(known, &with_mp3), Some(3), "MP3 is described by its first frame");
    assert_eq!(first_out(known, &video), Some(14), "the wait for a track that the host knows is bounded");
    let left_out = StreamFacts::new(Codec::AV1, Codec::AAC, 0);
    assert_eq!(first_out(left_out, &[av1(0), aac_config(0), aac(0)]), Some(2));
}

#[test]
fn late_and_changed_tracks_cause_new_versions() {
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
        ("a codec without a mapping", to_av1, [(0, all), (1, audio)]),
    ] {
        assert_eq!(versions(&checked(&remux(&input))), expected, "{name}");
    }
}

#[test]
fn a_changed_stream_type_gets_another_pid() {
    let hevc_from = |at| [hevc_config(at), hevc(at, true), hevc(at + 40, false)];
    let again = [avc_config(2_000), avc(2_000, true, 9), avc(2_040, false, 9), mp3(2_050)];
    let input = [&both(0, 1_000)[..], &hevc_from(1_000), &again].concat();
    let pids = |stream: &Stream| {
        let mut pids: Vec<_> = stream.units.iter().map(|unit| (unit.is_video(), unit.pid)).collect();
        pids.sort_unstable();
        pids.dedup();
        pids
    };
    let all = [(false, 0x101), (false, 0x102), (true, 0x100), (true, 0x103)];
    let blocks = remux(&input);
    let stream = checked(&blocks);
    assert_eq!(pids(&stream), all);
    let seen = second_opinion(&bytes(&blocks)).unwrap();
    let types: Vec<_> = seen.iter().map(|(pid, seen)| (*pid, seen.stream_type)).collect();
    assert_eq!(types, [(0x100, 0x1b), (0x101, 0x0f), (0x102, 0x03), (0x103, 0x24)]);
    assert_eq!(seen.values().map(|seen| seen.units).sum::<usize>(), stream.units.len());

    // A successor keeps them.
    let mut first = TsRemuxer::new(&setup(StreamFacts::default()));
    let mut blocks = run(&mut first, &input);
    let mut next = setup(StreamFacts::new(Codec::H264, Codec::MP3, 3_000));
    next.state = first.state();
    let more = [avc_config(3_000), avc(3_000, true, 9), mp3(3_010)];
    blocks.extend(run(&mut TsRemuxer::new(&next), &more));
    assert_eq!(pids(&checked(&blocks)), all);
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
fn a_stream_whose_only_track_is_aac_that_adts_cannot_carry_is_unsupported() {
    let flac = || (A, 50, b"\x91fLaCdata".to_vec());
    let aac_alone = StreamFacts::new(Codec::NONE, Codec::AAC, 60_000);
    for (name, facts, input, blocks, unsupported) in [
        (
            "beside a codec without a mapping",
            StreamFacts::default(),
            vec![av1(0), xhe_aac_config(0)],
            0,
            true,
        ),
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
        // The host detects this case itself.
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
fn aac_that_adts_cannot_carry_is_dropped_beside_video() {
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
