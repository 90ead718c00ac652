//! Disasters around the host: peers and module processes that stop or die, connections that are reset, a full disk, no
//! descriptors, little memory, a clock that steps. Viewers of healthy streams get every frame.

use std::fs::File;
use std::io::Write;
use std::net::TcpStream;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use remuxd_tests::capture::{Capture, End};
use remuxd_tests::fetch::Fetch;
use remuxd_tests::flv::VIDEO;
use remuxd_tests::host::{Config, Host};
use remuxd_tests::http::Request;
use remuxd_tests::module_dir::ModuleDir;
use remuxd_tests::neighbour::Neighbour;
use remuxd_tests::publisher::{Numbered, Publisher};
use remuxd_tests::rtmp::{Message, SET_CHUNK_SIZE, chunks, type0};
use remuxd_tests::scratch::Scratch;
use remuxd_tests::socket::connect_from;
use remuxd_tests::tool::{root, run};
use remuxd_tests::wait::{SOON, wait_until};
use remuxd_tests::websocket;
use rustix::process::{Pid, Signal, kill_process};
use socket2::SockRef;

/// A program of ours that is killed on drop.
struct Program(Child);

impl Program {
    fn start(command: &mut Command) -> Program {
        Program(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).unwrap();
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Viewers and publishers that are stopped or killed by the system, and so say nothing.
#[test]
fn peers_that_are_stopped_or_killed_end_alone() {
    let debug = "[log]\nlevel = \"debug\"";
    let host = Host::start(
        &Config::live()
            .limits("send_timeout", "\"1s\"")
            .publish("normal_timeout", "\"8s\"")
            .play("queue_length", "\"2s\"")
            .tables(debug),
    );
    let neighbour = Neighbour::start(&host);
    let heavy = host.key("heavy");
    let publisher = Publisher::open(host.rtmp, &heavy).pace(Numbered::new(400_000));
    let before = host.descriptors();
    let curl = || {
        let url = format!("{}?x", host.http_url(&heavy));
        Program::start(Command::new("curl").args(["--silent", "--no-buffer", "--output", "/dev/null", &url]))
    };
    let viewers = [(); 6].map(|()| curl());
    // The neighbour's three, and these.
    host.wait_viewers(2 + viewers.len());
    for (number, viewer) in viewers.iter().enumerate() {
        viewer.signal(if number % 2 == 0 { Signal::STOP } else { Signal::KILL });
    }
    wait_until(SOON * 2, "the host closes all of them", || host.descriptors() <= before);
    publisher.stop();
    neighbour.goes_on("viewers that are stopped or killed");

    let (stopped, killed) = (host.key("stopped"), host.key("killed"));
    let encoder = |key: &str| {
        let mut command = Command::new("ffmpeg");
        command.args(["-loglevel", "error", "-re", "-stream_loop", "-1", "-i"]);
        command.arg(remuxd_tests::clip::Clip::H264Aac.path());
        Program::start(command.args(["-c", "copy", "-f", "flv", &host.rtmp_url(key)]))
    };
    let watch = |key| {
        let capture = Capture::http(&host, key);
        capture.wait_access_units(10, SOON);
        capture
    };
    let encoders = [encoder(&stopped), encoder(&killed)];
    let captures = [watch(&stopped), watch(&killed)];
    encoders[0].signal(Signal::STOP);
    encoders[1].signal(Signal::KILL);
    for capture in captures {
        assert_eq!(capture.finish(SOON).end, End::Clean);
    }
    neighbour.finish();
}

/// A module process that is stopped neither runs nor waits for a CPU.
#[test]
fn a_module_process_that_is_stopped_is_replaced() {
    let modules = "[modules]\ncall_timeout = \"1s\"\n[module.\"ts\"]\nisolation = \"process\"\n";
    let flv = |config: Config, name: &str| config.mount(&format!("mount = \"/[app]/[stream].{name}\""));
    let host = Host::start(&["flv", "ts"].into_iter().fold(Config::live().tables(modules), flv));
    let neighbour = Neighbour::start(&host);
    let viewer = Fetch::start(&host, &format!("/{}.ts", host.key("good")));
    viewer.wait_bytes(50_000, SOON);
    let process = || host.children().first().map(|(pid, _)| *pid);
    for _ in 0..2 {
        let stopped = process().unwrap();
        kill_process(stopped, Signal::STOP).unwrap();
        wait_until(SOON, "another process runs", || process().is_some_and(|pid| pid != stopped));
        let bytes = viewer.wait_for(SOON, "bytes", |bytes| Some(bytes.len()));
        viewer.wait_bytes(bytes + 50_000, SOON);
        neighbour.goes_on("a module process that is stopped");
    }
    host.wait_log(&["remuxer ended", "a call took longer than 1s"]);
    assert_eq!(host.children().len(), 1, "one process, and none that was not reaped");
    neighbour.finish();
    assert!(!viewer.finish(SOON).is_empty());
}

/// Peers that reset their connection in the middle of whatever they do.
#[test]
fn connections_that_are_reset_midway_leave_nothing() {
    let host = Host::start(&Config::live().publish("republish_wait", "\"0s\""));
    let neighbour = Neighbour::start(&host);
    let (before, used) = (host.descriptors(), memory(&host));
    let reset = |socket: &TcpStream| {
        SockRef::from(socket).set_linger(Some(Duration::ZERO)).unwrap();
    };
    for round in 0..20 {
        let key = host.key(&format!("cut{round}"));
        // A publisher within a message, with viewers over each transport.
        let mut publisher = Publisher::open(host.rtmp, &key);
        let mut media = Numbered::new(50_000);
        publisher.send(&media.headers());
        publisher.send(&media.frames(3));
        let viewers =
            [Capture::http(&host, &key), Capture::websocket(&host, &key), Capture::rtmp(&host, &key)];
        viewers.iter().for_each(|viewer| viewer.wait_access_units(3, SOON));
        // Viewers within their response, also in mid-frame of a WebSocket, and peers within a request or handshake.
        let response = Request::get(&host.path(&key)).send(host.http).unwrap();
        reset(response.body.socket());
        let (mut socket, _) = websocket::open(host.http, &host.path(&key), &[]).unwrap();
        socket.get_mut().write_all(&[0x82, 0xfe, 0x10]).unwrap();
        reset(socket.get_ref());
        for (address, bytes) in [
            (host.http, &b"GET /live/good.flv HTTP/1.1\r\nHost:"[..]),
            (host.http, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0"),
            (host.rtmp, &[3; 900]),
        ] {
            let mut socket = TcpStream::connect(address).unwrap();
            socket.write_all(bytes).unwrap();
            reset(&socket);
        }
        let size =
            Message { kind: SET_CHUNK_SIZE, stream: 0, timestamp: 0, payload: vec![0, 0xff, 0xff, 0xff] };
        let connection = publisher.connection();
        connection.write(2, &size).unwrap();
        connection.write_raw(&[type0(6, VIDEO, 1, 0, 10 << 20), vec![0; 1 << 20]].concat()).unwrap();
        reset(connection.socket());
        drop((publisher, response, socket));
        for viewer in viewers {
            let seen = viewer.finish(SOON);
            assert_eq!((seen.end, seen.unfinished), (End::Clean, 0), "round {round}");
        }
    }
    neighbour.goes_on("connections that are reset");
    wait_until(SOON, "their descriptors are closed", || host.descriptors() <= before);
    // The neighbour's own history varies by less than two GOPs.
    wait_until(SOON, "their memory is given back", || memory(&host) < used + (1 << 20));
    neighbour.finish();
}

/// Returns the bytes of memory that are charged.
fn memory(host: &Host) -> u64 {
    let kinds = ["connections", "messages", "output"];
    kinds.iter().map(|kind| host.metric(&format!("remuxd_memory_used_bytes{{kind=\"{kind}\"}}"))).sum()
}

/// The disks for temporary files and for the control socket fill up while the host runs, and its log goes to a full disk.
#[test]
fn full_disks_stop_no_stream() {
    let (dir, modules) = (Scratch::new(), ModuleDir::with(&["flv", "websocket-flv"]));
    // Only this host sees what is mounted.
    let script = "mount -t tmpfs -o size=64m none \"$0\" && mount -t tmpfs -o size=4m none /run && \
                  TMPDIR=\"$0\" exec \"$@\" 2> /dev/full";
    let path = dir.path().to_str().unwrap();
    let wrapper = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, path];
    let host = Host::start_by(
        &wrapper,
        &Config::live().tables(&modules.table(&["flv", "websocket-flv"], "workers = 32")),
    );
    let inside = format!("/proc/{}/root", host.pid());
    let fill = |file: String| {
        let mut file = File::create(file).unwrap();
        let piece = vec![0; 4096];
        while file.write_all(&piece).is_ok() {}
    };
    let filler = format!("{inside}{path}/filler");
    fill(filler.clone());
    fill(format!("{inside}/run/filler"));
    // From here on, modules are called for the first time.
    let neighbour = Neighbour::start(&host);
    let reloads = |outcome| host.metric(&format!("remuxd_reloads_total{{outcome=\"{outcome}\"}}"));
    modules.put_build("flv", 1);
    host.signal(Signal::HUP);
    wait_until(SOON, "a reload is refused", || reloads("refused") == 1);
    neighbour.goes_on("full disks");
    std::fs::remove_file(filler).unwrap();
    host.signal(Signal::HUP);
    wait_until(SOON, "a reload is done", || reloads("applied") == 1);
    neighbour.goes_on("a reload");
    neighbour.finish();
}

/// The wall clock steps by years, both ways.
#[test]
fn steps_of_the_clock_move_nothing() {
    let dir = Scratch::new();
    let (library, step) = (dir.join("clock.so"), dir.join("step"));
    let mut cc = Command::new("cc");
    run(cc.args(["-shared", "-fPIC", "-o"]).arg(&library).arg(root().join("tests/behaviour/chaos/clock.c")))
        .unwrap();
    let step_by = |seconds: i64| {
        let file = File::options().write(true).create(true).truncate(false).open(&step).unwrap();
        file.write_all_at(&seconds.to_ne_bytes(), 0).unwrap();
    };
    step_by(0);
    let variables = [("LD_PRELOAD", &library), ("CLOCK_STEP", &step)]
        .map(|(name, value)| format!("{name}={}", value.display()));
    let wrapper = ["env", &variables[0], &variables[1]];
    let host = Host::start_by(&wrapper, &Config::live().tables("[log]\nlevel = \"debug\""));
    let neighbour = Neighbour::start(&host);
    let days = 86_400;
    for (seconds, year) in [(0, None), (3650 * days, Some("2036")), (-9000 * days, None), (5, None)] {
        step_by(seconds);
        neighbour.goes_on("a step of the clock");
        // Newcomers, a reload and the API work too.
        assert_eq!(Request::get(&host.path(&host.key("good"))).send(host.http).unwrap().status, 200);
        host.reload();
        if let Some(year) = year {
            // The log shows the host's clock.
            wait_until(SOON, "the log follows", || host.log().lines().any(|line| line.starts_with(year)));
        }
    }
    neighbour.finish();
}

/// A cgroup of the test's own, removed on drop.
struct Cgroup(PathBuf);

impl Cgroup {
    /// Creates a cgroup with this limit of memory, in bytes, in version 2 or version 1 of the kernel's interface.
    fn with_memory(limit: u64) -> Cgroup {
        let v2 = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
        let (parent, file) = if v2 {
            ("/sys/fs/cgroup", "memory.max")
        } else {
            ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
        };
        let dir = Path::new(parent).join(format!("remuxd-test-{}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        let cgroup = Cgroup(dir);
        std::fs::write(cgroup.0.join(file), limit.to_string()).unwrap();
        cgroup
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // A cgroup whose last process has not been reaped yet stays.
        let _ = std::fs::remove_dir(&self.0);
    }
}

/// A host in a cgroup with little memory, without a limit of its own, and peers that make it keep what they can.
#[test]
fn a_host_in_a_small_cgroup_is_not_killed() {
    let cgroup = Cgroup::with_memory(256 << 20);
    let script = "echo $$ > \"$0\" && exec \"$@\"";
    let procs = cgroup.0.join("cgroup.procs");
    let mut host = Host::start_by(&["sh", "-c", script, procs.to_str().unwrap()], &Config::live());
    assert_eq!(host.metric("remuxd_memory_budget_bytes"), 128 << 20);
    let neighbour = Neighbour::start(&host);
    let size = Message { kind: SET_CHUNK_SIZE, stream: 0, timestamp: 0, payload: vec![0, 0xff, 0xff, 0xff] };
    let piece = vec![0; 1 << 20];
    let mut sent = 0_usize;
    for address in 2..10 {
        for round in 0..4 {
            let socket = connect_from([127, 0, 0, address], host.rtmp);
            let key = host.key(&format!("hoard{address}-{round}"));
            let Ok((mut publisher, status)) = Publisher::try_open_over(socket, &key) else { continue };
            if status != "NetStream.Publish.Start" {
                continue;
            }
            // Keyframes of 15 MB, and one that is not complete.
            let connection = publisher.connection();
            let mut write = |bytes: &[u8]| connection.write_raw(bytes).is_ok();
            let _ = write(&chunks(2, &size, 128));
            for _ in 0..2 {
                let begun = write(&type0(6, VIDEO, 1, 0, 15 << 20));
                sent += (0..15).take_while(|_| begun && write(&piece)).count();
            }
        }
    }
    assert!(sent > 100, "{sent} MiB: the cgroup's limit was not reached");
    assert!(host.is_alive());
    neighbour.goes_on("little memory");
    neighbour.finish();
    drop(host);
    drop(cgroup);
}

/// A host with few descriptors: peers that find none wait or are refused, those that are there are served.
#[test]
fn a_host_without_descriptors_serves_those_that_are_there() {
    let host = Host::start_by(&["prlimit", "--nofile=64:64"], &Config::live());
    let neighbour = Neighbour::start(&host);
    // The kernel completes connections that the host cannot accept.
    let peers: Vec<TcpStream> = (0..100).map(|_| TcpStream::connect(host.http).unwrap()).collect();
    host.wait_log(&["accept failed"]);
    neighbour.goes_on("no descriptors");
    let lines = host.log().lines().filter(|line| line.contains("accept failed")).count();
    assert!(lines < 20, "{lines} lines");
    drop(peers);
    let get = || Request::get(&host.path(&host.key("good"))).send(host.http);
    wait_until(SOON, "newcomers are served again", || get().is_ok_and(|answer| answer.status == 200));
    host.reload();
    neighbour.finish();
}
