//! Faults are judged for each stream, and a generation by comparison with the one before it.
//!
//! The module `hostile` does what a publisher orders, in the middle of its stream. Build 1 also has an act on which build 0 does
//! nothing.

use std::fs;

use remuxd_tests::host::Host;
use remuxd_tests::http::Request;
use remuxd_tests::modules::hostile_build;
use remuxd_tests::publisher::Numbered;
use remuxd_tests::scratch::Scratch;
use remuxd_tests::wait::{SOON, wait_until};

use crate::isolation::scene::{Live, Scene, Viewer};

/// A stream and a viewer of its hostile mount.
struct Stream {
    path: String,
    live: Live,
    viewer: Viewer,
}

impl Stream {
    fn new(scene: &Scene, name: &str) -> Stream {
        let key = scene.host.key(name);
        let live = Live::with_key(scene, &key);
        let path = format!("/{key}.hostile");
        let viewer = Viewer::new(&scene.host, &path);
        viewer.wait_number(1);
        Stream { path, live, viewer }
    }

    fn several(scene: &Scene, names: &[&str]) -> Vec<Stream> {
        names.iter().map(|name| Stream::new(scene, name)).collect()
    }

    /// Orders an act that is a fault, and waits until the viewer goes on at a keyframe.
    fn fails_at(&self, word: &str) {
        let number = self.live.order(word);
        let resumed = self.viewer.wait_resumed(number);
        assert!(resumed.is_multiple_of(Numbered::GOP), "{resumed}");
    }

    /// Waits until the viewer has everything that is published now.
    fn goes_on(&self) {
        self.viewer.wait_number(self.live.order("nothing"));
    }

    fn status(&self, host: &Host) -> u16 {
        Request::get(&self.path).send(host.http).unwrap().status
    }
}

/// The states of the generations of `hostile`, by age.
fn states(host: &Host) -> Vec<String> {
    let modules = host.api_json("/api/v1/modules");
    let modules = modules.as_array().unwrap().iter().filter(|module| module["name"] == "hostile");
    modules.map(|module| module["state"].as_str().unwrap().to_owned()).collect()
}

