//! The API over TCP: who may use it.

use std::net::SocketAddr;
use std::process::Command;

use remuxd_tests::capture::Capture;
use remuxd_tests::host::{API, Config, Host, remuxd};
use remuxd_tests::http::{Request, Response};
use remuxd_tests::publisher::{Numbered, Publisher};
use remuxd_tests::scratch::Scratch;
use remuxd_tests::tls::{Certificate, Files, served_certificate};
use remuxd_tests::wait::{SOON, wait_until};

pub(crate) const READER: &str = "reader:5ecret-of-the-reader";
pub(crate) const OPERATOR: &str = "ops:5ecret-of-the-operator";
pub(crate) const TOKEN: &str = "5ecret-token-of-the-operator";

/// Starts a host whose API has a user who reads and one who operates.
fn start() -> (Host, SocketAddr) {
    start_with("")
}

/// As [`start`], with more keys in `[http_api]`.
pub(crate) fn start_with(keys: &str) -> (Host, SocketAddr) {
    let user = |credentials: &str, more: &str| {
        let (name, password) = credentials.split_once(':').unwrap();
        format!("[[http_api.user]]\nname = \"{name}\"\npassword = \"{password}\"\n{more}\n")
    };
    let operator = format!("token = \"{TOKEN}\"\nrole = \"operate\"");
    let table =
        format!("{API}hosts = [\"api.example\"]\n{keys}\n{}{}", user(READER, ""), user(OPERATOR, &operator));
    let host = Host::start(&Config::live().tables(&table));
    let api = host.api.unwrap();
    (host, api)
}

pub(crate) fn basic(request: Request, credentials: &str) -> Request {
    request.header("Authorization", &format!("Basic {}", remuxd_tests::token::base64(credentials.as_bytes())))
}

pub(crate) fn send(request: &Request, api: SocketAddr) -> Response {
    request.send(api).expect("the API answers")
}

pub(crate) fn status(request: Request, api: SocketAddr) -> u16 {
    send(&request, api).status
}

#[test]
fn every_page_needs_the_credentials_of_a_user() {
    let (_host, api) = start();
    for path in
        ["/api/v1/modules", "/api/v1/memory", "/api/v2/streams", "/api/v2/sessions", "/metrics", "/nothing"]
    {
        let refused = send(&Request::get(path), api);
        let challenges =
            refused.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("www-authenticate"));
        assert_eq!((refused.status, challenges.count()), (401, 2), "{path}");
        assert_eq!(status(basic(Request::get(path), "reader:wrong"), api), 401, "{path}");
        let found = if path == "/nothing" { 404 } else { 200 };
        assert_eq!(status(basic(Request::get(path), READER), api), found, "{path}");
    }
    assert_eq!(
        status(Request::get("/metrics").header("Authorization", &format!("Bearer {TOKEN}")), api),
        200
    );
    // Not in the URL, where proxies would log it.
    assert_eq!(status(Request::get(&format!("/metrics?token={TOKEN}&access_token={TOKEN}")), api), 401);
    for probe in ["/healthz", "/readyz"] {
        assert_eq!(status(Request::get(probe), api), 200);
    }
}

#[test]
fn only_users_who_operate_change_something() {
    let (host, api) = start();
    let key = host.key("film");
    let mut publisher = Publisher::open(host.rtmp, &key);
    let mut media = Numbered::new(500);
    publisher.send(&media.headers());
    publisher.send(&media.frames(2));
    let viewer = Capture::http(&host, &key);
    viewer.wait_access_units(1, SOON);
    let sessions = send(&basic(Request::get("/api/v2/sessions"), READER), api).text().unwrap();
    let sessions: serde_json::Value = serde_json::from_str(&sessions).unwrap();
    let of_viewer =
        sessions["sessions"].as_array().unwrap().iter().find(|one| one["action"] == "play").unwrap();
    assert_eq!(of_viewer["address"], "127.0.0.1");
    let kick = Request::new("DELETE", &format!("/api/v2/sessions/{}", of_viewer["id"].as_str().unwrap()));
    let ban = Request::new("POST", "/api/v2/bans?kind=stream&value=live/other&seconds=60");
    let reload = Request::new("POST", "/api/v1/reload");
    for request in [&kick, &ban, &reload] {
        assert_eq!(status(request.clone(), api), 401);
        assert_eq!(status(basic(request.clone(), READER), api), 403);
    }
    assert_eq!(viewer.end(), None);
    // A page of another site may use the browser's credentials.
    for origin in ["https://evil.example", "null", "http://127.0.0.1"] {
        assert_eq!(status(basic(kick.clone(), OPERATOR).header("Origin", origin), api), 403, "{origin}");
    }
    assert_eq!(viewer.end(), None);
    for request in [&kick, &ban, &reload] {
        let own = format!("http://{api}");
        assert_eq!(status(basic(request.clone(), OPERATOR).header("Origin", &own), api), 200);
    }
    let _ = viewer.finish(SOON);
    // No reload by GET, nor by a method in the query or a header.
    let override_ = basic(Request::get("/api/v1/reload?_method=POST&method=POST"), OPERATOR);
    let report = send(&override_.header("X-HTTP-Method-Override", "POST"), api).text().unwrap();
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["outcome"], "unchanged", "the report of the reload before");
    host.wait_nth_log("nothing to reload", 1);
}

