//! Metadata in the middle of a stream.

use std::process::{Child, Stdio};

use remuxd_tests::capture::Capture;
use remuxd_tests::clip::Clip;
use remuxd_tests::flv::{Content, SCRIPT, Tag, read_file};
use remuxd_tests::host::{Config, Host};
use remuxd_tests::publisher::{Numbered, Publisher};
use remuxd_tests::tool::Ffmpeg;
use remuxd_tests::wait::SOON;

#[test]
fn metadata_have_the_timestamp_0() {
    let host = Host::start(&Config::live());
    let key = host.key("metadata");
    let view = || [Capture::http(&host, &key), Capture::websocket(&host, &key), Capture::rtmp(&host, &key)];
    let early = view();
    host.wait_waiting(3);
    let mut publisher = Publisher::open(host.rtmp, &key);
    let mut media = Numbered::new(500);
    let headers = media.headers();
    let metadata = headers.iter().find(|tag| tag.kind == SCRIPT).unwrap().clone();
    let first = media.time();
    publisher.send(&headers);
    publisher.send(&media.frames(30));
    publisher.send([&Tag { timestamp: media.time(), ..metadata }]);
    publisher.send(&media.frames(30));
    let wait = |viewer: &Capture, number: u32| {
        viewer.wait_until(SOON, "a frame", |tags| Numbered::numbers(tags).last() == Some(&number));
    };
    early.iter().for_each(|viewer| wait(viewer, 59));
    let late = view();
    late.iter().for_each(|viewer| wait(viewer, 59));
    for (viewer, count) in early.iter().map(|viewer| (viewer, 2)).chain(late.iter().map(|viewer| (viewer, 1)))
    {
        let tags = viewer.tags();
        let times: Vec<_> = tags.iter().filter(|tag| tag.kind == SCRIPT).map(|tag| tag.timestamp).collect();
        assert_eq!(times, vec![0; count]);
        assert!(tags.last().unwrap().timestamp - first > 1000, "the stream goes on");
    }
}

/// Starts ffmpeg on a URL; it reads all tracks up to the end of the stream.
fn play(ffmpeg: Ffmpeg, url: &str) -> Child {
    let mut command = ffmpeg.command();
    command.args(["-loglevel", "info", "-nostats", "-i", url, "-map", "0", "-c", "copy", "-f", "null", "-"]);
    command.stderr(Stdio::piped()).spawn().unwrap()
}

/// Publishes a clip with metadata before each keyframe, to players that come at its start and in its middle.
fn ffmpeg_finds_two_tracks(ffmpeg: Ffmpeg) {
    let host = Host::start(&Config::live());
    let key = host.key("tracks");
    let mut tags = read_file(&Clip::H264Aac.path());
    let metadata = tags.iter().find(|tag| tag.kind == SCRIPT).unwrap().clone();
    let keyframes = (0..tags.len()).rev().filter(|at| tags[*at].is_keyframe());
    let keyframes: Vec<_> =
        keyframes.filter(|at| matches!(tags[*at].content(), Content::AccessUnit(_))).collect();
    assert!(keyframes.len() > 2, "{keyframes:?}");
    for at in keyframes {
        let timestamp = tags[at].timestamp;
        tags.insert(at, Tag { timestamp, ..metadata.clone() });
    }
    let urls = [host.http_url(&key), host.rtmp_url(&key)];
    let early = urls.each_ref().map(|url| play(ffmpeg, url));
    host.wait_waiting(2);
    let watcher = Capture::http(&host, &key);
    host.wait_waiting(3);
    let mut publisher = Publisher::open(host.rtmp, &key);
    // Attached before the first tag, since the publisher does not wait for them.
    host.wait_viewers(2);
    let (start, rest) = tags.split_at(tags.len() / 2);
    publisher.send(start);
    let last = start.iter().filter(|tag| tag.access_unit().is_some()).count();
    watcher.wait_access_units(last, SOON);
    let late = urls.each_ref().map(|url| play(ffmpeg, url));
    host.wait_nth_log("play started", 2);
    host.wait_viewers(3);
    publisher.send(rest);
    drop(publisher);
    for player in early.into_iter().chain(late) {
        let output = player.wait_with_output().unwrap();
        let printed = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && printed.contains("Video: h264"), "{printed}");
        assert!(
            !printed.to_lowercase().contains("subtitle stream") && !printed.contains("Subtitle:"),
            "{printed}"
        );
    }
}

#[test]
fn ffmpeg_5_finds_no_subtitles() {
    ffmpeg_finds_two_tracks(Ffmpeg::Five);
}

#[test]
fn ffmpeg_9_finds_no_subtitles() {
    ffmpeg_finds_two_tracks(Ffmpeg::Nine);
}
