//! Tests of the protocol.

use bytes::{BufMut, Bytes};
use remuxd_plugin_api::{BlockFlags, Codec, Options, Setup, StreamFacts, TagKind, Transport};

use super::frame::{MAX_TEXT, about, kind, logged, message, number, seal};
use super::properties::{PAYLOAD, body_of as body, check_wire, read_response};
use super::request::{put_setup, put_tag, setup, tag};
use super::response::*;
use crate::media::{Millis, Tag, Tracks};
use crate::module::description::Description;
use crate::module::fault::ModuleFault;
use crate::module::load::preflight::Build;
use crate::module::options::{OptionKind, OptionSpec};
use crate::module::output::OutBlock;

fn block(flags: BlockFlags, parts: &[Bytes]) -> OutBlock {
    OutBlock { flags, track: 3, dts: Millis(-7), parts: parts.into(), charge: None }
}

#[test]
fn a_setup_and_a_tag_cross_unchanged() {
    let options = Options::new(vec![("a".into(), "1".into()), ("b".into(), String::new())]);
    let mut given = Setup::new(options, StreamFacts::new(Codec::H264, Codec::AAC, 4000));
    given.state = b"state".to_vec();
    let mut make = about(kind::MAKE, 7);
    put_setup(&mut make, &given);
    seal(&mut make, 0);
    let mut make = body(make, kind::MAKE);
    assert_eq!(number(&mut make), Ok(7));
    let setup = setup(&mut make).unwrap();
    assert_eq!((&setup.options, &setup.state), (&given.options, &given.state));
    assert_eq!(
        (setup.stream.video, setup.stream.audio, setup.stream.age_ms),
        (Codec::H264, Codec::AAC, 4000)
    );

    let payload = Bytes::from_static(b"\x17\x01\0\0\x28\0\0\0\x02\x65\x09");
    let mut given = Tag::new(TagKind::VIDEO, Millis(-40), payload.clone());
    given.discontinuity = true;
    given.tracks = Tracks::known(true, false);
    let mut frame = about(kind::TAG, 7);
    put_tag(&mut frame, &given);
    seal(&mut frame, payload.len());
    frame.extend_from_slice(&payload);
    let mut frame = body(frame, kind::TAG);
    number(&mut frame).unwrap();
    let tag = tag(frame).unwrap();
    assert_eq!((tag.kind, tag.dts, tag.discontinuity), (TagKind::VIDEO, Millis(-40), true));
    assert_eq!((tag.header, tag.tracks, tag.payload), (given.header, given.tracks, payload));
}

#[test]
fn blocks_cross_and_a_payload_does_not_travel_back() {
    let payload = Bytes::from_static(PAYLOAD);
    let parts = [Bytes::from_static(b"head"), payload.slice(2..5), Bytes::from(PAYLOAD.to_vec())];
    let blocks = [block(BlockFlags::JOIN, &parts), block(BlockFlags::NONE, &[])];
    let frame = done(&Ok(()), &blocks, &payload);
    let (result, fault, out) = read_response(10_000, body(frame.clone(), kind::DONE));
    assert_eq!((result, fault), (Ok(Ok(())), None));
    assert_eq!(out[0].parts, blocks[0].parts);
    assert_eq!(out[0].parts[1].as_ptr(), payload[2..].as_ptr(), "shared");
    assert_eq!((out[0].flags, out[0].track, out[0].dts), (BlockFlags::JOIN, 3, Millis(-7)));
    assert!(out[1].parts.is_empty());
    // Part 3 has the same bytes elsewhere, and does travel.
    assert!(
        frame.windows(10).any(|bytes| bytes == PAYLOAD) && !frame.windows(3).any(|bytes| bytes == b"5672")
    );
}

#[test]
fn the_rules_hold_on_this_side_too() {
    let payload = Bytes::from_static(PAYLOAD);
    let three = [
        block(BlockFlags(0), std::slice::from_ref(&payload)),
        block(BlockFlags(8), &[]),
        block(BlockFlags(0), &[]),
    ];
    let (_, fault, out) = read_response(10_000, body(done(&Ok(()), &three, &payload), kind::DONE));
    assert_eq!((out.len(), fault), (1, Some(ModuleFault::BadFlags { flags: 8 })));
    let (_, fault, out) = read_response(200, body(done(&Ok(()), &three[..1], &payload), kind::DONE));
    assert_eq!((out.len(), fault), (0, Some(ModuleFault::Flooded { limit: 200 })));
}

