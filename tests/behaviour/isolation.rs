//! A hostile module harms its own mounts only, in the host and in a process of its own.
//!
//! `tests/modules/hostile` does what the publisher orders, in the middle of a live stream. The same stream has a mount of
//! `flv`, whose viewer must not be disturbed: every byte is as published, and no gap is more than one frame interval
//! longer than the publisher and the machine's scheduler have caused.
//!
//! `REMUXD_TIMES=100 cargo test -p remuxd-tests --test behaviour again_and_again` repeats the deaths of a process as often,
//! which takes six minutes, longer than nextest lets a test run; the default is small.

pub(crate) mod scene;

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::iter;
use std::path::Path;
use std::time::Duration;

use remuxd_tests::http::Request;
use remuxd_tests::publisher::Numbered;
use remuxd_tests::wait::{SOON, wait_until};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};

use scene::{CALL_TIMEOUT, Live, Noise, Scene, Viewer, retry};

/// An order, and the text of the fault that it causes, if any.
type Act = (&'static str, Option<&'static str>);

/// Acts that the host survives in its own process.
const SURVIVABLE: [Act; 12] = [
    ("panic", Some("panicked: told to")),
    ("bomb", Some("panicked: no message")),
    ("error", Some("told to")),
    ("flood", Some("bytes of output in one call")),
    ("flood_on", Some("bytes of output in one call")),
    ("flags", Some("a block with flags 0x80")),
    ("track", Some("a block of track 200")),
    ("dts", Some("a block at -9223372036854775808 ms, made of tags from")),
    ("log", None),
    ("sleep", None),
    ("print", None),
    ("print", None),
];

/// Acts that end a process.
const DEADLY: [Act; 12] = [
    ("segfault", Some("its process was ended by SIGSEGV")),
    ("abort", Some("its process was ended by SIGABRT")),
    ("exit", Some("its process exited with status 3")),
    ("kill", Some("its process was ended by SIGKILL")),
    ("overflow", Some("its process was ended by SIG")),
    ("memory", Some("its process was ended by SIGABRT, after \"memory allocation of")),
    ("thread", None),
    ("hang", Some("a call took longer than 2s")),
    ("close", Some("its process was ended by SIGKILL")),
    ("garbage", Some("its process sent a malformed")),
    ("giant", Some("its process sent a frame of")),
    ("babble", Some("its process sent a frame without a request")),
];

/// Orders each act, and checks the viewers of the hostile mount and of its neighbour.
fn survive(scene: &Scene, acts: &[Act]) -> Result<(), String> {
    let noise = Noise::start();
    let live = Live::new(scene);
    let (hostile, neighbour) = (scene.hostile(), scene.neighbour());
    hostile.wait_number(3);
    neighbour.wait_number(3);
    let mut gaps = Vec::new();
    for (word, fault) in acts {
        let number = live.order(word);
        if let Some(fault) = fault {
            scene.host.wait_log(&["remuxer ended", fault]);
            // After several faults there are pauses.
            let resumed = hostile.wait_resumed(number);
            assert!(resumed.is_multiple_of(Numbered::GOP), "{resumed} after {word} at {number}");
            gaps.extend((resumed > number).then_some((number, resumed)));
        }
        hostile.wait_number(number);
    }
    let last = live.order("nothing");
    neighbour.wait_number(last);
    hostile.assert_gaps(&gaps);
    let sent = live.stop();
    neighbour.wait_end();
    hostile.wait_end();
    neighbour.undisturbed(&sent, Duration::ZERO, noise.stop())
}

#[test]
fn a_hostile_module_in_the_host_costs_its_own_mount_a_gop() {
    retry(|| survive(&Scene::new("none", "max_faults = 1000"), &SURVIVABLE));
}

#[test]
fn a_hostile_module_in_its_process_costs_its_own_mount_a_gop() {
    retry(|| {
        let scene = Scene::new("process", "max_faults = 1000");
        let survived = survive(&scene, &SURVIVABLE);
        assert!(!scene.host.log().contains("lacks a protection"), "this kernel lacks protections");
        survived
    });
}

#[test]
fn a_module_process_that_dies_costs_its_own_mount_a_gop() {
    retry(|| survive(&Scene::new("process", "max_faults = 1000"), &DEADLY));
}

