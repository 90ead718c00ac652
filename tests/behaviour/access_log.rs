//! The access log: a line for each session, when it ends.

use std::fs;
use std::path::Path;
use std::time::Instant;

use remuxd_tests::capture::Capture;
use remuxd_tests::host::{Config, Host};
use remuxd_tests::http::Request;
use remuxd_tests::publisher::{Numbered, Publisher};
use remuxd_tests::rtmp::Connection;
use remuxd_tests::scratch::Scratch;
use remuxd_tests::secrets::{self, TOKEN};
use remuxd_tests::socket::connect_narrow;
use remuxd_tests::wait::{SOON, wait_for, wait_until};
use remuxd_tests::websocket;
use rustix::process::Signal;
use serde_json::Value;

/// Starts a host with an access log. Viewers wait for a stream, so they may come before its first frame does.
fn start(log: &Path, format: &str) -> Host {
    let table = format!("[log]\nformat = \"json\"\n[log.access]\nfile = {log:?}\nformat = \"{format}\"");
    Host::start(&Config::live().play("wait", "\"3s\"").tables(&table))
}

/// A stream that has three frames, and a viewer over HTTP, WebSocket and RTMP, each of whom has them.
fn scene(host: &Host, key: &str) -> (Publisher, [Capture; 3]) {
    let mut publisher = Publisher::open(host.rtmp, key);
    let mut media = Numbered::new(500);
    publisher.send(&media.headers());
    publisher.send(&media.frames(3));
    let path = format!("{}?token={TOKEN}", host.path(key));
    let request = Request::get(&path)
        .header("User-Agent", "a \"player\"\u{e9}")
        .header("Referer", "https://a.example/?p=1");
    let viewers = [Capture::request(host, request), Capture::websocket(host, key), Capture::rtmp(host, key)];
    viewers.iter().for_each(|viewer| viewer.wait_access_units(3, SOON));
    (publisher, viewers)
}

/// Waits until the log has `count` lines, and returns them.
fn lines(log: &Path, count: usize) -> Vec<String> {
    let lines = wait_for(SOON, &format!("{count} access lines"), || {
        let text = fs::read_to_string(log).ok()?;
        (text.ends_with('\n') && text.lines().count() >= count).then_some(text)
    });
    secrets::assert_hidden("the access log", &lines);
    let lines: Vec<_> = lines.lines().map(str::to_owned).collect();
    assert_eq!(lines.len(), count, "{lines:?}");
    lines
}

#[test]
fn sessions_are_logged_as_http_servers_log_requests() {
    let scratch = Scratch::new();
    let log = scratch.join("access.log");
    let host = start(&log, "combined");
    let (publisher, [http, websocket, rtmp]) = scene(&host, &host.key("film"));
    assert_eq!(fs::read_to_string(&log).unwrap(), "", "nothing has ended");
    drop(publisher);
    let bytes = http.finish(SOON).bytes.len();
    for viewer in [websocket, rtmp] {
        let _ = viewer.finish(SOON);
    }
    assert_eq!(Request::get("/live/nothing.flv").send(host.http).unwrap().status, 404);
    let lines = lines(&log, 5);
    let line = |start: &str| {
        let found = lines.iter().find(|line| line.contains(start));
        found.unwrap_or_else(|| panic!("no {start} in {lines:?}"))
    };
    let viewer = line("\"PLAY /live/film.flv HTTP\"");
    assert!(viewer.starts_with("127.0.0.1 - - ["), "{viewer}");
    let expected = format!("\" 200 {bytes} \"https://a.example/?p=1\" \"a \\x22player\\x22\u{e9}\" ");
    assert!(viewer.contains(&expected), "`{expected}` is not in {viewer}");
    assert!(viewer.contains(" \"the stream ended\" 0 0."), "{viewer}");
    assert!(viewer.ends_with(" \"-\""), "it has picked no options: {viewer}");
    for (start, end) in [
        ("\"PLAY /live/film.flv WEBSOCKET\" 200 ", " \"the stream ended\""),
        ("\"PLAY /live/film RTMP\" 200 ", " \"the stream ended\""),
        ("\"PUBLISH /live/film RTMP\" 200 ", " \"the client left\""),
        ("\"PLAY /live/nothing.flv HTTP\" 404 0 \"-\" \"-\" ", " \"not served: this stream is not live\""),
    ] {
        assert!(line(start).contains(&format!("{end} 0 0.")), "{start}: {}", line(start));
    }
    // What rotates logs moves the file, and sends a signal.
    let moved = scratch.join("access.log.1");
    fs::rename(&log, &moved).unwrap();
    host.signal(Signal::USR1);
    wait_until(SOON, "a new file", || {
        assert_eq!(Request::get("/live/nothing.flv").send(host.http).unwrap().status, 404);
        log.exists()
    });
    assert!(fs::read_to_string(&log).unwrap().lines().all(|line| line.contains("live/nothing.flv")));
}

