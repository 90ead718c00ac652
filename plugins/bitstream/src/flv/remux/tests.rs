mod bounds;
mod forms;

use remuxd_plugin_api::{Options, StreamFacts, Tracks};

use super::super::{TagHeader, read_file, read_tag};
use super::*;
use crate::amf0::{self, Budget, Value};

/// Kind, time and body of a tag.
type Input = (TagKind, i64, &'static [u8]);

const A: TagKind = TagKind::AUDIO;
const V: TagKind = TagKind::VIDEO;
const AAC_CONFIG: &[u8] = b"\xaf\x00\x12\x10";
const AAC: &[u8] = b"\xaf\x01audio";
const AVC_CONFIG: &[u8] = b"\x17\x00\0\0\0avcC";
const AVC_KEY: &[u8] = b"\x17\x01\0\0\x28key";
const AVC_INTER: &[u8] = b"\x27\x01\0\0\0inter";
const META: &[u8] = b"\x02\x00\x0aonMetaData\x08\0\0\0\x01\x00\x05width\x00\x40\x84\0\0\0\0\0\0\0\0\x09";

fn tag(kind: TagKind, dts: i64, body: &[u8]) -> Tag {
    read_tag(kind, Millis(dts), body.to_vec().into())
}

fn remuxer(hevc: &str, facts: StreamFacts) -> FlvRemuxer {
    let options = vec![(HEVC_FORM.into(), hevc.into()), (HEADER_WAIT.into(), "500".into())];
    FlvRemuxer::new(&Setup::new(Options::new(options), facts))
}

fn remux(tags: &[(TagKind, i64, &[u8])]) -> Vec<Block> {
    let mut remuxer = remuxer("as_published", StreamFacts::default());
    let mut blocks = Vec::new();
    for (kind, dts, body) in tags {
        remuxer.tag(&tag(*kind, *dts, body), &mut blocks).unwrap();
    }
    remuxer.finish(&mut blocks).unwrap();
    blocks
}

/// Returns the output for a viewer from the start.
fn file(blocks: &[Block]) -> Vec<u8> {
    let first = blocks.iter().position(|block| block.flags == BlockFlags::PREAMBLE).unwrap();
    let rest = blocks.iter().filter(|block| block.flags != BlockFlags::PREAMBLE);
    std::iter::once(&blocks[first])
        .chain(rest)
        .flat_map(|block| &block.parts)
        .flat_map(|part| part.to_vec())
        .collect()
}

/// Returns the media tags of a file: kind, timestamp, body.
fn media(blocks: &[Block]) -> Vec<(TagKind, u32, Vec<u8>)> {
    let file = file(blocks);
    read_file(&file)
        .map(|tag| tag.unwrap())
        .filter(|tag| tag.kind != TagKind::SCRIPT)
        .map(|tag| (tag.kind, tag.timestamp, tag.body.to_vec()))
        .collect()
}

/// Describes a file: its tracks, then its tags. `A0` and `V0` are sequence headers, `a` is audio, `K` a keyframe, `p`
/// another picture, `end` the end of a sequence, `meta` metadata with their tracks.
fn describe(blocks: &[Block]) -> String {
    let file = file(blocks);
    let tracks =
        |audio: bool, video: bool| format!("{}{}", ["-", "a"][audio as usize], ["-", "v"][video as usize]);
    let mut words = vec![tracks(file[4] & 4 != 0, file[4] & 1 != 0)];
    for tag in read_file(&file) {
        let tag = tag.unwrap();
        let header = TagHeader::parse(tag.kind, tag.body);
        let word = match (tag.kind, header.packet) {
            (A, Packet::SEQUENCE_HEADER) => "A0".into(),
            (A, _) => "a".into(),
            (V, Packet::SEQUENCE_HEADER) => "V0".into(),
            (V, Packet::SEQUENCE_END) => "end".into(),
            (V, _) => if header.keyframe { "K" } else { "p" }.into(),
            _ => {
                let has = |name| property(tag.body, name) == Some(Value::Boolean(true));
                format!("meta({})", tracks(has("hasAudio"), has("hasVideo")))
            }
        };
        words.push(format!("{word}@{}", tag.timestamp));
    }
    words.join(" ")
}

/// Returns a property of a metadata tag.
fn property(body: &[u8], name: &str) -> Option<Value> {
    let values = amf0::read_all(body, &mut Budget::default()).unwrap();
    let [_, Value::EcmaArray(properties)] = &values[..] else { panic!("{values:?}") };
    properties.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone())
}

