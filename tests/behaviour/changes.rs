//! A publisher returns with another stream: every viewer goes on, or its response ends cleanly and the next request plays.
//! None freezes.
//!
//! For each change all formats are watched at the same time, by the kit's own strict readers (`viewers`) and by players
//! (`players`, in players.rs).

mod players;

use remuxd_tests::audio::{read_adts, read_mp3};
use remuxd_tests::capture::{Capture, End};
use remuxd_tests::clip::Clip;
use remuxd_tests::compare::{Coverage, access_units, compare_units};
use remuxd_tests::fetch::Fetch;
use remuxd_tests::flv::{AUDIO, AccessUnit, Header, SCRIPT, Tag, VIDEO, read_file};
use remuxd_tests::host::{Config, Host};
use remuxd_tests::publisher::Publisher;
use remuxd_tests::times::check_times;
use remuxd_tests::ts::{self, Stream};
use remuxd_tests::wait::SOON;

/// A stream before and after its publisher returned, and the fate of the viewers of each format.
#[derive(Clone, Copy, Debug)]
struct Change {
    before: Clip,
    after: Clip,
    /// FLV over HTTP and WebSocket.
    flv: Fate,
    ts: Fate,
    aac: Fate,
    mp3: Fate,
    rtmp: Fate,
    cut: Cut,
}

/// Where the first part of the stream ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cut {
    /// Some pictures after a keyframe.
    InsideGop,
    /// After a keyframe.
    AfterKeyframe,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// The response continues with the new stream.
    GoesOn,
    /// The response ends cleanly, and the next one has the new stream.
    Reconnects,
    /// The response ends cleanly, and the next request is 415.
    Ends,
    /// 415 before the change; afterwards the format is served.
    Starts,
    /// 415 before and after.
    Refused,
}

use Fate::{Ends, GoesOn, Reconnects, Refused, Starts};

impl Change {
    fn fate(&self, format: &str) -> Fate {
        match format {
            "flv" | "ws" => self.flv,
            "ts" => self.ts,
            "aac" => self.aac,
            "mp3" => self.mp3,
            _ => self.rtmp,
        }
    }
}

const FORMATS: [&str; 6] = ["flv", "ws", "ts", "aac", "mp3", "rtmp"];

/// A change that no viewer of video or AAC notices.
const SAME: Change = Change {
    before: Clip::H264Aac,
    after: Clip::H264Aac,
    flv: GoesOn,
    ts: GoesOn,
    aac: GoesOn,
    mp3: Refused,
    rtmp: GoesOn,
    cut: Cut::InsideGop,
};

macro_rules! changes {
    ($($name:ident: $change:expr;)*) => {
        $(mod $name {
            use super::*;

            const CHANGE: Change = $change;

            #[test]
            fn viewers() {
                super::viewers(CHANGE);
            }

            #[test]
            fn players() {
                super::players::players(CHANGE);
            }
        })*
    };
}

changes! {
    the_same: SAME;
    resolution: Change { after: Clip::LargeH264Aac, ..SAME };
    audio_removed: Change { after: Clip::H264, flv: Reconnects, aac: Ends, ..SAME };
    audio_added: Change { before: Clip::H264, flv: Reconnects, aac: Starts, ..SAME };
    h264_to_hevc: Change { after: Clip::HevcAac, flv: Reconnects, ..SAME };
    aac_to_mp3: Change { after: Clip::H264Mp3, flv: Reconnects, aac: Ends, mp3: Starts, ..SAME };
    b_frames_on: Change { before: Clip::H264NoBAac, ..SAME };
    b_frames_off: Change { after: Clip::H264NoBAac, ..SAME };
    same_after_keyframe: Change { cut: Cut::AfterKeyframe, ..SAME };
    resolution_after_keyframe: Change { after: Clip::LargeH264Aac, flv: Reconnects, cut: Cut::AfterKeyframe, ..SAME };
    b_frames_off_after_keyframe: Change { after: Clip::H264NoBAac, flv: Reconnects, cut: Cut::AfterKeyframe, ..SAME };
}

