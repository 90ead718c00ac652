//! Start and end of the process.

use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use remuxd_tests::capture::{Capture, End};
use remuxd_tests::fetch::Fetch;
use remuxd_tests::host::{Config, Host};
use remuxd_tests::publisher::{Numbered, Publisher};
use remuxd_tests::scratch::Scratch;
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
    let dir = Scratch::new();
    let sockets = || {
        let entries = std::fs::read_dir(dir.path()).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect::<Vec<PathBuf>>()
    };
    let start = || {
        let before = sockets();
        let host = Host::start_in(&Config::live(), dir.path());
        let new: Vec<_> = sockets().into_iter().filter(|path| !before.contains(path)).collect();
        assert_eq!(new.len(), 1, "{new:?}");
        (host, new.into_iter().next().unwrap())
    };
    let (_living, of_living) = start();
    let [of_killed, of_another] = [start(), start()].map(|(mut host, socket)| {
        host.kill();
        socket
    });
    let foreign = dir.join("foreign.sock");
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
    for living in [of_living, of_new] {
        UnixStream::connect(living).unwrap();
    }
}