/// Returns `hasAudio` and `hasVideo` of the newest metadata. Panics if they differ from the newest file header.
fn tracks(blocks: &[Block]) -> (bool, bool) {
    let preamble = blocks.iter().rfind(|block| block.flags == BlockFlags::PREAMBLE).unwrap();
    let flags = preamble.parts[0][4];
    let metadata = blocks.iter().rfind(|block| block.flags == BlockFlags::CONFIG && block.track == METADATA);
    let values = amf0::read_all(&metadata.unwrap().parts[1], &mut Budget::default()).unwrap();
    let [_, Value::EcmaArray(properties)] = &values[..] else { panic!("{values:?}") };
    let has = |name| properties.contains(&(String::from(name), Value::Boolean(true)));
    let tracks = (has("hasAudio"), has("hasVideo"));
    assert_eq!(flags, u8::from(tracks.0) << 2 | u8::from(tracks.1));
    tracks
}

#[test]
fn announces_the_tracks_that_are_present() {
    for (name, tags, expected) in [
        ("both", vec![(A, 0, AAC_CONFIG), (V, 0, AVC_CONFIG), (V, 0, AVC_KEY), (A, 23, AAC)], (true, true)),
        ("audio only", vec![(A, 0, AAC_CONFIG), (A, 0, AAC), (A, 400, AAC), (A, 600, AAC)], (true, false)),
        ("video only", vec![(V, 0, AVC_CONFIG), (V, 0, AVC_KEY), (V, 1_000, AVC_INTER)], (false, true)),
        ("a stream that ends at once", vec![(A, 0, AAC_CONFIG), (A, 0, AAC)], (true, false)),
    ] {
        let blocks = remux(&tags);
        assert_eq!(tracks(&blocks), expected, "{name}");
        let bodies: Vec<_> =
            tags.iter().map(|(kind, dts, body)| (*kind, *dts as u32, body.to_vec())).collect();
        assert_eq!(media(&blocks), bodies, "{name}");
        assert_eq!(blocks[1].track, METADATA, "{name}: metadata comes first");
    }
}

const AVC_CONFIG_2: &[u8] = b"\x17\x00\0\0\0avcC of 720p";
const AVC_END: &[u8] = b"\x17\x02\0\0\0";
const MP3: &[u8] = b"\x2fmp3";

#[test]
fn a_track_is_announced_by_its_first_frame_that_decodes() {
    for (name, tags, expected) in [
        (
            "audio that is configured only",
            vec![(A, 0, AAC_CONFIG), (V, 0, AVC_CONFIG), (V, 0, AVC_KEY), (V, 500, AVC_INTER)],
            "-v meta(-v)@0 V0@0 K@0 p@500",
        ),
        (
            "audio that is configured early and comes late",
            vec![(A, 0, AAC_CONFIG), (V, 0, AVC_CONFIG), (V, 0, AVC_KEY), (V, 500, AVC_INTER), (A, 600, AAC)],
            "-v meta(-v)@0 V0@0 K@0 p@500 meta(av)@0 A0@0 a@600",
        ),
        (
            "video that waits for its keyframe",
            vec![(A, 0, MP3), (A, 500, MP3), (V, 600, AVC_CONFIG), (V, 610, AVC_INTER), (V, 620, AVC_KEY)],
            "a- meta(a-)@0 a@0 a@500 meta(av)@0 V0@600 K@620",
        ),
        (
            "the wait begins with a frame",
            vec![
                (A, 0, AAC_CONFIG),
                (A, 1_000, AAC),
                (A, 1_499, AAC),
                (V, 1_490, AVC_CONFIG),
                (V, 1_499, AVC_KEY),
            ],
            "av meta(av)@0 A0@0 a@1000 a@1499 V0@1490 K@1499",
        ),
        ("no frame that decodes", vec![(A, 0, AAC_CONFIG), (V, 0, AVC_CONFIG), (V, 0, AVC_INTER)], ""),
    ] {
        let blocks = remux(&tags);
        let described = if blocks.is_empty() { String::new() } else { describe(&blocks) };
        assert_eq!(described, expected, "{name}");
    }
}

