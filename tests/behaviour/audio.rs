//! MP3 and AAC: the served frames equal the published ones, at the right rate, from `fast_cache` seconds back.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use remuxd_tests::audio::{AdtsFrame, read_adts, read_mp3};
use remuxd_tests::browser::{self, Player};
use remuxd_tests::capture::Capture;
use remuxd_tests::clip::Clip;
use remuxd_tests::decode::decode;
use remuxd_tests::encoder::{Encoder, publish_looped};
use remuxd_tests::fetch::{Fetch, Fetched};
use remuxd_tests::flv::{AUDIO, Content, Tag, VIDEO, read_file};
use remuxd_tests::host::{Config, Host};
use remuxd_tests::http::Request;
use remuxd_tests::publisher::{Numbered, Publisher};
use remuxd_tests::scratch::Scratch;
use remuxd_tests::tool::{Ffmpeg, root, run};
use remuxd_tests::wait::SOON;

/// Returns a configuration with FLV, MP3 and AAC mounts, the last two with this `fast_cache`.
pub(crate) fn config(fast_cache: &str) -> Config {
    let audio = |format: &str| format!("mount = \"/[app]/[stream].{format}\"\nfast_cache = {fast_cache}");
    Config::live().mount("mount = \"/[app]/[stream].flv\"").mount(&audio("mp3")).mount(&audio("aac"))
}

pub(crate) fn listen(host: &Host, key: &str, format: &str) -> Fetch {
    Fetch::start(host, &format!("/{key}.{format}"))
}

pub(crate) fn status(host: &Host, key: &str, format: &str) -> u16 {
    Request::get(&format!("/{key}.{format}")).send(host.http).unwrap().status
}

/// Returns the published raw frames.
pub(crate) fn published(tags: &[Tag]) -> Vec<Vec<u8>> {
    let frames =
        tags.iter().filter(|tag| tag.kind == AUDIO && matches!(tag.content(), Content::AccessUnit(_)));
    let skip = |tag: &Tag| if tag.payload[0] >> 4 == 10 { 2 } else { 1 };
    frames.map(|tag| tag.payload[skip(tag)..].to_vec()).collect()
}

/// Writes the served bytes to a file.
fn save(scratch: &Scratch, name: &str, served: &Fetched) -> PathBuf {
    let file = scratch.join(name);
    std::fs::write(&file, &served.bytes).unwrap();
    file
}