#[test]
fn parts_over_the_budget_are_not_even_read() {
    let mut answer = vec![0, 0, 0];
    answer.put_i64(40);
    answer.put_u32(u32::MAX);
    // Few of them are there: reading them would fail in another way.
    answer.extend([0, 0, 0, 0, 0].repeat(1000));
    let (result, fault, out) = read_response(100_000, answer.into());
    assert_eq!((result, out.len(), fault), (Ok(Ok(())), 0, Some(ModuleFault::Flooded { limit: 100_000 })));
}

#[test]
fn faults_cross() {
    let text = || "a b".to_owned();
    for fault in [
        ModuleFault::Panicked { message: text() },
        ModuleFault::Remux { message: text() },
        ModuleFault::Unsupported { message: text() },
        ModuleFault::Flooded { limit: 5 },
        ModuleFault::LargeState { size: 1 << 20, limit: 64 << 10 },
        ModuleFault::BadFlags { flags: 200 },
        ModuleFault::BadTrack { track: 9 },
        ModuleFault::Poisoned,
    ] {
        let (result, ..) = read_response(0, body(done(&Err(fault.clone()), &[], &Bytes::new()), kind::DONE));
        assert_eq!(result, Ok(Err(fault.clone())));
        assert_eq!(read_state(body(put_state(&Err(fault.clone())), kind::STATE)), Ok(Err(fault)));
    }
    assert_eq!(read_state(body(put_state(&Ok(vec![1, 2])), kind::STATE)), Ok(Ok(vec![1, 2])));
}

#[test]
fn lines_are_cut_and_cleaned_for_the_log() {
    let long = "a\n\u{1b}[1m".to_owned() + &"\u{e9}".repeat(MAX_TEXT);
    let (level, line) = logged(body(super::frame::line(kind::LOG, Some(2), &long), kind::LOG)).unwrap();
    assert!(level == 2 && line.starts_with("a [1m\u{e9}") && line.len() < MAX_TEXT, "{line}");
    assert_eq!(message(b"no\xff\n good").as_deref(), Ok("no\u{fffd} good"));
    assert!(message(&[b'x'; MAX_TEXT]).is_ok() && message(&[b'x'; MAX_TEXT + 1]).is_err());
}

/// The body of a frame that describes a module.
fn description() -> Bytes {
    let description = Description {
        name: "name".into(),
        version: "1.0".into(),
        extensions: vec!["ext".into()],
        transports: vec![Transport::WEBSOCKET],
        content_type: "a/b".into(),
        video_codecs: vec![Codec::H264],
        audio_codecs: Vec::new(),
        options: vec![OptionSpec {
            name: "option".into(),
            kind: OptionKind::Choice(vec!["x".into(), "y".into()]),
            default: "x".into(),
            doc: "doc".into(),
            variant: true,
        }],
    };
    let build = Build { abi: (1, 1), rustc: "rustc 1".into() };
    body(describe(&description, &build, &["Landlock: no".to_owned()]), kind::DESCRIBED)
}

#[test]
fn a_description_crosses_or_is_refused_at_every_length() {
    let whole = description();
    let Described { description, build, missing } = described(&whole).unwrap().unwrap();
    assert_eq!((build.abi, &*build.rustc, &*missing), ((1, 1), "rustc 1", &["Landlock: no".to_owned()][..]));
    assert_eq!((&*description.name, description.options.len()), ("name", 1));
    for len in 0..whole.len() {
        assert!(described(&whole[..len]).is_err(), "{len} bytes");
    }
}

#[test]
fn a_response_is_refused_where_it_is_cut() {
    let payload = Bytes::from_static(PAYLOAD);
    let parts = [Bytes::from_static(b"head"), payload.slice(2..5)];
    let whole = body(done(&Ok(()), &[block(BlockFlags::JOIN, &parts)], &payload), kind::DONE);
    let no_blocks = body(done(&Ok(()), &[], &payload), kind::DONE).len();
    for len in 0..whole.len() {
        let (result, _, out) = read_response(10_000, whole.slice(..len));
        assert_eq!((result.is_ok(), out.len()), (len == no_blocks, 0), "{len} bytes");
    }
}

#[test]
fn bytes_of_any_kind_are_read_or_refused() {
    let (payload, mut seed) = (Bytes::from_static(PAYLOAD), 1_u64);
    let mut random = move || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize
    };
    let parts = [Bytes::from_static(b"head"), payload.slice(2..5)];
    let answer = body(done(&Ok(()), &[block(BlockFlags::JOIN, &parts)], &payload), kind::DONE);
    for whole in [answer, description()] {
        for _ in 0..5_000 {
            let mut bytes = whole.to_vec();
            for _ in 0..=random() % 4 {
                let at = random() % bytes.len();
                bytes[at] = [random() as u8, 0, 1, 0xff][random() % 4];
            }
            check_wire(1000, &bytes);
        }
    }
}
