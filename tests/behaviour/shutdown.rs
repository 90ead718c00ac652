//! The end of a host: what clients, load balancers and supervisors see.

use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::sync::mpsc;

use remuxd_tests::capture::{Capture, End};
use remuxd_tests::host::{Config, Host};
use remuxd_tests::http::Request;
use remuxd_tests::publisher::{Numbered, Publisher};
use remuxd_tests::scratch::Scratch;
use remuxd_tests::wait::{SOON, wait_until};
use rustix::process::Signal;

fn config(grace_start_wait: &str, shutdown_grace: &str) -> Config {
    Config::live().tables(&format!(
        "[shutdown]\ngrace_start_wait = \"{grace_start_wait}\"\nshutdown_grace = \"{shutdown_grace}\"\n"
    ))
}

/// Starts a host with these times, and a stream with a viewer over each protocol, who has its first frame.
fn start(grace_start_wait: &str, shutdown_grace: &str) -> (Host, Publisher, Numbered, [Capture; 3]) {
    let host = Host::start(&config(grace_start_wait, shutdown_grace));
    let key = host.key("film");
    let mut publisher = Publisher::open(host.rtmp, &key);
    let mut media = Numbered::new(500);
    publisher.send(&media.headers());
    publisher.send(&media.frames(1));
    let viewers = [Capture::http(&host, &key), Capture::websocket(&host, &key), Capture::rtmp(&host, &key)];
    for viewer in &viewers {
        has_frame(viewer, 0);
    }
    (host, publisher, media, viewers)
}

fn has_frame(viewer: &Capture, number: u32) {
    viewer.wait_until(SOON, "the frame", |tags| Numbered::numbers(tags).last() == Some(&number));
}

fn status(address: SocketAddr, path: &str) -> u16 {
    Request::get(path).send(address).expect("the host answers").status
}

#[test]
fn a_host_that_leaves_is_not_ready_but_serves_new_clients() {
    let (mut host, mut publisher, mut media, viewers) = start("1h", "1h");
    let listeners = [host.http, host.api.unwrap()];
    for address in listeners {
        assert_eq!([status(address, "/healthz"), status(address, "/readyz")], [200, 200]);
    }
    host.signal(Signal::TERM);
    for address in listeners {
        wait_until(SOON, "not ready", || status(address, "/readyz") == 503);
        assert_eq!(status(address, "/healthz"), 200);
    }
    let late = Capture::http(&host, &host.key("film"));
    has_frame(&late, 0);
    drop(Publisher::open(host.rtmp, &host.key("other")));
    publisher.send(&media.frames(1));
    viewers.iter().chain([&late]).for_each(|viewer| has_frame(viewer, 1));
    // A second signal ends streams at once, and cleanly.
    host.signal(Signal::INT);
    for viewer in viewers.into_iter().chain([late]) {
        assert_eq!(viewer.finish(SOON).end, End::Clean);
    }
    assert!(host.wait_end().success());
}

#[test]
fn a_host_that_drains_accepts_nobody_and_ends_with_its_last_session() {
    drains(start("0s", "1h"));
}

#[test]
fn grace_start_wait_follows_a_reload() {
    let scene = start("1h", "1h");
    scene.0.write_config(&config("0s", "1h").toml());
    assert!(scene.0.reload().contains("shutdown.grace_start_wait: 3600s -> 0s; at once"));
    drains(scene);
}

/// Stops a host, which must accept nobody from then on, and end once its stream does.
fn drains((mut host, mut publisher, mut media, viewers): (Host, Publisher, Numbered, [Capture; 3])) {
    host.signal(Signal::QUIT);
    for address in [host.http, host.rtmp] {
        wait_until(SOON, "the listener is closed", || TcpStream::connect(address).is_err());
    }
    publisher.send(&media.frames(1));
    viewers.iter().for_each(|viewer| has_frame(viewer, 1));
    drop(publisher);
    for viewer in viewers {
        assert_eq!(viewer.finish(SOON).end, End::Clean);
    }
    assert!(host.wait_end().success());
}

#[test]
fn sessions_that_outlast_the_grace_end_cleanly() {
    outlast(start("0s", "500ms"));
}

#[test]
fn shutdown_grace_follows_a_reload() {
    let scene = start("0s", "1h");
    scene.0.write_config(&config("0s", "500ms").toml());
    assert!(scene.0.reload().contains("shutdown.shutdown_grace: 3600s -> 500ms; at once"));
    outlast(scene);
}

/// Stops a host, which must end its stream although the publisher goes on.
fn outlast((mut host, _publisher, _media, viewers): (Host, Publisher, Numbered, [Capture; 3])) {
    host.signal(Signal::TERM);
    for viewer in viewers {
        assert_eq!(viewer.finish(SOON).end, End::Clean);
    }
    assert!(host.wait_end().success());
}

#[test]
fn a_supervisor_learns_each_change() {
    let scratch = Scratch::new();
    let path = scratch.join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    let notify = format!("NOTIFY_SOCKET={}", path.display());
    let mut host = Host::start_by(&["env", &notify, "WATCHDOG_USEC=200000"], &Config::live());
    // The kernel keeps few messages that are not read.
    let (sender, messages) = mpsc::channel();
    std::thread::spawn(move || {
        let mut message = [0; 256];
        while let Ok(length) = socket.recv(&mut message) {
            if sender.send(String::from_utf8_lossy(&message[..length]).trim().to_owned()).is_err() {
                return;
            }
        }
    });
    let watchdog = || assert_eq!(messages.recv_timeout(SOON).as_deref(), Ok("WATCHDOG=1"));
    let next = || messages.iter().find(|message| message != "WATCHDOG=1").expect("the socket is open");
    assert_eq!(next(), "READY=1");
    watchdog();
    watchdog();
    host.reload();
    let reloading = next();
    assert!(reloading.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{reloading}");
    assert_eq!(next(), "READY=1");
    assert!(host.terminate().success());
    assert_eq!(next(), "STOPPING=1");
}

#[test]
fn a_supervisor_that_does_not_read_delays_nothing() {
    let scratch = Scratch::new();
    let path = scratch.join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    let fill = UnixDatagram::unbound().unwrap();
    fill.set_nonblocking(true).unwrap();
    while fill.send_to(b"full", &path).is_ok() {}
    let notify = format!("NOTIFY_SOCKET={}", path.display());
    let mut host = Host::start_by(&["env", &notify, "WATCHDOG_USEC=100000"], &Config::live());
    host.wait_log(&["systemd does not read its notifications"]);
    host.reload();
    assert_eq!(status(host.http, "/healthz"), 200);
    assert!(host.terminate().success());
    drop(socket);
}
