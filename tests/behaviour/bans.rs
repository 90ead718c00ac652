//! Kicks and bans: an operator ends sessions and refuses those that would follow.

use remuxd_tests::asking::{ALL, Ask};
use remuxd_tests::capture::{Capture, End};
use remuxd_tests::host::{Config, Host};
use remuxd_tests::http::Request;
use remuxd_tests::publisher::{Numbered, Publisher};
use remuxd_tests::rtmp::Message;
use remuxd_tests::socket::connect_from;
use remuxd_tests::tls::{Certificate, Files};
use remuxd_tests::token::Signer;
use remuxd_tests::wait::{SOON, wait_until};

/// Starts a host with TLS. No viewer waits for a stream.
fn start(tables: &str) -> (Host, Files) {
    let files = Files::of(&Certificate::of(&["127.0.0.1"]));
    let config = Config::live().play("wait", "\"0s\"").tables(&files.listeners()).tables(tables);
    (Host::start(&config), files)
}

/// A publisher that has sent frames, and a viewer over each protocol.
fn scene(host: &Host, key: &str) -> (Publisher, [Capture; 3]) {
    let mut publisher = Publisher::open(host.rtmp, key);
    let mut media = Numbered::new(500);
    publisher.send(&media.headers());
    publisher.send(&media.frames(3));
    let viewers = [Capture::http(host, key), Capture::websocket(host, key), Capture::rtmp(host, key)];
    viewers.iter().for_each(|viewer| viewer.wait_access_units(3, SOON));
    (publisher, viewers)
}

/// Runs a command of `remuxd`; returns its output, and whether it succeeded.
fn run(host: &Host, arguments: &[&str]) -> (bool, String) {
    let output = host.command(arguments);
    let printed = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&printed).into_owned())
}

/// Asserts that a viewer was ended: over WebSocket with a code of its own.
#[track_caller]
fn assert_ended(viewer: Capture) {
    let end = viewer.finish(SOON).end;
    let is_policy = matches!(&end, End::Broken(reason) if reason.contains("Policy"));
    assert!(end == End::Clean || is_policy, "{end:?}");
}

fn refused(ask: Ask) -> &'static str {
    match ask {
        Ask::RtmpPublish | Ask::RtmpsPublish => "NetStream.Publish.Denied",
        Ask::RtmpPlay | Ask::RtmpsPlay => "NetStream.Play.Failed",
        _ => "403",
    }
}

#[test]
fn a_kick_ends_one_session_and_no_other() {
    let (host, _files) = start("");
    let key = host.key("film");
    let (mut publisher, viewers) = scene(&host, &key);
    let id = |action: &str, protocol: &str| {
        let rows = host.sessions();
        rows.iter().find(|row| (row[1].as_str(), row[2].as_str()) == (action, protocol)).unwrap()[0].clone()
    };
    for (viewer, protocol) in viewers.into_iter().zip(["http", "websocket", "rtmp"]) {
        let id = id("play", protocol);
        assert_eq!(run(&host, &["kick", &id]), (true, "session ended\n".to_owned()));
        assert_ended(viewer);
        host.wait_log(&["session ended", &id, "reason=an operator has ended it"]);
        wait_until(SOON, "the session is gone", || host.sessions().iter().all(|row| row[0] != id));
    }
    assert_eq!(host.sessions().len(), 1, "the publisher is there");
    let id = id("publish", "rtmp");
    assert!(run(&host, &["kick", &id]).0);
    assert_eq!(publisher.connection().read_until(Message::status).unwrap(), "NetStream.Publish.Denied");
    wait_until(SOON, "the publisher is gone", || host.sessions().is_empty());
    for id in [id.as_str(), "x", "../bans"] {
        let (success, printed) = run(&host, &["kick", id]);
        assert!(!success && printed.contains("there is no such session"), "{id}: {printed}");
    }
    // A kick is no ban.
    assert_eq!(Ask::RtmpPublish.status(&host, &key, "", ""), "NetStream.Publish.Start");
}

#[test]
fn a_viewer_that_waits_for_its_stream_can_be_kicked() {
    let host = Host::start(&Config::live());
    let key = host.key("film");
    let viewers = [Capture::http(&host, &key), Capture::rtmp(&host, &key)];
    host.wait_waiting(2);
    for row in host.sessions() {
        assert!(run(&host, &["kick", &row[0]]).0);
    }
    let [http, rtmp] = viewers.map(|viewer| viewer.finish(SOON).end);
    assert!(matches!(&http, End::Broken(response) if response.contains("403")), "{http:?}");
    assert!(matches!(&rtmp, End::Broken(status) if status.contains("NetStream.Play.Failed")), "{rtmp:?}");
}

