//! Several hosts on one port, and one on all cores.

use remuxd_tests::host::{Config, Host, remuxd};
use remuxd_tests::http::Request;
use remuxd_tests::rtmp::Connection;
use remuxd_tests::scratch::Scratch;

#[test]
fn two_hosts_share_their_ports_on_request() {
    let config = Config::live()
        .rtmp("reuse_port", "true")
        .http("reuse_port", "true")
        .tables("[log]\nlevel = \"debug\"");
    let first = Host::start(&config);
    let (rtmp, http) = (format!("[\"{}\"]", first.rtmp), format!("\"{}\"", first.http));
    let second = Host::start(&config.rtmp("listen", &rtmp).http("listen", &http));
    assert_eq!((first.rtmp, first.http), (second.rtmp, second.http));
    // The kernel chooses by a hash of the addresses: 60 connections to the same host are improbable.
    for _ in 0..60 {
        assert_eq!(Request::get("/nothing").send(first.http).unwrap().status, 404);
        Connection::open(first.rtmp).unwrap();
    }
    for host in [&first, &second] {
        host.wait_log(&["refused client="]);
        host.wait_log(&["rtmp connection closed"]);
    }
}

#[test]
fn a_port_in_use_is_reported_with_its_location() {
    let first = Host::start(&Config::live());
    let scratch = Scratch::new();
    let file = scratch.join("second.toml");
    let rtmp = Config::live().rtmp("listen", &format!("[\"{}\"]", first.rtmp));
    let http = Config::live().http("listen", &format!("\"{}\"", first.http));
    for (address, config) in [(first.rtmp, rtmp), (first.http, http)] {
        std::fs::write(&file, config.toml()).unwrap();
        let output = remuxd(&["--config", file.to_str().unwrap()]);
        let printed = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert!(!output.status.success() && !printed.contains("listening "), "{printed}");
        for part in
            [&format!("cannot listen on {address}"), "in use", "second.toml:", "listen = ", "reuse_port"]
        {
            assert!(printed.contains(part), "{part} is not in:\n{printed}");
        }
    }
    // As JSON, also in the log of a host that does not start.
    let json = Config::live().rtmp("listen", &format!("[\"{}\"]", first.rtmp));
    std::fs::write(&file, json.tables("[log]\nformat = \"json\"").toml()).unwrap();
    let output = remuxd(&["--config", file.to_str().unwrap()]);
    let printed = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success());
    let lines = printed.lines().map(serde_json::from_str::<serde_json::Value>);
    let lines: Vec<_> =
        lines.map(|line| line.unwrap_or_else(|error| panic!("{error} in {printed}"))).collect();
    let last = lines.last().unwrap()["fields"]["message"].as_str().unwrap();
    assert!(last.contains(&format!("cannot listen on {}", first.rtmp)), "{last}");
}
