//! Enhanced RTMP: multichannel audio, and streams of several tracks.

use std::io::Read;
use std::path::PathBuf;

use remuxd_tests::audio::read_adts;
use remuxd_tests::capture::Capture;
use remuxd_tests::decode::{decode, frames};
use remuxd_tests::encoder::publish_file;
use remuxd_tests::fetch::Fetch;
use remuxd_tests::flv::{AUDIO, Tag, VIDEO};
use remuxd_tests::host::{Config, Host};
use remuxd_tests::http::Request;
use remuxd_tests::publisher::Publisher;
use remuxd_tests::rtmp::{Amf, Connection, Message, split_key};
use remuxd_tests::scratch::Scratch;
use remuxd_tests::tool::{Ffmpeg, run};
use remuxd_tests::wait::SOON;

fn audio(timestamp: u32, payload: &[u8]) -> Tag {
    Tag { kind: AUDIO, timestamp, payload: payload.to_vec() }
}

#[test]
fn the_multichannel_config_is_replayed_to_viewers_and_players() {
    const CONFIG: &[u8] = b"\x94Opus\x01\x06\0\0\0\x3f";
    let host = Host::start(&Config::live());
    let key = host.key("surround");
    let early = [Capture::http(&host, &key), Capture::websocket(&host, &key), Capture::rtmp(&host, &key)];
    host.wait_waiting(3);
    let mut publisher = Publisher::open(host.rtmp, &key);
    let head = b"\x90OpusOpusHead\x01\x06\0\0\x80\xbb\0\0\0\0\x01\x04\x02\0\x04\x01\x02\x03\x05";
    publisher.send(&[audio(0, head), audio(0, CONFIG)]);
    for number in 0..100 {
        publisher.send(&[audio(number * 20, b"\x91Opusframe")]);
    }
    let count = |tags: &[Tag], payload: &[u8]| tags.iter().filter(|tag| tag.payload == payload).count();
    let has = |times: usize| move |tags: &[Tag]| count(tags, CONFIG) == times;
    early.iter().for_each(|viewer| viewer.wait_until(SOON, "the config", has(1)));
    let late = [Capture::http(&host, &key), Capture::websocket(&host, &key), Capture::rtmp(&host, &key)];
    let request = Request::get(&format!("{}?multichannel_config=false", host.path(&key)));
    let without = Capture::request(&host, request);
    host.wait_viewers(5);
    publisher.send(&[audio(2000, b"\x91Opuslast")]);
    let ended = |tags: &[Tag]| count(tags, b"\x91Opuslast") == 1;
    for viewer in early.iter().chain(&late) {
        viewer.wait_until(SOON, "the last frame", |tags| ended(tags) && has(1)(tags));
    }
    without.wait_until(SOON, "the last frame", |tags| ended(tags) && count(tags, CONFIG) == 0);
}

/// A configuration with FLV, TS and AAC mounts.
fn config() -> Config {
    let mount = |config: Config, format: &str| config.mount(&format!("mount = \"/[app]/[stream].{format}\""));
    ["flv", "ts", "aac"].into_iter().fold(Config::live(), mount)
}

/// Encodes four seconds with two tracks of video, 320x180 and 160x90 with other keyframes, and two of audio, of 44.1 and
/// 32 kHz.
fn two_tracks(scratch: &Scratch) -> PathBuf {
    let file = scratch.join("two.flv");
    let mut command = Ffmpeg::Nine.command();
    command.args(["-loglevel", "fatal"]);
    for source in ["testsrc2=s=320x180:r=25", "testsrc2=s=160x90:r=25", "sine=440", "sine=880"] {
        command.args(["-f", "lavfi", "-i", source]);
    }
    command.args(["-t", "4", "-map", "0", "-map", "1", "-map", "2", "-map", "3"]);
    command.args(["-c:v", "libx264", "-preset", "ultrafast", "-bf", "0", "-g:v:0", "50", "-g:v:1", "30"]);
    command.args(["-c:a", "aac", "-ar:a:0", "44100", "-ar:a:1", "32000", "-f", "flv"]);
    run(command.arg(&file)).unwrap();
    file
}

