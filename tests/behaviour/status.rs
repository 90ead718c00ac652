//! `remuxd status` and the API's streams.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Command, Stdio};

use remuxd_tests::capture::Capture;
use remuxd_tests::clip::{Clip, FRAME_RATE};
use remuxd_tests::host::{Config, Host, executable};
use remuxd_tests::http::Request;
use remuxd_tests::proxy::free_address;
use remuxd_tests::publisher::Publisher;
use remuxd_tests::wait::{SOON, poll_for, wait_until};
use serde_json::Value;

/// Runs `remuxd status` with these arguments, which must succeed.
fn status(host: &Host, arguments: &[&str]) -> String {
    let output = host.command(&[&["status"], arguments].concat());
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{printed}{}", String::from_utf8_lossy(&output.stderr));
    printed
}

#[test]
fn streams_are_shown_with_their_publisher_and_viewers() {
    let config = Config::live().mount("").mount("mount = \"/[app]/[stream].ts\"");
    let host = Host::start(&config);
    let key = host.key("film");
    let publisher = Publisher::open(host.rtmp, &key).repeat(Clip::H264Aac);
    let viewers = [Capture::http(&host, &key), Capture::http(&host, &key), Capture::rtmp(&host, &key)];
    viewers.iter().for_each(|viewer| viewer.wait_access_units(10, SOON));
    let _ts = Request::get("/live/film.ts").send(host.http).unwrap();
    // The rates are those of the last 5 s, so a stall of the machine shows for as long.
    let near = |rate: f64| (rate - f64::from(FRAME_RATE)).abs() <= 2.0;
    let streams = || -> Value { serde_json::from_str(&status(&host, &["--json"])).unwrap() };
    let shown = poll_for(SOON * 2, || {
        let list = streams();
        let film = &list["streams"][0];
        let settled = film["publisher"]["seconds"].as_u64()? >= 3;
        (settled && near(film["pictures_per_second"].as_f64()?)).then_some(list)
    });
    let shown = shown.unwrap_or_else(|| panic!("not {FRAME_RATE} pictures a second: {}", streams()));
    let film = &shown["streams"][0];
    let publishers: Vec<_> = host.sessions().into_iter().filter(|session| session[1] == "publish").collect();
    assert_eq!(film["publisher"]["session"], publishers[0][0]);
    assert_eq!(film["publisher"]["address"], "127.0.0.1");
    assert_eq!(
        (&film["name"], &film["video"], &film["audio"]),
        (&"live/film".into(), &"avc1".into(), &"mp4a".into())
    );
    assert_eq!((&film["width"], &film["height"]), (&320.into(), &180.into()));
    assert_eq!((&film["viewers"], &film["players"]), (&4.into(), &1.into()));
    let bytes = film["bytes"].as_f64().unwrap();
    let (seconds, rate) =
        (film["publisher"]["seconds"].as_f64().unwrap(), film["kilobits_per_second"].as_f64().unwrap());
    let average = bytes * 8.0 / 1000.0 / (seconds + 0.5);
    assert!(rate > average / 2.0 && rate < average * 2.0, "{rate} kbit/s now, {average} in all: {film}");
    assert!(shown["modules"].as_array().unwrap().iter().any(|module| module["name"] == "flv"));
    let table = status(&host, &[]);
    let row = table.lines().find(|line| line.starts_with("live/film ")).unwrap();
    for part in [" avc1 320x180 ", " mp4a ", " 127.0.0.1 ", "2 flv", "1 ts", "1 rtmp"] {
        assert!(row.contains(part), "`{part}` is not in {row}");
    }
    // Who reaches the API sees no addresses.
    let page = host.api_json("/api/v2/streams");
    assert_eq!(page["streams"][0]["name"], "live/film");
    assert!(page["streams"][0]["publisher"]["address"].is_null());
    publisher.stop();
    wait_until(SOON, "the stream is gone", || !status(&host, &[]).contains("live/film"));
}

#[test]
fn a_stream_is_shown_with_its_sessions() {
    let host = Host::start(&Config::live());
    let (film, other) = (host.key("film"), host.key("other"));
    let _publishers = [&film, &other].map(|key| Publisher::open(host.rtmp, key).repeat(Clip::H264Aac));
    let viewer = Capture::websocket(&host, &film);
    viewer.wait_access_units(1, SOON);
    let printed = status(&host, &["live/film"]);
    assert!(printed.contains("live/film ") && !printed.contains("live/other"), "{printed}");
    for session in [" publish rtmp ", " play    websocket "] {
        assert_eq!(printed.matches(session).count(), 1, "{printed}");
    }
    let json: Value = serde_json::from_str(&status(&host, &["live/film", "--json"])).unwrap();
    let sessions = json["sessions"].as_array().unwrap();
    assert_eq!(sessions.len(), 2);
    let viewer = sessions.iter().find(|session| session["action"] == "play").unwrap();
    assert_eq!((&viewer["format"], &viewer["skips"]), (&"flv".into(), &0.into()), "{viewer}");
    assert!(
        viewer["first_byte_ms"].is_u64() && viewer["connection"].as_str().unwrap().len() == 16,
        "{viewer}"
    );
    let unknown = host.command(&["status", "live/nothing"]);
    assert!(!unknown.status.success());
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("there is no stream live/nothing"));
}