/// Returns the rate and channels that ffprobe finds.
fn probe(file: &std::path::Path) -> String {
    let mut command = Command::new("ffprobe");
    command.args(["-v", "error", "-show_entries", "stream=sample_rate,channels", "-of", "csv=p=0"]);
    let output = run(command.arg(file)).unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Publishes a clip with a real encoder, and compares it with the response of a viewer that has waited for it.
fn is_served_as_published(ffmpeg: Ffmpeg, clip: Clip, format: &str, content_type: &str) {
    let host = Host::start(&config("30"));
    let key = host.key("encoded");
    let viewer = listen(&host, &key, format);
    let mut publishing = Encoder::Ffmpeg(ffmpeg).publish(clip, &host, &key);
    let expected = published(&read_file(&publishing.finish()));
    let served = viewer.outcome(SOON);
    assert_eq!((served.status, served.content_type.as_deref()), (200, Some(content_type)));
    assert!(served.whole);
    let frames = match format {
        "mp3" => read_mp3(&served.bytes),
        _ => read_adts(&served.bytes).into_iter().map(|frame| frame.data).collect(),
    };
    assert!(frames.len() > 150, "{}", frames.len());
    assert!(frames == expected, "{} frames served, {} published", frames.len(), expected.len());
    let scratch = Scratch::new();
    let file = save(&scratch, &format!("served.{format}"), &served);
    decode(Ffmpeg::Five, &file).unwrap();
    decode(Ffmpeg::Nine, &file).unwrap();
    assert_eq!(probe(&file), "44100,2");
}

#[test]
fn mp3_is_served_as_published() {
    is_served_as_published(Ffmpeg::Five, Clip::Mp3, "mp3", "audio/mpeg");
}

#[test]
fn mp3_beside_video_is_served_as_published() {
    is_served_as_published(Ffmpeg::Nine, Clip::H264Mp3, "mp3", "audio/mpeg");
}

#[test]
fn aac_is_served_as_published() {
    is_served_as_published(Ffmpeg::Five, Clip::Aac, "aac", "audio/x-aac");
}

#[test]
fn aac_beside_video_is_served_as_published() {
    is_served_as_published(Ffmpeg::Nine, Clip::H264Aac, "aac", "audio/x-aac");
}

/// Publishes tags at once, and returns the response of a viewer of AAC that has waited for them.
fn served_aac(tags: &[Tag]) -> Fetched {
    let host = Host::start(&config("30"));
    let key = host.key("once");
    let viewer = listen(&host, &key, "aac");
    let mut publisher = Publisher::open(host.rtmp, &key);
    host.wait_viewers(1);
    publisher.send(tags);
    let frames = tags.iter().filter(|tag| tag.access_unit().is_some_and(|unit| unit.size > 0)).count();
    viewer.wait_for(SOON, "the last frame", |bytes| (read_adts(bytes).len() >= frames).then_some(()));
    drop(publisher);
    viewer.outcome(SOON)
}

#[test]
fn he_aac_plays_at_its_full_rate() {
    for (clip, core) in [("HeAac", 2), ("HeAacV2", 1)] {
        let tags = read_file(&root().join(format!("tests/clips/{clip}.flv")));
        let served = served_aac(&tags);
        let frames = read_adts(&served.bytes);
        assert!(frames.len() > 60, "{clip}: {}", frames.len());
        // Signalled as the core, as ADTS has it.
        let signalled =
            |frame: &AdtsFrame| (frame.object_type, frame.sample_rate, frame.channel_configuration);
        assert!(frames.iter().all(|frame| signalled(frame) == (2, 22_050, core)), "{clip}: {:?}", frames[0]);
        let scratch = Scratch::new();
        let file = save(&scratch, "served.aac", &served);
        assert_eq!(probe(&file), "44100,2", "{clip}");
        decode(Ffmpeg::Five, &file).unwrap();
        decode(Ffmpeg::Nine, &file).unwrap();
    }
}

/// Packs fields of a width and value into bytes.
fn bits(fields: &[(usize, u32)]) -> Vec<u8> {
    let bits =
        fields.iter().flat_map(|(width, value)| (0..*width).rev().map(move |shift| value >> shift & 1));
    let bits: Vec<u32> = bits.collect();
    bits.chunks(8)
        .map(|byte| byte.iter().enumerate().map(|(at, bit)| (bit << (7 - at)) as u8).sum())
        .collect()
}

#[test]
fn a_program_config_element_is_sent_with_the_frames() {
    // AAC LC, 44.1 kHz, channel configuration 0: one channel pair in front, a comment of two bytes.
    let pce =
        [(4, 0), (2, 1), (4, 4), (4, 1), (4, 0), (4, 0), (2, 0), (3, 0), (4, 0), (3, 0), (1, 1), (4, 0)];
    let mut config = bits(&[&[(5, 2), (4, 4), (4, 0), (3, 0)], &pce[..]].concat());
    config.extend([2, b'h', b'i']);
    let mut tags = read_file(&Clip::Aac.path());
    let header = tags.iter_mut().find(|tag| tag.content() == Content::SequenceHeader).unwrap();
    header.payload.splice(2.., config);
    let served = served_aac(&tags);
    let frames = read_adts(&served.bytes);
    let mut element = bits(&[&[(3, 5)], &pce[..]].concat());
    element.extend([2, b'h', b'i']);
    let expected: Vec<_> = published(&tags).iter().map(|frame| [&element[..], frame].concat()).collect();
    assert!(frames.iter().map(|frame| &frame.data).eq(&expected));
    assert!(frames.iter().all(|frame| frame.channel_configuration == 0));
    let scratch = Scratch::new();
    // A viewer that joins later has it too.
    for (name, skipped) in [("all.aac", 0), ("later.aac", 50)] {
        let start: usize = frames[..skipped].iter().map(|frame| frame.data.len() + 7).sum();
        let part = Fetched { bytes: served.bytes[start..].to_vec(), ..served.clone() };
        let file = save(&scratch, name, &part);
        decode(Ffmpeg::Five, &file).unwrap();
        decode(Ffmpeg::Nine, &file).unwrap();
        assert_eq!(probe(&file), "44100,2");
    }
}

#[test]
fn a_new_configuration_takes_effect_with_the_next_frame() {
    let mut media = Numbered::new(100);
    let early = media.frames(2);
    let mut tags: Vec<Tag> = early.into_iter().filter(|tag| tag.kind == AUDIO).collect();
    let headers: [&[u8]; 4] = [b"\x12\x10", b"\x11\x88", b"\x13\x90\x56\xe5\xa0", b"\x12\x10"];
    for header in headers {
        tags.push(Tag { kind: AUDIO, timestamp: media.time(), payload: [b"\xaf\x00", header].concat() });
        tags.extend(media.frames(2).into_iter().filter(|tag| tag.kind == AUDIO));
    }
    let host = Host::start(&config("30"));
    let key = host.key("changes");
    let viewer = listen(&host, &key, "aac");
    let mut publisher = Publisher::open(host.rtmp, &key);
    host.wait_viewers(1);
    publisher.send(&tags);
    let frames = viewer.wait_for(SOON, "16 frames", |bytes| {
        let frames = read_adts(bytes);
        (frames.len() == 16).then_some(frames)
    });
    let expected = [(44_100, 2), (48_000, 1), (22_050, 2), (44_100, 2)];
    for (index, frame) in frames.iter().enumerate() {
        assert_eq!((frame.sample_rate, frame.channel_configuration), expected[index / 4], "frame {index}");
        assert_eq!(number(frame), index as u32 + 4, "frames before the first configuration are dropped");
    }
    drop(publisher);
    assert!(viewer.outcome(SOON).whole);
}

#[test]
fn another_codec_is_415_before_any_header() {
    let host = Host::start(&config("0"));
    for (clip, refused, served) in [
        (Clip::Aac, &["mp3"][..], &["aac"][..]),
        (Clip::Mp3, &["aac"], &["mp3"]),
        (Clip::H264, &["mp3", "aac"], &["flv"]),
        (Clip::H264Mp3, &["aac"], &["mp3"]),
        (Clip::H264Opus, &["mp3", "aac"], &["flv"]),
    ] {
        let key = host.key(&format!("{clip:?}"));
        // One viewer waits before the first tag, one comes when the stream is live.
        let mut publisher = Publisher::open(host.rtmp, &key);
        let formats = [refused, served].concat();
        host.wait_viewers(0);
        let waiting: Vec<_> = formats.iter().map(|format| listen(&host, &key, format)).collect();
        host.wait_viewers(formats.len());
        publisher.send(&read_file(&clip.path()));
        for format in refused {
            assert_eq!(status(&host, &key, format), 415, "{clip:?} as {format}");
            let path = format!("/{key}.{format}");
            assert_eq!(Request::new("HEAD", &path).send(host.http).unwrap().status, 415);
        }
        for format in served {
            assert_eq!(status(&host, &key, format), 200, "{clip:?} as {format}");
        }
        drop(publisher);
        let statuses: Vec<_> = waiting.into_iter().map(|viewer| viewer.outcome(SOON).status).collect();
        assert_eq!(statuses, [vec![415; refused.len()], vec![200; served.len()]].concat(), "{clip:?}");
    }
}

/// xHE-AAC, 48 kHz, stereo: object type 42, which ADTS has no profile for.
const XHE_AAC: &[u8] = b"\xf9\x46\x40";

#[test]
fn aac_that_adts_cannot_carry_is_415_before_any_header() {
    for isolation in ["none", "process"] {
        let isolated =
            format!("[module.aac]\nisolation = \"{isolation}\"\n[module.ts]\nisolation = \"{isolation}\"");
        let config = config("0").mount("mount = \"/[app]/[stream].ts\"").tables(&isolated);
        // Longer than any test waits.
        let config = config.play("wait", "\"1h\"").publish("normal_timeout", "\"1h\"");
        for (kinds, refused, served) in
            [(&[AUDIO][..], &["aac", "ts"][..], &["flv"][..]), (&[AUDIO, VIDEO], &["aac"], &["ts", "flv"])]
        {
            let host = Host::start(&config);
            let key = host.key("xhe");
            let formats = [refused, served].concat();
            let waiting: Vec<_> = formats.iter().map(|format| listen(&host, &key, format)).collect();
            let mut media = Numbered::new(100).with_audio_config(XHE_AAC);
            let mut publisher = Publisher::open(host.rtmp, &key);
            host.wait_viewers(formats.len());
            let tags = [media.headers(), media.frames(60)].concat();
            publisher.send(tags.iter().filter(|tag| kinds.contains(&tag.kind)));
            // More often than `max_faults`.
            for format in [&refused.repeat(5), served].concat() {
                let expected = if refused.contains(&format) { 415 } else { 200 };
                assert_eq!(
                    status(&host, &key, format),
                    expected,
                    "{kinds:?} as {format}, isolation {isolation}"
                );
                let head = Request::new("HEAD", &format!("/{key}.{format}")).send(host.http).unwrap();
                assert_eq!(head.status, expected, "HEAD of {kinds:?} as {format}, isolation {isolation}");
            }
            drop(publisher);
            let statuses: Vec<_> = waiting.into_iter().map(|viewer| viewer.outcome(SOON).status).collect();
            let expected = [vec![415; refused.len()], vec![200; served.len()]].concat();
            assert_eq!(statuses, expected, "{kinds:?}, isolation {isolation}");
            host.wait_log(&["ADTS cannot carry AAC object type 42"]);
            assert_eq!(host.count("faults", None), 0, "a refusal is no fault");
        }
    }
}

#[test]
fn a_switch_to_aac_that_adts_cannot_carry_ends_the_viewers() {
    for fast_cache in ["0", "30"] {
        switch_to_xhe_aac_and_back(fast_cache);
    }
}

fn switch_to_xhe_aac_and_back(fast_cache: &str) {
    let host = Host::start(&config(fast_cache));
    let key = host.key("turns-xhe");
    let viewer = listen(&host, &key, "aac");
    let mut publisher = Publisher::open(host.rtmp, &key);
    host.wait_viewers(1);
    let mut media = Numbered::new(100);
    publisher.send(&[media.headers(), media.frames(20)].concat());
    viewer.wait_for(SOON, "40 frames", |bytes| (read_adts(bytes).len() == 40).then_some(()));
    let mut media = media.with_audio_config(XHE_AAC);
    publisher.send(&[media.headers(), media.frames(20)].concat());
    let served = viewer.outcome(SOON);
    assert!(served.whole && read_adts(&served.bytes).len() == 40);
    // The host answers after it has read everything before: a viewer that joins now joins after the new configuration.
    publisher.connection().create_stream().unwrap();
    assert_eq!(status(&host, &key, "aac"), 415);
    // And back.
    let mut media = media.with_audio_config(b"\x12\x10");
    publisher.send(&[media.headers(), media.frames(20)].concat());
    publisher.connection().create_stream().unwrap();
    let viewer = listen(&host, &key, "aac");
    viewer.wait_for(SOON, "the newest frame", |bytes| {
        (read_adts(bytes).last().map(number) == Some(media.number() * 2 - 1)).then_some(())
    });
}

#[test]
fn a_switch_to_another_codec_ends_the_viewers() {
    let host = Host::start(&config("30"));
    let key = host.key("turns");
    let [viewer, flv] = [listen(&host, &key, "aac"), listen(&host, &key, "flv")];
    let (aac, mp3) = (read_file(&Clip::Aac.path()), read_file(&Clip::Mp3.path()));
    let mut publisher = Publisher::open(host.rtmp, &key);
    host.wait_viewers(2);
    publisher.send(&aac);
    let frames = published(&aac).len();
    viewer.wait_for(SOON, "all AAC", |bytes| (read_adts(bytes).len() == frames).then_some(()));
    let later = |tag: &Tag| Tag { timestamp: tag.timestamp + 5_000, ..tag.clone() };
    publisher.send(&mp3.iter().map(later).collect::<Vec<_>>());
    let served = viewer.outcome(SOON);
    assert!(served.whole, "the end is marked");
    let frames: Vec<_> = read_adts(&served.bytes).into_iter().map(|frame| frame.data).collect();
    assert!(frames == published(&aac), "{} frames", frames.len());
    assert_eq!(status(&host, &key, "aac"), 415);
    assert_eq!(status(&host, &key, "mp3"), 200);
    drop(publisher);
    assert!(flv.outcome(SOON).whole, "FLV carries both codecs");
}

/// Returns the number in a frame of [`Numbered`].
pub(crate) fn number(frame: &AdtsFrame) -> u32 {
    u32::from_be_bytes(frame.data[..4].try_into().unwrap())
}

#[test]
fn audio_alone_continues_at_once_when_its_publisher_comes_back() {
    let host = Host::start(&config("0").publish("republish_wait", "\"1m\""));
    let key = host.key("again");
    let viewer = listen(&host, &key, "aac");
    let mut publisher = Publisher::open(host.rtmp, &key);
    host.wait_viewers(1);
    let mut media = Numbered::new(100);
    publisher.send(&[media.headers(), media.frames(10)].concat());
    viewer.wait_for(SOON, "20 frames", |bytes| (read_adts(bytes).len() == 20).then_some(()));
    drop(publisher);
    // In the middle of a GOP, and no keyframe comes.
    let mut publisher = Publisher::reopen(host.rtmp, &key);
    publisher.send(&[media.headers(), media.frames(5)].concat());
    let frames = viewer.wait_for(SOON, "30 frames", |bytes| {
        let frames = read_adts(bytes);
        (frames.len() == 30).then_some(frames)
    });
    assert!(frames.iter().map(number).eq(0..30));
}

#[test]
fn empty_audio_frames_are_left_out() {
    let mut tags = read_file(&Clip::Aac.path());
    let frames = published(&tags);
    let empty: Vec<Tag> = (0..20)
        .map(|n| Tag {
            kind: AUDIO,
            timestamp: 1_000 + n * 20,
            payload: b"\xaf\x01"[..(n % 2) as usize + 1].to_vec(),
        })
        .collect();
    tags.splice(50..50, empty);
    let served = served_aac(&tags);
    assert!(read_adts(&served.bytes).into_iter().map(|frame| frame.data).eq(frames));
}

/// Without a burst of audio an element of Chromium starts after 32 KiB, which are 2.7 s of this, and rebuffers.
#[test]
fn an_audio_element_starts_at_once_and_plays_without_a_break_in_a_browser() {
    let mount = |format: &str| format!("mount = \"/[app]/[stream].{format}\"");
    let host = Host::start(&Config::live().mount(&mount("flv")).mount(&mount("mp3")).mount(&mount("aac")));
    for (clip, format) in [(Clip::H264Mp3, "mp3"), (Clip::H264Aac, "aac")] {
        let key = host.key(format);
        let _publishing = publish_looped(clip, &host.rtmp_url(&key));
        // Older than the default of `fast_cache`.
        Capture::http(&host, &key).wait_access_units(6 * 64, SOON);
        let url = format!("http://{}/{key}.{format}", host.http);
        let outcome = browser::play(Player::Audio, &url, "a", Duration::from_secs(30)).unwrap();
        assert!(outcome.advanced > 10.0 && outcome.audio_bytes > 0, "{format}: {outcome:?}");
        assert!(outcome.errors.is_empty(), "{format}: {outcome:?}");
        assert_eq!(outcome.waits, 0, "{format}: {outcome:?}");
        assert!(outcome.started_after < Duration::from_secs(2), "{format}: {outcome:?}");
    }
}
