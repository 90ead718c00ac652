//! Streams whose tracks or codecs change, and streams whose tracks begin far apart.

use std::time::Duration;

use remuxd_tests::capture::{Capture, End, Recording};
use remuxd_tests::clip::Clip;
use remuxd_tests::compare::{Coverage, check_order, compare};
use remuxd_tests::decode::decode;
use remuxd_tests::fetch::Fetch;
use remuxd_tests::flv::{AUDIO, Content, Header, SCRIPT, Tag, VIDEO, read_file};
use remuxd_tests::host::{Config, Host};
use remuxd_tests::publisher::{Numbered, Publisher};
use remuxd_tests::scratch::Scratch;
use remuxd_tests::wait::SOON;

const BOTH: Header = Header { audio: true, video: true };
const AUDIO_ALONE: Header = Header { audio: true, video: false };
const VIDEO_ALONE: Header = Header { audio: false, video: true };

/// A host whose viewers wait long for a publisher that returns.
fn patient(config: Config) -> Host {
    // Published faster than real time, so that viewers may be far behind.
    Host::start(&config.publish("republish_wait", "\"1m\"").play("queue_length", "\"10m\""))
}

/// The tags of one kind, and script tags.
fn only(kind: u8, tags: Vec<Tag>) -> Vec<Tag> {
    tags.into_iter().filter(|tag| [kind, SCRIPT].contains(&tag.kind)).collect()
}

fn ended_cleanly(viewer: Capture) -> Recording {
    let recording = viewer.finish(SOON);
    assert_eq!((&recording.end, recording.unfinished), (&End::Clean, 0));
    check_order(&recording.tags).unwrap();
    recording
}

/// Waits until the FLV mounts of both transports have started.
fn wait_mounts(host: &Host, key: &str) {
    for module in ["module=flv", "module=websocket-flv"] {
        host.wait_log(&["mount started", key, module]);
    }
}

fn wait_last(viewer: &Capture, tags: &[Tag]) {
    let last = tags.iter().rev().find_map(Tag::access_unit).unwrap();
    let arrived = |tag: &Tag| tag.access_unit().is_some_and(|unit| unit.hash == last.hash);
    viewer.wait_until(SOON, "the last access unit", |tags| tags.iter().rev().any(arrived));
}

#[test]
fn a_republish_with_other_tracks_or_codecs_ends_flv_and_the_next_request_gets_the_new_layout() {
    let host = patient(Config::live());
    for (before, after, header) in [
        (Clip::H264Aac, Clip::H264, VIDEO_ALONE),
        (Clip::H264Aac, Clip::Aac, AUDIO_ALONE),
        (Clip::H264, Clip::H264Aac, BOTH),
        (Clip::Aac, Clip::H264Aac, BOTH),
        (Clip::H264Aac, Clip::HevcAac, BOTH),
        (Clip::H264Aac, Clip::H264Mp3, BOTH),
        (Clip::Aac, Clip::Mp3, AUDIO_ALONE),
    ] {
        let what = format!("{before:?} to {after:?}");
        println!("{what}");
        let key = host.key(&format!("{before:?}-{after:?}"));
        let [old, new] = [before, after].map(|clip| read_file(&clip.path()));
        let mut publisher = Publisher::open(host.rtmp, &key);
        let viewers = [Capture::http(&host, &key), Capture::websocket(&host, &key)];
        let player = Capture::rtmp(&host, &key);
        wait_mounts(&host, &key);
        player.wait_started(SOON);
        publisher.send(&old);
        [&viewers[0], &viewers[1], &player].into_iter().for_each(|one| wait_last(one, &old));
        drop(publisher);
        let mut publisher = Publisher::reopen(host.rtmp, &key);
        let (now, later) = new.split_at(new.iter().take_while(|tag| tag.timestamp < 2_500).count());
        publisher.send(now);
        // The next viewers join at the second keyframe. Of the audio before it, the start may overlap that of the first publisher,
        // and is dropped.
        wait_last(&player, now);
        let next = viewers.map(|viewer| {
            let recording = ended_cleanly(viewer);
            let flags = Header { audio: before.audio().is_some(), video: before.video().is_some() };
            assert_eq!(recording.header, Some(flags), "{what}");
            Capture::http(&host, &key)
        });
        publisher.send(later);
        next.iter().for_each(|viewer| wait_last(viewer, &new));
        wait_last(&player, &new);
        assert_eq!(player.end(), None, "{what}: RTMP goes on");
        drop(publisher);
        for viewer in next {
            assert_eq!(viewer.end(), None, "{what}");
            let tags = viewer.tags();
            compare(&new, &tags, Coverage::FromKeyframe).unwrap();
            viewer.wait_started(SOON);
            let scratch = Scratch::new();
            let file = scratch.join("next.flv");
            std::fs::write(&file, remuxd_tests::flv::write(header, &tags)).unwrap();
            decode(after.ffmpeg(), &file).unwrap();
            assert_eq!(viewer.header(), Some(header), "{what}");
        }
    }
}