#[test]
fn frames_that_cannot_be_decoded_are_dropped() {
    for (name, tags, expected) in [
        (
            "before the sequence header or the keyframe, or empty",
            vec![
                (V, 0, AVC_KEY),
                (A, 0, AAC),
                (V, 1, AVC_CONFIG),
                (V, 1, AVC_INTER),
                (A, 1, AAC_CONFIG),
                (A, 2, b""),
                (A, 2, b"\xaf"),
                (A, 2, b"\xaf\x01"),
                (V, 2, b"\x27\x01\0\0\0"),
                (A, 3, AAC),
                (V, 4, b"\x57\x00"),
                (V, 5, AVC_KEY),
                (V, 6, AVC_END),
            ],
            "av meta(av)@0 V0@1 A0@1 a@3 K@5 end@6",
        ),
        (
            "after a changed sequence header, up to the keyframe",
            vec![
                (V, 0, AVC_CONFIG),
                (V, 0, AVC_KEY),
                (A, 0, MP3),
                (V, 20, AVC_INTER),
                (V, 30, AVC_INTER),
                (V, 40, AVC_CONFIG_2),
                (V, 40, AVC_INTER),
                (V, 80, AVC_KEY),
                (V, 80, AVC_CONFIG_2),
                (V, 120, AVC_INTER),
            ],
            "av meta(av)@0 V0@0 K@0 a@0 p@20 p@30 V0@40 K@80 V0@80 p@120",
        ),
        (
            "of another codec than the sequence header",
            vec![
                (V, 0, AVC_CONFIG),
                (V, 0, AVC_KEY),
                (A, 0, MP3),
                (V, 40, b"\x1c\x01\0\0\0key"),
                (A, 80, MP3),
            ],
            "av meta(av)@0 V0@0 K@0 a@0 a@80",
        ),
        (
            "an empty sequence header has no effect",
            vec![
                (V, 0, AVC_CONFIG),
                (V, 0, AVC_KEY),
                (A, 0, MP3),
                (V, 40, b"\x17\x00\0\0\0"),
                (V, 40, AVC_INTER),
            ],
            "av meta(av)@0 V0@0 K@0 a@0 p@40",
        ),
        (
            "AV1 and VP9 need none",
            vec![(V, 0, b"\x91av01obu"), (A, 0, MP3), (V, 40, b"\xa1vp09no"), (V, 80, b"\x91vp09key")],
            "av meta(av)@0 K@0 a@0 meta(av)@0 K@80",
        ),
    ] {
        assert_eq!(describe(&remux(&tags)), expected, "{name}");
    }
}