#[test]
fn a_viewer_selects_a_track_ffmpeg_9() {
    let scratch = Scratch::new();
    let file = two_tracks(&scratch);
    let host = Host::start(&config());
    let key = host.key("tracks");
    let asked = ["flv", "flv?track=0", "flv?track=1", "ts", "ts?track=1", "aac", "aac?track=1"];
    let viewers = asked.map(|asked| (asked, Fetch::start(&host, &format!("/{key}.{asked}"))));
    host.wait_waiting(asked.len());
    let mut publishing = publish_file(Ffmpeg::Nine, file, &host.rtmp_url(&key));
    // A viewer that comes later starts at a keyframe of its track.
    viewers[2].1.wait_bytes(20_000, SOON);
    let late = ("flv?track=1", Fetch::start(&host, &format!("/{key}.flv?track=1")));
    publishing.finish();
    let [first, second] = [320 * 180 * 3 / 2, 160 * 90 * 3 / 2].map(|size| format!("{size},"));
    for (index, (asked, viewer)) in viewers.into_iter().chain([late]).enumerate() {
        let served = viewer.finish(SOON);
        let is_second = asked.ends_with("=1");
        if asked.starts_with("aac") {
            let rate = if is_second { 32_000 } else { 44_100 };
            let served = read_adts(&served);
            assert!(served.len() > 100 && served.iter().all(|frame| frame.sample_rate == rate), "{asked}");
            continue;
        }
        let file = scratch.join(&format!("{index}.{}", &asked[..asked.find('?').unwrap_or(asked.len())]));
        std::fs::write(&file, &served).unwrap();
        decode(Ffmpeg::Five, &file).unwrap();
        let pictures = frames(&file, "0:v").unwrap();
        let expected = if is_second { &second } else { &first };
        let enough = if index == 7 { 20 } else { 95 };
        assert!(pictures.len() >= enough, "{asked}: {} pictures", pictures.len());
        assert!(pictures.iter().all(|picture| picture.starts_with(expected)), "{asked}: {:?}", pictures[0]);
        assert!(frames(&file, "0:a").unwrap().len() > 10, "{asked}");
    }
}

/// A track's body in multitrack framing: one track.
fn track(kind: u8, number: u8, packet: u8, keyframe: bool, data: &[u8]) -> Vec<u8> {
    let (first, four_cc) = match kind {
        VIDEO => (if keyframe { 0x96 } else { 0xa6 }, b"av01"),
        _ => (0x95, b"Opus"),
    };
    [&[first, packet], &four_cc[..], &[number], data].concat()
}

fn tag(kind: u8, timestamp: u32, payload: Vec<u8>) -> Tag {
    Tag { kind, timestamp, payload }
}

/// The sequence starts of track 0 (H.264 without multitrack framing, Opus) and of video track 2 (AV1).
fn headers() -> Vec<Tag> {
    let avc = remuxd_tests::publisher::Numbered::new(100).headers();
    let avc = avc.into_iter().find(|tag| tag.kind == VIDEO).unwrap();
    let head = b"\x90OpusOpusHead\x01\x02\0\0\x80\xbb\0\0\0\0\0".to_vec();
    let config = track(VIDEO, 2, 0, true, b"\x81\0\x0c\0");
    vec![avc, tag(AUDIO, 0, head), tag(VIDEO, 0, config)]
}

/// A second of both tracks: a keyframe of track 0 at its start, and one of track 2 in its middle.
fn second(number: u32) -> Vec<Tag> {
    let mut tags = Vec::new();
    for frame in 0..10_u8 {
        let time = number * 1000 + u32::from(frame) * 100;
        let first = if frame == 0 { 0x17 } else { 0x27 };
        tags.push(tag(VIDEO, time, vec![first, 1, 0, 0, 0, number as u8, frame]));
        tags.push(tag(VIDEO, time, track(VIDEO, 2, 1, frame == 5, &[number as u8, frame])));
        tags.push(tag(AUDIO, time, [b"\x91Opus", &[number as u8, frame][..]].concat()));
    }
    tags
}

/// The bodies of the video tags.
fn pictures(tags: &[Tag]) -> Vec<&[u8]> {
    tags.iter().filter(|tag| tag.kind == VIDEO).map(|tag| &tag.payload[..]).collect()
}

