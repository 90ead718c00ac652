//! Refusals: each has a line in the log with its reason, a flood of them few lines, and all lines of a connection its id.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use remuxd_tests::asking::Ask;
use remuxd_tests::clip::Clip;
use remuxd_tests::host::{Config, Host};
use remuxd_tests::http::Request;
use remuxd_tests::publisher::Publisher;
use remuxd_tests::tls::{Certificate, Files};
use remuxd_tests::wait::{SOON, wait_for, wait_until};
use remuxd_tests::websocket;
use serde_json::Value;

/// The lines of a log in JSON.
fn lines(host: &Host) -> Vec<Value> {
    host.log().lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// Waits for a line with this message and part of a reason or error.
fn wait_line(host: &Host, message: &str, reason: &str) -> Value {
    wait_for(SOON, &format!("a line {message} with {reason}"), || {
        let is_it = |line: &Value| {
            let field = |name: &str| line["fields"][name].as_str().unwrap_or_default().to_owned();
            field("message") == message && ["reason", "error"].iter().any(|name| field(name).contains(reason))
        };
        lines(host).into_iter().find(is_it)
    })
}

/// Sends bytes and waits until the host closes the connection.
fn send(address: SocketAddr, bytes: &[u8]) {
    let mut socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(SOON)).unwrap();
    let _ = socket.write_all(bytes).and_then(|()| socket.read_to_end(&mut Vec::new()));
}

#[test]
fn every_refusal_has_its_reason_at_info() {
    let files = Files::of(&Certificate::of(&["localhost"]));
    let tables = format!("[log]\nformat = \"json\"\n{}", files.listeners());
    let config = Config::live()
        .play("wait", "\"0s\"")
        .mount("mount = \"[vhost]/[app]/[stream].flv\"")
        .mount("mount = \"[vhost]/[app]/[stream].mp3\"")
        .tables(&tables);
    let host = Host::start(&config);
    let key = host.key("film");
    let _publisher = Publisher::open(host.rtmp, &key).repeat(Clip::H264Aac);
    let status = |request: Request| request.send(host.http).unwrap().status;
    assert_eq!(status(Request::get("/nothing?secret=1")), 404);
    assert_eq!(status(Request::get("/live/other.flv")), 404);
    assert_eq!(status(Request::new("POST", "/live/film.flv")), 405);
    assert_eq!(status(Request::get("/live/film.flv?track=x1")), 400);
    assert_eq!(Ask::RtmpPlay.status(&host, "live/other", "", ""), "NetStream.Play.StreamNotFound");
    assert!(websocket::open(host.http, "/live/other.flv", &[]).is_err());
    wait_until(SOON, "the stream has a codec", || status(Request::get("/live/film.mp3")) == 415);
    send(host.http, b"GET / HTTP/9.1\r\n\r\n");
    send(host.rtmp, &[7; 2000]);
    send(host.https.unwrap(), &[7; 100]);
    let rows = [
        ("refused", "nothing is mounted here", "path", "/nothing"),
        ("refused", "this stream is not live", "stream", "live/other"),
        ("refused", "this method is not allowed here", "path", "/live/film.flv"),
        ("refused", "an option in the query", "path", "/live/film.flv"),
        ("refused", "cannot carry the stream's codecs", "stream", "live/film"),
        ("http connection closed", "invalid HTTP version", "", ""),
        ("rtmp connection closed", "RTMP version 7, not 3", "", ""),
        ("connection closed before it began", "", "", ""),
    ];
    for (message, reason, field, value) in rows {
        let line = wait_line(&host, message, reason);
        assert_eq!(line["level"], "INFO", "{line}");
        assert_eq!(line["fields"]["connection"].as_str().map(str::len), Some(16), "{line}");
        if !field.is_empty() {
            assert_eq!(line["fields"][field], value, "{line}");
        }
        assert!(!line.to_string().contains("secret") && !line.to_string().contains("x1"), "{line}");
    }
}

