//! Tests of the forms in which codecs and metadata are written.

use super::*;

#[test]
fn cleans_metadata_and_repeats_it_when_it_changes() {
    let script = TagKind::SCRIPT;
    let blocks = remux(&[(script, 0, META), (A, 0, MP3), (V, 0, b"\x12h263"), (script, 40, META)]);
    let metadata: Vec<_> = blocks.iter().filter(|block| block.flags == BlockFlags::CONFIG).collect();
    assert_eq!(metadata.len(), 2);
    assert_eq!(metadata[1].dts, Millis(40));
    let file = file(&blocks);
    let timestamps = read_file(&file).map(|tag| tag.unwrap()).filter(|tag| tag.kind == script);
    assert_eq!(timestamps.map(|tag| tag.timestamp).collect::<Vec<_>>(), [0, 0]);
    assert!(metadata.iter().all(|block| block.parts[1].windows(5).any(|name| name == b"width")));
}

#[test]
fn writes_hevc_in_the_requested_form() {
    let (legacy, enhanced): (&[Input], &[Input]) = (
        &[(V, 0, b"\x1c\x00\0\0\0hvcC"), (V, 0, b"\x1c\x01\0\0\x28key"), (V, 40, b"\x2c\x01\0\0\0inter")],
        &[(V, 0, b"\x90hvc1hvcC"), (V, 0, b"\x91hvc1\0\0\x28key"), (V, 40, b"\xa3hvc1inter")],
    );
    for (form, input, expected) in [
        ("as_published", legacy, legacy),
        ("as_published", enhanced, enhanced),
        ("legacy", legacy, legacy),
        ("legacy", enhanced, legacy),
        ("enhanced", legacy, enhanced),
        ("enhanced", enhanced, enhanced),
    ] {
        let mut remuxer = remuxer(form, StreamFacts::default());
        let mut blocks = Vec::new();
        for (kind, dts, body) in input {
            remuxer.tag(&tag(*kind, *dts, body), &mut blocks).unwrap();
        }
        remuxer.finish(&mut blocks).unwrap();
        let expected: Vec<_> =
            expected.iter().map(|(kind, dts, body)| (*kind, *dts as u32, body.to_vec())).collect();
        assert_eq!(media(&blocks), expected, "{form}");
    }
}

#[test]
fn passes_colour_metadata_on_only_on_request() {
    for (asked, passed) in [("false", 1), ("true", 2)] {
        let options = vec![(COLOR_INFO.into(), asked.into())];
        let mut remuxer = FlvRemuxer::new(&Setup::new(Options::new(options), StreamFacts::default()));
        let mut blocks = Vec::new();
        remuxer.tag(&tag(V, 0, b"\x94av01amf"), &mut blocks).unwrap();
        remuxer.tag(&tag(V, 0, b"\x91av01obu"), &mut blocks).unwrap();
        remuxer.finish(&mut blocks).unwrap();
        assert_eq!(media(&blocks).len(), passed, "{asked}");
    }
}

#[test]
fn passes_the_multichannel_config_on_unless_asked_not_to() {
    let config: &[u8] = b"\x94Opus\x01\x06";
    for (asked, passed) in [("true", true), ("false", false)] {
        let stereo: &[u8] = b"\x94Opus\x01\x02\0\0\0\x03";
        let options = vec![(MULTICHANNEL.into(), asked.into())];
        let mut remuxer = FlvRemuxer::new(&Setup::new(Options::new(options), StreamFacts::default()));
        let mut blocks = Vec::new();
        for body in [b"\x90OpusOpusHead".as_slice(), stereo, config, b"\x91Opusframe", b"\x94ac-3other"] {
            remuxer.tag(&tag(A, 0, body), &mut blocks).unwrap();
        }
        remuxer.finish(&mut blocks).unwrap();
        let written = media(&blocks).into_iter().filter(|(_, _, body)| body[0] == 0x94);
        let expected: Vec<_> = passed.then(|| config.to_vec()).into_iter().collect();
        assert_eq!(written.map(|(_, _, body)| body).collect::<Vec<_>>(), expected, "{asked}");
        let slots = blocks.iter().filter(|block| block.flags == BlockFlags::CONFIG).map(|block| block.track);
        assert_eq!(slots.filter(|slot| *slot == AUDIO_METADATA).count(), expected.len());
    }
}

#[test]
fn passes_track_0_of_several_on_and_no_other() {
    let blocks = remux(&[
        (V, 0, b"\x96\x11av01\x01\0\0\x01y\x00\0\0\x03key"),
        (A, 0, b"\x95\x01Opus\x00aud"),
        (A, 0, b"\x95\x01Opus\x01other"),
    ]);
    assert_eq!(media(&blocks), [(V, 0, b"\x91av01key".to_vec()), (A, 0, b"\x91Opusaud".to_vec())]);
}

