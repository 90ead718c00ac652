//! Methods, versions, headers and status codes of live mounts.

use std::io::Read;
use std::net::TcpStream;
use std::process::Command;

use remuxd_tests::capture::{Capture, End};
use remuxd_tests::flv::{Reader, Tag, VIDEO};
use remuxd_tests::host::{Config, Host};
use remuxd_tests::http::{Request, Response};
use remuxd_tests::publisher::{Numbered, Publisher};
use remuxd_tests::scratch::Scratch;
use remuxd_tests::wait::{SOON, wait_until};
use remuxd_tests::websocket;

/// A live stream of 30 frames that have arrived.
struct Live {
    host: Host,
    key: String,
    publisher: Publisher,
}

impl Live {
    fn start(config: &Config) -> Live {
        let host = Host::start(config);
        let key = host.key("live");
        let mut publisher = Publisher::open(host.rtmp, &key);
        let mut media = Numbered::new(500);
        let early = Capture::http(&host, &key);
        publisher.send(&media.headers());
        publisher.send(&media.frames(30));
        early.wait_until(SOON, "the last frame", |tags| Numbered::numbers(tags).last() == Some(&29));
        Live { host, key, publisher }
    }

    fn path(&self) -> String {
        self.host.path(&self.key)
    }

    fn send(&self, request: &Request) -> Response {
        request.send(self.host.http).unwrap()
    }
}

#[test]
fn a_response_is_chunked_and_never_cached() {
    let live = Live::start(&Config::live());
    let response = live.send(&Request::get(&live.path()));
    assert_eq!((response.status, response.version.as_str()), (200, "HTTP/1.1"));
    assert_eq!(response.header("content-type"), Some("video/x-flv"));
    assert_eq!(response.header("cache-control"), Some("no-store"));
    assert_eq!(response.header("x-accel-buffering"), Some("no"));
    assert_eq!(response.header("transfer-encoding"), Some("chunked"));
    assert_eq!(response.header("content-length"), None);
}

#[test]
fn a_connection_serves_another_request_after_a_live_response() {
    let live = Live::start(&Config::live().publish("republish_wait", "\"0s\"").play("wait", "\"0s\""));
    let socket = TcpStream::connect(live.host.http).unwrap();
    let get = |path: &str| Request::get(path).send_over(socket.try_clone().unwrap()).unwrap();
    let (path, other) = (live.path(), live.host.path(&live.host.key("other")));
    let mut response = get(&path);
    assert_eq!((response.status, response.header("connection")), (200, None));
    let Live { host, publisher, .. } = live;
    drop(publisher);
    let mut body = Vec::new();
    response.body.read_to_end(&mut body).unwrap();
    let mut reader = Reader::default();
    reader.push(&body).unwrap();
    assert_eq!(Numbered::numbers(reader.tags()).last(), Some(&29));
    assert_eq!(get("/api/v1/versions").status, 200);
    // As does one whose viewer was refused.
    assert_eq!((get(&other).status, get("/api/v1/versions").status), (404, 200));
    let closing = Request::get("/api/v1/versions").header("connection", "close");
    assert_eq!(closing.send_over(socket.try_clone().unwrap()).unwrap().status, 200);
    drop(host);
}

#[test]
fn http_1_0_is_close_delimited() {
    let live = Live::start(&Config::live());
    let capture = Capture::request(&live.host, Request::get(&live.path()).http10());
    let response = live.send(&Request::get(&live.path()).http10());
    assert_eq!(response.header("transfer-encoding"), None);
    capture.wait_access_units(5, SOON);
    drop(live.publisher);
    let recording = capture.finish(SOON);
    assert_eq!((recording.end, recording.unfinished), (End::Clean, 0));
}

