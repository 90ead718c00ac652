//! Modules never fault, whatever a publisher sends: what a call writes, and the work for it, are bounded.

use remuxd_tests::capture::Capture;
use remuxd_tests::fetch::Fetch;
use remuxd_tests::flv::{AUDIO, Content, SCRIPT, Tag, VIDEO};
use remuxd_tests::host::{Config, Host};
use remuxd_tests::publisher::{Numbered, Publisher};
use remuxd_tests::ts::Stream;
use remuxd_tests::wait::SOON;

/// An audio frame that comes last.
const LAST: &[u8] = b"the last frame of the stream";

fn video(timestamp: u32, start: &[u8], rest: &[u8]) -> Tag {
    Tag { kind: VIDEO, timestamp, payload: [start, rest].concat() }
}

fn audio(timestamp: u32, data: &[u8]) -> Tag {
    Tag { kind: AUDIO, timestamp, payload: [b"\xaf\x01", data].concat() }
}

/// Returns an AVC sequence header with 20 picture parameter sets of 60,000 bytes.
fn long_sequence_header(timestamp: u32) -> Tag {
    let mut sets = b"\x01\x42\0\x1f\xff\xe1\0\x02\x67a\x14".to_vec();
    for _ in 0..20 {
        sets.extend(60_000_u16.to_be_bytes());
        sets.push(0x68);
        sets.resize(sets.len() + 59_999, 7);
    }
    video(timestamp, b"\x17\0\0\0\0", &sets)
}

/// Returns a keyframe of one NAL unit of `len` bytes.
fn keyframe(timestamp: u32, len: u32) -> Tag {
    let unit = [&len.to_be_bytes()[..], &vec![0x65; len as usize]].concat();
    video(timestamp, b"\x17\x01\0\0\0", &unit)
}

/// Returns the AVC sequence header of the kit's clip.
fn sequence_header(lengths: u8) -> Tag {
    let headers = Numbered::new(0).headers();
    let mut header = headers
        .into_iter()
        .find(|tag| tag.kind == VIDEO && tag.content() == Content::SequenceHeader)
        .unwrap();
    header.payload[9] = lengths;
    header
}

/// Returns an attack: what a publisher sends after the configuration of its audio.
fn attacks() -> [(&'static str, Vec<Tag>); 3] {
    // Longer than a module waits for a second track.
    let only_audio = || (0..40).map(|n| audio(n * 20, b"frame"));
    [
        (
            "tiny keyframes with long parameter sets",
            std::iter::once(long_sequence_header(0)).chain((0..60).map(|n| keyframe(n * 20, 10))).collect(),
        ),
        (
            "a long sequence header after the start",
            only_audio()
                .chain([long_sequence_header(800)])
                .chain((0..14).map(|n| audio(800 + n * 20, b"frame")))
                .chain([keyframe(1_080, 10)])
                .collect(),
        ),
        (
            "a picture of eight million units",
            // Lengths of one byte. The audio has begun: FLV does not hold so much to wait for it.
            only_audio()
                .chain([sequence_header(0xfc)])
                .chain([video(800, b"\x17\x01\0\0\0", &b"\x01\x65".repeat((8 << 20) - 8))])
                .chain([audio(820, b"frame"), video(1_000, b"\x17\x01\0\0\0", b"\x02\x65x")])
                .collect(),
        ),
    ]
}

#[test]
fn no_data_are_a_fault_of_a_module() {
    let config = Config::live()
        .mount("mount = \"/[app]/[stream].flv\"")
        .mount("mount = \"/[app]/[stream].ts\"")
        .tables("[modules]\nload = [\"flv\", \"ts\"]");
    let host = Host::start(&config);
    let good = host.key("good");
    let (viewer, ts) = (Capture::http(&host, &good), Fetch::start(&host, &format!("/{good}.ts")));
    let publisher = Publisher::open(host.rtmp, &good).pace(Numbered::new(2000));
    viewer.wait_access_units(10, SOON);
    for (index, (name, attack)) in attacks().into_iter().enumerate() {
        let key = host.key(&format!("attack{index}"));
        let viewers = ["flv", "ts"].map(|format| Fetch::start(&host, &format!("/{key}.{format}")));
        let mut attacker = Publisher::open(host.rtmp, &key);
        let headers = Numbered::new(0).headers();
        attacker.send(headers.iter().filter(|tag| [AUDIO, SCRIPT].contains(&tag.kind)));
        attacker.send(&attack);
        // The attack is over when what follows it has come.
        let more = (0..100).map(|n| audio(1_200 + n * 20, b"frame")).chain([audio(3_200, LAST)]);
        attacker.send(&more.collect::<Vec<_>>());
        for viewer in viewers {
            let is_over = |bytes: &[u8]| {
                let end = &bytes[bytes.len().saturating_sub(1_000)..];
                end.windows(LAST.len()).any(|part| part == LAST).then_some(())
            };
            viewer.wait_for(SOON, name, is_over);
        }
        let modules = host.api_json("/api/v1/modules");
        let faults: Vec<_> = modules.as_array().unwrap().iter().map(|module| &module["faults"]).collect();
        assert_eq!(faults, [0, 0], "{name}");
    }
    let sent = publisher.stop();
    let seen = viewer.finish(SOON);
    assert_eq!(Numbered::numbers(&seen.tags), (0..sent).collect::<Vec<_>>(), "the good viewer saw a gap");
    let stream = Stream::read(&ts.finish(SOON));
    let pictures: Vec<i64> =
        stream.units.iter().filter(|unit| unit.is_video()).map(|unit| unit.dts / 90).collect();
    let steps = pictures.windows(2).map(|pair| pair[1] - pair[0]);
    assert!(
        steps.clone().all(|step| step == i64::from(Numbered::STEP)),
        "the TS viewer saw a gap: {pictures:?}"
    );
    // It started at a keyframe.
    let missed = sent as usize - pictures.len();
    assert!(!pictures.is_empty() && missed.is_multiple_of(Numbered::GOP as usize), "{missed} of {sent}");
}
