//! Streams with every combination of tracks, in every format at once. A table has the expectation for each viewer; all
//! viewers were there before the first tag.

use remuxd_tests::audio::{read_adts, read_mp3};
use remuxd_tests::capture::Capture;
use remuxd_tests::clip::{Clip, LENGTH};
use remuxd_tests::compare::access_units;
use remuxd_tests::fetch::Fetch;
use remuxd_tests::flv::{AUDIO, AccessUnit, Content, Tag, VIDEO, read_file};
use remuxd_tests::host::{Config, Host};
use remuxd_tests::publisher::Publisher;
use remuxd_tests::scratch::Scratch;
use remuxd_tests::tool::{Ffmpeg, run};
use remuxd_tests::ts::{self, Stream};
use remuxd_tests::wait::SOON;

/// The expectation for a viewer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gets {
    /// Every access unit that the format carries, in order, with the published distances in time.
    All,
    /// Every access unit, with corrected distances in time.
    AllCorrected,
    /// Every access unit up to the first of a track or codec that the first second does not have; there the response ends.
    UntilTheTracksChange,
    /// 415: nothing that the format carries came within a second of the first track.
    Refused,
}

use Gets::{All, AllCorrected, Refused, UntilTheTracksChange};

struct Shape {
    name: &'static str,
    tags: Vec<Tag>,
    /// FLV over HTTP and WebSocket.
    flv: Gets,
    ts: Gets,
    aac: Gets,
    mp3: Gets,
}

fn clip(clip: Clip) -> Vec<Tag> {
    read_file(&clip.path())
}

fn after(time: u32, tags: Vec<Tag>) -> Vec<Tag> {
    tags.into_iter().map(|tag| Tag { timestamp: tag.timestamp + time, ..tag }).collect()
}

fn is_frame(tag: &Tag) -> bool {
    matches!(tag.content(), Content::AccessUnit(_))
}

/// One keyframe a second, for twelve seconds.
fn slow_video() -> Vec<Tag> {
    let rounds = (0..3).flat_map(|round| after(round * 4_000, clip(Clip::H264)));
    rounds.filter(|tag| tag.is_keyframe() || !is_frame(tag)).collect()
}

/// `late` comes two seconds after the other track, with its sequence header.
fn late_track(late: u8) -> Vec<Tag> {
    let (headers, frames): (Vec<Tag>, Vec<Tag>) =
        clip(Clip::H264Aac).into_iter().partition(|tag| !is_frame(tag) && tag.timestamp == 0);
    let (now, then): (Vec<Tag>, Vec<Tag>) = headers.into_iter().partition(|tag| tag.kind != late);
    let (early, rest): (Vec<Tag>, Vec<Tag>) = frames.into_iter().partition(|tag| tag.timestamp < 2_000);
    let early = early.into_iter().filter(|tag| tag.kind != late);
    let then = then.into_iter().map(|tag| Tag { timestamp: 2_000, ..tag });
    now.into_iter().chain(early).chain(then).chain(rest).collect()
}

fn larger_video() -> Vec<Tag> {
    let scratch = Scratch::new();
    let file = scratch.join("large.flv");
    let mut command = Ffmpeg::Five.command();
    command.args(["-f", "lavfi", "-i", "testsrc2=size=640x360:rate=25:duration=2"]);
    command.args(["-f", "lavfi", "-i", "sine=sample_rate=44100:duration=2", "-ac", "2"]);
    command.args([
        "-c:v", "libx264", "-preset", "veryfast", "-g", "25", "-pix_fmt", "yuv420p", "-c:a", "aac", "-f",
        "flv",
    ]);
    run(command.arg(&file)).unwrap();
    read_file(&file)
}

fn empty_audio_frames() -> Vec<Tag> {
    let mut tags = clip(Clip::H264Aac);
    for tag in tags.iter_mut().filter(|tag| tag.kind == AUDIO && is_frame(tag)) {
        tag.payload.truncate(if tag.timestamp < 1_000 { usize::MAX } else { 2 });
    }
    tags
}

fn shapes() -> Vec<Shape> {
    let shape = |name, tags, flv, ts, aac, mp3| Shape { name, tags, flv, ts, aac, mp3 };
    let jump = [0, 3_600_000, 100].map(|time| after(time, clip(Clip::H264Aac))).concat();
    let switch =
        [clip(Clip::H264Aac), after(4_100, clip(Clip::HevcAac)), after(8_200, clip(Clip::H264Mp3))].concat();
    vec![
        shape("video and audio", clip(Clip::H264Aac), All, All, All, Refused),
        shape("video and MP3", clip(Clip::H264Mp3), All, All, Refused, All),
        shape("audio alone", clip(Clip::Aac), All, All, All, Refused),
        shape("MP3 alone", clip(Clip::Mp3), All, All, Refused, All),
        shape("video alone", clip(Clip::H264), All, All, Refused, Refused),
        shape("video alone, one picture a second", slow_video(), All, All, Refused, Refused),
        shape("late audio", late_track(AUDIO), UntilTheTracksChange, All, Refused, Refused),
        shape("late video", late_track(VIDEO), All, All, All, Refused),
        shape("change of both codecs", switch, UntilTheTracksChange, All, UntilTheTracksChange, Refused),
        shape(
            "change of resolution",
            [clip(Clip::H264Aac), after(4_100, larger_video())].concat(),
            All,
            All,
            All,
            Refused,
        ),
        shape("audio messages of no length", empty_audio_frames(), All, All, All, Refused),
        shape("a jump ahead and back", jump, AllCorrected, AllCorrected, AllCorrected, Refused),
    ]
}

