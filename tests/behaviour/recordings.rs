//! FLV files: playback from any keyframe by `?start=`.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use remuxd_tests::browser::{self, Player};
use remuxd_tests::clip::Clip;
use remuxd_tests::decode::decode;
use remuxd_tests::flv::{Content, SCRIPT, Tag, read_file};
use remuxd_tests::http::Request;
use remuxd_tests::scratch::Scratch;
use remuxd_tests::tool::{Ffmpeg, run};

use crate::files::{Site, whole};

/// Returns each tag of a file with its offset.
fn offsets(file: &Path) -> Vec<(usize, Tag)> {
    let tags = read_file(file).into_iter();
    tags.scan(13, |at, tag| {
        let here = *at;
        *at += 11 + tag.payload.len() + 4;
        Some((here, tag))
    })
    .collect()
}

#[test]
fn a_recording_starts_at_any_keyframe() {
    for clip in [Clip::H264Aac, Clip::H264Mp3, Clip::H264, Clip::HevcAac, Clip::Av1Opus] {
        let recording = std::fs::read(clip.path()).unwrap();
        let site = Site::start(&[("vod/film.flv", &recording)]);
        let tags = offsets(&clip.path());
        // The first of each track in the order of the file. FFmpeg 9 opens AV1 with one that has nothing but its FourCC.
        let is_header = |tag: &&Tag| tag.content() == Content::SequenceHeader && tag.payload.len() > 5;
        let mut headers: Vec<&Tag> = tags.iter().map(|(_, tag)| tag).filter(is_header).collect();
        let mut seen = Vec::new();
        headers.retain(|tag| {
            !seen.contains(&tag.kind) && {
                seen.push(tag.kind);
                true
            }
        });
        let keyframes: Vec<usize> =
            tags.iter().filter(|(_, tag)| tag.is_keyframe()).map(|(at, _)| *at).collect();
        assert!(keyframes.len() >= 4, "{clip:?}");
        for &start in &keyframes[1..] {
            let path = format!("/vod/film.flv?start={start}");
            let response = site.get(&path);
            assert_eq!((response.status, response.header("content-type")), (200, Some("video/x-flv")));
            let length: usize = response.header("content-length").unwrap().parse().unwrap();
            let head = site.send(&Request::new("HEAD", &path));
            assert_eq!(head.header("content-length"), Some(&*length.to_string()));
            let bytes = whole(response);
            assert_eq!(bytes.len(), length);
            assert!(bytes.ends_with(&recording[start..]), "{clip:?}");
            assert_eq!(bytes[..13], recording[..13], "{clip:?}");

            let file = site.scratch.join("part.flv");
            std::fs::write(&file, &bytes).unwrap();
            let part = read_file(&file);
            let rest = tags.iter().filter(|(at, _)| *at >= start).map(|(_, tag)| tag);
            let expected: Vec<&Tag> = headers.iter().copied().chain(rest).collect();
            assert!(part.iter().eq(expected), "{clip:?}");
            assert!(part.iter().all(|tag| tag.kind != SCRIPT), "the metadata is of the whole file");
            decode(clip.ffmpeg(), &file).unwrap();
        }
        // As a player requests it.
        let url = site.url(&format!("/vod/film.flv?start={}", keyframes[2]));
        let mut command = clip.ffmpeg().command();
        run(command.args(["-xerror", "-i", &url, "-f", "null", "-"])).unwrap();
    }
}

#[test]
fn ffprobe_reads_a_part_by_the_index_of_the_metadata() {
    let scratch = Scratch::new();
    let indexed = scratch.join("indexed.flv");
    let mut command = Ffmpeg::Five.command();
    command.arg("-i").arg(Clip::H264Aac.path()).args([
        "-c",
        "copy",
        "-flvflags",
        "add_keyframe_index",
        "-f",
        "flv",
    ]);
    run(command.arg(&indexed)).unwrap();
    let recording = std::fs::read(&indexed).unwrap();
    let site = Site::start(&[("film.flv", &recording)]);
    let positions = file_positions(&read_file(&indexed)[0].payload);
    assert!(positions.len() >= 4, "{positions:?}");
    for position in &positions[1..] {
        let url = site.url(&format!("/film.flv?start={position}"));
        let mut command = Command::new("ffprobe");
        command.args(["-v", "error", "-select_streams", "v", "-read_intervals", "%+#1"]);
        command.args(["-show_entries", "packet=flags", "-of", "csv=p=0", &url]);
        let output = run(&mut command).unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stderr), "");
        assert!(String::from_utf8_lossy(&output.stdout).starts_with('K'), "{position} is not a keyframe");
    }
}

/// Returns the numbers of `keyframes.filepositions` of a script tag.
fn file_positions(script: &[u8]) -> Vec<u64> {
    let name = b"filepositions\x0a";
    let at = script.windows(name.len()).position(|window| window == name).unwrap() + name.len();
    let count = u32::from_be_bytes(script[at..at + 4].try_into().unwrap()) as usize;
    let numbers = script[at + 4..].chunks_exact(9).take(count);
    numbers.map(|number| f64::from_be_bytes(number[1..].try_into().unwrap()) as u64).collect()
}

#[test]
fn other_values_of_start_get_the_whole_file_or_an_error() {
    let recording = std::fs::read(Clip::H264Aac.path()).unwrap();
    let len = recording.len();
    let site = Site::start(&[("film.flv", &recording), ("film.txt", b"no recording")]);
    for query in ["", "?start=0", "?start=-1", "?start=", "?start=undefined", "?begin=100"] {
        let response = site.get(&format!("/film.flv{query}"));
        assert_eq!((response.status, response.header("accept-ranges")), (200, Some("bytes")), "{query}");
        assert!(whole(response) == recording, "{query}");
    }
    for start in [len.to_string(), (len + 1).to_string(), "9".repeat(30)] {
        let response = site.get(&format!("/film.flv?start={start}"));
        assert_eq!(
            (response.status, response.header("content-range")),
            (416, Some(&*format!("bytes */{len}")))
        );
        assert_eq!(response.text().unwrap(), format!("the file has {len} bytes\n"));
    }
    assert_eq!(whole(site.get("/film.txt?start=3")), b"no recording");
    // Byte for byte from the requested offset, whether a tag starts there or not.
    let inside = whole(site.get(&format!("/film.flv?start={}", len - 5)));
    assert!(inside.starts_with(b"FLV") && inside.ends_with(&recording[len - 5..]));
    let tag = site.get("/film.flv?start=5000").header("etag").unwrap().to_owned();
    let again = Request::get("/film.flv?start=5000").header("If-None-Match", &tag);
    assert_eq!(site.send(&again).status, 304);
}

#[test]
fn flv_js_plays_a_recording() {
    let recording = std::fs::read(Clip::H264Aac.path()).unwrap();
    let site = Site::start(&[("film.flv", &recording)]);
    for player in [Player::FlvFile, Player::MpegtsFile] {
        let outcome = browser::play(player, &site.url("/film.flv"), "av", Duration::from_secs(30)).unwrap();
        assert!(outcome.errors.is_empty() && outcome.advanced > 1.0, "{player:?}: {outcome:?}");
        assert!(outcome.frames > 20 && outcome.audio_bytes > 0, "{player:?}: {outcome:?}");
    }
}