/// Viewers of a stream that ends may still be far behind, since the kit publishes faster than real time.
fn start_host() -> Host {
    let mount = |config: Config, format: &str| config.mount(&format!("mount = \"/[app]/[stream].{format}\""));
    let config = ["flv", "ts", "aac", "mp3"].into_iter().fold(Config::live(), mount);
    Host::start(&config.publish("republish_wait", "\"5s\"").play("queue_length", "\"10m\""))
}

/// Returns the tags of a clip from its first picture on: no viewer of video gets audio before it.
fn tags(clip: Clip) -> Vec<Tag> {
    let mut pictures = 0;
    let keeps = |tag: &Tag| {
        pictures += u32::from(tag.is_keyframe());
        tag.kind != SCRIPT && (pictures > 0 || tag.access_unit().is_none())
    };
    let mut tags = read_file(&clip.path());
    tags.retain(keeps);
    tags
}

/// Returns `tags` up to the first picture after 2.5 s that is shown later than all before it: with B-frames, its successors
/// in decoding order would be shown before it. Or up to the first keyframe after 2.5 s.
fn cut(mut tags: Vec<Tag>, cut: Cut) -> Vec<Tag> {
    let mut newest = 0;
    let end = tags.iter().position(|tag| {
        let Some(unit) = tag.access_unit().filter(|unit| unit.kind == VIDEO) else { return false };
        let pts = unit.dts + i64::from(unit.cts);
        let is_newest = pts > newest + 40 || unit.cts == 0;
        newest = newest.max(pts);
        unit.dts > 2_500 && (if cut == Cut::InsideGop { is_newest } else { unit.keyframe })
    });
    tags.truncate(end.expect("a clip has four seconds") + 1);
    tags
}

/// A viewer whose every byte is recorded.
enum Viewer {
    /// FLV over HTTP or WebSocket, or RTMP.
    Tags(Capture),
    /// Another format.
    Bytes(&'static str, Fetch),
}

impl Viewer {
    fn open(host: &Host, key: &str, format: &'static str) -> Viewer {
        match format {
            "flv" => Viewer::Tags(Capture::http(host, key)),
            "ws" => Viewer::Tags(Capture::websocket(host, key)),
            "rtmp" => Viewer::Tags(Capture::rtmp(host, key)),
            _ => Viewer::Bytes(format, Fetch::start(host, &format!("/{key}.{format}"))),
        }
    }

    /// Waits for `count` access units. The last of each track may still be buffered in the module.
    fn wait_for(&self, count: usize) {
        match self {
            Viewer::Tags(capture) => capture.wait_access_units(count, SOON),
            Viewer::Bytes(format, fetch) => {
                let most = if *format == "ts" { count - 2 } else { count };
                let what = format!("{most} access units of {format}");
                fetch.wait_for(SOON, &what, |bytes| (read(format, bytes).len() >= most).then_some(()));
            }
        }
    }