#[test]
fn a_banned_address_is_ended_and_refused_over_every_protocol() {
    let (host, _files) = start("");
    let key = host.key("film");
    let (mut publisher, viewers) = scene(&host, &key);
    let printed = "banned for 600 s; sessions ended: 4\n".to_owned();
    assert_eq!(run(&host, &["ban", "address", "127.0.0.0/31", "--for", "10m"]), (true, printed));
    assert_eq!(publisher.connection().read_until(Message::status).unwrap(), "NetStream.Publish.Denied");
    viewers.into_iter().for_each(assert_ended);
    for ask in ALL {
        assert_eq!(ask.status(&host, &key, "", ""), refused(ask), "{ask:?}");
    }
    host.wait_log(&["access refused", "client=127.0.0.1", "banned: address 127.0.0.0/31"]);
    let response = Request::get(&host.path(&key)).send(host.http).unwrap();
    assert_eq!(response.text().unwrap(), "access denied\n", "the peer is told nothing");
    let other = Request::get(&host.path(&key)).send_over(connect_from([127, 0, 0, 2], host.http)).unwrap();
    assert_eq!(other.status, 404, "another address is admitted");
    assert!(run(&host, &["bans"]).1.contains("127.0.0.0/31"));
    assert_eq!(run(&host, &["unban", "address", "127.0.0.0/31"]), (true, "ban lifted\n".to_owned()));
    assert_eq!(Ask::Http.status(&host, &key, "", ""), "404");
    let (success, printed) = run(&host, &["unban", "address", "127.0.0.0/31"]);
    assert!(!success && printed.contains("there is no such ban"), "{printed}");
}

#[test]
fn a_banned_stream_has_neither_publisher_nor_viewers() {
    let (host, _files) = start("");
    let key = host.key("film");
    let (mut publisher, viewers) = scene(&host, &key);
    assert!(run(&host, &["ban", "stream", &key]).1.contains("sessions ended: 4"));
    assert_eq!(publisher.connection().read_until(Message::status).unwrap(), "NetStream.Publish.Denied");
    viewers.into_iter().for_each(assert_ended);
    for ask in ALL {
        assert_eq!(ask.status(&host, &key, "", ""), refused(ask), "{ask:?}");
        let other = ask.status(&host, &host.key(&format!("{ask:?}")), "", "");
        assert_ne!(other, refused(ask), "{ask:?}: another stream");
    }
}

#[test]
fn a_banned_subject_is_refused_whatever_its_address() {
    const SECRET: &str = "token-5ecret-5ecret-5ecret-5ecret";
    let signer = Signer::hs256(SECRET);
    let vhost = "[vhost.\"__defaultVhost__\".jwt]\nenabled = true\n[[vhost.\"__defaultVhost__\".jwt.key]]\n";
    let (host, _files) = start(&format!("{vhost}{}", signer.toml("k")));
    let token = |subject: &str| {
        let claims =
            format!("{{\"exp\":9999999999,\"action\":[\"publish\",\"play\"],\"sub\":\"{subject}\"}}");
        format!("token={}", signer.sign("k", &claims))
    };
    let (alice, bob) = (token("alice"), token("bob"));
    let key = host.key("film");
    let mut publisher = Publisher::open(host.rtmp, &format!("{key}?{bob}"));
    let mut media = Numbered::new(500);
    publisher.send(&media.headers());
    publisher.send(&media.frames(3));
    let watch = |query: &str| Capture::request(&host, Request::get(&format!("{}?{query}", host.path(&key))));
    let (banned, other) = (watch(&alice), watch(&bob));
    [&banned, &other].into_iter().for_each(|viewer| viewer.wait_access_units(3, SOON));
    assert!(host.sessions().iter().any(|row| row.last().unwrap() == "alice"), "{:?}", host.sessions());
    assert!(run(&host, &["ban", "subject", "alice"]).1.contains("sessions ended: 1"));
    assert_ended(banned);
    for ask in ALL {
        assert_eq!(ask.status(&host, &key, &alice, ""), refused(ask), "{ask:?}");
    }
    host.wait_log(&["access refused", "banned: subject alice"]);
    publisher.send(&media.frames(1));
    other.wait_until(SOON, "frame 3", |tags| Numbered::numbers(tags).last() == Some(&3));
}

#[test]
fn a_ban_ends_by_itself() {
    let (host, _files) = start("");
    assert!(run(&host, &["ban", "address", "127.0.0.1", "--for", "2s"]).0);
    assert_eq!(Ask::Http.status(&host, "live/film", "", ""), "403");
    wait_until(SOON, "the ban ends", || Ask::Http.status(&host, "live/film", "", "") == "404");
    assert_eq!(run(&host, &["bans"]).1.lines().count(), 1);
}

#[test]
fn what_cannot_be_banned_is_an_error() {
    let (host, _files) = start("[proxy]\ntrusted = [\"10.0.0.0/8\"]");
    for (kind, value, time, error) in [
        ("address", "10.1.2.3", "1h", "10.0.0.0/8 of proxy.trusted has proxies, which cannot be banned"),
        ("address", "0.0.0.0/0", "1h", "which cannot be banned"),
        ("address", "nobody", "1h", "neither an address nor a CIDR block"),
        ("subject", "", "1h", "must have 1 to 256 bytes"),
        ("stream", "live/film", "9600h", "a ban lasts 1 s to 366 days"),
        ("viewer", "x", "1h", "invalid value"),
    ] {
        let (success, printed) = run(&host, &["ban", kind, value, "--for", time]);
        assert!(!success && printed.contains(error), "{kind} {value} {time}: {printed}");
    }
    assert_eq!(run(&host, &["bans"]).1.lines().count(), 1);
    let api = host.api.unwrap();
    for request in [
        Request::new("POST", "/api/v2/bans?kind=stream&value=live/film&seconds=60"),
        Request::new("DELETE", "/api/v2/sessions/1"),
        Request::get("/api/v2/bans"),
    ] {
        assert_eq!(request.send(api).unwrap().status, 403, "over TCP");
    }
}