#[test]
fn a_track_that_goes_away_or_comes_in_mid_stream_ends_flv() {
    let host = patient(Config::live());
    let key = host.key("comes-and-goes");
    let mut publisher = Publisher::open(host.rtmp, &key);
    let mut media = Numbered::new(500);
    let mut viewer = Capture::http(&host, &key);
    host.wait_viewers(1);
    publisher.send(&media.headers());
    publisher.send(&media.frames(50));
    // More than ten seconds, then both tracks again.
    for (round, header) in [BOTH, VIDEO_ALONE, BOTH].into_iter().enumerate() {
        viewer.wait_until(SOON, "pictures", |tags| Numbered::numbers(tags).len() > 10);
        assert_eq!(viewer.header(), Some(header), "round {round}");
        if round == 2 {
            break;
        }
        let frames = media.frames(25 * 12);
        publisher.send(if header == BOTH { only(VIDEO, frames) } else { frames }.iter());
        let recording = ended_cleanly(viewer);
        let audio = recording.tags.iter().filter(|tag| tag.kind == AUDIO && tag.access_unit().is_some());
        assert_eq!(audio.count() > 0, header.audio, "round {round}");
        viewer = Capture::http(&host, &key);
    }
}

#[test]
fn an_audio_viewer_ends_when_the_audio_does() {
    let host = patient(Config::live().mount("mount = \"/[app]/[stream].aac\""));
    let key = host.key("no-audio");
    let path = format!("/{key}.aac");
    let mut publisher = Publisher::open(host.rtmp, &key);
    let viewer = Fetch::start(&host, &path);
    host.wait_viewers(1);
    publisher.send(&read_file(&Clip::H264Aac.path()));
    viewer.wait_bytes(1_000, SOON);
    drop(publisher);
    let mut publisher = Publisher::reopen(host.rtmp, &key);
    publisher.send(&read_file(&Clip::H264.path()));
    assert!(!viewer.finish(SOON).is_empty());
    assert_eq!(Fetch::start(&host, &path).outcome(SOON).status, 415);
}

#[test]
fn a_viewer_that_comes_while_the_publisher_is_away_starts_at_its_first_keyframe() {
    let host = patient(Config::live());
    let key = host.key("away");
    let mut publisher = Publisher::open(host.rtmp, &key);
    let early = Capture::http(&host, &key);
    host.wait_viewers(1);
    let mut media = Numbered::new(500);
    publisher.send(&media.headers());
    publisher.send(&media.frames(40));
    early.wait_until(SOON, "frame 39", |tags| Numbered::numbers(tags).last() == Some(&39));
    drop(publisher);
    host.wait_log(&["publisher left"]);
    let late = [Capture::http(&host, &key), Capture::websocket(&host, &key), Capture::rtmp(&host, &key)];
    host.wait_waiting(3);
    // It comes back in the middle of a GOP.
    let mut publisher = Publisher::open(host.rtmp, &key);
    publisher.send(&media.headers());
    publisher.send(&media.frames(30));
    for viewer in late {
        viewer.wait_until(SOON, "frame 69", |tags| Numbered::numbers(tags).last() == Some(&69));
        assert_eq!(Numbered::numbers(&viewer.tags()), (50..70).collect::<Vec<_>>());
    }
    early.wait_until(SOON, "frame 69", |tags| Numbered::numbers(tags).last() == Some(&69));
    let numbers = Numbered::numbers(&early.tags());
    assert_eq!(numbers, (0..40).chain(50..70).collect::<Vec<_>>());
}

#[test]
fn a_viewer_waits_for_a_publisher_that_is_away_no_longer_than_wait() {
    let host = patient(Config::live().play("wait", "\"500ms\""));
    let key = host.key("stays-away");
    let mut publisher = Publisher::open(host.rtmp, &key);
    let mut media = Numbered::new(500);
    publisher.send(&media.headers());
    publisher.send(&media.frames(40));
    Capture::http(&host, &key).wait_access_units(1, SOON);
    drop(publisher);
    host.wait_log(&["publisher left"]);
    assert_eq!(Fetch::start(&host, &host.path(&key)).outcome(SOON).status, 404);
}

/// Audio from the start, and video from three seconds on.
fn late_video() -> (Vec<Tag>, Vec<Tag>, Vec<Tag>) {
    let mut media = Numbered::new(500);
    let headers = media.headers();
    let early = only(AUDIO, media.frames(75));
    (headers, early, media.frames(75))
}