#[test]
fn writes_enhanced_rtmp_in_the_forms_that_players_read() {
    // As published, and as served, if at all.
    type Row = (TagKind, &'static [u8], Option<&'static [u8]>);
    let rows: &[Row] = &[
        (V, b"\x90avc1cfg", Some(b"\x17\x00\0\0\0cfg")),
        (V, b"\x91avc1\0\0\x28key", Some(b"\x17\x01\0\0\x28key")),
        (V, b"\x93avc1key", Some(b"\x17\x01\0\0\0key")),
        (V, b"\xa1avc1\xff\xff\xd8pic", Some(b"\x27\x01\xff\xff\xd8pic")),
        (V, b"\x92avc1", Some(b"\x17\x02\0\0\0")),
        (A, b"\x90mp4acfg", Some(b"\xaf\x00cfg")),
        (A, b"\x91mp4ax", Some(b"\xaf\x01x")),
        (A, b"\x92mp4a", None),
        (A, b"\x90.mp3cfg", None),
        (A, b"\x91.mp3x", Some(b"\x2fx")),
        (A, b"\x94.mp3x", None),
        (A, b"\x97\x02abc\x01Opusx", Some(b"\x91Opusx")),
        (A, b"\x95\x01mp4a\x00x", Some(b"\xaf\x01x")),
        (V, b"\x97\x02abc\x03hvc1key", Some(b"\x93hvc1key")),
        (V, b"\x91av01obu", Some(b"\x91av01obu")),
        (A, b"\x91Opusx", Some(b"\x91Opusx")),
    ];
    for (kind, body, expected) in rows {
        let published = tag(*kind, 1, body);
        let mut tags = vec![(A, 0, MP3), (V, 0, &b"\x12h263"[..])];
        let configuration: &[u8] = match published.codec {
            Codec::H264 => b"\x90avc1avcC",
            Codec::HEVC => b"\x90hvc1hvcC",
            Codec::AAC => b"\x90mp4aasc",
            _ => b"",
        };
        let keyframe: &[u8] = if published.codec == Codec::H264 { b"\x93avc1first" } else { b"" };
        tags.extend(
            [configuration, keyframe].iter().filter(|body| !body.is_empty()).map(|body| (*kind, 0, *body)),
        );
        tags.push((*kind, 1, body));
        let served = media(&remux(&tags)).pop().filter(|(_, time, _)| *time == 1);
        assert_eq!(served.map(|(_, _, body)| body).as_deref(), *expected, "{}", body.escape_ascii());
    }
}

#[test]
fn the_codec_ids_of_metadata_are_those_of_the_tags() {
    let hvc1 = f64::from(Codec::HEVC.0);
    let enhanced_hevc: (&[u8], &[u8]) = (b"\x90hvc1hvcC", b"\x91hvc1\0\0\0key");
    let legacy_hevc: (&[u8], &[u8]) = (b"\x1c\x00\0\0\0hvcC", b"\x1c\x01\0\0\0key");
    for (form, (configuration, keyframe), id) in [
        ("legacy", enhanced_hevc, 12.0),
        ("enhanced", legacy_hevc, hvc1),
        ("as_published", legacy_hevc, 12.0),
        ("as_published", enhanced_hevc, hvc1),
        ("as_published", (b"\x90avc1avcC", b"\x93avc1key"), 7.0),
    ] {
        let published = [("videocodecid", 99.0), ("audiocodecid", 99.0), ("width", 16.0)];
        let published = published.map(|(name, value)| (name.into(), Value::Number(value)));
        let mut body = Vec::new();
        amf0::write(&Value::String("onMetaData".into()), &mut body);
        amf0::write(&Value::EcmaArray(published.to_vec()), &mut body);
        let mut remuxer = remuxer(form, StreamFacts::default());
        let mut blocks = Vec::new();
        for tag in [
            tag(TagKind::SCRIPT, 0, &body),
            tag(A, 0, b"\x91.mp3x"),
            tag(V, 0, configuration),
            tag(V, 0, keyframe),
        ] {
            remuxer.tag(&tag, &mut blocks).unwrap();
        }
        let is_metadata = |block: &&Block| block.flags == BlockFlags::CONFIG && block.track == METADATA;
        let metadata = &blocks.iter().rfind(is_metadata).unwrap().parts[1];
        let properties =
            ["videocodecid", "audiocodecid", "width"].map(|name| property(metadata, name).unwrap());
        assert_eq!(properties, [id, 2.0, 16.0].map(Value::Number), "{form}");
    }
}

#[test]
fn a_picture_too_long_for_its_new_header_is_dropped_up_to_the_next_keyframe() {
    let picture = |frame_type: u8, size: usize| {
        let mut body = vec![frame_type << 4 | 12, 1, 0, 0, 40];
        body.resize(size, 0x77);
        body
    };
    let mut remuxer = remuxer("enhanced", StreamFacts::default());
    let mut blocks = Vec::new();
    for (dts, body) in [
        (0, b"\x1c\0\0\0\0hvcC".to_vec()),
        (0, picture(1, 9)),
        (600, picture(2, MAX_BODY - 3)),
        (640, picture(2, MAX_BODY - 2)),
        (680, picture(2, 9)),
        (720, picture(1, 9)),
        (760, picture(2, 9)),
    ] {
        remuxer.tag(&tag(V, dts, &body), &mut blocks).unwrap();
    }
    let media: Vec<_> = media(&blocks).iter().map(|(_, time, body)| (*time, body.len())).collect();
    assert_eq!(media, [(0, 9), (0, 12), (600, MAX_BODY), (720, 12), (760, 12)]);
}