#[test]
fn a_track_has_its_own_configuration_and_join_points_and_the_audio_of_track_0() {
    let host = Host::start(&config());
    let key = host.key("own");
    let view = |query: &str| Capture::request(&host, Request::get(&format!("/{key}.flv{query}")));
    let watcher = view("");
    host.wait_waiting(1);
    let mut publisher = Publisher::open(host.rtmp, &key);
    publisher.send(&headers());
    publisher.send(&second(0));
    // Before the next keyframe, at which it would join otherwise.
    watcher.wait_until(SOON, "a second", |tags| pictures(tags).len() == 11);
    publisher.send(&second(1));
    watcher.wait_until(SOON, "two seconds", |tags| pictures(tags).len() == 21);
    let (first, other) = (view(""), view("?track=2"));
    other.wait_until(SOON, "the history", |tags| pictures(tags).len() == 6);
    first.wait_until(SOON, "the history", |tags| pictures(tags).len() == 11);
    publisher.send(&second(2));
    other.wait_until(SOON, "a second", |tags| pictures(tags).len() == 16);
    let tags = other.tags();
    assert_eq!(pictures(&tags)[0], b"\x90av01\x81\0\x0c\0");
    assert_eq!(pictures(&tags)[1], b"\x91av01\x01\x05");
    assert_eq!(pictures(&tags)[2], b"\xa1av01\x01\x06");
    let sounds: Vec<_> = tags.iter().filter(|tag| tag.kind == AUDIO).map(|tag| &tag.payload[..5]).collect();
    assert!(sounds[0] == b"\x90Opus" && sounds.len() > 10, "{}", sounds.len());
    first.wait_until(SOON, "a second", |tags| pictures(tags).len() == 21);
    assert!(pictures(&first.tags()).iter().all(|body| body[0] < 0x80), "another track");
}

/// Returns status and body of a response that must not be 200.
fn refused(host: &Host, path: &str) -> (u16, String) {
    let mut response = Request::get(path).send(host.http).unwrap();
    let mut text = String::new();
    response.body.read_to_string(&mut text).unwrap();
    (response.status, text)
}

#[test]
fn an_absent_track_is_refused() {
    let host = Host::start(&config());
    let key = host.key("absent");
    let early = Fetch::start(&host, &format!("/{key}.flv?track=3"));
    host.wait_waiting(1);
    let mut publisher = Publisher::open(host.rtmp, &key);
    publisher.send(&headers());
    publisher.send(&second(0));
    publisher.send(&second(1));
    // Though the host would wait a minute for the stream.
    assert_eq!(early.outcome(SOON).status, 404);
    let reason = |number: u8| (404, format!("this stream has no track {number}\n"));
    assert_eq!(refused(&host, &format!("/{key}.flv?track=3")), reason(3));
    assert_eq!(refused(&host, &format!("/{key}.ts?track=255")), reason(255));
    // The TS module does not carry AV1, but the track has the audio of track 0; AAC has none.
    let (status, text) = refused(&host, &format!("/{key}.aac?track=2"));
    assert_eq!(status, 415, "{text}");
    assert!(text.contains("av01") && text.contains("Opus"), "{text}");
    assert_eq!(refused(&host, &format!("/{key}.flv?track=256")).0, 400);
}

#[test]
fn a_player_with_multitrack_gets_all_tracks_and_a_legacy_one_track_0() {
    let host = Host::start(&config());
    let key = host.key("players");
    let watcher = Capture::http(&host, &key);
    host.wait_waiting(1);
    let mut publisher = Publisher::open(host.rtmp, &key);
    publisher.send(&headers());
    publisher.send(&second(0));
    watcher.wait_until(SOON, "a second", |tags| pictures(tags).len() == 11);
    let (app, name) = split_key(&key);
    let play = |caps: f64| {
        let mut player = Connection::open(host.rtmp).unwrap();
        let object = Amf::Object(vec![
            ("app".into(), app.into()),
            ("tcUrl".into(), Amf::String(format!("rtmp://{}/{app}", host.rtmp))),
            ("fourCcList".into(), Amf::Array(vec!["*".into()])),
            ("capsEx".into(), caps.into()),
        ]);
        player.call("connect", &[object]).unwrap();
        let stream = player.create_stream().unwrap();
        assert_eq!(player.play(stream, name).unwrap(), "NetStream.Play.Start");
        player
    };
    let (mut all, mut legacy) = (play(2.0), play(0.0));
    let video = |message: &Message| (message.kind == VIDEO).then(|| message.payload.clone());
    let take = |player: &mut Connection, count| {
        (0..count).map(|_| player.read_until(video).unwrap()).collect::<Vec<_>>()
    };
    // Both headers, the pictures of track 0, and those of track 2 from its keyframe on.
    let bodies = take(&mut all, 2 + 10 + 5);
    let pictures = bodies.iter().filter(|body| body[0] & 0x8f == 0x86 && body[1] == 1);
    assert_eq!(pictures.map(|body| *body.last().unwrap()).collect::<Vec<_>>(), [5, 6, 7, 8, 9]);
    assert!(bodies.contains(&track(VIDEO, 2, 0, true, b"\x81\0\x0c\0")), "the configuration of track 2");
    assert!(bodies.contains(&track(VIDEO, 2, 1, true, &[0, 5])), "the keyframe of track 2");
    let bodies = take(&mut legacy, 11);
    assert!(bodies.iter().all(|body| body[0] < 0x80), "{bodies:x?}");
}
