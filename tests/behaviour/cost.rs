//! The cost of a viewer, counted and not timed: system calls, wake-ups and copies for each viewer and tick.
//!
//! A frame is published when all viewers have the one before, so one frame is one tick, however busy the machine is. Each count is made
//! with few viewers and with many; the difference belongs to the viewers, the rest to the host and its streams.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use remuxd_tests::flv::{AUDIO, Tag};
use remuxd_tests::host::{Config, Host};
use remuxd_tests::publisher::{Numbered, Publisher};
use remuxd_tests::rtmp::{Connection, split_key};
use remuxd_tests::scratch::Scratch;
use remuxd_tests::tool::root;
use remuxd_tests::wait::SOON;
use rustix::process::{Pid, Signal, kill_process};

const FEW: usize = 20;
const MANY: usize = 120;
const FRAMES: u32 = 25;
const FRAME_BYTES: usize = 4000;

/// Bounds for each viewer and tick. A frame that finds two ticks, or a thread that is moved, is no more than a few in a hundred.
const MOST_SENDS: f64 = 1.05;
const MOST_OTHERS: f64 = 0.05;
const MOST_COPIES: f64 = 0.05;
const MOST_WAITS: f64 = 0.1;

/// Calls that send.
const SENDS: [&str; 6] = ["write", "writev", "send", "sendto", "sendmsg", "sendmmsg"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Http,
    WebSocket,
    Rtmp,
}

const PROTOCOLS: [Protocol; 3] = [Protocol::Http, Protocol::WebSocket, Protocol::Rtmp];

/// A published stream and its viewers, all of whom read.
struct Scene {
    host: Host,
    key: String,
    publisher: Publisher,
    media: Numbered,
    viewers: Vec<Viewer>,
}

struct Viewer {
    socket: TcpStream,
    unread: Vec<u8>,
}

impl Scene {
    fn new(host: Host) -> Scene {
        let key = host.key("cost");
        let mut publisher = Publisher::open(host.rtmp, &key);
        let media = Numbered::new(FRAME_BYTES);
        // Video alone: one message for each tick.
        publisher.send(media.headers().iter().filter(|tag| tag.kind != AUDIO));
        let mut scene = Scene { host, key, publisher, media, viewers: Vec::new() };
        // Audio could still begin beside less.
        scene.play(2 * Numbered::GOP);
        scene
    }

    fn join(&mut self, protocol: Protocol, count: usize) {
        while self.viewers.len() < count {
            let socket = match protocol {
                Protocol::Http => ask(&self.host, &self.key, ""),
                Protocol::WebSocket => ask(&self.host, &self.key, UPGRADE),
                Protocol::Rtmp => play(&self.host, &self.key),
            };
            socket.set_read_timeout(Some(SOON)).unwrap();
            self.viewers.push(Viewer { socket, unread: Vec::new() });
        }
        // Each has got its history, and is in step.
        self.play(2);
    }

    /// Publishes frames, each when all viewers have the one before.
    fn play(&mut self, frames: u32) {
        for _ in 0..frames {
            let mark = self.publish();
            for viewer in &mut self.viewers {
                viewer.read_up_to(&mark);
            }
        }
    }

    /// Publishes a frame, and returns the bytes at its end.
    fn publish(&mut self) -> Vec<u8> {
        let mark = format!("<{:08}>", self.media.number()).into_bytes();
        let Tag { kind, timestamp, mut payload } = self.media.frame().swap_remove(0);
        let end = payload.len() - mark.len();
        payload[end..].copy_from_slice(&mark);
        self.publisher.send([&Tag { kind, timestamp, payload }]);
        mark
    }
}

impl Viewer {
    fn read_up_to(&mut self, mark: &[u8]) {
        let mut buffer = [0; 65536];
        loop {
            if let Some(at) = self.unread.windows(mark.len()).position(|window| window == mark) {
                self.unread.drain(..at + mark.len());
                return;
            }
            let length = self.socket.read(&mut buffer).expect("the frame arrives");
            assert!(length > 0, "the response has ended");
            self.unread.extend_from_slice(&buffer[..length]);
        }
    }
}

const UPGRADE: &str = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

fn ask(host: &Host, key: &str, headers: &str) -> TcpStream {
    let mut socket = TcpStream::connect(host.http).unwrap();
    write!(socket, "GET {} HTTP/1.1\r\nHost: cost\r\n{headers}\r\n", host.path(key)).unwrap();
    socket
}

fn play(host: &Host, key: &str) -> TcpStream {
    let (app, name) = split_key(key);
    let mut connection = Connection::open(host.rtmp).unwrap();
    connection.connect(app).unwrap();
    let stream = connection.create_stream().unwrap();
    assert_eq!(connection.play(stream, name).unwrap(), "NetStream.Play.Start");
    connection.socket().try_clone().unwrap()
}

type Counts = BTreeMap<String, f64>;

/// Returns what is counted from `start` to `stop` for each viewer and frame.
fn for_each_viewer<C>(
    scene: &mut Scene,
    protocol: Protocol,
    start: impl Fn(&Host) -> C,
    stop: impl Fn(C) -> Counts,
) -> Counts {
    let mut counted = |viewers: usize| {
        scene.join(protocol, viewers);
        let counter = start(&scene.host);
        scene.play(FRAMES);
        stop(counter)
    };
    let (few, many) = (counted(FEW), counted(MANY));
    let all = (MANY - FEW) as f64 * f64::from(FRAMES);
    let growth = |(name, count): (String, f64)| {
        let before = few.get(&name).copied().unwrap_or_default();
        (name, (count - before) / all)
    };
    many.into_iter().map(growth).collect()
}

