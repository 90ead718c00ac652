//! Bad requests get the right status and cost nothing: no viewer, no remuxer, no memory, no time.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use remuxd_tests::capture::Capture;
use remuxd_tests::host::{Config, Host};
use remuxd_tests::http::Request;
use remuxd_tests::publisher::{Numbered, Pace, Publisher};
use remuxd_tests::wait::{SOON, wait_until};

/// Limit for the growth of the host's resident memory over one table of requests.
const GROWTH: u64 = 16 << 20;

/// A host with a live stream that nobody watches. A viewer of another stream would wait long.
struct Live {
    host: Host,
    key: String,
    _publisher: Pace,
}

impl Live {
    fn start() -> Live {
        let host = Host::start(&Config::live().play("wait", "\"60s\""));
        let key = host.key("live");
        let player = Capture::rtmp(&host, &key);
        let publisher = Publisher::open(host.rtmp, &key).pace(Numbered::new(500));
        player.wait_access_units(10, SOON);
        Live { host, key, _publisher: publisher }
    }

    /// Runs `ask` for each row, and checks its cost.
    fn costs_nothing<T>(&self, rows: &[T], ask: impl Fn(&T)) {
        // The first request of any kind may allocate.
        ask(&rows[0]);
        let (resident, descriptors) = (self.host.resident(), self.host.descriptors());
        for row in rows {
            let asked = Instant::now();
            ask(row);
            assert!(asked.elapsed() < Duration::from_secs(10), "an answer took {:?}", asked.elapsed());
        }
        wait_until(SOON, "the connections are gone", || self.host.descriptors() <= descriptors);
        let grown = self.host.resident().saturating_sub(resident);
        assert!(grown < GROWTH, "{} MiB more", grown >> 20);
        assert_eq!(self.host.count("mounts", None), 0, "a bad request started a mount");
        assert_eq!(Request::get(&self.host.path(&self.key)).send(self.host.http).unwrap().status, 200);
        assert_eq!(self.host.count("mounts", None), 1);
    }
}

/// A request that ends the connection, and its status if it was read as a request of its own.
const LAST: (&str, u16) = ("GET /last HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 404);

/// Sends raw bytes and [`LAST`], and returns the statuses of the responses.
fn answers(address: SocketAddr, bytes: &[u8]) -> Vec<u16> {
    let mut socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(SOON)).unwrap();
    // The host may refuse before it has read all.
    let _ = socket.write_all(&[bytes, LAST.0.as_bytes()].concat());
    let mut answer = Vec::new();
    let (mut buffer, deadline) = ([0; 65536], Instant::now() + SOON);
    loop {
        assert!(Instant::now() < deadline, "the connection stays open: {}", String::from_utf8_lossy(&answer));
        match socket.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => answer.extend_from_slice(&buffer[..length]),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => break,
            Err(error) => panic!("{error} after {}", String::from_utf8_lossy(&answer)),
        }
    }
    let text = String::from_utf8_lossy(&answer);
    let lines = text.split("HTTP/1.").skip(1);
    lines.filter_map(|line| line.get(2..5)?.parse().ok()).collect()
}

/// The fate of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    /// The host closes it: it cannot know where the next request begins.
    Closed,
    /// The host keeps it.
    Kept,
}