#[test]
fn audio_is_served_at_once_while_announced_video_has_not_begun() {
    let host = patient(Config::live());
    let (headers, early, rest) = late_video();
    let announced: [&dyn Fn(&Tag) -> bool; 2] = [&|_| true, &|tag| tag.kind != VIDEO];
    for (number, kept) in announced.into_iter().enumerate() {
        let key = host.key(&format!("late-video{number}"));
        let mut publisher = Publisher::open(host.rtmp, &key);
        let viewers = [Capture::http(&host, &key), Capture::websocket(&host, &key)];
        wait_mounts(&host, &key);
        publisher.send(headers.iter().filter(|tag| kept(tag)));
        publisher.send(&early[..2]);
        for viewer in &viewers {
            viewer.wait_access_units(2, SOON);
            assert_eq!(viewer.header(), Some(BOTH), "the metadata announce both");
        }
        publisher.send(&early[2..]);
        publisher.send(headers.iter().filter(|tag| tag.kind == VIDEO));
        publisher.send(&rest);
        drop(publisher);
        for viewer in viewers {
            viewer.wait_until(SOON, "the pictures", |tags| Numbered::numbers(tags).last() == Some(&149));
            assert_eq!(Numbered::numbers(&viewer.tags()), (75..150).collect::<Vec<_>>());
            assert_eq!(viewer.end(), None);
        }
    }
}

#[test]
fn audio_is_served_within_a_second_and_video_that_begins_later_needs_a_new_response() {
    let host = patient(Config::live());
    let key = host.key("unannounced-video");
    let (headers, early, rest) = late_video();
    let mut publisher = Publisher::open(host.rtmp, &key);
    let viewer = Capture::http(&host, &key);
    host.wait_viewers(1);
    let is_audio_header = |tag: &&Tag| tag.kind == AUDIO && tag.content() == Content::SequenceHeader;
    publisher.send(headers.iter().filter(is_audio_header));
    let (second, more) = early.split_at(early.iter().take_while(|tag| tag.timestamp <= 1_000).count());
    publisher.send(second);
    viewer.wait_access_units(second.len(), SOON);
    assert_eq!(viewer.header(), Some(AUDIO_ALONE));
    publisher.send(more);
    publisher.send(headers.iter().filter(|tag| tag.kind == VIDEO));
    publisher.send(&rest);
    let recording = ended_cleanly(viewer);
    assert_eq!(recording.tags.iter().filter(|tag| tag.access_unit().is_some()).count(), early.len());
    let next = Capture::http(&host, &key);
    next.wait_until(SOON, "the last picture", |tags| Numbered::numbers(tags).last() == Some(&149));
    assert_eq!(next.header(), Some(BOTH));
}

#[test]
fn a_file_answers_once_a_publisher_that_is_away_is_given_up() {
    let dir = Scratch::new();
    std::fs::create_dir(dir.join("live")).unwrap();
    std::fs::write(dir.join("live/film.flv"), "a file").unwrap();
    let config = Config::live().http("dir", &format!("{:?}", dir.path())).publish("republish_wait", "\"2s\"");
    let host = Host::start(&config);
    let key = "live/film";
    let path = host.path(key);
    for (lefts, returns) in [(1, true), (3, false)] {
        let mut publisher = Publisher::reopen(host.rtmp, key);
        let mut media = Numbered::new(500);
        publisher.send(&media.headers());
        publisher.send(&media.frames(30));
        Capture::http(&host, key).wait_access_units(1, SOON);
        drop(publisher);
        host.wait_nth_log("publisher left", lefts);
        let viewer = Fetch::start(&host, &path);
        let publisher = returns.then(|| {
            host.wait_waiting(1);
            let mut publisher = Publisher::open(host.rtmp, key);
            publisher.send(&media.headers());
            publisher.send(&media.frames(30));
            publisher
        });
        if returns {
            viewer.wait_bytes(1_000, SOON);
        } else {
            assert_eq!(viewer.finish(Duration::from_secs(60)), b"a file");
        }
        drop(publisher);
    }
}

#[test]
fn configurations_older_than_the_first_frames_end_no_response() {
    let host = patient(Config::live());
    let key = host.key("old-configurations");
    let tags = read_file(&Clip::Av1Opus.path());
    let (now, later) = tags.split_at(tags.iter().take_while(|tag| tag.timestamp < 2_500).count());
    let mut publisher = Publisher::open(host.rtmp, &key);
    let early = Capture::http(&host, &key);
    host.wait_viewers(1);
    publisher.send(now);
    wait_last(&early, now);
    // Its mount starts here.
    let late = Capture::websocket(&host, &key);
    late.wait_access_units(1, SOON);
    publisher.send(later);
    for viewer in [early, late] {
        wait_last(&viewer, &tags);
        assert_eq!((viewer.header(), viewer.end()), (Some(BOTH), None));
    }
}