#[test]
fn other_names_and_other_origins_read_nothing() {
    let (_host, api) = start();
    for (name, expected) in
        [("api.example", 200), ("localhost", 200), ("evil.example", 421), ("127.0.0.1.evil.example", 421)]
    {
        let request = basic(Request::get("/metrics"), READER).header("Host", name);
        assert_eq!(status(request, api), expected, "{name}");
    }
    let request = basic(Request::get("/metrics"), READER).header("Origin", "https://evil.example");
    let shared =
        send(&request, api).headers.into_iter().find(|(name, _)| name.to_lowercase().starts_with("access-"));
    assert_eq!(shared, None, "no other page may read it");
}

#[test]
fn guesses_are_refused_for_a_while() {
    let (host, api) = start();
    for number in 0..10 {
        assert_eq!(status(basic(Request::get("/metrics"), &format!("ops:{number}")), api), 401);
    }
    let refused = send(&basic(Request::get("/metrics"), OPERATOR), api);
    let seconds: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!(refused.status == 429 && (1..=60).contains(&seconds), "{} {seconds}", refused.status);
    host.wait_log(&["API request refused", "client=127.0.0.1", "too many wrong credentials"]);
    // Whoever has the machine has its control socket.
    assert!(host.command(&["status"]).status.success());
}

#[test]
fn an_open_api_is_for_the_machine_alone() {
    let host = Host::start(&Config::live());
    let api = host.api.unwrap();
    assert_eq!(status(Request::get("/metrics"), api), 200);
    assert_eq!(status(Request::get("/api/v2/sessions"), api), 403);
    assert_eq!(status(Request::new("POST", "/api/v1/reload"), api), 403);
    assert_eq!(status(Request::get("/metrics").header("Host", "evil.example"), api), 421);
    let scratch = Scratch::new();
    let file = scratch.join("remuxd.toml");
    for (listen, user, well) in [
        ("0.0.0.0:0", "", false),
        ("[::]:0", "", false),
        ("127.0.0.1:0", "", true),
        ("[::1]:0", "", true),
        ("127.0.0.1:0", "[http_api.https]\nenabled = true\nlisten = \"0.0.0.0:0\"", false),
        ("0.0.0.0:0", "[[http_api.user]]\nname = \"a\"\ntoken = \"5ecret-5ecret-5ecret\"", true),
    ] {
        let toml = format!("[http_api]\nenabled = true\nlisten = \"{listen}\"\n{user}\n");
        std::fs::write(&file, toml).unwrap();
        let output = remuxd(&["check", "--config", file.to_str().unwrap()]);
        let printed = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.success(), well, "{listen} {user}: {printed}");
        assert_eq!(printed.contains("everybody could read the API"), !well, "{listen}: {printed}");
    }
}

#[test]
fn curl_logs_in() {
    let (_host, api) = start();
    let curl = |arguments: &[&str]| {
        let mut command = Command::new("curl");
        command.args(["--silent", "--output", "/dev/null", "--write-out", "%{http_code}"]).args(arguments);
        String::from_utf8(command.arg(format!("http://{api}/api/v1/modules")).output().unwrap().stdout)
            .unwrap()
    };
    assert_eq!(curl(&[]), "401");
    assert_eq!(curl(&["--user", READER]), "200");
    assert_eq!(curl(&["--user", "reader:wrong-5ecret"]), "401");
    assert_eq!(curl(&["--header", &format!("Authorization: Bearer {TOKEN}")]), "200");
}