#[test]
fn listeners_are_shown_with_their_addresses() {
    let config = Config::live();
    let host = Host::start(&config);
    let shows = |second: Option<SocketAddr>| {
        let listener = |(kind, address): (&str, Option<SocketAddr>)| Some(format!("{kind} {}", address?));
        let listeners =
            [("rtmp", Some(host.rtmp)), ("rtmp", second), ("http", Some(host.http)), ("http_api", host.api)];
        let expected: Vec<_> = listeners.into_iter().filter_map(listener).collect();
        let json: Value = serde_json::from_str(&status(&host, &["--json"])).unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let shown = json["host"]["listeners"].as_array().unwrap().iter();
        let shown: Vec<_> =
            shown.map(|one| format!("{} {}", text(&one["kind"]), text(&one["address"]))).collect();
        assert_eq!(shown, expected);
        assert_eq!(status(&host, &[]).lines().next(), Some(&*format!("listening: {}", expected.join(", "))));
    };
    shows(None);
    let second = free_address();
    host.write_config(&config.rtmp("listen", &format!("[\"127.0.0.1:0\", \"{second}\"]")).toml());
    host.reload();
    shows(Some(second));
}

#[test]
fn streams_of_other_servers_are_shown_with_their_origin_and_destination() {
    let origin = Host::start(&Config::live());
    let forward = format!("[vhost.\"__defaultVhost__\"]\nforward = [\"{}\"]\n", origin.rtmp);
    let host = Host::start(&Config::live().tables(&forward));
    let cluster =
        format!("[vhost.\"__defaultVhost__\".cluster]\nmode = \"edge\"\norigin = \"{}\"\n", origin.rtmp);
    let edge = Host::start(&Config::live().tables(&cluster));
    let key = host.key("film");
    let publisher = Publisher::open(host.rtmp, &key).repeat(Clip::H264Aac);
    let line = |host: &Host, parts: &[&str]| {
        let url = format!("rtmp://{}/{key}", origin.rtmp);
        let printed = status(host, &[]);
        printed.lines().any(|line| line.contains(&url) && parts.iter().all(|part| line.contains(part)))
    };
    wait_until(SOON, "the stream is sent", || line(&host, &["live/film", "forward", "sending"]));
    let direct = Capture::http(&origin, &key);
    direct.wait_access_units(1, SOON);
    let viewer = Capture::http(&edge, &key);
    viewer.wait_access_units(1, SOON);
    wait_until(SOON, "the stream is received", || line(&edge, &["live/film", "receiving"]));
    let json: Value = serde_json::from_str(&status(&edge, &["--json"])).unwrap();
    assert_eq!((&json["pulls"]["total"], &json["pushes"]["total"]), (&1.into(), &0.into()));
    publisher.stop();
}

#[test]
fn status_is_shown_again_every_second() {
    let host = Host::start(&Config::live());
    let mut command = Command::new(executable());
    command.arg("--config").arg(host.config_file()).args(["status", "--watch"]);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let headers = lines.filter(|line| line.contains("kbit/s")).take(2).count();
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(headers, 2);
}

#[test]
fn metrics_show_sessions_connections_and_the_process() {
    let host = Host::start(&Config::live().limits("max_connections", "50"));
    let key = host.key("film");
    let _publisher = Publisher::open(host.rtmp, &key).repeat(Clip::H264Aac);
    let viewers = [Capture::http(&host, &key), Capture::http(&host, &key), Capture::rtmp(&host, &key)];
    viewers.iter().for_each(|viewer| viewer.wait_access_units(1, SOON));
    for (name, value) in [
        ("remuxd_sessions{action=\"publish\",protocol=\"rtmp\"}", 1),
        ("remuxd_sessions{action=\"play\",protocol=\"rtmp\"}", 1),
        ("remuxd_sessions{action=\"play\",protocol=\"http\"}", 2),
        ("remuxd_connections", 4),
        ("remuxd_max_connections", 50),
        ("process_open_fds", host.descriptors() as u64),
    ] {
        // The API's own connection is a descriptor too, for as long as the host takes to close the last one.
        wait_until(SOON, name, || host.metric(name).abs_diff(value) <= u64::from(name.contains("fds")) * 2);
    }
    assert!(host.metric("process_resident_memory_bytes").abs_diff(host.resident()) < 16 << 20);
    assert!(host.api_page("/metrics").contains("remuxd_build_info{version=\""));
}