/// Repeats a crash, an endless loop and a kill from outside.
#[test]
fn a_module_process_may_die_again_and_again() {
    let times = std::env::var("REMUXD_TIMES").map_or(2, |times| times.parse().unwrap());
    retry(|| die_again_and_again(times));
}

fn die_again_and_again(times: usize) -> Result<(), String> {
    let scene = Scene::new("process", "max_faults = 1000");
    let noise = Noise::start();
    let live = Live::new(&scene);
    let (hostile, neighbour) = (scene.hostile(), scene.neighbour());
    hostile.wait_number(1);
    neighbour.wait_number(1);
    let mut gaps = Vec::new();
    for _ in 0..times {
        for word in ["segfault", "hang"] {
            let number = live.order(word);
            let resumed = hostile.wait_resumed(number);
            assert!(resumed.is_multiple_of(Numbered::GOP), "{resumed} after {word} at {number}");
            gaps.extend((resumed > number).then_some((number, resumed)));
        }
        // A kill from outside comes between two calls or during one; within a GOP, so that it causes a gap up to the next one.
        let within = |number: &u32| (2..Numbered::GOP - 8).contains(&(number % Numbered::GOP));
        let before = iter::repeat_with(|| live.order("nothing")).find(within).unwrap();
        hostile.wait_number(before);
        let process = scene.process();
        kill_process(process, Signal::KILL).unwrap();
        wait_until(SOON, "it resumes", || {
            let numbers = hostile.numbers();
            let gap = numbers.windows(2).rev().find(|pair| pair[1] != pair[0] + 1);
            gap.is_some_and(|gap| gap[0] >= before)
        });
        let numbers = hostile.numbers();
        let gap = numbers.windows(2).rev().find(|pair| pair[1] != pair[0] + 1).unwrap();
        assert!(gap[1].is_multiple_of(Numbered::GOP), "not at a keyframe: {gap:?}");
        gaps.push((gap[0] + 1, gap[1]));
        assert_ne!(scene.process(), process);
    }
    let last = live.order("nothing");
    neighbour.wait_number(last);
    hostile.assert_gaps(&gaps);
    assert_eq!(scene.host.children().len(), 1, "one process, and none that was not reaped");
    let sent = live.stop();
    neighbour.wait_end();
    neighbour.undisturbed(&sent, Duration::ZERO, noise.stop())
}

#[test]
fn remuxers_that_share_a_process_restart_without_a_fault_of_theirs() {
    let scene = Scene::new("process", "max_faults = 1");
    let (guilty, bystander) = (Live::new(&scene), Live::with_key(&scene, &scene.host.key("other")));
    let one = scene.hostile();
    let two = Viewer::new(&scene.host, &format!("/{}.hostile", scene.host.key("other")));
    one.wait_number(1);
    two.wait_number(1);
    let number = guilty.order("segfault");
    one.wait_number(number.next_multiple_of(Numbered::GOP));
    scene.host.wait_log(&["remuxer ended", "its process ended by a fault of another remuxer"]);
    let now = bystander.order("nothing");
    two.wait_number(now.next_multiple_of(Numbered::GOP));
    // A second fault would close the mount.
    assert_eq!(Request::get(&scene.hostile_path()).send(scene.host.http).unwrap().status, 200);
}

#[test]
fn a_failure_while_a_remuxer_is_freed_is_a_fault() {
    let ended = format!("a call took longer than {CALL_TIMEOUT:?}");
    let acts = [
        ("none", "panic", "panicked: told to"),
        ("none", "hang", "has not come back"),
        ("process", "panic", "panicked: told to"),
        ("process", "segfault", "its process was ended by SIGSEGV"),
        ("process", "exit", "its process exited with status 3"),
        ("process", "hang", &*ended),
    ];
    for (isolation, word, fault) in acts {
        let scene = Scene::new(isolation, "max_faults = 1");
        let path = format!("{}?do={word}&in=drop", scene.hostile_path());
        let status = || Request::get(&path).send(scene.host.http).unwrap().status;
        // Its only remuxer is freed when the stream ends. Nothing else is in its process.
        let live = Live::new(&scene);
        let hostile = Viewer::new(&scene.host, &path);
        hostile.wait_number(1);
        live.stop();
        hostile.wait_end();
        scene.host.wait_faults("hostile", 1);
        // And when the last viewer has left. The second fault on a stream closes the mount.
        let live = Live::new(&scene);
        assert_eq!(status(), 200, "{isolation} {word}");
        let line = scene.host.wait_nth_log("remuxer ended", 2);
        assert!(line.contains("module=hostile") && line.contains(fault), "{line}");
        assert_eq!(status(), 200, "{isolation} {word}");
        scene.host.wait_faults("hostile", 3);
        assert_eq!(status(), 503, "{isolation} {word}");
        live.stop();
    }
}