#[test]
fn lists_come_in_parts() {
    let (host, api) = start();
    let read = |path: &str| -> serde_json::Value {
        serde_json::from_str(&send(&basic(Request::get(path), READER), api).text().unwrap()).unwrap()
    };
    let _publishers: Vec<_> =
        (0..5).map(|number| Publisher::open(host.rtmp, &host.key(&format!("s{number}")))).collect();
    wait_until(SOON, "all are published", || read("/api/v2/streams")["total"] == 5);
    let names = |page: &serde_json::Value, list: &str, name: &str| -> Vec<String> {
        let entries = page[list].as_array().unwrap().iter();
        entries.map(|one| one[name].as_str().unwrap().to_owned()).collect()
    };
    for (list, name, path) in [("streams", "name", "/api/v2/streams"), ("sessions", "id", "/api/v2/sessions")]
    {
        let all = names(&read(path), list, name);
        assert!(all.len() == 5 && all.is_sorted(), "{all:?}");
        let mut parts = Vec::new();
        for start in (0..6).step_by(2) {
            let part = read(&format!("{path}?start={start}&count=2"));
            assert_eq!((&part["total"], &part["start"]), (&5.into(), &start.into()));
            parts.extend(names(&part, list, name));
        }
        assert_eq!(parts, all);
        assert!(names(&read(&format!("{path}?start=99")), list, name).is_empty());
        for query in ["count=0", "count=10001", "start=-1", "count=x"] {
            assert_eq!(status(basic(Request::get(&format!("{path}?{query}")), READER), api), 400, "{query}");
        }
    }
    assert_eq!(read("/api/v2/bans?count=1")["total"], 0);
}

#[test]
fn the_api_speaks_https() {
    let files = Files::of(&Certificate::of(&["127.0.0.1"]));
    let tls = format!("[http_api.https]\nenabled = true\nlisten = \"127.0.0.1:0\"\n{}", files.toml());
    let user = format!("[[http_api.user]]\nname = \"ops\"\ntoken = \"{TOKEN}\"\nrole = \"operate\"");
    let host = Host::start(&Config::live().tables(&format!("{API}{tls}\n{user}")));
    let (plain, api) = (host.api.unwrap(), host.https_api.unwrap());
    let curl = |arguments: &[&str], path: &str| {
        let mut command = Command::new("curl");
        command.args(["--silent", "--include", "--cacert"]).arg(files.cert()).args(arguments);
        String::from_utf8(command.arg(format!("https://{api}{path}")).output().unwrap().stdout).unwrap()
    };
    let token = format!("Authorization: Bearer {TOKEN}");
    assert!(curl(&[], "/metrics").starts_with("HTTP/1.1 401"));
    assert!(curl(&["--http2", "--header", &token], "/metrics").starts_with("HTTP/1.1 200"));
    assert!(curl(&["--max-time", "2", "--header", &token], "/api/v2/events").contains("event: numbers"));
    let login = curl(&["--request", "POST", "--header", &token], "/api/v2/session");
    let cookie = login.lines().find_map(|line| line.strip_prefix("set-cookie: ")).unwrap();
    assert!(cookie.starts_with("__Host-remuxd=") && cookie.trim_end().ends_with("; Secure"), "{cookie}");
    // A login is one on both listeners.
    let cookie = cookie.split(';').next().unwrap();
    assert_eq!(status(Request::get("/metrics").header("Cookie", cookie), plain), 200);
    let own = format!("https://{api}");
    let log_out = ["--request", "DELETE", "--header", &format!("Cookie: {cookie}")];
    assert!(curl(&log_out, "/api/v2/session").starts_with("HTTP/1.1 403"));
    let own = format!("Origin: {own}");
    assert!(
        curl(&[&log_out[..], &["--header", &own]].concat(), "/api/v2/session").starts_with("HTTP/1.1 200")
    );
    assert!(Request::get("/metrics").send(api).is_err(), "without TLS");
    // A renewed certificate is used without a restart.
    let before = served_certificate(api, None).unwrap();
    files.write(&Certificate::of(&["127.0.0.1"]));
    wait_until(SOON, "the new certificate is served", || served_certificate(api, None).unwrap() != before);
    assert!(curl(&["--header", &token], "/metrics").starts_with("HTTP/1.1 200"));
}
