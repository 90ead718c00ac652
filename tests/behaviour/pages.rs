//! Pages of the API that no other subject has tests of.

use remuxd_tests::capture::Capture;
use remuxd_tests::clip::Clip;
use remuxd_tests::host::{Config, Host};
use remuxd_tests::publisher::Publisher;
use remuxd_tests::tls::{Certificate, Files};
use remuxd_tests::wait::{SOON, wait_until};
use serde_json::{Value, json};

#[test]
fn every_format_of_a_stream_has_a_row() {
    let host = Host::start(&Config::live().mount("").mount("mount = \"/[app]/[stream].mp3\""));
    assert_eq!(host.api_json("/api/v2/mounts"), json!({"total": 0, "start": 0, "mounts": []}));
    let key = host.key("film");
    let publisher = Publisher::open(host.rtmp, &key).repeat(Clip::H264Aac);
    let viewer = Capture::http(&host, &key);
    viewer.wait_access_units(5, SOON);
    let page = host.api_json("/api/v2/mounts");
    let rows: Vec<_> = page["mounts"].as_array().unwrap().iter().collect();
    let of = |transport: &str, url: &str| {
        let row = rows.iter().find(|row| row["transport"] == transport && row["url"] == url);
        row.unwrap_or_else(|| panic!("no {transport} {url} in {page}"))
    };
    let flv = of("http", "/live/film.flv");
    assert_eq!(
        (&flv["module"], &flv["stream"], &flv["viewers"]),
        (&json!("flv"), &json!("live/film"), &json!(1))
    );
    assert_eq!(
        (&flv["carries"], &flv["live"], &flv["content_type"]),
        (&json!(true), &json!(1), &json!("video/x-flv"))
    );
    let websocket = of("websocket", "/live/film.flv");
    assert_eq!((&websocket["module"], &websocket["live"]), (&json!("websocket-flv"), &json!(0)));
    // The stream has no such audio.
    assert_eq!(of("http", "/live/film.mp3")["carries"], false);
    assert_eq!((&page["total"], rows.len()), (&json!(3), 3));
    let part = host.api_json("/api/v2/mounts?start=2&count=1");
    assert_eq!((&part["mounts"][0], &part["total"]), (rows[2], &json!(3)));
    let modules = host.api_json("/api/v2/modules");
    assert_eq!(modules["modules"].as_array().unwrap().len(), 5, "{modules}");
    assert_eq!(
        host.api_json("/api/v2/modules?start=1&count=1")["modules"][0]["name"],
        modules["modules"][1]["name"]
    );
    publisher.stop();
    let _ = viewer.finish(SOON);
}

#[test]
fn what_is_limited_is_counted() {
    let host = Host::start(&Config::live().limits("max_connections", "77").limits("max_viewers", "9"));
    let key = host.key("film");
    let publisher = Publisher::open(host.rtmp, &key).repeat(Clip::H264Aac);
    let viewer = Capture::http(&host, &key);
    viewer.wait_access_units(5, SOON);
    let _waiting = std::net::TcpStream::connect(host.http).unwrap();
    let limits = || host.api_json("/api/v2/limits");
    wait_until(SOON, "three connections", || limits()["connections"] == json!({"used": 3, "limit": 77}));
    let limits = limits();
    assert_eq!(limits["viewers"], json!({"used": 1, "limit": 9}));
    assert_eq!(limits["publishers"], json!({"used": 1, "limit": 0}));
    let number = |value: &Value| value.as_u64().unwrap();
    let files = &limits["descriptors"];
    assert!(number(&files["used"]) > 3 && number(&files["used"]) < number(&files["limit"]), "{limits}");
    assert!(number(&limits["memory"]["limit"]) > number(&limits["memory"]["connections"]), "{limits}");
    publisher.stop();
    let _ = viewer.finish(SOON);
}

#[test]
fn past_reloads_are_kept() {
    let host = Host::start(&Config::live());
    assert_eq!(host.api_json("/api/v2/reloads")["total"], 0);
    for _ in 0..22 {
        assert!(host.command(&["reload"]).status.success());
    }
    assert!(host.command(&["reload", "--dry-run"]).status.success());
    let page = host.api_json("/api/v2/reloads?count=1000");
    let numbers: Vec<_> =
        page["reloads"].as_array().unwrap().iter().map(|entry| entry["number"].as_u64().unwrap()).collect();
    assert_eq!((numbers.len(), numbers[0], numbers[19]), (20, 22, 3));
    assert_eq!(page["reloads"][0]["report"], host.api_json("/api/v1/reload"));
}

#[test]
fn certificates_have_names_and_an_end() {
    let files = Files::of(&Certificate::of(&["a.example", "127.0.0.1"]));
    let host = Host::start(&Config::live().tables(&files.listeners()));
    let page = host.api_json("/api/v2/certificates");
    let listeners: Vec<_> =
        page["certificates"].as_array().unwrap().iter().map(|one| one["listener"].clone()).collect();
    assert_eq!((&page["total"], listeners), (&json!(2), vec![json!("https"), json!("rtmps")]));
    let one = &page["certificates"][0];
    assert_eq!(one["names"], json!(["a.example"]));
    assert!(
        one["not_after"].as_str().unwrap().ends_with('Z') && one["seconds_left"].as_i64().unwrap() > 0,
        "{one}"
    );
}
