//! A format that is not the repository's own: fragmented MP4, written with the plugin API alone.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use remuxd_tests::browser::{self, Player};
use remuxd_tests::capture::Capture;
use remuxd_tests::clip::Clip;
use remuxd_tests::decode::frames;
use remuxd_tests::encoder::{Encoder, publish_looped};
use remuxd_tests::host::{Config, Host, executable, remuxd};
use remuxd_tests::modules;
use remuxd_tests::scratch::Scratch;
use remuxd_tests::tool::{Ffmpeg, root, run};
use remuxd_tests::wait::SOON;

/// Builds the workspace `tests/modules/fmp4`, and returns the directory of its libraries.
fn built() -> PathBuf {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    DIR.get_or_init(|| modules::built(&root().join("tests/modules/fmp4"), "fmp4", "dev")).clone()
}

/// Starts a host with these two modules and a mount for them.
fn host() -> (Scratch, Host) {
    let scratch = Scratch::new();
    let beside = executable().parent().expect("a directory").to_owned();
    for (dir, name) in [(&beside, "flv"), (&built(), "fmp4"), (&built(), "websocket_fmp4")] {
        let file = format!("libremuxd_{name}.so");
        fs::copy(dir.join(&file), scratch.join(&file)).expect("a built module");
    }
    let modules =
        format!("[modules]\ndir = {:?}\nload = [\"flv\", \"fmp4\", \"websocket-fmp4\"]", scratch.path());
    let mounts = ["mount = \"/[app]/[stream].flv\"", "mount = \"/[app]/[stream].mp4\""];
    let config = mounts.iter().fold(Config::live().tables(&modules), |config, mount| config.mount(mount));
    (scratch, Host::start(&config))
}

fn mp4(url: &str) -> String {
    url.replace(".flv", ".mp4")
}

#[test]
fn chromium_plays_fmp4_over_http_and_websocket() {
    let (_modules, host) = host();
    let key = host.key("mse");
    let _publishing = publish_looped(Clip::H264Aac, &host.rtmp_url(&key));
    Capture::http(&host, &key).wait_access_units(30, SOON);
    for url in [mp4(&host.http_url(&key)), mp4(&host.ws_url(&key))] {
        let outcome = browser::play(Player::Mse, &url, "av", Duration::from_secs(30)).unwrap();
        assert!(outcome.errors.is_empty(), "{url}: {outcome:?}");
        assert!(
            outcome.advanced > 1.0 && outcome.frames > 20 && outcome.audio_bytes > 0,
            "{url}: {outcome:?}"
        );
    }
}

#[test]
fn fmp4_decodes_to_the_published_frames() {
    let (scratch, host) = host();
    let key = host.key("frames");
    let mut fetch = Command::new("curl");
    let served = scratch.join("served.mp4");
    fetch
        .args(["--silent", "--show-error", "--fail", "--output"])
        .arg(&served)
        .arg(mp4(&host.http_url(&key)));
    let fetching = std::thread::spawn(move || run(&mut fetch));
    host.wait_waiting(1);
    let mut publishing = Encoder::Ffmpeg(Ffmpeg::Five).publish(Clip::H264Aac, &host, &key);
    let published = publishing.finish();
    fetching.join().expect("no panic").unwrap();
    for map in ["0:v", "0:a"] {
        let (published, served) = (frames(&published, map).unwrap(), frames(&served, map).unwrap());
        assert!(served.len() > 50, "{map}: {}", served.len());
        assert!(published.ends_with(&served[1..]), "{map}: {} of {}", served.len(), published.len());
    }
}

#[test]
fn fmp4_passes_the_conformance_kit() {
    let module = built().join("libremuxd_fmp4.so");
    let output = remuxd(&["module", "test", module.to_str().expect("a path")]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}