/// The system calls of the host's threads, counted by strace.
struct Strace {
    child: Child,
    scratch: Scratch,
}

impl Strace {
    fn start(host: &Host) -> Strace {
        let scratch = Scratch::new();
        let mut child = Command::new("strace")
            .args(["-f", "-c", "-U", "calls,name", "-o"])
            .arg(scratch.join("calls"))
            .args(["-p", &host.pid().to_string()])
            .stderr(Stdio::piped())
            .spawn()
            .expect("strace is installed");
        // A line says that all threads are attached.
        let mut line = String::new();
        BufReader::new(child.stderr.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert!(line.contains("attached"), "{line}");
        Strace { child, scratch }
    }

    fn stop(mut self) -> Counts {
        kill_process(Pid::from_child(&self.child), Signal::INT).unwrap();
        self.child.wait().unwrap();
        let table = std::fs::read_to_string(self.scratch.join("calls")).unwrap();
        let row = |line: &str| {
            let (count, name) = line.trim().split_once(' ')?;
            Some((name.trim().to_owned(), count.parse().ok()?))
        };
        let mut counts: Counts = table.lines().filter_map(row).collect();
        counts.remove("total");
        counts
    }
}

/// The waits of the host's threads so far: each is a wake-up.
fn waits(pid: u32) -> f64 {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    let statuses = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("status")).ok());
    let switches = |status: String| {
        let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?;
        line.trim().parse::<f64>().ok()
    };
    statuses.filter_map(switches).sum()
}

/// A library that counts copies in a program that it is loaded into, and the file that it counts in.
struct Copies {
    library: PathBuf,
    file: PathBuf,
    _scratch: Scratch,
}

impl Copies {
    fn build() -> Copies {
        let scratch = Scratch::new();
        let (library, file) = (scratch.join("copies.so"), scratch.join("copies"));
        let status = Command::new("cc")
            .args(["-shared", "-fPIC", "-O2", "-fno-builtin", "-fno-tree-loop-distribute-patterns", "-o"])
            .arg(&library)
            .arg(root().join("tests/behaviour/cost/copies.c"))
            .status();
        assert!(status.expect("cc is installed").success());
        std::fs::write(&file, [0; 16]).unwrap();
        Copies { library, file, _scratch: scratch }
    }

    fn wrapper(&self) -> [String; 3] {
        let set = |name: &str, path: &Path| format!("{name}={}", path.display());
        ["env".to_owned(), set("LD_PRELOAD", &self.library), set("COPIES_FILE", &self.file)]
    }

    /// Number and bytes of the copies so far.
    fn counts(&self) -> [f64; 2] {
        let bytes = std::fs::read(&self.file).unwrap();
        [0, 8].map(|at| u64::from_ne_bytes(bytes[at..at + 8].try_into().unwrap()) as f64)
    }
}

#[test]
fn a_viewer_costs_one_send_a_tick_and_no_other_call() {
    for protocol in PROTOCOLS {
        let mut scene = Scene::new(Host::start(&Config::live()));
        let counts = for_each_viewer(&mut scene, protocol, Strace::start, Strace::stop);
        println!("{protocol:?}, calls for each viewer and tick: {counts:.3?}");
        let (sends, others): (Counts, Counts) =
            counts.into_iter().partition(|(name, _)| SENDS.contains(&name.as_str()));
        let sends: f64 = sends.values().sum();
        assert!((0.95..MOST_SENDS).contains(&sends), "{protocol:?}: {sends} sends");
        for (name, count) in others {
            assert!(count < MOST_OTHERS, "{protocol:?}: {count} {name}");
        }
    }
}

#[test]
fn the_bytes_of_a_tick_are_copied_once_and_not_for_each_viewer() {
    let copies = Copies::build();
    let wrapper = copies.wrapper();
    let wrapper: Vec<&str> = wrapper.iter().map(String::as_str).collect();
    for protocol in PROTOCOLS {
        let mut scene = Scene::new(Host::start_by(&wrapper, &Config::live()));
        assert!(
            copies.counts()[1] > f64::from(FRAMES) * FRAME_BYTES as f64,
            "no copy of a payload is counted"
        );
        let counts = for_each_viewer(
            &mut scene,
            protocol,
            |_| copies.counts(),
            |[count, bytes]| {
                let now = copies.counts();
                Counts::from([("copies".into(), now[0] - count), ("bytes".into(), now[1] - bytes)])
            },
        );
        println!("{protocol:?}, copies of 1 KiB and more for each viewer and tick: {counts:.3?}");
        assert!(counts["copies"] < MOST_COPIES, "{protocol:?}: {counts:?}");
    }
}

#[test]
fn a_tick_wakes_threads_and_not_viewers() {
    for protocol in PROTOCOLS {
        let mut scene = Scene::new(Host::start(&Config::live()));
        let pid = scene.host.pid();
        let counts = for_each_viewer(
            &mut scene,
            protocol,
            |_| waits(pid),
            |before| Counts::from([("waits".into(), waits(pid) - before)]),
        );
        println!("{protocol:?}, waits of threads for each viewer and tick: {counts:.3?}");
        assert!(counts["waits"] < MOST_WAITS, "{protocol:?}: {counts:?}");
    }
}