#[test]
fn with_json_every_line_is_json() {
    let scratch = Scratch::new();
    let log = scratch.join("access.log");
    let host = start(&log, "json");
    let key = host.key("film");
    let (_publisher, [http, websocket, rtmp]) = scene(&host, &key);
    let sessions = host.sessions();
    let id = |protocol: &str| {
        let own = sessions.iter().find(|one| one[1] == "play" && one[2] == protocol);
        own.unwrap_or_else(|| panic!("{sessions:?}"))[0].clone()
    };
    assert!(host.command(&["kick", &id("websocket")]).status.success());
    let bytes = websocket.finish(SOON).bytes.len();
    let line: Value = serde_json::from_str(&lines(&log, 1)[0]).unwrap();
    let rows: [(&str, Value); 13] = [
        ("session", id("websocket").into()),
        ("action", "play".into()),
        ("protocol", "websocket".into()),
        ("app", "live".into()),
        ("stream", "film".into()),
        ("format", "flv".into()),
        ("variant", "".into()),
        ("address", "127.0.0.1".into()),
        ("status", 200.into()),
        ("bytes", bytes.into()),
        ("skips", 0.into()),
        ("outcome", "kicked".into()),
        ("reason", "an operator has ended it".into()),
    ];
    for (field, expected) in rows {
        assert_eq!(line[field], expected, "{field} in {line}");
    }
    let [first, all, lag] =
        ["first_byte_seconds", "seconds", "max_lag_seconds"].map(|field| line[field].as_f64().unwrap());
    assert!(first <= all && lag < 10.0, "{line}");
    drop((http, rtmp));
    let ended = host.wait_log(&["\"target\":\"remuxd::access\"", "an operator has ended it"]);
    assert!(ended.contains(&id("websocket")), "{ended}");
    for line in host.log().lines() {
        assert!(serde_json::from_str::<Value>(line).is_ok(), "{line}");
    }
}

#[test]
fn a_viewer_that_waited_for_its_publisher_got_its_first_byte_late() {
    let scratch = Scratch::new();
    let log = scratch.join("access.log");
    let host = start(&log, "json");
    let key = host.key("film");
    let asked = Instant::now();
    let viewer = Capture::http(&host, &key);
    host.wait_waiting(1);
    let waited = asked.elapsed();
    let mut publisher = Publisher::open(host.rtmp, &key);
    let mut media = Numbered::new(500);
    publisher.send(&media.headers());
    publisher.send(&media.frames(3));
    viewer.wait_access_units(1, SOON);
    drop(publisher);
    let _ = viewer.finish(SOON);
    let all = lines(&log, 2).into_iter().map(|line| serde_json::from_str::<Value>(&line).unwrap());
    let line = all.into_iter().find(|line| line["action"] == "play").unwrap();
    let first = line["first_byte_seconds"].as_f64().unwrap();
    assert!(
        first * 1000.0 >= waited.as_millis() as f64 - 1.0,
        "{waited:?} passed before the publisher came: {line}"
    );
}

/// Over each protocol a viewer that reads nothing, beside one that reads.
#[test]
fn a_viewer_that_takes_nothing_is_named() {
    let scratch = Scratch::new();
    let log = scratch.join("access.log");
    let table = format!("[log.access]\nfile = {log:?}\nformat = \"json\"");
    let host = Host::start(&Config::live().limits("send_timeout", "\"1s\"").tables(&table));
    let key = host.key("stalled");
    let publisher = Publisher::open(host.rtmp, &key).pace(Numbered::new(200_000));
    let good = Capture::http(&host, &key);
    let http = Request::get(&host.path(&key)).send_over(connect_narrow(host.http)).unwrap();
    let websocket = websocket::open_over(connect_narrow(host.http), &host.ws_url(&key), &[]).unwrap();
    let mut rtmp = Connection::over(connect_narrow(host.rtmp)).unwrap();
    rtmp.connect("live").unwrap();
    let stream = rtmp.create_stream().unwrap();
    rtmp.play(stream, "stalled").unwrap();
    let mut ended: Vec<_> =
        lines(&log, 3).iter().map(|line| serde_json::from_str::<Value>(line).unwrap()).collect();
    ended.sort_by_key(|line| line["protocol"].to_string());
    let shown: Vec<_> =
        ended.iter().map(|line| (&line["protocol"], &line["outcome"], &line["reason"])).collect();
    let reason = &Value::from("closed: no progress for 1 s (limits.send_timeout)");
    let stalled = &Value::from("stalled");
    let expected = ["http", "rtmp", "websocket"].map(Value::from);
    assert_eq!(shown, expected.each_ref().map(|protocol| (protocol, stalled, reason)));
    assert_eq!(good.end(), None, "the other viewer stays");
    drop((http, websocket, rtmp));
    publisher.stop();
}
