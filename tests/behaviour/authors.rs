//! Starting points for module authors: the crate that `remuxd module new` writes, and the example in C.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use remuxd_tests::clip::Clip;
use remuxd_tests::decode::frames;
use remuxd_tests::encoder::Encoder;
use remuxd_tests::host::{Config, Host, executable};
use remuxd_tests::http::Request;
use remuxd_tests::publisher::{Numbered, Publisher};
use remuxd_tests::scratch::Scratch;
use remuxd_tests::tool::{Ffmpeg, root, run, target_dir};

/// Serves a stream in the format of the module `name` in `file`, whose extension is its name. Returns the published file
/// and the response of a viewer that was there from the start.
fn serve(name: &str, file: &Path, scratch: &Scratch) -> (PathBuf, PathBuf) {
    let dir = scratch.join("modules");
    fs::create_dir_all(&dir).unwrap();
    fs::copy(file, dir.join(format!("lib{}.so", name.replace('-', "_")))).unwrap();
    let modules = format!("[modules]\ndir = {dir:?}\nload = [{name:?}]");
    let mount = format!("mount = \"/[app]/[stream].{name}\"");
    let host = Host::start(&Config::live().tables(&modules).mount(&mount));
    let key = host.key("authors");
    let served = scratch.join("served");
    let url = host.http_url(&key).replace(".flv", &format!(".{name}"));
    let mut fetch = Command::new("curl");
    fetch.args(["--silent", "--show-error", "--fail", "--output"]).arg(&served).arg(url);
    let fetching = std::thread::spawn(move || run(&mut fetch));
    host.wait_waiting(1);
    let published = Encoder::Ffmpeg(Ffmpeg::Five).publish(Clip::H264Aac, &host, &key).finish();
    fetching.join().unwrap().unwrap();
    (published, served)
}

fn assert_same_frames(published: &Path, served: &Path, map: &str) {
    let (published, served) = (frames(published, map).unwrap(), frames(served, map).unwrap());
    assert!(served.len() > 50, "{map}: {}", served.len());
    assert!(published.ends_with(&served), "{map}: {} of {}", served.len(), published.len());
}

fn remuxd(arguments: &[&str]) -> String {
    let output = run(Command::new(executable()).args(arguments)).unwrap_or_else(|error| panic!("{error}"));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_new_module_builds_passes_its_tests_conforms_and_is_served() {
    let scratch = Scratch::new();
    // Inside another workspace.
    fs::write(scratch.join("Cargo.toml"), "[workspace]\nmembers = []\n").unwrap();
    let crate_dir = scratch.join("crate");
    let api = root().join("plugin-api");
    let dir = crate_dir.to_str().unwrap();
    remuxd(&["module", "new", "my-raw", "--dir", dir, "--api", api.to_str().unwrap()]);
    // The versions of this workspace, so that nothing is downloaded.
    fs::copy(root().join("tests/modules/Cargo.lock"), crate_dir.join("Cargo.lock")).unwrap();
    let target = target_dir().join("modules");
    let cargo = |arguments: &[&str]| {
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.args(arguments).current_dir(&crate_dir).env("CARGO_TARGET_DIR", &target);
        // As in the workspace of the other test modules, whose dependencies it shares.
        cargo.env("CARGO_PROFILE_DEV_DEBUG", "none").env("CARGO_PROFILE_DEV_STRIP", "true");
        run(&mut cargo).unwrap_or_else(|error| panic!("{error}"))
    };
    cargo(&["fmt", "--check"]);
    let tested = cargo(&["test", "--offline"]);
    let tested = String::from_utf8_lossy(&tested.stdout);
    assert!(tested.contains("3 passed; 0 failed"), "{tested}");
    cargo(&["build", "--offline"]);
    let library = target.join("debug/libremuxd_my_raw.so");
    let file = library.to_str().unwrap();
    let page = remuxd(&["module", "inspect", file]);
    assert!(page.contains("name          my-raw\n") && page.contains("  delimiters = false\n"), "{page}");
    remuxd(&["module", "test", file]);
    let (published, served) = serve("my-raw", &library, &scratch);
    assert_same_frames(&published, &served, "0:v");
}

/// The example in C, built.
fn adts(scratch: &Scratch) -> PathBuf {
    let library = scratch.join("libadts.so");
    let api = root().join("plugin-api");
    let mut cc = Command::new("cc");
    cc.args(["-std=c99", "-shared", "-fPIC", "-I"]).arg(api.join("include")).arg("-o").arg(&library);
    run(cc.arg(api.join("examples/c/adts.c"))).unwrap_or_else(|error| panic!("{error}"));
    library
}

#[test]
fn the_module_in_c_is_served() {
    let scratch = Scratch::new();
    let (published, served) = serve("adts", &adts(&scratch), &scratch);
    assert_same_frames(&published, &served, "0:a");
}

#[test]
fn the_module_in_c_says_what_it_cannot_carry() {
    let scratch = Scratch::new();
    let dir = scratch.path();
    adts(&scratch);
    for isolation in ["none", "process"] {
        let modules = format!(
            "[modules]\ndir = {dir:?}\nload = [\"adts\"]\n[module.adts]\nisolation = \"{isolation}\""
        );
        let host = Host::start(&Config::live().tables(&modules).mount("mount = \"/[app]/[stream].adts\""));
        let key = host.key("xhe");
        let mut publisher = Publisher::open(host.rtmp, &key);
        // xHE-AAC, object type 42.
        let mut media = Numbered::new(100).with_audio_config(b"\xf9\x46\x40");
        publisher.send(&[media.headers(), media.frames(30)].concat());
        let status = || Request::get(&format!("/{key}.adts")).send(host.http).unwrap().status;
        // More often than `max_faults`.
        let statuses: Vec<u16> = (0..6).map(|_| status()).collect();
        assert_eq!(statuses, [415; 6], "isolation {isolation}\n{}", host.log());
        host.wait_log(&["an AAC object type that ADTS has no number for"]);
    }
}