#[test]
fn every_broken_rule_has_its_status() {
    use Then::{Closed, Kept};
    let live = Live::start();
    let path = live.host.path(&live.key);
    let get = |lines: &str| format!("GET {path} HTTP/1.1\r\nHost: x\r\n{lines}\r\n").into_bytes();
    let post = |lines: &str| format!("POST {path} HTTP/1.1\r\nHost: x\r\n{lines}\r\n").into_bytes();
    let line = |line: &str| format!("{line}\r\nHost: x\r\n\r\n").into_bytes();
    let at = |path: &str| line(&format!("GET {path} HTTP/1.1"));
    let with = |mut head: Vec<u8>, body: &[u8]| {
        head.extend_from_slice(body);
        head
    };
    let second = line("GET /second HTTP/1.1");
    let upgrade = "Upgrade: websocket\r\nConnection: Upgrade\r\n";
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let rows: Vec<(&str, &[u16], Then, Vec<u8>)> = vec![
        // Paths.
        ("dots", &[400], Kept, at("/live/../live/x.flv")),
        ("encoded dots", &[400], Kept, at("/live/%2e%2e/x.flv")),
        ("half encoded dots", &[400], Kept, at("/live/.%2E/x.flv")),
        ("an encoded slash", &[400], Kept, at("/live%2fx.flv")),
        ("an encoded backslash", &[400], Kept, at("/live%5cx.flv")),
        ("an encoded NUL", &[400], Kept, at("/live/x%00.flv")),
        ("an invalid encoding", &[400], Kept, at("/live/%zz.flv")),
        ("a truncated encoding", &[400], Kept, at("/live/x.flv%2")),
        ("invalid UTF-8", &[400], Kept, at("/live/%ff.flv")),
        ("no path", &[400], Kept, at("*")),
        ("no slash", &[400], Kept, at("live")),
        ("a NUL", &[400], Closed, at("/live/\0.flv")),
        ("a space", &[400], Closed, at("/live/a b.flv")),
        ("an unknown extension", &[404], Kept, at("/live/x.unknown")),
        ("a long URL", &[414], Kept, at(&format!("/live/{}.flv", "x".repeat(9_000)))),
        ("a URL longer than a head may be", &[431], Closed, at(&format!("/{}", "x".repeat(100_000)))),
        // Methods.
        ("POST", &[405], Kept, post("Content-Length: 0\r\n")),
        ("CONNECT", &[405], Kept, line("CONNECT a.example:443 HTTP/1.1")),
        ("TRACE", &[405], Kept, line(&format!("TRACE {path} HTTP/1.1"))),
        ("a method in lower case", &[405], Kept, line(&format!("get {path} HTTP/1.1"))),
        ("an unknown method", &[405], Kept, line(&format!("FLY {path} HTTP/1.1"))),
        // Versions.
        ("HTTP/0.9", &[400], Closed, format!("GET {path}\r\n\r\n").into_bytes()),
        ("HTTP/1.2", &[400], Closed, line(&format!("GET {path} HTTP/1.2"))),
        ("HTTP/3.0", &[400], Closed, line(&format!("GET {path} HTTP/3.0"))),
        // Heads.
        ("a huge header", &[431], Closed, get(&format!("X: {}\r\n", "x".repeat(1 << 20)))),
        ("a thousand headers", &[431], Closed, get(&"X: y\r\n".repeat(1000))),
        ("a folded header", &[400], Closed, get("X: y\r\n z\r\n")),
        ("a space before the colon", &[400], Closed, get("X : y\r\n")),
        ("a bare CR", &[400], Closed, get("X: y\rz\r\n")),
        ("a NUL in a header", &[400], Closed, get("X: y\0z\r\n")),
        // Hosts.
        ("no Host", &[400], Closed, format!("GET {path} HTTP/1.1\r\n\r\n").into_bytes()),
        ("two Hosts", &[400], Closed, get("Host: x\r\n")),
        (
            "a Host with a path",
            &[400],
            Closed,
            format!("GET {path} HTTP/1.1\r\nHost: a/b\r\n\r\n").into_bytes(),
        ),
        (
            "a Host with a user",
            &[400],
            Closed,
            format!("GET {path} HTTP/1.1\r\nHost: a@b\r\n\r\n").into_bytes(),
        ),
        ("a URL with a user", &[400], Closed, line(&format!("GET http://a@x{path} HTTP/1.1"))),
        ("a URL for a Host", &[400], Closed, format!("GET http://a{path} HTTP/1.1\r\n\r\n").into_bytes()),
        // Bodies, and requests hidden in them: none may be answered.
        ("GET with a body", &[400], Closed, with(get("Content-Length: 5\r\n"), b"hello")),
        (
            "GET with a request as body",
            &[400],
            Closed,
            with(get(&format!("Content-Length: {}\r\n", second.len())), &second),
        ),
        ("GET with chunks", &[400], Closed, with(get("Transfer-Encoding: chunked\r\n"), b"0\r\n\r\n")),
        (
            "GET with ambiguous lengths",
            &[400],
            Closed,
            with(
                get("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"),
                &[b"0\r\n\r\n", &second[..]].concat(),
            ),
        ),
        (
            "POST with ambiguous lengths",
            &[405],
            Closed,
            with(
                post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"),
                &[b"0\r\n\r\n", &second[..]].concat(),
            ),
        ),
        ("two lengths", &[400], Closed, with(post("Content-Length: 1\r\nContent-Length: 2\r\n"), &second)),
        ("a list of lengths", &[400], Closed, with(post("Content-Length: 1, 1\r\n"), &second)),
        ("a length with a sign", &[400], Closed, with(post("Content-Length: +1\r\n"), &second)),
        ("an unknown encoding", &[400], Closed, with(post("Transfer-Encoding: xchunked\r\n"), &second)),
        ("chunks, then not", &[400], Closed, with(post("Transfer-Encoding: chunked, identity\r\n"), &second)),
        ("a megabyte for 405", &[405], Closed, with(post("Content-Length: 1048576\r\n"), &vec![0; 1 << 20])),
        (
            "a body that was not waited for",
            &[405],
            Kept,
            with(post("Expect: 100-continue\r\nContent-Length: 5\r\n"), b"hello"),
        ),
        // Upgrades.
        ("WebSocket of version 8", &[426], Kept, get(&format!("{upgrade}{key}Sec-WebSocket-Version: 8\r\n"))),
        ("WebSocket without version", &[426], Kept, get(&format!("{upgrade}{key}"))),
        ("WebSocket without key", &[400], Kept, get(&format!("{upgrade}Sec-WebSocket-Version: 13\r\n"))),
        (
            "WebSocket with a short key",
            &[400],
            Kept,
            get(&format!("{upgrade}Sec-WebSocket-Key: c2hvcnQ=\r\nSec-WebSocket-Version: 13\r\n")),
        ),
        (
            "WebSocket with a malformed key",
            &[400],
            Kept,
            get(&format!("{upgrade}Sec-WebSocket-Key: {}\r\nSec-WebSocket-Version: 13\r\n", "?".repeat(24))),
        ),
        (
            "WebSocket without Connection",
            &[400],
            Kept,
            get(&format!("Upgrade: websocket\r\n{key}Sec-WebSocket-Version: 13\r\n")),
        ),
        ("WebSocket by POST", &[405], Kept, post(&format!("{upgrade}{key}Sec-WebSocket-Version: 13\r\n"))),
        ("an unknown upgrade", &[426], Kept, get("Upgrade: flute\r\nConnection: Upgrade\r\n")),
        // Other protocols.
        (
            "a TLS hello",
            &[400],
            Closed,
            [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".as_slice(), &[7; 509]].concat(),
        ),
        ("an RTMP handshake", &[400], Closed, [b"\x03".as_slice(), &[0; 1536]].concat()),
        ("nothing but zeros", &[400], Closed, vec![0; 1 << 20]),
    ];
    live.costs_nothing(&rows, |(name, statuses, then, bytes)| {
        let last = if *then == Then::Kept { vec![LAST.1] } else { Vec::new() };
        assert_eq!(answers(live.host.http, bytes), [statuses.to_vec(), last].concat(), "{name}");
    });
}

#[test]
fn pipelined_requests_are_answered_in_order_and_independently() {
    let live = Live::start();
    let at = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
    let mixed = [at("/none"), at("/live/%2e%2e/x.flv"), at("/none")].concat();
    assert_eq!(answers(live.host.http, mixed.as_bytes()), [404, 400, 404, LAST.1]);
    let many = at("/none").repeat(500);
    assert_eq!(answers(live.host.http, many.as_bytes()), [404; 501]);
    // After one that ends the connection nothing is answered.
    let hidden =
        [&at("/none"), "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n", &at("/none")].concat();
    assert_eq!(answers(live.host.http, hidden.as_bytes()), [404, 400]);
}

#[test]
fn refusals_name_what_the_host_accepts() {
    let live = Live::start();
    let path = live.host.path(&live.key);
    let send = |request: Request| request.send(live.host.http).unwrap();
    let method = send(Request::new("DELETE", &path));
    assert_eq!((method.status, method.header("allow")), (405, Some("GET, HEAD, OPTIONS")));
    let version = Request::get(&path)
        .header("Upgrade", "websocket")
        .header("Connection", "Upgrade")
        .header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
        .header("Sec-WebSocket-Version", "7");
    let version = send(version);
    assert_eq!((version.status, version.header("sec-websocket-version")), (426, Some("13")));
    assert_eq!(version.header("upgrade"), Some("websocket"));
    assert_eq!(version.header("connection"), Some("upgrade"));
    let upgrade = send(Request::get(&path).header("Upgrade", "flute").header("Connection", "upgrade"));
    assert_eq!((upgrade.status, upgrade.header("upgrade")), (426, Some("websocket")));
    let closing = send(Request::get(&path).header("Transfer-Encoding", "chunked"));
    assert_eq!((closing.status, closing.header("connection")), (400, Some("close")));
}

#[test]
fn unusual_but_valid_requests_are_served() {
    let live = Live::start();
    let path = live.host.path(&live.key);
    let rows: [(&str, String); 7] = [
        (
            "curl --http2",
            format!(
                "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n"
            ),
        ),
        (
            "an Upgrade that nobody asked for",
            format!("GET {path} HTTP/1.1\r\nHost: x\r\nUpgrade: flute\r\n\r\n"),
        ),
        (
            "an upgrade of HTTP/1.0",
            format!("GET {path} HTTP/1.0\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"),
        ),
        ("a URL with a host", format!("GET http://other.example:80{path} HTTP/1.1\r\nHost: x\r\n\r\n")),
        ("an empty body", format!("GET {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")),
        ("encoded letters", format!("GET {} HTTP/1.1\r\nHost: x\r\n\r\n", path.replace("live", "l%69ve"))),
        ("lines that end without CR", format!("GET {path} HTTP/1.1\nHost: x\n\n")),
    ];
    for (name, request) in rows {
        let mut socket = TcpStream::connect(live.host.http).unwrap();
        socket.set_read_timeout(Some(SOON)).unwrap();
        socket.write_all(request.as_bytes()).unwrap();
        let mut status = [0; 12];
        socket.read_exact(&mut status).unwrap();
        assert_eq!(&status[9..], b"200", "{name}");
    }
}

#[test]
fn http_2_has_the_same_rules() {
    let live = Live::start();
    let url = live.host.http_url(&live.key);
    let base = format!("http://{}", live.host.http);
    let long = format!("{base}/live/{}.flv", "x".repeat(9_000));
    let huge = format!("X: {}", "x".repeat(60_000));
    let rows: [(&str, &[&str], &str); 8] = [
        ("400", &[&format!("{base}/live/../x.flv")], "dots"),
        ("400", &[&format!("{base}/live/%2e%2e/x.flv")], "encoded dots"),
        ("400", &[&format!("{base}/live%2fx.flv")], "an encoded slash"),
        ("404", &[&format!("{base}/live/x.unknown")], "an unknown extension"),
        ("414", &[&long], "a long URL"),
        ("405", &["-X", "DELETE", &url], "DELETE"),
        ("405", &["-X", "TRACE", &url], "TRACE"),
        ("431", &["-H", &huge, &url], "a huge header"),
    ];
    // Not by curl: 7.88 drops a response that is followed by RST_STREAM, which the host sends to refuse the body (RFC 9113,
    // 8.1).
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let status = runtime.block_on(async {
        let socket = TokioIo::new(tokio::net::TcpStream::connect(live.host.http).await.unwrap());
        let (mut requests, connection) = http2::handshake(TokioExecutor::new(), socket).await.unwrap();
        tokio::spawn(connection);
        requests
            .send_request(hyper::Request::get(&url).body("body".to_owned()).unwrap())
            .await
            .unwrap()
            .status()
    });
    assert_eq!(status, 400, "GET with a body");
    live.costs_nothing(&rows, |(status, arguments, name)| {
        let mut command = Command::new("curl");
        command.args(["--silent", "--http2-prior-knowledge", "--path-as-is", "--max-time", "20"]);
        command
            .args(["--output", "/dev/null", "--write-out", "%{http_code} %{http_version}"])
            .args(*arguments);
        let printed = String::from_utf8(command.output().unwrap().stdout).unwrap();
        assert_eq!(printed, format!("{status} 2"), "{name}");
    });
}
