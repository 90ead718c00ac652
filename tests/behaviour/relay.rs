//! Publishing to an edge, which passes the publisher to an origin.

use std::net::SocketAddr;

use remuxd_tests::capture::{Capture, End};
use remuxd_tests::compare::{Coverage, check_order, compare};
use remuxd_tests::hooks::HookServer;
use remuxd_tests::host::{Config, Host};
use remuxd_tests::origin::Origin;
use remuxd_tests::proxy::free_address;
use remuxd_tests::publisher::{Numbered, Publisher};
use remuxd_tests::secrets::TOKEN;
use remuxd_tests::wait::{SOON, wait_for, wait_until};
use serde_json::json;

/// Returns an edge of these origins; `keys` are further keys of its table `cluster`.
fn edge(origins: &[SocketAddr], keys: &str) -> Host {
    let origins: Vec<_> = origins.iter().map(SocketAddr::to_string).collect();
    let table = "[vhost.\"__defaultVhost__\".cluster]\nmode = \"edge\"";
    Host::start(&Config::live().tables(&format!("{table}\norigin = {}\n{keys}", json!(origins))))
}

#[test]
fn a_publisher_of_an_edge_publishes_at_an_origin() {
    let hooks = HookServer::start();
    let table =
        format!("[vhost.\"__defaultVhost__\".http_hooks]\nenabled = true\n{}", hooks.keys(&["on_publish"]));
    let origin = Host::start(&Config::live().tables(&table));
    let edge = edge(&[free_address(), origin.rtmp], "");
    let viewer = Capture::http(&origin, "live/film");
    origin.wait_waiting(1);
    let mut publisher = Publisher::open(edge.rtmp, "live/film");
    let call = &hooks.wait("on_publish", 1)[0];
    assert!(call.text("param").contains(TOKEN), "the origin sees the publisher's parameters");
    let mut media = Numbered::new(2000);
    let published = [media.headers(), media.frames(100)].concat();
    publisher.send(&published);
    viewer.wait_access_units(300, SOON);
    let page = edge.api_json("/api/v2/pushes");
    let push = &page["pushes"][0];
    assert_eq!((&push["kind"], &push["state"]), (&json!("relay"), &json!("sending")), "{push}");
    assert_eq!(edge.api_json("/api/v2/streams")["total"], 0, "the edge has no stream of its own");
    drop(publisher);
    let seen = viewer.finish(SOON);
    assert_eq!(seen.end, End::Clean);
    assert_eq!(compare(&published, &seen.tags, Coverage::Whole), Ok(300));
    wait_until(SOON, "the push ends", || edge.api_json("/api/v2/pushes")["total"] == 0);
}

#[test]
fn a_publisher_is_told_why_the_origin_refuses() {
    let denies = "[vhost.\"__defaultVhost__\".security]\nenabled = true\n\
                  [vhost.\"__defaultVhost__\".security.publish]\ndeny = [\"all\"]";
    let (origin, strict) = (Host::start(&Config::live()), Host::start(&Config::live().tables(denies)));
    let _first = Publisher::open(origin.rtmp, "live/film");
    for (origin, expected) in
        [(origin.rtmp, "NetStream.Publish.BadName"), (strict.rtmp, "NetStream.Publish.Denied")]
    {
        let edge = edge(&[origin], "");
        let (_, status) = Publisher::try_open(edge.rtmp, "live/film").unwrap();
        assert_eq!(status, expected);
        edge.wait_log(&["publisher refused: the origin refuses", expected]);
    }
    let edge = edge(&[free_address()], "");
    let (_, status) = Publisher::try_open(edge.rtmp, "live/film").unwrap();
    assert_eq!(status, "NetStream.Publish.Denied");
    edge.wait_log(&["publisher refused: no origin accepts the stream", "live/film"]);
}

#[test]
fn an_origin_that_refuses_by_closing_is_not_passed_over_for_another() {
    // So SRS refuses a stream that is being published.
    let first = Origin::after_handshake(drop);
    let second = Host::start(&Config::live());
    let edge = edge(&[first.address, second.rtmp], "");
    let (_, status) = Publisher::try_open(edge.rtmp, "live/film").unwrap();
    assert_eq!(status, "NetStream.Publish.Denied");
    edge.wait_log(&["the origin does not take the stream", "closed the connection instead of an answer"]);
    assert_eq!(second.log().matches("publishing").count(), 0, "the other origin has no such stream");
}

#[test]
fn an_origin_that_accepts_and_closes_again_and_again_is_asked_with_pauses_and_given_up() {
    // So MediaMTX refuses a stream that is being published.
    let origin = Origin::leaving_publishers();
    let edge = edge(&[origin.address], "failover_wait = \"2s\"");
    let mut publisher = Publisher::open(edge.rtmp, "live/film");
    let status = wait_for(SOON, "the publisher is told", || publisher.connection().read().ok()?.status());
    assert_eq!(status, "NetStream.Publish.Denied");
    assert!((2..20).contains(&origin.connections()), "{} attempts", origin.connections());
}

#[test]
fn an_encoder_stays_when_its_origin_dies() {
    let (mut first, second) = (Host::start(&Config::live()), Host::start(&Config::live()));
    let edge = edge(&[first.rtmp, second.rtmp], "");
    let viewers = [&first, &second].map(|origin| Capture::http(origin, "live/film"));
    let publisher = Publisher::open(edge.rtmp, "live/film").pace(Numbered::new(2000));
    viewers[0].wait_access_units(60, SOON);
    first.kill();
    viewers[1].wait_access_units(60, SOON);
    // It has sent all the time, on one connection.
    let sent = publisher.stop();
    let [before, after] = viewers;
    let last = Numbered::numbers(&before.tags()).last().copied().unwrap();
    let seen = after.finish(SOON);
    assert_eq!(seen.end, End::Clean);
    check_order(&seen.tags).unwrap();
    let numbers = Numbered::numbers(&seen.tags);
    assert!(numbers[0].is_multiple_of(Numbered::GOP), "starts at {}", numbers[0]);
    assert!(numbers[0] <= last + Numbered::GOP, "starts at {}, the first origin ended at {last}", numbers[0]);
    assert_eq!(numbers, (numbers[0]..sent).collect::<Vec<_>>(), "a gap");
}

#[test]
fn a_publisher_ends_when_no_origin_takes_it_within_failover_wait() {
    let mut origin = Host::start(&Config::live());
    let edge = edge(&[origin.rtmp], "failover_wait = \"1s\"");
    let mut publisher = Publisher::open(edge.rtmp, "live/film");
    let mut media = Numbered::new(2000);
    publisher.send(&media.headers());
    publisher.send(&media.frames(5));
    origin.kill();
    let status = wait_for(SOON, "the publisher is told", || {
        let message = publisher.connection().read().ok()?;
        message.status()
    });
    assert_eq!(status, "NetStream.Publish.Denied");
    wait_until(SOON, "the session is over", || edge.sessions().is_empty());
}
