//! Real players play.

use std::process::Command;
use std::time::Duration;

use remuxd_tests::browser::{self, Player};
use remuxd_tests::capture::Capture;
use remuxd_tests::clip::{Clip, LENGTH};
use remuxd_tests::compare::{Coverage, check_order, compare};
use remuxd_tests::encoder::{Encoder, encode_live, publish_file, publish_looped};
use remuxd_tests::flv::read_file;
use remuxd_tests::host::{Config, Host};
use remuxd_tests::player::{mpv, vlc};
use remuxd_tests::rtmp::split_key;
use remuxd_tests::tool::{Ffmpeg, run};
use remuxd_tests::wait::SOON;

/// Checks that each player plays each URL of a live stream.
fn browsers_play(clip: Clip, tracks: &str, players: &[Player]) {
    let host = Host::start(&Config::live());
    let key = host.key("browser");
    let _publishing = publish_looped(clip, &host.rtmp_url(&key));
    let viewer = Capture::http(&host, &key);
    viewer.wait_access_units(30, SOON);
    for player in players {
        for url in [host.http_url(&key), host.ws_url(&key)] {
            browser_plays(*player, &url, tracks);
        }
    }
}

fn browser_plays(player: Player, url: &str, tracks: &str) {
    let outcome = browser::play(player, url, tracks, Duration::from_secs(30)).unwrap();
    assert!(outcome.errors.is_empty(), "{player:?}: {outcome:?}");
    assert!(outcome.advanced > 1.0, "{player:?}: {outcome:?}");
    assert!(outcome.frames > 20 || tracks == "a", "{player:?}: {outcome:?}");
    assert!(outcome.audio_bytes > 0 || tracks == "v", "{player:?}: {outcome:?}");
}

#[test]
fn mpegts_js_plays_http_and_websocket() {
    browsers_play(Clip::H264Aac, "av", &[Player::Mpegts]);
}

#[test]
fn flv_js_plays_http_and_websocket() {
    browsers_play(Clip::H264Aac, "av", &[Player::Flv]);
}

#[test]
fn videojs_flvjs_plays_http() {
    let host = Host::start(&Config::live());
    let key = host.key("videojs");
    let _publishing = publish_looped(Clip::H264Aac, &host.rtmp_url(&key));
    Capture::http(&host, &key).wait_access_units(30, SOON);
    let url = host.http_url(&key);
    let outcome = browser::play(Player::VideoJs, &url, "av", Duration::from_secs(30)).unwrap();
    assert!(outcome.errors.is_empty(), "{outcome:?}");
    assert!(outcome.advanced > 1.0 && outcome.frames > 20 && outcome.audio_bytes > 0, "{outcome:?}");
}

/// The stream is one GOP: mpegts.js 1.8.2 makes a new initialization segment at every AV1 keyframe, before the one or two
/// frames that it still buffers. Those are lost, and after two of them the picture may freeze, with any server.
#[test]
fn mpegts_js_plays_av1_and_opus() {
    let host = Host::start(&Config::live().play("gop_cache_max_frames", "10000"));
    for scheme in ["http", "ws"] {
        let key = host.key(scheme);
        let file = Clip::Av1Opus.one_gop();
        let _publishing = publish_file(Ffmpeg::Nine, file, &host.rtmp_url(&key));
        Capture::http(&host, &key).wait_access_units(1, SOON);
        browser_plays(Player::Mpegts, &host.http_url(&key).replacen("http", scheme, 1), "av");
    }
}

#[test]
fn browsers_play_audio_alone() {
    browsers_play(Clip::Aac, "a", &[Player::Mpegts, Player::Flv]);
}

#[test]
fn browsers_play_video_alone() {
    browsers_play(Clip::H264, "v", &[Player::Mpegts, Player::Flv]);
}

/// Checks that ffmpeg decodes more of the stream than one repetition of the clip without an error.
fn ffmpeg_plays(ffmpeg: Ffmpeg, clip: Clip) {
    let host = Host::start(&Config::live());
    let key = host.key("ffmpeg");
    let _publishing = publish_looped(clip, &host.rtmp_url(&key));
    Capture::http(&host, &key).wait_access_units(1, SOON);
    let seconds = (LENGTH.as_secs() + 1).to_string();
    for url in [host.rtmp_url(&key), host.http_url(&key)] {
        let mut command = ffmpeg.command();
        command
            .args(["-xerror", "-i", &url, "-map", "0:v", "-map", "0:a", "-t", &seconds, "-f", "null", "-"]);
        let output = run(&mut command).unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{url}");
    }
}

#[test]
fn ffmpeg_5_plays_rtmp_and_http() {
    ffmpeg_plays(Ffmpeg::Five, Clip::H264Aac);
}

#[test]
fn ffmpeg_9_plays_enhanced_rtmp_and_http() {
    ffmpeg_plays(Ffmpeg::Nine, Clip::HevcAac);
}

#[test]
fn librtmp_plays_what_was_published() {
    librtmp_plays("");
}

#[test]
fn librtmp_plays_a_name_with_an_extension() {
    librtmp_plays(".flv");
}

/// Plays a stream with rtmpdump, which asks for its name and `extension`.
fn librtmp_plays(extension: &str) {
    let host = Host::start(&Config::live());
    let key = host.key("rtmpdump");
    let (app, name) = split_key(&key);
    let server = format!("rtmp://{}/{app}", host.rtmp);
    let mut command = Command::new("rtmpdump");
    command.args(["--quiet", "--live", "--rtmp", &server, "--playpath", &format!("{name}{extension}")]);
    command.args(["--flv", "-"]);
    let player = Capture::command(command);
    host.wait_waiting(1);
    let mut publishing = Encoder::Ffmpeg(Ffmpeg::Five).publish(Clip::H264Aac, &host, &key);
    let published = read_file(&publishing.finish());
    let recording = player.finish(SOON);
    check_order(&recording.tags).unwrap();
    let units = compare(&published, &recording.tags, Coverage::FromKeyframe).unwrap();
    assert!(units > 100, "{units}");
}

#[test]
fn mpv_and_vlc_play_without_warnings() {
    let mount = |config: Config, format: &str| config.mount(&format!("mount = \"/[app]/[stream].{format}\""));
    let host = Host::start(&["flv", "ts", "aac"].into_iter().fold(Config::live(), mount));
    let key = host.key("native");
    let _publishing = encode_live(&host.rtmp_url(&key));
    Capture::http(&host, &key).wait_access_units(1, SOON);
    let http = |format: &str| host.http_url(&key).replace(".flv", format);
    for (url, tracks) in
        [(http(".flv"), "av"), (http(".ts"), "av"), (http(".aac"), "a"), (host.rtmp_url(&key), "av")]
    {
        mpv(&url, 3).unwrap_or_else(|error| panic!("{error}"));
        vlc(&url, tracks, 3).unwrap_or_else(|error| panic!("{error}"));
    }
}
