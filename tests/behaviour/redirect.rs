//! Redirect rules: their answers, and requests that must not influence them.

use std::process::Command;
use std::time::{Duration, Instant};

use remuxd_tests::capture::Capture;
use remuxd_tests::clip::Clip;
use remuxd_tests::encoder::publish_looped;
use remuxd_tests::host::{Config, Host};
use remuxd_tests::http::Request;
use remuxd_tests::tool::{Ffmpeg, run};
use remuxd_tests::wait::SOON;
use remuxd_tests::websocket;

/// Starts a host that redirects the requests of one vhost to `edge`. Without the rule a viewer would wait for a minute.
fn director(edge: &str) -> Host {
    let rules = format!(
        "[[vhost.\"a.example\".redirect]]\nenabled = true\nto = \"http://{edge}/[app]/[stream].flv\"\n\
         [[vhost.\"a.example\".redirect]]\nenabled = true\npath = \"/tv/[app]/[stream].ts\"\n\
         to = \"//{edge}/[vhost]/[stream]?from=[app]&[query]\"\nstatus = 307\n\
         [[vhost.\"a.example\".redirect]]\nenabled = true\npath = \"/moved/[app]/[stream].flv\"\n\
         to = \"https://{edge}/?x=1\"\nstatus = 301\n"
    );
    Host::start(&Config::live().play("wait", "\"60s\"").tables(&rules))
}

#[test]
fn rules_answer_before_any_stream_is_looked_for() {
    let host = director("edge.example:8080");
    let rows = [
        ("a.example", "/live/x.flv", 302, "http://edge.example:8080/live/x.flv"),
        (
            "A.EXAMPLE:80",
            "/live/x.flv?token=1&b=%20",
            302,
            "http://edge.example:8080/live/x.flv?token=1&b=%20",
        ),
        ("other", "/live/x.flv?vhost=a.example", 302, "http://edge.example:8080/live/x.flv?vhost=a.example"),
        ("other", "/tv/live/x.ts?k=v", 307, "//edge.example:8080/a.example/x?from=live&k=v"),
        ("other", "/moved/live/x.flv?k=v", 301, "https://edge.example:8080/?x=1&k=v"),
    ];
    for (name, path, status, location) in rows {
        for method in ["GET", "HEAD"] {
            let asked = Instant::now();
            let request =
                Request::new(method, path).header("Host", name).header("Origin", "http://p.example");
            let response = request.send(host.http).unwrap();
            assert_eq!(
                (response.status, response.header("location")),
                (status, Some(location)),
                "{method} {path}"
            );
            let origin = response.header("access-control-allow-origin");
            assert_eq!(origin, Some("*"), "a page of another site may follow");
            assert!(asked.elapsed() < Duration::from_secs(10), "it waited for the stream");
        }
    }
    let permanent = Request::get("/moved/live/x.flv").send(host.http).unwrap();
    assert_eq!(permanent.header("cache-control"), Some("no-cache"));
    let method = Request::new("POST", "/live/x.flv").header("Host", "a.example").send(host.http).unwrap();
    assert_eq!(method.status, 405);
}

#[test]
fn a_websocket_is_redirected_before_it_opens() {
    let host = director("edge.example");
    match websocket::open(host.http, "/live/x.flv?vhost=a.example", &[]) {
        Err(tungstenite::Error::Http(response)) => {
            assert_eq!(response.status(), 302);
            assert_eq!(response.headers()["location"], "http://edge.example/live/x.flv?vhost=a.example");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn no_request_adds_a_header_or_chooses_the_host() {
    let host = director("edge.example");
    let rows = [
        ("/live/x%0d%0aSet-Cookie:%20a.flv", None),
        ("/evil.example/x.flv", Some("http://edge.example/evil.example/x.flv")),
        ("/@evil.example/x.flv", Some("http://edge.example/%40evil.example/x.flv")),
        ("/a%3fb/x%23y.flv", Some("http://edge.example/a%3Fb/x%23y.flv")),
        ("/live/x.flv?%0d%0aSet-Cookie:a", Some("http://edge.example/live/x.flv?%0d%0aSet-Cookie:a")),
        ("/live/%2e%2e/x.flv", None),
        ("//evil.example/x.flv", None),
    ];
    for (path, location) in rows {
        let response = Request::get(path).header("Host", "a.example").send(host.http).unwrap();
        assert_eq!(response.header("location"), location, "{path}");
        assert_eq!(response.header("set-cookie"), None, "{path}");
        assert_eq!(response.status == 302, location.is_some(), "{path}: {}", response.status);
    }
}

#[test]
fn players_follow_to_the_host_that_has_the_stream() {
    let edge = Host::start(&Config::live());
    let director = director(&edge.http.to_string());
    let key = edge.key("film");
    let _publishing = publish_looped(Clip::H264Aac, &edge.rtmp_url(&key));
    Capture::http(&edge, &key).wait_access_units(1, SOON);
    let url = format!("{}?vhost=a.example", director.http_url(&key));
    let mut command = Ffmpeg::Five.command();
    command.args(["-xerror", "-i", &url, "-map", "0:v", "-map", "0:a", "-t", "2", "-f", "null", "-"]);
    let output = run(&mut command).unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--location", "--max-time", "2", "--output", "/dev/null"]);
    let printed =
        curl.args(["--write-out", "%{num_redirects} %{http_code} %{content_type}", &url]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&printed.stdout), "1 200 video/x-flv");
    assert_eq!(director.count("mounts", None), 0);
}