#[test]
fn a_module_with_too_many_faults_answers_503_and_other_formats_go_on() {
    for (isolation, word) in [("none", "panic"), ("process", "segfault")] {
        retry(|| exceed_max_faults(isolation, word));
    }
}

fn exceed_max_faults(isolation: &str, word: &str) -> Result<(), String> {
    let scene = Scene::new(isolation, "max_faults = 2");
    let noise = Noise::start();
    let live = Live::new(&scene);
    let (hostile, neighbour) = (scene.hostile(), scene.neighbour());
    neighbour.wait_number(1);
    for _ in 0..2 {
        let number = live.order(word);
        hostile.wait_number(number.next_multiple_of(Numbered::GOP));
    }
    live.order(word);
    hostile.wait_end();
    let refused = Request::get(&scene.hostile_path()).send(scene.host.http).unwrap();
    assert_eq!(refused.status, 503, "{isolation}");
    let last = live.order("nothing");
    neighbour.wait_number(last + 2);
    let sent = live.stop();
    neighbour.wait_end();
    neighbour.undisturbed(&sent, Duration::ZERO, noise.stop())
}

#[test]
fn a_call_that_hangs_in_the_host_costs_its_own_mount_a_gop() {
    retry(hang_in_the_host);
}

fn hang_in_the_host() -> Result<(), String> {
    let scene = Scene::new("none", "max_faults = 1000\nworkers = 1");
    let noise = Noise::start();
    let live = Live::new(&scene);
    let (hostile, neighbour) = (scene.hostile(), scene.neighbour());
    hostile.wait_number(1);
    neighbour.wait_number(1);
    let number = live.order("hang");
    let line = scene.host.wait_log(&["remuxer ended", "has not come back"]);
    assert!(line.contains("module=hostile"), "{line}");
    // The only worker was blocked until the watchdog replaced it.
    let last = live.order("nothing").next_multiple_of(Numbered::GOP);
    neighbour.wait_number(last);
    hostile.wait_number(last);
    let resumed = hostile.numbers().into_iter().find(|seen| *seen > number);
    assert!(resumed.is_some_and(|seen| seen.is_multiple_of(Numbered::GOP)), "{resumed:?}");
    let sent = live.stop();
    hostile.wait_end();
    neighbour.wait_end();
    // Longer than the limit where the thread waited for a CPU. The watchdog checks four times in the limit.
    let taken = line.split("has taken ").nth(1).and_then(|rest| rest.split("s and").next()).unwrap();
    let taken = Duration::from_secs_f64(taken.parse().unwrap());
    neighbour.undisturbed(&sent, taken + CALL_TIMEOUT / 4 + Duration::from_millis(200), noise.stop())
}

#[test]
fn a_host_whose_module_hangs_ends_when_it_is_told_to() {
    // More remuxers than there are workers.
    for (place, viewers) in [("tag", 1), ("drop", 1), ("drop", 5)] {
        let mut scene = Scene::new("none", "workers = 2");
        let live = Live::new(&scene);
        let path = |number| format!("{}?do=hang&in={place}&title={number}", scene.hostile_path());
        let viewers: Vec<_> = (0..viewers).map(|number| Viewer::new(&scene.host, &path(number))).collect();
        if place == "drop" {
            viewers.iter().for_each(|viewer| viewer.wait_number(1));
        } else {
            scene.host.wait_log(&["remuxer ended", "has not come back"]);
        }
        assert!(scene.host.terminate().success(), "{} in {place}", viewers.len());
        drop((live, viewers));
    }
}

#[test]
fn a_remuxer_that_hangs_while_it_is_freed_does_not_keep_a_worker() {
    let ended = format!("a call took longer than {CALL_TIMEOUT:?}");
    for (isolation, fault) in [("none", "has not come back"), ("process", &*ended)] {
        let scene = Scene::new(isolation, "max_faults = 1000\nworkers = 1");
        let live = Live::new(&scene);
        let neighbour = scene.neighbour();
        let path = format!("{}?do=hang&in=drop", scene.hostile_path());
        let mut only = Request::get(&path).send(scene.host.http).unwrap();
        only.body.read_exact(&mut [0]).unwrap();
        // A mount and its remuxer end with their last viewer.
        drop(only);
        scene.host.wait_log(&["module=hostile", fault]);
        let now = live.order("nothing");
        neighbour.wait_number(now);
        live.stop();
        neighbour.wait_end();
    }
}