/// A viewer.
enum Viewer {
    Flv(Capture),
    Other(&'static str, Fetch),
}

/// Returns the access units of its response; `None` for 415.
fn served(what: &str, viewer: Viewer) -> Option<Vec<AccessUnit>> {
    let (format, fetch) = match viewer {
        Viewer::Flv(capture) => return Some(access_units(&capture.finish(LENGTH * 6).tags)),
        Viewer::Other(format, fetch) => (format, fetch.outcome(LENGTH * 6)),
    };
    if fetch.status == 415 {
        return None;
    }
    assert_eq!((fetch.status, fetch.whole), (200, true), "{what}");
    if format == "ts" {
        let stream = Stream::read(&fetch.bytes);
        ts::check(&stream).unwrap();
        return Some(ts::access_units(&stream).unwrap());
    }
    let frames: Vec<Vec<u8>> = match format {
        "mp3" => read_mp3(&fetch.bytes),
        _ => read_adts(&fetch.bytes).into_iter().map(|frame| frame.data).collect(),
    };
    // As tags, from which the kit reads access units. These formats have no times.
    let head: &[u8] = if format == "mp3" { &[0x2f] } else { &[0xaf, 1] };
    let tag = |frame: Vec<u8>| Tag { kind: AUDIO, timestamp: 0, payload: [head, &frame].concat() };
    Some(access_units(&frames.into_iter().map(tag).collect::<Vec<_>>()))
}

/// Returns the access units of `tags` that should be served.
fn expected(format: &str, gets: Gets, tags: &[Tag]) -> Vec<AccessUnit> {
    let units = if format == "ts" { ts::published_units(tags) } else { access_units(tags) };
    let carried = |unit: &AccessUnit| match format {
        "aac" => unit.codec == *b"mp4a",
        "mp3" => unit.codec == *b".mp3",
        _ => true,
    };
    let read = |unit: &AccessUnit| matches!(format, "flv" | "ts") || unit.kind == AUDIO;
    let begins = units.iter().filter(|unit| unit.dts < 1_000).map(|unit| unit.codec).collect::<Vec<_>>();
    let is_first = |unit: &AccessUnit| gets != UntilTheTracksChange || begins.contains(&unit.codec);
    let units = units.into_iter().filter(|unit| unit.size > 0 && read(unit));
    units.take_while(is_first).filter(carried).collect()
}

/// Removes the times, or makes them relative to the first one.
fn with_relative_times(units: Vec<AccessUnit>, timed: bool) -> Vec<AccessUnit> {
    let start = units.first().map_or(0, |unit| unit.dts);
    let relative = |unit: AccessUnit| AccessUnit { dts: if timed { unit.dts - start } else { 0 }, ..unit };
    units.into_iter().map(relative).collect()
}

fn assert_served(shape: &Shape, name: &str, format: &str, gets: Gets, viewer: Viewer) {
    let what = format!("{}: {name}", shape.name);
    let Some(served) = served(&what, viewer) else {
        assert_eq!(gets, Refused, "{what}");
        return;
    };
    assert_ne!(gets, Refused, "{what}: {} access units", served.len());
    let timed = gets == All && matches!(format, "flv" | "ts");
    let (served, expected) =
        (with_relative_times(served, timed), with_relative_times(expected(format, gets, &shape.tags), timed));
    assert!(expected.len() > 10, "{what}");
    let same = served.iter().zip(&expected).take_while(|(served, expected)| served == expected).count();
    let first = |units: &[AccessUnit]| units.get(same).cloned();
    assert!(
        served == expected,
        "{what}: {} of {} access units; number {same} differs: {:?}, expected {:?}",
        served.len(),
        expected.len(),
        first(&served),
        first(&expected)
    );
}

#[test]
fn every_shape_of_stream_is_served_in_every_format() {
    let mount = |config: Config, format: &str| config.mount(&format!("mount = \"/[app]/[stream].{format}\""));
    let config = ["flv", "ts", "aac", "mp3"].into_iter().fold(Config::live(), mount);
    // Published faster than real time, so that viewers may be far behind.
    let host = Host::start(&config.play("queue_length", "\"10m\""));
    for (index, shape) in shapes().into_iter().enumerate() {
        let key = host.key(&format!("shape{index}"));
        let mut publisher = Publisher::open(host.rtmp, &key);
        host.wait_viewers(0);
        let other = |format| Viewer::Other(format, Fetch::start(&host, &format!("/{key}.{format}")));
        let viewers = [
            ("HTTP-FLV", "flv", shape.flv, Viewer::Flv(Capture::http(&host, &key))),
            ("WebSocket-FLV", "flv", shape.flv, Viewer::Flv(Capture::websocket(&host, &key))),
            ("HTTP-TS", "ts", shape.ts, other("ts")),
            ("HTTP-AAC", "aac", shape.aac, other("aac")),
            ("HTTP-MP3", "mp3", shape.mp3, other("mp3")),
        ];
        host.wait_viewers(viewers.len());
        // The refusal must come while the stream is live: after its end it proves nothing.
        let (refused, served): (Vec<_>, Vec<_>) = viewers.into_iter().partition(|viewer| viewer.2 == Refused);
        let check = |(name, format, gets, viewer)| assert_served(&shape, name, format, gets, viewer);
        let (now, later) =
            shape.tags.split_at(shape.tags.iter().take_while(|tag| tag.timestamp < 2_000).count());
        publisher.send(now);
        refused.into_iter().for_each(check);
        // Their remuxers must have started before a late track comes: later ones know it from the start.
        for (_, _, _, viewer) in &served {
            if let Viewer::Flv(capture) = viewer {
                capture.wait_access_units(1, SOON);
            }
        }
        publisher.send(later);
        drop(publisher);
        served.into_iter().for_each(check);
    }
}
