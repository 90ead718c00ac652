//! Start and end of the process.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use remuxd_tests::capture::{Capture, End};
use remuxd_tests::fetch::Fetch;
use remuxd_tests::host::{Config, Host, executable};
use remuxd_tests::publisher::{Numbered, Publisher};
use remuxd_tests::wait::{SOON, wait_until};
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};

#[test]
fn sigterm_ends_the_host_cleanly_with_viewers_and_a_publisher() {
    let mut host = Host::start(&Config::live());
    let key = host.key("term");
    let mut publisher = Publisher::open(host.rtmp, &key);
    let mut media = Numbered::new(500);
    publisher.send(&media.headers());
    publisher.send(&media.frames(10));
    let viewers = [Capture::http(&host, &key), Capture::websocket(&host, &key)];
    viewers.iter().for_each(|viewer| viewer.wait_access_units(10, SOON));
    assert!(host.terminate().success());
    for viewer in viewers {
        // A deadline may cut a slow one, but none is left open.
        let recording = viewer.finish(SOON);
        assert_eq!((recording.end, recording.unfinished), (End::Clean, 0));
    }
}

#[test]
fn viewers_that_wait_for_a_publisher_do_not_delay_the_end() {
    let mut host = Host::start(&Config::live());
    let waiting = Fetch::start(&host, &host.path(&host.key("nobody")));
    host.wait_waiting(1);
    let asked = Instant::now();
    assert!(host.terminate().success());
    assert!(asked.elapsed() < Duration::from_secs(3), "{:?}", asked.elapsed());
    let response = waiting.outcome(SOON);
    assert_eq!((response.status, response.whole), (503, true));
}

#[test]
fn a_host_that_starts_removes_the_sockets_of_those_that_were_killed() {
    let start = || {
        let host = Host::start(&Config::live());
        let socket = host.control_socket();
        (host, socket)
    };
    let (_living, of_living) = start();
    let [of_killed, of_another] = [start(), start()].map(|(mut host, socket)| {
        host.kill();
        socket
    });
    let foreign = of_living.with_file_name(format!("foreign-{}.sock", std::process::id()));
    drop(UnixListener::bind(&foreign).unwrap());
    // All are old but one, which might be of a host that is about to listen.
    let later = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() + 3600;
    for (path, tv_sec) in [(&of_living, 0), (&of_killed, 0), (&foreign, 0), (&of_another, later as i64)] {
        let time = Timespec { tv_sec, tv_nsec: 0 };
        let times = Timestamps { last_access: time, last_modification: time };
        utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
    }
    let (_new, of_new) = start();
    wait_until(SOON, "the socket of the killed host is gone", || !of_killed.exists());
    assert!(of_another.exists() && foreign.exists());
    for path in [foreign, of_another] {
        std::fs::remove_file(path).unwrap();
    }
    for living in [of_living, of_new] {
        UnixStream::connect(living).unwrap();
    }
}

/// A stopped pager, a full pipe: logging must never wait.
#[test]
fn a_reader_of_the_log_that_stops_stops_nobody() {
    let host = Host::start(&Config::live().limits("receive_rate", "0").tables("[log]\nlevel = \"trace\""));
    let key = host.key("logged");
    let publisher = Publisher::open(host.rtmp, &key).pace(Numbered::new(500));
    let viewer = Capture::http(&host, &key);
    viewer.wait_access_units(1, SOON);
    let stopped = host.stop_reading_log();
    let dropped = || host.metric("remuxd_log_dropped_lines_total");
    // Each session is a line of the log when it ends, also one that asks for the headers alone.
    let mut socket = TcpStream::connect(host.http).unwrap();
    let requests = format!("HEAD {} HTTP/1.1\r\nHost: x\r\n\r\n", host.path(&key)).repeat(200);
    let mut answers = String::new();
    wait_until(SOON * 2, "lines are dropped", || {
        socket.write_all(requests.as_bytes()).unwrap();
        answers.clear();
        while answers.matches("HTTP/1.1 200 OK\r\n").count() < 200 {
            let mut buffer = [0; 16 * 1024];
            let length = socket.read(&mut buffer).unwrap();
            assert!(length > 0, "closed");
            answers.push_str(std::str::from_utf8(&buffer[..length]).unwrap());
        }
        dropped() > 0
    });
    viewer.wait_access_units(viewer.tags().len() + 10, SOON);
    drop(stopped);
    host.wait_log(&["log lines were dropped"]);
    drop(publisher);
}

#[test]
fn the_control_socket_lies_in_a_directory_of_its_own_user() {
    let host = Host::start(&Config::live());
    let socket = host.control_socket();
    let dir = socket.parent().unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(dir), mode(&socket)), (0o700, 0o600));
    // The caller's environment does not matter.
    let mut command = Command::new(executable());
    let status = command.arg("--config").arg(host.config_file()).arg("status").env_clear().output().unwrap();
    assert!(status.status.success(), "{}", String::from_utf8_lossy(&status.stderr));
}

/// Ten publishers whose GOPs have 25 MiB each leave.
#[test]
fn the_memory_of_a_spike_is_given_back() {
    let host = Host::start(&Config::live());
    let publish = |name: &str, frame_bytes: usize, frames: u32| {
        let mut publisher = Publisher::open(host.rtmp, &host.key(name));
        let mut media = Numbered::new(frame_bytes);
        publisher.send(&media.headers());
        publisher.send(&media.frames(frames));
        publisher
    };
    let stays = publish("stays", 1000, 10);
    let base = host.resident();
    let spike: Vec<_> = (0..10).map(|number| publish(&format!("spike{number}"), 1 << 20, 25)).collect();
    wait_until(SOON, "the streams take memory", || host.resident() > base + (150 << 20));
    drop(spike);
    wait_until(Duration::from_secs(25), "resident memory is within 10 % of before", || {
        host.resident() < base + base / 10
    });
    drop(stays);
}