#[test]
fn a_module_process_has_no_files_no_network_and_no_other_processes() {
    let victim = Path::new("/tmp/remuxd-hostile-victim");
    fs::write(victim, "x").unwrap();
    let scene = Scene::new("process", "");
    let live = Live::new(&scene);
    let hostile = scene.hostile();
    hostile.wait_number(1);
    for what in ["files", "network", "processes", "kernel"] {
        hostile.wait_number(live.order(what));
        let line = scene.host.wait_log(&[&format!("{what} tried")]);
        assert!(line.contains("worked [] early 0"), "{line}");
    }
    assert!(victim.exists());
    fs::remove_file(victim).unwrap();
    assert_confined(scene.process());
    // The same code can do all of it without a sandbox: the test can fail.
    let scene = Scene::new("none", "");
    let live = Live::new(&scene);
    let hostile = scene.hostile();
    hostile.wait_number(1);
    hostile.wait_number(live.order("network"));
    let line = scene.host.wait_log(&["network tried"]);
    assert!(line.contains(r#"worked ["connect", "listen", "udp", "pair"] early 15"#), "{line}");
    hostile.wait_number(live.order("kernel"));
    let line = scene.host.wait_log(&["kernel tried"]);
    assert!(line.contains("anonymous file") && line.contains("memory of parent"), "{line}");
}

/// Asserts the kernel's facts about a module's process: no privileges, no threads, and no files but the three it was given.
fn assert_confined(process: Pid) {
    let own = Path::new("/proc").join(process.to_string());
    let status = fs::read_to_string(own.join("status")).unwrap();
    for (field, value) in [
        ("CapEff", "0000000000000000"),
        ("CapPrm", "0000000000000000"),
        ("NoNewPrivs", "1"),
        ("Seccomp", "2"),
        ("Threads", "1"),
    ] {
        let found = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        assert_eq!(found.map(str::trim), Some(value), "{field}");
    }
    let files = fs::read_dir(own.join("fd")).unwrap().flatten();
    let files: BTreeSet<String> =
        files.map(|file| fs::read_link(file.path()).unwrap().to_string_lossy().into_owned()).collect();
    let kinds: Vec<_> = files.iter().map(|file| file.split(':').next().unwrap()).collect();
    assert_eq!(kinds, ["/dev/null", "pipe", "socket"], "{files:?}");
}

#[test]
fn a_module_process_ends_with_its_host() {
    for (word, kill) in [("nothing", false), ("nothing", true), ("hang", true)] {
        let mut scene = Scene::new("process", "");
        let live = Live::new(&scene);
        let hostile = scene.hostile();
        hostile.wait_number(1);
        let process = scene.process();
        live.order(word);
        if kill {
            scene.host.kill();
        } else {
            scene.host.terminate();
        }
        wait_until(SOON, "the module's process ends", || test_kill_process(process).is_err());
        // Its publisher lost its connection with the host.
        drop(live.orders);
        let _ = live.thread.join();
    }
}

#[test]
fn a_module_that_logs_without_end_does_not_fill_the_log() {
    for isolation in ["none", "process"] {
        let scene = Scene::new(isolation, "");
        let live = Live::new(&scene);
        let hostile = scene.hostile();
        hostile.wait_number(1);
        // 200 lines, in one call.
        let number = live.order("log");
        hostile.wait_number(number.next_multiple_of(Numbered::GOP));
        scene.host.wait_log(&["more lines left out", "limit=100"]);
        let log = scene.host.log();
        let lines: Vec<_> = log.lines().filter(|line| line.contains("xxxx")).collect();
        // The limit is for each second, and the lines may fall into two.
        assert!((100..200).contains(&lines.len()), "{isolation}: {}", lines.len());
        assert!(lines[0].contains("line 0 x") && lines[0].contains("module=hostile"), "{}", lines[0]);
        assert!(lines.iter().all(|line| line.len() < 2000));
        live.stop();
    }
}