    /// Waits for the end, and returns the header of FLV and the access units; `None` for 415.
    fn finish(self) -> Option<(Option<Header>, Vec<AccessUnit>)> {
        match self {
            Viewer::Tags(capture) => {
                let recording = capture.finish(SOON);
                assert_eq!((&recording.end, recording.unfinished), (&End::Clean, 0));
                Some((recording.header, access_units(&recording.tags)))
            }
            Viewer::Bytes(format, fetch) => {
                let fetched = fetch.outcome(SOON);
                if fetched.status == 415 {
                    return None;
                }
                assert_eq!((fetched.status, fetched.whole), (200, true), "{format}");
                if format == "ts" {
                    ts::check(&Stream::read(&fetched.bytes)).unwrap();
                }
                Some((None, read(format, &fetched.bytes)))
            }
        }
    }
}

/// Returns the access units of a format other than FLV. Those of AAC and MP3 have no times.
fn read(format: &str, bytes: &[u8]) -> Vec<AccessUnit> {
    let (head, frames): (&[u8], Vec<Vec<u8>>) = match format {
        // In the middle of an access unit there are none yet.
        "ts" => {
            return ts::access_units(&Stream::read(&bytes[..bytes.len() / 188 * 188])).unwrap_or_default();
        }
        "aac" => (&[0xaf, 1], read_adts(bytes).into_iter().map(|frame| frame.data).collect()),
        _ => (&[0x2f], read_mp3(bytes)),
    };
    let tag = |frame: Vec<u8>| Tag { kind: AUDIO, timestamp: 0, payload: [head, &frame].concat() };
    access_units(&frames.into_iter().map(tag).collect::<Vec<_>>())
}

/// Returns the access units of `tags` that a format carries, as [`read`] returns them.
fn carried(format: &str, tags: &[Tag]) -> Vec<AccessUnit> {
    let codec = match format {
        "ts" => return ts::published_units(tags),
        "aac" => *b"mp4a",
        "mp3" => *b".mp3",
        _ => return access_units(tags),
    };
    let of_codec = access_units(tags).into_iter().filter(|unit| unit.codec == codec);
    of_codec.map(|unit| AccessUnit { dts: 0, ..unit }).collect()
}

fn viewers(change: Change) {
    let host = start_host();
    let key = host.key("changes");
    let first = cut(tags(change.before), change.cut);
    let second = tags(change.after);
    let (now, later) = second.split_at(second.len() * 3 / 4);
    let viewers = FORMATS.map(|format| (format, change.fate(format), Viewer::open(&host, &key, format)));
    host.wait_waiting(FORMATS.len());
    let mut publisher = Publisher::open(host.rtmp, &key);
    host.wait_viewers(FORMATS.len() - 1);
    // Everybody is there before the second tag that has a time.
    let start = first.iter().position(Tag::is_keyframe).unwrap();
    publisher.send(&first[..=start]);
    let player = &viewers.last().unwrap().2;
    player.wait_for(1);
    publisher.send(&first[start + 1..]);
    let (refused, watching): (Vec<_>, Vec<_>) =
        viewers.into_iter().partition(|(_, fate, _)| matches!(fate, Starts | Refused));
    for (format, _, viewer) in refused {
        assert!(viewer.finish().is_none(), "{format} is served before the change");
    }
    for (format, _, viewer) in &watching {
        viewer.wait_for(carried(format, &first).len());
    }
    drop(publisher);
    let mut publisher = Publisher::reopen(host.rtmp, &key);
    publisher.send(now);

    let mut staying = Vec::new();
    for (format, fate, viewer) in watching {
        if fate == GoesOn {
            let all = carried(format, &first).len() + carried(format, now).len();
            viewer.wait_for(all - if is_audio(format) { 0 } else { MAX_DROPPED });
            staying.push((format, viewer));
            continue;
        }
        let (header, units) = viewer.finish().unwrap();
        let before = carried(format, &first);
        check_ended(format, header, &before, &units).unwrap_or_else(|fault| panic!("{format}: {fault}"));
    }
    let mut joined = Vec::new();
    for format in FORMATS {
        let viewer = Viewer::open(&host, &key, format);
        if matches!(change.fate(format), Ends | Refused) {
            assert!(viewer.finish().is_none(), "{format} is served after the change");
        } else {
            joined.push((format, viewer));
        }
    }
    // TS buffers the newest access units; formats of audio start with the newest frame.
    joined.iter().for_each(|(format, viewer)| viewer.wait_for(if *format == "ts" { 3 } else { 1 }));
    publisher.send(later);
    drop(publisher);
    for (format, viewer) in staying {
        let (_, served) = viewer.finish().unwrap();
        let parts = [carried(format, &first), carried(format, &second)];
        check_continued(format, &parts, &served).unwrap_or_else(|fault| panic!("{format}: {fault}"));
    }
    for (format, viewer) in joined {
        let (header, served) = viewer.finish().unwrap();
        let mut expected = carried(format, &second);
        if matches!(format, "aac" | "mp3") {
            // They start with a part of the history, which may be of the first publisher.
            expected = [carried(format, &first), expected].concat();
        }
        compare_units(&expected, &served, Coverage::FromKeyframe)
            .unwrap_or_else(|fault| panic!("{format}, joined: {fault}"));
        check_header(format, header, &served).unwrap_or_else(|fault| panic!("{format}, joined: {fault}"));
    }
}

/// Checks a response that ended at the change: all of the first part, and nothing that its start does not describe.
fn check_ended(
    format: &str,
    header: Option<Header>,
    before: &[AccessUnit],
    served: &[AccessUnit],
) -> Result<(), String> {
    check_header(format, header, served)?;
    check_times(served)
        .or_else(|fault| if before.iter().all(|unit| unit.dts == 0) { Ok(()) } else { Err(fault) })?;
    let own = |unit: &&AccessUnit| before.iter().any(|one| (one.kind, one.codec) == (unit.kind, unit.codec));
    if let Some(other) = served.iter().find(|unit| !own(unit)) {
        return Err(format!("has {other:?}"));
    }
    let first = &served[..before.len().min(served.len())];
    compare_units(before, first, Coverage::Whole).and_then(|units| {
        if units == before.len() { Ok(()) } else { Err(format!("{units} units of {}", before.len())) }
    })
}

/// The most frames of audio that may be dropped at a seam, since they would be heard together with those before it.
const MAX_DROPPED: usize = 5;

/// The longest gap in audio, in milliseconds: before the seam pictures may be shown long after the audio that came with them.
const MAX_AUDIO_GAP: i64 = 200;

fn is_audio(format: &str) -> bool {
    matches!(format, "aac" | "mp3")
}

/// Checks a response with both parts: the second follows without a gap, in sync, and lacks at most the audio that overlaps.
fn check_continued(
    format: &str,
    [first, second]: &[Vec<AccessUnit>; 2],
    served: &[AccessUnit],
) -> Result<(), String> {
    let seam = first.len();
    compare_units(first, &served[..seam.min(served.len())], Coverage::Whole)?;
    let after = &served[seam..];
    let dropped = second.len().checked_sub(after.len()).ok_or("more units than were published")?;
    if is_audio(format) {
        return compare_units(second, after, Coverage::Whole).map(drop);
    }
    check_times(served)?;
    let mut kept = second.clone();
    let mut overlapping = dropped;
    kept.retain(|unit| {
        let drops = unit.kind == AUDIO && overlapping > 0;
        overlapping -= usize::from(drops);
        !drops
    });
    if dropped > MAX_DROPPED {
        return Err(format!("{dropped} frames of audio are missing"));
    }
    // Decoding times may be squeezed, but all is presented as published.
    let presented = |unit: &AccessUnit| unit.dts + i64::from(unit.cts);
    let offset = presented(&after[0]) - presented(&kept[0]);
    let at = |unit: &AccessUnit| AccessUnit { dts: presented(unit) + offset, cts: 0, ..unit.clone() };
    let is_same = |(sent, got): (&AccessUnit, &AccessUnit)| {
        at(sent) == AccessUnit { cts: 0, dts: presented(got), ..got.clone() }
    };
    if let Some(number) = kept.iter().zip(after).position(|pair| !is_same(pair)) {
        return Err(format!("{:?} became {:?}, {offset} ms later", kept[number], after[number]));
    }
    let last = |kind| first.iter().filter(move |unit| unit.kind == kind).map(presented).max();
    let next = |kind| after.iter().filter(move |unit| unit.kind == kind).map(presented).min();
    let start = served[0].dts - first[0].dts;
    for (kind, frame) in [(VIDEO, 40), (AUDIO, 23)] {
        let (Some(last), Some(next)) = (last(kind), next(kind)) else { continue };
        let gap = next - last - start;
        let most = if kind == VIDEO { 0 } else { MAX_AUDIO_GAP };
        // Times are rounded to milliseconds.
        if !(frame - 1..=frame + 1 + most).contains(&gap) {
            return Err(format!("track {kind}: {gap} ms from the last to the next"));
        }
    }
    Ok(())
}

/// Checks that the flags of the FLV header name the tracks.
fn check_header(format: &str, header: Option<Header>, served: &[AccessUnit]) -> Result<(), String> {
    let has = |kind| served.iter().any(|unit| unit.kind == kind);
    let expected = Header { audio: has(AUDIO), video: has(VIDEO) };
    match header {
        Some(header) if format != "rtmp" && header != expected => {
            Err(format!("{header:?}, not {expected:?}"))
        }
        _ => Ok(()),
    }
}
