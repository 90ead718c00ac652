//! Who may publish and play, over every protocol.

use remuxd_tests::asking::{ALL, Ask, show_refusals};
use remuxd_tests::capture::Capture;
use remuxd_tests::host::{Config, Host};
use remuxd_tests::http::Request;
use remuxd_tests::publisher::{Numbered, Publisher};
use remuxd_tests::tls::{Certificate, Files};
use remuxd_tests::wait::SOON;

const VHOST: &str = "vhost.\"__defaultVhost__\"";

/// Starts a host with TLS and these tables of its vhost. No viewer waits for a stream: who is admitted gets an answer at once.
fn start(tables: &str) -> (Host, Files) {
    let files = Files::of(&Certificate::of(&["127.0.0.1"]));
    let tables = tables.replace("[.", &format!("[{VHOST}."));
    let config = Config::live().play("wait", "\"0s\"").tables(&files.listeners()).tables(&tables);
    (Host::start(&config), files)
}

/// The status of a client that is admitted to a stream without publisher, and of one that is not.
fn statuses(ask: Ask) -> [&'static str; 2] {
    match ask {
        Ask::RtmpPublish | Ask::RtmpsPublish => ["NetStream.Publish.Start", "NetStream.Publish.Denied"],
        Ask::RtmpPlay | Ask::RtmpsPlay => ["NetStream.Play.StreamNotFound", "NetStream.Play.Failed"],
        _ => ["404", "403"],
    }
}

#[track_caller]
fn check(host: &Host, ask: Ask, (query, page): (&str, &str), admitted: bool) {
    let [yes, no] = statuses(ask);
    let key = host.key(&format!("{ask:?}"));
    let expected = if admitted { yes } else { no };
    assert_eq!(ask.status(host, &key, query, page), expected, "{ask:?} ?{query} from `{page}`");
}

#[test]
fn addresses_are_allowed_and_denied_over_every_protocol() {
    let rows = [
        ("publish.deny = [\"127.0.0.0/8\"]", false, true),
        ("play.deny = [\"all\"]", true, false),
        ("publish.allow = [\"127.0.0.1\"]", true, false),
        ("play.allow = [\"10.0.0.0/8\", \"127.0.0.0/8\"]\nplay.deny = [\"127.0.0.2\"]", false, true),
        ("", false, false),
    ];
    for (rules, publish, play) in rows {
        let (host, _files) = start(&format!("[.security]\nenabled = true\n{rules}"));
        for ask in ALL {
            check(&host, ask, ("", ""), if ask.publishes() { publish } else { play });
        }
    }
}

#[test]
fn pages_of_other_sites_are_refused_over_every_protocol() {
    let (host, _files) = start("[.refer]\nenabled = true\nall = [\"example.com\"]");
    for (page, admitted) in
        [("https://www.example.com/player?stream=1", true), ("https://evilexample.com/", false), ("", false)]
    {
        ALL.into_iter().for_each(|ask| check(&host, ask, ("", page), admitted));
    }
}

#[test]
fn addresses_are_those_that_trusted_proxies_report() {
    let (host, _files) = start(
        "[proxy]\ntrusted = [\"127.0.0.1\"]\n[.security]\nenabled = true\nplay.allow = [\"192.0.2.7\"]",
    );
    for (client, status) in [("192.0.2.7", 404), ("192.0.2.8", 403), ("192.0.2.7, 192.0.2.8", 403)] {
        let request = Request::get("/live/x.flv").header("X-Forwarded-For", client);
        assert_eq!(request.send(host.http).unwrap().status, status, "{client}");
    }
    host.wait_log(&["access refused", "client=192.0.2.8", "stream=live/x", "does not allow the address"]);
}

#[test]
fn a_viewer_keeps_its_admission_over_a_reload() {
    let rules = format!("[{VHOST}.security]\nenabled = true\n");
    let host = Host::start(
        &Config::live().tables(&format!("{rules}play.allow = [\"all\"]\npublish.allow = [\"all\"]")),
    );
    let key = host.key("film");
    let mut publisher = Publisher::open(host.rtmp, &key);
    let mut media = Numbered::new(500);
    publisher.send(&media.headers());
    publisher.send(&media.frames(2));
    let viewers = [Capture::http(&host, &key), Capture::websocket(&host, &key), Capture::rtmp(&host, &key)];
    viewers.iter().for_each(|viewer| viewer.wait_started(SOON));
    host.write_config(&Config::live().tables(&rules).toml());
    host.reload();
    assert_eq!(Request::get(&host.path(&key)).send(host.http).unwrap().status, 403);
    publisher.send(&media.frames(3));
    for viewer in viewers {
        viewer.wait_until(SOON, "frame 4", |tags| Numbered::numbers(tags).last() == Some(&4));
    }
}

#[test]
fn encoders_and_players_show_that_they_are_refused() {
    let (host, _files) = start("[.security]\nenabled = true");
    let url = host.rtmp_url(&host.key("film"));
    show_refusals(
        (&url, "This client may not publish the stream."),
        (&url, "This client may not play the stream."),
    );
}

#[test]
fn a_publisher_that_does_not_wait_for_the_answer_loses_nothing() {
    let host = Host::start(&Config::live());
    let key = host.key("film");
    let mut publisher = Publisher::open_without_waiting(host.rtmp, &key);
    let mut media = Numbered::new(500);
    publisher.send(&media.headers());
    publisher.send(&media.frames(3));
    let viewer = Capture::http(&host, &key);
    viewer.wait_until(SOON, "all frames", |tags| Numbered::numbers(tags) == [0, 1, 2]);
}
