//! Slow modules: calls that take long, but less than `modules.call_timeout`.

use remuxd_tests::capture::{Capture, End};
use remuxd_tests::host::{Config, Host};
use remuxd_tests::http::Request;
use remuxd_tests::module_dir::ModuleDir;
use remuxd_tests::modules::test_module;
use remuxd_tests::publisher::{Numbered, Publisher};
use remuxd_tests::wait::{SOON, wait_until};

/// Number of remuxers of the slow module.
const SLOW: usize = 4;
/// Number of frames after which the other stream ends: ten seconds.
const FRAMES: u32 = 250;

#[test]
fn slow_remuxers_take_no_picture_from_another_stream() {
    beside_slow_remuxers("none");
}

#[test]
fn slow_remuxers_in_a_process_take_no_picture_from_another_stream() {
    beside_slow_remuxers("process");
}

/// One worker, four remuxers that sleep 50 ms a call, of which there are 75 in a second, and a viewer of another stream.
fn beside_slow_remuxers(isolation: &str) {
    let modules = ModuleDir::with(&["flv"]);
    modules.put("hostile", &std::fs::read(test_module("hostile")).unwrap());
    // On a machine that is busy for a moment the good mount may lag too, but not this long.
    let config = Config::live()
        .play("queue_length", "\"5s\"")
        .mount("mount = \"/[app]/[stream].flv\"")
        .mount("mount = \"/slow/[app]/[stream].hostile\"")
        .tables(&modules.table(&["flv", "hostile"], "workers = 1\ncall_timeout = \"30s\""))
        .tables(&format!("[module.\"hostile\"]\nisolation = \"{isolation}\""));
    let host = Host::start(&config);
    let (slow, good) = (host.key("slow"), host.key("good"));
    let viewer = Capture::http(&host, &good);
    host.wait_waiting(1);
    let slow_publisher = Publisher::open(host.rtmp, &slow).pace(Numbered::new(500));
    let slow_viewers: Vec<_> = (1..=SLOW)
        .map(|number| {
            let path = format!("/slow/{slow}.hostile?do=nap&in=tags&at={number}");
            let response = Request::get(&path).send(host.http).unwrap();
            assert_eq!(response.status, 200);
            response
        })
        .collect();
    let publisher = Publisher::open(host.rtmp, &good).pace(Numbered::new(500));
    viewer.wait_until(SOON, "ten seconds of pictures", |tags| {
        Numbered::numbers(tags).last().is_some_and(|number| *number >= FRAMES)
    });
    let sent = publisher.stop();
    let recording = viewer.finish(SOON);
    assert_eq!(recording.end, End::Clean);
    assert_eq!(Numbered::numbers(&recording.tags), (0..sent).collect::<Vec<_>>());
    assert_eq!(host.count("lag_skips", Some("flv")), 0);

    // Operators see which module is slow, and which mounts lag.
    host.wait_log(&["WARN", "calls of the module are slow", "hostile"]);
    let lag = || host.count("lag_ms", Some("hostile"));
    wait_until(SOON, "the mounts lag", || lag() > 1000);
    wait_until(SOON * 2, "the mounts skip", || host.count("lag_skips", Some("hostile")) >= SLOW as u64);
    let line = host.wait_log(&["WARN", "mount is too slow", "module=\"hostile\""]);
    for part in [format!("stream={slow}"), "mount=\"/slow/[app]/[stream].hostile\"".into()] {
        assert!(line.contains(&part), "{line}");
    }
    let page = host.api_page("/metrics");
    for name in ["remuxd_module_lag_seconds", "remuxd_module_lag_skips_total"] {
        assert!(page.contains(&format!("{name}{{module=\"hostile\"}}")), "{page}");
    }
    let status = host.command(&["status"]);
    let status = String::from_utf8_lossy(&status.stdout).into_owned();
    let row = status.lines().find(|row| row.starts_with("hostile ")).unwrap();
    let cells: Vec<&str> = row.split_whitespace().collect();
    assert!(cells[9] == "ms" && cells[10].parse::<usize>().unwrap() >= SLOW, "{status}");
    // A slow remuxer gets all calls that there is time for, and its viewer stays.
    assert_eq!(host.count("viewers", Some("hostile")), SLOW as u64);
    drop(slow_viewers);
    slow_publisher.stop();
}