#[test]
fn http_2_serves_and_ends_cleanly() {
    let live = Live::start(&Config::live());
    let scratch = Scratch::new();
    let file = scratch.join("served.flv");
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--no-buffer", "--http2-prior-knowledge", "--max-time", "20"]);
    command.args(["--write-out", "%{http_version} %{http_code} %{content_type}", "--output"]).arg(&file);
    command.arg(live.host.http_url(&live.key));
    let mut curl = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
    wait_until(SOON, "curl has frame 29", || {
        let mut reader = Reader::default();
        std::fs::read(&file).is_ok_and(|bytes| {
            reader.push(&bytes).unwrap();
            reader.tags().iter().rev().find_map(Numbered::number_of) == Some(29)
        })
    });
    drop(live.publisher);
    let mut printed = String::new();
    curl.stdout.take().unwrap().read_to_string(&mut printed).unwrap();
    // curl fails when a stream ends in any other way than by END_STREAM.
    assert!(curl.wait().unwrap().success());
    assert_eq!(printed, "2 200 video/x-flv");
}

#[test]
fn head_answers_as_get_without_a_body() {
    let live = Live::start(&Config::live().play("wait", "\"1s\""));
    let get = live.send(&Request::get(&live.path()));
    let mut head = live.send(&Request::new("HEAD", &live.path()));
    assert_eq!(head.status, 200);
    let names = |response: &Response| {
        let names = response.headers.iter().map(|(name, _)| name.to_lowercase());
        names
            .filter(|name| !["date", "transfer-encoding", "connection"].contains(&name.as_str()))
            .collect::<Vec<_>>()
    };
    assert_eq!(names(&head), names(&get));
    assert_eq!(head.header("content-type"), get.header("content-type"));
    assert_eq!(head.body.read(&mut [0; 16]).unwrap(), 0);
    let unknown = host_path(&live, "unknown");
    assert_eq!(live.send(&Request::new("HEAD", &unknown)).status, 404);
    // The one of `Live` and the GET, whose response is still open.
    live.host.wait_viewers(2);
    drop(get);
}

fn host_path(live: &Live, name: &str) -> String {
    live.host.path(&live.host.key(name))
}

#[test]
fn cors_lets_any_page_play() {
    let live = Live::start(&Config::live());
    let response = live.send(&Request::get(&live.path()).header("Origin", "https://example.com"));
    assert!(["*", "https://example.com"].contains(&response.header("access-control-allow-origin").unwrap()));
    let preflight = Request::new("OPTIONS", &live.path())
        .header("Origin", "https://example.com")
        .header("Access-Control-Request-Method", "GET")
        .header("Access-Control-Request-Headers", "x-player")
        .header("Access-Control-Request-Private-Network", "true");
    let response = live.send(&preflight);
    assert!([200, 204].contains(&response.status), "{response:?}");
    assert_eq!(response.header("access-control-allow-private-network"), Some("true"));
    assert!(
        response
            .header("access-control-allow-methods")
            .is_some_and(|value| value == "*" || value.contains("GET"))
    );
    assert!(response.header("access-control-allow-headers").is_some(), "{response:?}");
}

#[test]
fn cors_can_be_turned_off() {
    let live = Live::start(&Config::live().http("crossdomain", "false"));
    let response = live.send(&Request::get(&live.path()).header("Origin", "https://example.com"));
    assert_eq!(response.header("access-control-allow-origin"), None);
    let preflight = Request::new("OPTIONS", &live.path()).header("Origin", "https://example.com");
    assert_eq!(live.send(&preflight).status, 405);
}

#[test]
fn other_methods_are_405() {
    let live = Live::start(&Config::live());
    for method in ["POST", "PUT", "DELETE", "PATCH"] {
        let response = live.send(&Request::new(method, &live.path()).header("Content-Length", "0"));
        assert_eq!(response.status, 405, "{method}");
        assert!(response.header("allow").is_some_and(|allow| allow.contains("GET")), "{response:?}");
    }
}

