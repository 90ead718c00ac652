//! A minute of each clip from a real encoder, in FLV, MP3 and AAC: the served access units equal the published ones, with
//! their times, and decode. (Transport streams are in ts.rs.)

use remuxd_tests::audio::{read_adts, read_mp3};
use remuxd_tests::capture::{Capture, End};
use remuxd_tests::clip::{Clip, LENGTH};
use remuxd_tests::compare::{Coverage, compare_units};
use remuxd_tests::decode::decode;
use remuxd_tests::fetch::Fetch;
use remuxd_tests::flv::{AUDIO, AccessUnit, Content, Tag, read_file};
use remuxd_tests::host::{Config, Host};
use remuxd_tests::publisher::Publisher;
use remuxd_tests::scratch::Scratch;

/// Viewers may be far behind, since the tests publish faster than real time.
fn config() -> Config {
    let mount = |config: Config, format: &str| config.mount(&format!("mount = \"/[app]/[stream].{format}\""));
    ["flv", "mp3", "aac"].into_iter().fold(Config::live(), mount).play("queue_length", "\"10m\"")
}

fn decodes(clip: Clip, name: &str, served: &[u8]) {
    let scratch = Scratch::new();
    let file = scratch.join(name);
    std::fs::write(&file, served).unwrap();
    decode(clip.ffmpeg(), &file).unwrap();
}

/// Returns the access units of `tags` that are not empty, on a timeline that does not wrap.
fn units(tags: &[Tag]) -> Vec<AccessUnit> {
    let mut last: Option<i64> = None;
    let mut unwrap = |time: u32| {
        let time =
            last.map_or(i64::from(time), |last| last + i64::from(time.wrapping_sub(last as u32) as i32));
        last = Some(time);
        time
    };
    let placed =
        tags.iter().filter_map(|tag| Some(AccessUnit { dts: unwrap(tag.timestamp), ..tag.access_unit()? }));
    placed.filter(|unit| unit.size > 0).collect()
}

/// Publishes `tags` for a viewer of FLV that waits for them. Returns its number of access units and its file.
fn flv(host: &Host, tags: &[Tag]) -> (Result<usize, String>, Vec<u8>) {
    let key = host.key("minute");
    let mut publisher = Publisher::open(host.rtmp, &key);
    let viewer = Capture::http(host, &key);
    host.wait_viewers(1);
    publisher.send(tags);
    drop(publisher);
    let recording = viewer.finish(LENGTH * 6);
    assert_eq!(recording.end, End::Clean);
    (compare_units(&units(tags), &units(&recording.tags), Coverage::Whole), recording.bytes)
}

fn flv_minute(clip: Clip) {
    let tags = read_file(&clip.minute());
    let host = Host::start(&config());
    let (compared, file) = flv(&host, &tags);
    let count = compared.unwrap();
    assert!(count > 1_400, "{count}");
    decodes(clip, "served.flv", &file);
}

macro_rules! flv_minutes {
    ($($name:ident: $clip:ident;)*) => { $(#[test] fn $name() { flv_minute(Clip::$clip); })* };
}

flv_minutes! {
    flv_of_h264_and_aac: H264Aac;
    flv_of_h264_and_mp3: H264Mp3;
    flv_of_h264_and_opus: H264Opus;
    flv_of_h264_alone: H264;
    flv_of_hevc_and_aac: HevcAac;
    flv_of_av1_and_opus: Av1Opus;
    flv_of_vp9_and_opus: Vp9Opus;
    flv_of_aac_alone: Aac;
    flv_of_mp3_alone: Mp3;
}

fn audio_minute(clip: Clip, format: &str) {
    let tags = read_file(&clip.minute());
    let frames =
        tags.iter().filter(|tag| tag.kind == AUDIO && matches!(tag.content(), Content::AccessUnit(_)));
    let head = if format == "mp3" { 1 } else { 2 };
    let published: Vec<&[u8]> = frames.map(|tag| &tag.payload[head..]).collect();
    let host = Host::start(&config());
    let key = host.key("minute");
    let mut publisher = Publisher::open(host.rtmp, &key);
    let viewer = Fetch::start(&host, &format!("/{key}.{format}"));
    host.wait_viewers(1);
    publisher.send(&tags);
    drop(publisher);
    let bytes = viewer.finish(LENGTH * 6);
    let served: Vec<Vec<u8>> = match format {
        "mp3" => read_mp3(&bytes),
        _ => read_adts(&bytes).into_iter().map(|frame| frame.data).collect(),
    };
    assert!(served.len() > 2_000, "{}", served.len());
    assert!(served == published, "{} of {}", served.len(), published.len());
    decodes(clip, &format!("served.{format}"), &bytes);
}

#[test]
fn aac_beside_video() {
    audio_minute(Clip::H264Aac, "aac");
}

#[test]
fn aac_alone() {
    audio_minute(Clip::Aac, "aac");
}

#[test]
fn mp3_beside_video() {
    audio_minute(Clip::H264Mp3, "mp3");
}

#[test]
fn mp3_alone() {
    audio_minute(Clip::Mp3, "mp3");
}

#[test]
fn flv_continues_across_wraps_of_rtmp_timestamps() {
    // After 24.8 days a signed timestamp wraps, after 49.7 any.
    for edge in [1u32 << 31, 0] {
        let shift = |tag: Tag| Tag { timestamp: tag.timestamp.wrapping_add(edge.wrapping_sub(2_000)), ..tag };
        let tags: Vec<Tag> = read_file(&Clip::H264Aac.path()).into_iter().map(shift).collect();
        let host = Host::start(&config());
        let (compared, file) = flv(&host, &tags);
        assert!(compared.unwrap() > 100);
        decodes(Clip::H264Aac, "served.flv", &file);
    }
}