#[test]
fn holds_the_header_no_longer_than_necessary() {
    // The known codecs and age, the tags that are held, and the tag that causes the header.
    let rows = [
        (StreamFacts::default(), vec![(A, 0, MP3), (A, 499, MP3)], (A, 500, MP3)),
        (StreamFacts::default(), vec![(A, 0, MP3), (V, 0, AVC_CONFIG)], (V, 0, AVC_KEY)),
        (StreamFacts::new(Codec::NONE, Codec::MP3, 300), vec![(A, 0, MP3), (A, 199, MP3)], (A, 200, MP3)),
        (StreamFacts::new(Codec::NONE, Codec::MP3, 500), vec![], (A, 0, MP3)),
        (StreamFacts::new(Codec::H264, Codec::MP3, 9_000), vec![], (A, 0, MP3)),
        (StreamFacts::new(Codec::H264, Codec::MP3, 0), vec![(V, 0, AVC_CONFIG)], (V, 0, AVC_KEY)),
    ];
    for (facts, held, start) in rows {
        let mut remuxer = remuxer("as_published", facts);
        let mut blocks = Vec::new();
        for (kind, dts, body) in &held {
            remuxer.tag(&tag(*kind, *dts, body), &mut blocks).unwrap();
        }
        assert!(blocks.is_empty(), "{facts:?}");
        remuxer.tag(&tag(start.0, start.1, start.2), &mut blocks).unwrap();
        assert_eq!(blocks.len(), 2 + held.len() + 1, "{facts:?}");
    }
}

#[test]
fn a_late_track_follows_a_new_announcement() {
    for (late, early) in [
        ([(A, 600, AAC_CONFIG), (A, 600, AAC)], [(V, 0, AVC_CONFIG), (V, 0, AVC_KEY), (V, 550, AVC_INTER)]),
        ([(V, 600, AVC_CONFIG), (V, 600, AVC_KEY)], [(A, 0, AAC_CONFIG), (A, 0, AAC), (A, 550, AAC)]),
    ] {
        let mut tags = early.to_vec();
        assert_ne!(tracks(&remux(&tags)), (true, true));
        tags.extend(late);
        let blocks = remux(&tags);
        assert_eq!(tracks(&blocks), (true, true));
        assert_eq!(media(&blocks).len(), 5);
    }
}

const BOTH: Tracks = Tracks::known(true, true);
const HEVC_CONFIG: &[u8] = b"\x1c\x00\0\0\0hvcC";
const HEVC_KEY: &[u8] = b"\x1c\x01\0\0\x28key";

#[test]
fn another_header_follows_when_the_old_one_is_no_longer_true() {
    // The tags after both tracks have begun, with the tracks that the host reports, and the flags of all headers.
    type Row<'a> = (&'a str, &'a [(Tracks, Input)], &'a [u8]);
    let rows: &[Row<'_>] = &[
        ("nothing changes", &[(BOTH, (V, 40, AVC_INTER)), (BOTH, (A, 40, AAC))], &[5]),
        (
            "another resolution",
            &[
                (BOTH, (V, 40, AVC_INTER)),
                (BOTH, (V, 80, AVC_INTER)),
                (BOTH, (V, 120, AVC_CONFIG_2)),
                (BOTH, (V, 120, AVC_KEY)),
            ],
            &[5],
        ),
        (
            "another resolution just after a keyframe",
            &[(BOTH, (V, 40, AVC_INTER)), (BOTH, (V, 80, AVC_CONFIG_2)), (BOTH, (V, 80, AVC_KEY))],
            &[5, 5],
        ),
        (
            "the same sequence header just after a keyframe",
            &[(BOTH, (V, 40, AVC_CONFIG)), (BOTH, (V, 40, AVC_KEY))],
            &[5],
        ),
        ("other metadata", &[(BOTH, (TagKind::SCRIPT, 40, META)), (BOTH, (V, 40, AVC_KEY))], &[5]),
        ("audio ends", &[(Tracks::known(false, true), (V, 40, AVC_KEY))], &[5, 1]),
        ("video ends", &[(Tracks::known(true, false), (A, 40, AAC))], &[5, 4]),
        (
            "audio ends and returns",
            &[(Tracks::known(false, true), (V, 40, AVC_KEY)), (BOTH, (A, 50, AAC))],
            &[5, 1, 5],
        ),
        ("HEVC", &[(BOTH, (V, 40, HEVC_CONFIG)), (BOTH, (V, 40, HEVC_KEY))], &[5, 5]),
        ("MP3", &[(BOTH, (A, 40, MP3)), (BOTH, (A, 60, MP3))], &[5, 5]),
    ];
    let flags = |blocks: &[Block]| -> Vec<u8> {
        let preambles = blocks.iter().filter(|block| block.flags == BlockFlags::PREAMBLE);
        preambles.map(|block| block.parts[0][4]).collect()
    };
    for (name, changed, expected) in rows {
        let began = [(A, 0, AAC_CONFIG), (V, 0, AVC_CONFIG), (V, 0, AVC_KEY), (A, 0, AAC)];
        let mut remuxer = remuxer("as_published", StreamFacts::default());
        let mut blocks = Vec::new();
        for (tracks, (kind, dts, body)) in began.map(|input| (BOTH, input)).iter().chain(*changed) {
            let mut tag = tag(*kind, *dts, body);
            tag.tracks = *tracks;
            remuxer.tag(&tag, &mut blocks).unwrap();
        }
        assert_eq!(flags(&blocks), *expected, "{name}");
    }
}