#[test]
fn a_flood_of_refusals_has_few_lines() {
    let host = Host::start(&Config::live().play("wait", "\"0s\"").tables("[log]\nformat = \"json\""));
    let paths = ["/nothing", "/live/other.flv"];
    for path in paths {
        (0..200).for_each(|_| assert_eq!(Request::get(path).send(host.http).unwrap().status, 404));
    }
    (0..200).for_each(|_| send(host.rtmp, &[7; 2000]));
    let last = Request::get("/live/film.flv").header("Content-Length", "1");
    assert_eq!(last.send(host.http).unwrap().status, 400);
    wait_line(&host, "refused", "must not have a body");
    // Twenty for each reason in ten seconds, of which the requests may take some.
    for message in ["refused", "rtmp connection closed"] {
        let count = lines(&host).iter().filter(|line| line["fields"]["message"] == message).count();
        assert!((20..=150).contains(&count), "{count} lines {message}");
    }
}

/// Publishes, replaces the publisher, plays over RTMP, and views over HTTP and WebSocket: every line that one of these connections
/// causes has its id, and those of a session also the id of the session.
#[test]
fn all_lines_of_a_connection_have_its_id() {
    let tables = "[log]\nformat = \"json\"\nlevel = \"info,remuxd::net=debug,remuxd::http=debug\"";
    let config = Config::live().publish("publish_conflict", "\"replace\"").tables(tables);
    let host = Host::start(&config);
    let key = host.key("film");
    let replaced = Publisher::open(host.rtmp, &key);
    let publisher = Publisher::open(host.rtmp, &key).repeat(Clip::H264Aac);
    assert_eq!(Ask::RtmpPlay.status(&host, &key, "", ""), "NetStream.Play.Start");
    drop(Request::get(&host.path(&key)).send(host.http).unwrap());
    drop(websocket::open(host.http, &host.path(&key), &[]).unwrap());
    drop(replaced);
    host.wait_viewers(0);
    publisher.stop();
    // Of each kind of connection, the lines from its session's first one to its own last one.
    let rows = [
        (0, "publishing", &["publisher replaced", "session ended", "rtmp connection closed"][..]),
        (1, "publishing", &["publisher left", "session ended", "rtmp connection closed"]),
        (0, "playing", &["play started", "session ended", "rtmp connection closed"]),
        (0, "viewing", &["mount started", "session ended", "http connection closed"]),
        (1, "viewing", &["closing a WebSocket", "session ended"]),
    ];
    for (nth, first, others) in rows {
        let is_first = |line: &Value| line["fields"]["message"] == first;
        let line = wait_for(SOON, first, || lines(&host).into_iter().filter(is_first).nth(nth));
        for message in others {
            let of_it = |one: &Value| {
                one["fields"]["message"] == *message
                    && one["fields"]["connection"] == line["fields"]["connection"]
            };
            let of_it = wait_for(SOON, message, || lines(&host).into_iter().find(of_it));
            if !message.ends_with(" closed") && !message.starts_with("closing") {
                assert_eq!(of_it["fields"]["session"], line["fields"]["session"], "{of_it}");
            }
        }
    }
    for line in lines(&host) {
        let (target, fields) = (line["target"].as_str().unwrap(), &line["fields"]);
        let names_client = ["peer", "client", "session"].iter().any(|name| !fields[name].is_null());
        let areas = ["remuxd::http", "remuxd::net::http", "remuxd::net::rtmp"];
        if names_client || areas.iter().any(|area| target.starts_with(area)) {
            assert_eq!(fields["connection"].as_str().map(str::len), Some(16), "{line}");
        }
    }
}

#[test]
fn levels_may_differ_by_area() {
    let host = Host::start(
        &Config::live().play("wait", "\"0s\"").tables("[log]\nlevel = \"warn,remuxd::net=info\""),
    );
    assert_eq!(Request::get("/live/other.flv").send(host.http).unwrap().status, 404);
    send(host.rtmp, &[7; 2000]);
    host.wait_log(&["rtmp connection closed", "RTMP version 7"]);
    assert!(!host.log().contains(" refused "), "{}", host.log());
}