#[test]
fn paths_that_lead_nowhere_are_refused_at_once() {
    let live = Live::start(&Config::live().play("wait", "\"60s\""));
    let long = format!("/live/{}.flv", "x".repeat(100_000));
    let cases = [
        ("/", [404, 404]),
        ("/live", [404, 404]),
        ("/live/x.unknown", [404, 404]),
        ("/live/deep/x.flv", [404, 404]),
        ("/live/../live/x.flv", [400, 404]),
        ("/live/%2e%2e/x.flv", [400, 404]),
        ("/live/%zz.flv", [400, 404]),
        ("/live/%00.flv", [400, 404]),
        ("/live/.flv", [400, 404]),
        ("//x.flv", [400, 404]),
        (long.as_str(), [414, 431]),
    ];
    for (path, statuses) in cases {
        let status = live.send(&Request::get(path)).status;
        assert!(statuses.contains(&status), "{status} for {path:.60}");
    }
}

#[test]
fn a_codec_that_the_format_cannot_carry_is_415() {
    let host = Host::start(&Config::live());
    let key = host.key("xvc");
    let mut publisher = Publisher::open(host.rtmp, &key);
    let early = Capture::rtmp(&host, &key);
    let tag = |timestamp, payload: &[u8]| Tag { kind: VIDEO, timestamp, payload: payload.to_vec() };
    publisher.send(&[
        tag(0, b"\x90xvc9\x00\x00\x00\x00"),
        tag(0, b"\x91xvc9\x00\x00\x00\x00\x00\x00\x01\x00"),
        tag(40, b"\xa1xvc9\x00\x00\x00\x00\x00\x00\x01\x00"),
    ]);
    // RTMP forwards codecs that the host does not know.
    early.wait_access_units(2, SOON);
    assert_eq!(Request::get(&host.path(&key)).send(host.http).unwrap().status, 415);
}

#[test]
fn a_websocket_gets_binary_messages_pong_and_its_protocol() {
    let mut live = Live::start(&Config::live());
    let protocol = [("sec-websocket-protocol", "flv")];
    let (mut socket, response) = websocket::open(live.host.http, &live.path(), &protocol).unwrap();
    assert_eq!(response.headers()["sec-websocket-protocol"], "flv");
    socket.send(tungstenite::Message::Ping("are you there".into())).unwrap();
    let mut first = true;
    loop {
        match socket.read().unwrap() {
            tungstenite::Message::Binary(bytes) => {
                assert!(
                    !std::mem::take(&mut first) || bytes.len() >= 14,
                    "flv.js needs more than the header"
                );
            }
            tungstenite::Message::Pong(payload) => {
                assert_eq!(&payload[..], b"are you there");
                break;
            }
            other => panic!("{other:?}"),
        }
        // The pong may come after blocks that were ready before it.
        live.publisher.send(&[Tag { kind: 8, timestamp: 1200, payload: vec![0xaf, 1, 0] }]);
    }
    socket.close(None).unwrap();
    let end = std::iter::from_fn(|| Some(socket.read())).find_map(Result::err);
    assert!(matches!(end, Some(tungstenite::Error::ConnectionClosed)), "{end:?}");
}

#[test]
fn bytes_after_the_request_are_ignored() {
    use std::io::Write;
    let mut live = Live::start(&Config::live());
    let mut socket = TcpStream::connect(live.host.http).unwrap();
    let mut more = socket.try_clone().unwrap();
    let mut response = Request::get(&live.path()).send_over(socket.try_clone().unwrap()).unwrap();
    more.write_all(&[0; 10_000]).unwrap();
    socket.flush().unwrap();
    live.publisher.send(&[Tag { kind: 8, timestamp: 1200, payload: vec![0xaf, 1, 0xfe] }]);
    let mut reader = Reader::default();
    let mut buffer = [0; 4096];
    while reader.tags().last().is_none_or(|tag| tag.payload.last() != Some(&0xfe)) {
        let length = response.body.read(&mut buffer).unwrap();
        assert!(length > 0, "ended");
        reader.push(&buffer[..length]).unwrap();
    }
}