#[test]
fn video_that_the_metadata_announce_is_trusted_in_a_young_stream() {
    let present = Announcement { present: true, codec_id: None };
    let announced = Metadata::default().body(present, present, 0);
    for (age, flags) in [(0, &[5, 4][..]), (8_000, &[5, 4]), (10_000, &[4])] {
        let mut remuxer = remuxer("as_published", StreamFacts::new(Codec::NONE, Codec::MP3, age));
        let mut blocks = Vec::new();
        remuxer.tag(&tag(TagKind::SCRIPT, 0, &announced), &mut blocks).unwrap();
        let mut headers = Vec::new();
        for dts in (0..=10_000).step_by(1_000) {
            let mut audio = tag(A, dts, MP3);
            audio.tracks = Tracks::known(true, false);
            remuxer.tag(&audio, &mut blocks).unwrap();
            let joins = blocks.iter().filter(|block| block.flags == BlockFlags::JOIN).count();
            assert_eq!(joins, 1, "audio at once");
            headers.extend(blocks.drain(..).filter(|block| block.flags == BlockFlags::PREAMBLE));
        }
        assert_eq!(headers.iter().map(|block| block.parts[0][4]).collect::<Vec<_>>(), flags, "{age}");
    }
}

#[test]
fn marks_join_points() {
    let flags = |tags: &[(TagKind, i64, &[u8])]| -> Vec<_> {
        remux(tags)[2..].iter().map(|block| (block.flags, block.track)).collect()
    };
    const CONFIG: BlockFlags = BlockFlags::CONFIG;
    assert_eq!(
        flags(&[(A, 0, AAC_CONFIG), (V, 0, AVC_CONFIG), (A, 0, AAC), (V, 1, AVC_KEY), (V, 2, AVC_INTER)]),
        [(CONFIG, 1), (CONFIG, 2), MEDIA, JOIN, MEDIA]
    );
    assert_eq!(flags(&[(A, 0, AAC_CONFIG), (A, 0, AAC), (A, 600, AAC)]), [(CONFIG, 1), JOIN, JOIN]);
}

#[test]
fn audio_frames_are_join_points_while_the_host_reports_no_video() {
    let (both, audio) = (Tracks::known(true, true), Tracks::known(true, false));
    let rows = [
        (audio, (A, 0, MP3), MEDIA),
        (both, (V, 0, AVC_CONFIG), (BlockFlags::CONFIG, VIDEO_CONFIG)),
        (both, (V, 0, AVC_KEY), JOIN),
        (both, (A, 23, MP3), MEDIA),
        (audio, (A, 10_050, MP3), JOIN),
        (audio, (A, 10_076, MP3), JOIN),
        (both, (V, 10_080, AVC_KEY), JOIN),
        (both, (A, 10_102, MP3), MEDIA),
    ];
    // A host before 1.4 reports no tracks: video that has been seen counts as present.
    for reported in [true, false] {
        let mut remuxer = remuxer("as_published", StreamFacts::default());
        let mut blocks = Vec::new();
        for (tracks, (kind, dts, body), _) in rows {
            let mut tag = tag(kind, dts, body);
            tag.tracks = if reported { tracks } else { Tracks::UNKNOWN };
            remuxer.tag(&tag, &mut blocks).unwrap();
        }
        let is_start = |block: &&Block| block.flags == BlockFlags::PREAMBLE || block.parts[0][0] == 18;
        let media = blocks.iter().filter(|block| !is_start(block));
        let found: Vec<_> = media.map(|block| (block.flags, block.track)).collect();
        let mut expected = rows.map(|(_, _, expected)| expected);
        if !reported {
            expected[4..6].fill(MEDIA);
        }
        assert_eq!(found, expected, "reported: {reported}");
    }
}