/// The reason that the API gives for the state of the newest generation of `hostile`.
fn reason(host: &Host) -> String {
    let modules = host.api_json("/api/v1/modules");
    let mut modules = modules.as_array().unwrap().iter().filter(|module| module["name"] == "hostile");
    modules.next_back().unwrap()["reason"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn data_that_break_a_module_take_its_format_from_no_other_stream() {
    for isolation in ["none", "process"] {
        let scene = Scene::new(isolation, "max_faults = 2");
        let good = Stream::new(&scene, "good");
        for attacker in Stream::several(&scene, &["a", "b", "c", "d"]) {
            attacker.fails_at("panic");
            attacker.fails_at("panic");
            attacker.live.order("panic");
            attacker.viewer.wait_end();
            let refused = Request::get(&attacker.path).send(scene.host.http).unwrap();
            assert_eq!(refused.status, 503);
            let retry_after: u64 = refused.header("retry-after").unwrap().parse().unwrap();
            assert!((1..=6).contains(&retry_after), "{retry_after}");
            assert!(refused.text().unwrap().contains("fails on this stream"));
            let fault = &scene.host.api_json("/api/v2/faults?count=1")["faults"][0];
            assert_eq!(fault["module"], "hostile");
            assert_eq!(Some(fault["stream"].as_str().unwrap()), attacker.path[1..].strip_suffix(".hostile"));
            // The publisher is as welcome as before: its stream is served again after the pause.
            wait_until(SOON, "the stream is served again", || attacker.status(&scene.host) == 200);
        }
        good.goes_on();
        good.viewer.assert_gaps(&[]);
        assert_eq!(states(&scene.host), ["current"], "{isolation}");
    }
}

#[test]
fn a_stream_that_ends_its_modules_process_gets_one_of_its_own() {
    let scene = Scene::new("process", "max_faults = 1000");
    let (guilty, bystander) = (Stream::new(&scene, "guilty"), Stream::new(&scene, "bystander"));
    guilty.fails_at("segfault");
    wait_until(SOON, "the bystander resumes", || {
        bystander.goes_on();
        bystander.viewer.gaps().len() == 1
    });
    let gaps = bystander.viewer.gaps();
    assert!(gaps[0].1.is_multiple_of(Numbered::GOP), "{gaps:?}");
    for word in ["segfault", "hang", "abort"] {
        guilty.fails_at(word);
        assert_eq!(scene.host.children().len(), 2);
    }
    bystander.goes_on();
    assert_eq!(bystander.viewer.gaps(), gaps, "the others were interrupted once");
}

#[test]
fn calls_that_hang_move_the_module_to_another_process() {
    let scene = Scene::new("none", "max_faults = 1000");
    let streams = Stream::several(&scene, &["a", "b", "c"]);
    assert!(scene.host.children().is_empty());
    for stream in &streams[..2] {
        stream.fails_at("hang");
        // In its own process, which can be ended.
        stream.fails_at("hang");
    }
    assert_eq!(scene.host.metric("remuxd_hung_threads"), 2);
    assert!(reason(&scene.host).contains("process of its own"));
    let late = Stream::new(&scene, "late");
    late.fails_at("hang");
    late.fails_at("hang");
    assert_eq!(scene.host.metric("remuxd_hung_threads"), 2, "no thread for a third");
    // Those that ended the process of their own count as well.
    assert_eq!(scene.host.metric("remuxd_module_hung_calls_total{module=\"hostile\"}"), 6);
    streams[2].goes_on();
    streams[2].viewer.assert_gaps(&[]);
}

#[test]
fn a_reload_that_is_worse_on_several_streams_is_rolled_back() {
    let scene = Scene::new("none", "max_faults = 3");
    let streams = Stream::several(&scene, &["a", "b", "c", "healthy"]);
    scene.put_hostile(&hostile_build('1', None));
    assert!(scene.host.reload().contains("live mounts: 4 handed over"));
    wait_until(SOON, "all are handed over", || scene.mounts_of_current() == 4);
    for (failed, stream) in streams[..3].iter().enumerate() {
        assert_eq!(scene.mounts_of_current(), 4 - failed);
        stream.fails_at("worse");
        // The generation before does not mind.
        stream.live.order("worse");
        stream.goes_on();
    }
    scene.host.wait_state("hostile", "rolled-back");
    wait_until(SOON, "the healthy stream goes back too", || {
        streams[3].goes_on();
        scene.mounts_of_current() == 4
    });
    assert_eq!(states(&scene.host), ["current", "rolled-back"]);
    assert!(reason(&scene.host).contains("3 streams"), "{}", reason(&scene.host));
    let status = scene.host.command(&["status"]);
    assert!(String::from_utf8_lossy(&status.stdout).contains("failed on 3 streams"), "{status:?}");
    let metrics = scene.host.api_page("/metrics");
    let info = metrics.lines().filter(|line| line.starts_with("remuxd_module_info{module=\"hostile\""));
    assert_eq!(info.filter(|line| line.contains("state=\"rolled-back\"")).count(), 1, "{metrics}");
    streams[3].goes_on();
    streams[3].viewer.assert_gaps(&[]);
    // An operator may insist.
    assert!(scene.host.reload().contains("4 handed over"));
    assert_eq!(states(&scene.host).last().unwrap(), "current");
}

#[test]
fn data_that_break_both_generations_roll_nothing_back() {
    let scene = Scene::new("none", "max_faults = 2");
    let streams = Stream::several(&scene, &["a", "b", "c", "d"]);
    scene.put_hostile(&hostile_build('1', None));
    assert!(scene.host.reload().contains("live mounts: 4 handed over"));
    wait_until(SOON, "all are handed over", || scene.mounts_of_current() == 4);
    for stream in &streams {
        // First by the new generation, then by the one before it, then by the new one again.
        stream.fails_at("panic");
        stream.fails_at("panic");
        stream.fails_at("panic");
        stream.live.order("panic");
        stream.viewer.wait_end();
        assert_eq!(stream.status(&scene.host), 503);
    }
    assert_eq!(states(&scene.host), ["fallback", "current"]);
}

#[test]
fn faults_on_several_streams_repeat_the_self_test() {
    for isolation in ["none", "process"] {
        let scene = Scene::new(isolation, "max_faults = 3");
        let streams = Stream::several(&scene, &["a", "b", "c"]);
        streams.iter().for_each(|stream| stream.fails_at("panic"));
        scene.host.wait_log(&["self-test passed after faults on several streams"]);
        assert_eq!(states(&scene.host), ["current"]);
    }
}

#[test]
fn a_generation_that_fails_its_self_test_again_is_switched_off() {
    let scratch = Scratch::new();
    let spoil = scratch.join("spoil");
    // In a process of its own the module would not see the file.
    let scene = Scene::with_hostile("none", "max_faults = 3", &hostile_build('0', Some(&spoil)));
    let streams = Stream::several(&scene, &["a", "b", "c"]);
    fs::write(&spoil, "").unwrap();
    for stream in &streams {
        stream.live.order("panic");
    }
    scene.host.wait_state("hostile", "off");
    assert!(reason(&scene.host).contains("self-test"), "{}", reason(&scene.host));
    streams.iter().for_each(|stream| stream.viewer.wait_end());
    assert_eq!(streams[0].status(&scene.host), 503);
    fs::remove_file(&spoil).unwrap();
    scene.host.reload();
    wait_until(SOON, "the stream is served again", || streams[0].status(&scene.host) == 200);
}

#[test]
fn a_build_that_crashed_the_host_starts_in_a_process_until_an_operator_reloads_it() {
    for word in ["segfault", "abort", "exit", "overflow"] {
        let mut scene = Scene::new("none", "max_faults = 5");
        let stream = Stream::new(&scene, "crash");
        assert!(scene.host.children().is_empty());
        stream.live.order(word);
        scene.host.restart_after_crash();
        let _ = stream.live.thread.join();
        let stream = Stream::new(&scene, "crash");
        assert_eq!(scene.host.children().len(), 1, "{word}");
        assert!(reason(&scene.host).contains("live/crash"), "{}", reason(&scene.host));
        scene.host.wait_log(&["ERROR", "the host ended in a call of it for live/crash"]);
        stream.fails_at(word);
        // A dry run changes nothing.
        let _ = scene.host.command(&["reload", "--dry-run"]);
        assert!(reason(&scene.host).contains("live/crash"));
        assert!(scene.host.reload().contains("1 handed over"));
        assert_eq!(reason(&scene.host), "");
        wait_until(SOON, "it runs in the host again", || {
            stream.goes_on();
            scene.mounts_of_current() == 1
        });
        scene.host.terminate();
    }
}

#[test]
fn a_host_that_is_stopped_in_a_call_suspects_nobody() {
    let mut scene = Scene::new("none", "");
    let stream = Stream::new(&scene, "stopped");
    stream.live.order("sleep");
    scene.host.terminate();
    scene.host.restart_after_crash();
    assert_eq!(reason(&scene.host), "");
    let _ = stream.live.thread.join();
}