#[test]
fn shares_payloads() {
    let mut remuxer = remuxer("enhanced", StreamFacts::new(Codec::HEVC, Codec::AAC, 0));
    let (audio, video) = (tag(A, 0, MP3), tag(V, 0, b"\x1c\x01\0\0\x28key"));
    let mut blocks = Vec::new();
    remuxer.tag(&audio, &mut blocks).unwrap();
    remuxer.tag(&tag(V, 0, b"\x1c\x00\0\0\0hvcC"), &mut blocks).unwrap();
    remuxer.tag(&video, &mut blocks).unwrap();
    assert_eq!(blocks[2].parts[1].as_ptr(), audio.payload.as_ptr());
    assert_eq!(blocks[4].parts[1].as_ptr(), video.data().as_ptr());
}

/// Returns the bytes of each configuration with its track.
fn configurations(blocks: &[Block]) -> Vec<(u8, Vec<u8>)> {
    let configurations = blocks.iter().filter(|block| block.flags == BlockFlags::CONFIG);
    let bytes = |block: &Block| block.parts.iter().flat_map(|part| part.to_vec()).collect();
    let mut all: Vec<_> = configurations.map(|block| (block.track, bytes(block))).collect();
    all.sort();
    all
}

#[test]
fn a_successor_continues_in_the_middle_of_the_file() {
    let facts = StreamFacts::new(Codec::H264, Codec::AAC, 60_000);
    let configs: [Input; 3] = [(TagKind::SCRIPT, 0, META), (A, 0, AAC_CONFIG), (V, 0, AVC_CONFIG)];
    for configs in [&configs[..], &configs[1..]] {
        let feed = |remuxer: &mut FlvRemuxer, tags: &[Input]| {
            let mut blocks = Vec::new();
            for (kind, dts, body) in tags {
                remuxer.tag(&tag(*kind, *dts, body), &mut blocks).unwrap();
            }
            blocks
        };
        let mut old = remuxer("as_published", facts);
        assert!(old.state().is_empty(), "no state before the header");
        let mut before = feed(&mut old, configs);
        before.extend(feed(&mut old, &[(V, 5000, AVC_KEY), (A, 5010, AAC)]));
        old.finish(&mut before).unwrap();
        let mut setup = Setup::new(Options::default(), facts);
        setup.state = old.state();
        let mut new = FlvRemuxer::new(&setup);
        let again = feed(&mut new, configs);
        assert_eq!(configurations(&again), configurations(&before));
        let preambles = |block: &&Block| block.flags == BlockFlags::PREAMBLE;
        assert_eq!(again.iter().filter(preambles).count(), 1);
        assert!(again.iter().all(|block| block.flags != BlockFlags::JOIN));
        // At once, without waiting for audio.
        let [join] = &feed(&mut new, &[(V, 6000, AVC_KEY)])[..] else { panic!("more than one block") };
        assert_eq!(join.flags, BlockFlags::JOIN);
        for length in 0..setup.state.len() {
            let mut cut = setup.clone();
            cut.state.truncate(length);
            assert!(!FlvRemuxer::new(&cut).started, "{length} bytes of a state");
        }
    }
}
