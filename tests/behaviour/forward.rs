//! Forwards: streams of a host that are sent to other servers.

use std::net::SocketAddr;
use std::time::Duration;

use remuxd_tests::capture::{Capture, End};
use remuxd_tests::compare::{Coverage, check_order, compare};
use remuxd_tests::hooks::{HookServer, Reply};
use remuxd_tests::host::{Config, Host};
use remuxd_tests::proxy::free_address;
use remuxd_tests::publisher::{Numbered, Publisher};
use remuxd_tests::secrets::TOKEN;
use remuxd_tests::wait::{SOON, wait_for, wait_until};
use rustix::process::Signal;
use serde_json::{Value, json};

/// Returns the `forward` table of the default vhost with this list of destinations.
fn forward(destinations: &[String]) -> String {
    format!("[vhost.\"__defaultVhost__\"]\nforward = {}", json!(destinations))
}

/// Returns a config that listens for RTMP at `address`.
fn at(address: SocketAddr) -> Config {
    Config::live().rtmp("listen", &json!([address.to_string()]).to_string())
}

/// Returns the host's pushes, as the API has them.
fn pushes(host: &Host) -> Vec<Value> {
    host.api_json("/api/v2/pushes")["pushes"].as_array().unwrap().clone()
}

/// Waits for a push with this fact.
fn wait_push(host: &Host, what: &str, fact: impl Fn(&Value) -> bool) -> Value {
    wait_for(SOON, what, || pushes(host).into_iter().find(|push| fact(push)))
}

#[test]
fn a_stream_arrives_whole_at_every_destination() {
    let destinations = [Host::start(&Config::live()), Host::start(&Config::live())];
    let urls = [
        destinations[0].rtmp.to_string(),
        // The query is for the destination alone; no log and no page shows it.
        format!("rtmp://{}/[app]/[stream]-copy?token={TOKEN}", destinations[1].rtmp),
    ];
    let host = Host::start(&Config::live().tables(&forward(&urls)));
    let viewers =
        [Capture::http(&destinations[0], "live/film"), Capture::rtmp(&destinations[1], "live/film-copy")];
    destinations.iter().for_each(|destination| destination.wait_waiting(1));
    let mut publisher = Publisher::open(host.rtmp, &host.key("film"));
    let mut media = Numbered::new(2000);
    let published = [media.headers(), media.frames(200)].concat();
    publisher.send(&published);
    let push = wait_push(&host, "all is sent", |push| push["bytes"].as_u64() > Some(200 * 2000));
    assert_eq!((&push["kind"], &push["state"]), (&json!("forward"), &json!("sending")), "{push}");
    assert_eq!(pushes(&host).len(), 2);
    drop(publisher);
    for viewer in viewers {
        let seen = viewer.finish(SOON);
        assert_eq!(seen.end, End::Clean);
        check_order(&seen.tags).unwrap();
        assert_eq!(compare(&published, &seen.tags, Coverage::Whole), Ok(600));
    }
    wait_until(SOON, "the pushes end", || pushes(&host).is_empty());
    assert!(host.metric("remuxd_push_bytes_total") > 2 * 200 * 2000);
    // Each destination was told the end before its connection closed.
    host.wait_log(&["forward ended", "live/film", "Whole"]);
}

#[test]
fn a_forward_continues_at_a_destination_that_was_restarted() {
    let address = free_address();
    let mut destination = Host::start(&at(address));
    let host = Host::start(&Config::live().tables(&forward(&[address.to_string()])));
    let key = host.key("film");
    let before = Capture::http(&destination, &key);
    destination.wait_waiting(1);
    let publisher = Publisher::open(host.rtmp, &key).pace(Numbered::new(2000));
    before.wait_access_units(60, SOON);
    destination.kill();
    let push = wait_push(&host, "the forward fails", |push| push["failures"].as_u64() >= Some(1));
    assert!(push["last_error"].is_string(), "{push}");
    let destination = Host::start(&at(address));
    let after = Capture::http(&destination, &key);
    after.wait_access_units(60, SOON);
    let sent = publisher.stop();
    let seen = after.finish(SOON);
    assert_eq!(seen.end, End::Clean);
    check_order(&seen.tags).unwrap();
    let numbers = Numbered::numbers(&seen.tags);
    assert!(numbers[0].is_multiple_of(Numbered::GOP), "starts at {}", numbers[0]);
    assert_eq!(numbers, (numbers[0]..sent).collect::<Vec<_>>(), "a gap");
}

#[test]
fn a_publisher_that_returns_continues_on_the_same_forward() {
    let destination = Host::start(&Config::live());
    let config =
        Config::live().publish("republish_wait", "\"1m\"").tables(&forward(&[destination.rtmp.to_string()]));
    let host = Host::start(&config);
    let viewer = Capture::rtmp(&destination, "live/film");
    destination.wait_waiting(1);
    for round in 1..=3 {
        let mut publisher = Publisher::reopen(host.rtmp, "live/film");
        // Each begins at 0 again.
        let mut media = Numbered::new(2000);
        publisher.send(&media.headers());
        publisher.send(&media.frames(50));
        viewer.wait_until(SOON, "all pictures", |tags| Numbered::numbers(tags).len() == 50 * round);
    }
    check_order(&viewer.tags()).unwrap();
    let numbers = Numbered::numbers(&viewer.tags());
    assert_eq!(numbers, (0..3).flat_map(|_| 0..50).collect::<Vec<_>>());
    let push = &pushes(&host)[0];
    assert_eq!((&push["state"], &push["failures"]), (&json!("sending"), &json!(0)), "{push}");
}

#[test]
fn nodes_with_one_secret_need_no_other_credentials() {
    let hooks = HookServer::answering(|_| Reply::Answer(200, "1".to_owned()));
    let cluster = |secret: &str| format!("[cluster]\nsecret = \"{}\"\n", secret.repeat(6));
    let refuses =
        format!("[vhost.\"__defaultVhost__\".http_hooks]\nenabled = true\n{}", hooks.keys(&["on_publish"]));
    let destination = Host::start(&Config::live().tables(&(cluster("5ecret") + &refuses)));
    let to_it = forward(&[destination.rtmp.to_string()]);
    let stranger = Host::start(&Config::live().tables(&(cluster("other-5ecret") + &to_it)));
    let _other = Publisher::open(stranger.rtmp, "live/film").pace(Numbered::new(2000));
    let push = wait_push(&stranger, "the forward fails", |push| push["failures"].as_u64() >= Some(1));
    assert_eq!(push["last_error"], "refused: NetStream.Publish.Denied", "{push}");
    let node = Host::start(&Config::live().tables(&(cluster("5ecret") + &to_it)));
    let viewer = Capture::http(&destination, "live/film");
    destination.wait_waiting(1);
    let _publisher = Publisher::open(node.rtmp, "live/film").pace(Numbered::new(2000));
    viewer.wait_access_units(30, SOON);
    assert!(hooks.of("on_publish").is_empty(), "hooks are not asked about nodes");
}

#[test]
fn a_destination_that_reads_nothing_costs_bounded_memory_and_loses_whole_gops() {
    let destination = Host::start(&Config::live());
    let config = Config::live()
        .play("queue_length", "\"2s\"")
        .limits("send_timeout", "\"2m\"")
        .tables(&forward(&[destination.rtmp.to_string()]));
    let host = Host::start(&config);
    let key = host.key("film");
    let viewer = Capture::rtmp(&destination, &key);
    destination.wait_waiting(1);
    let mut publisher = Publisher::open(host.rtmp, &key);
    let mut media = Numbered::new(100_000);
    publisher.send(&media.headers());
    publisher.send(&media.frames(30));
    viewer.wait_access_units(60, SOON);
    let keeps_up = Capture::http(&host, &key);
    keeps_up.wait_access_units(3, SOON);
    let before = host.resident();
    destination.signal(Signal::STOP);
    // 60 MB, 24 seconds of media: more than the buffers of the kernel and the ring hold.
    for _ in 0..24 {
        publisher.send(&media.frames(25));
        let last = media.number() - 1;
        keeps_up.wait_until(SOON, "the last frame", |tags| Numbered::numbers(tags).last() == Some(&last));
    }
    let grown = host.resident().saturating_sub(before);
    destination.signal(Signal::CONT);
    let last = media.number() - 1;
    viewer.wait_until(SOON, "the last frame", |tags| Numbered::numbers(tags).last() == Some(&last));
    let numbers = Numbered::numbers(&viewer.tags());
    let jumps: Vec<_> = numbers.windows(2).filter(|pair| pair[0] + 1 != pair[1]).collect();
    assert!(!jumps.is_empty(), "nothing was lost of {} frames", numbers.len());
    assert!(jumps.iter().all(|pair| pair[1].is_multiple_of(Numbered::GOP)), "{jumps:?}");
    let is_lost = |gop: &u32| numbers.iter().all(|number| number / Numbered::GOP != *gop);
    let lost = (0..=last / Numbered::GOP).filter(is_lost).count() as u64;
    assert_eq!(host.metric("remuxd_push_dropped_gops_total"), lost, "{jumps:?}");
    assert!(grown < 40 << 20, "{grown} bytes more");
}

#[test]
fn a_destination_that_takes_nothing_is_left_after_send_timeout() {
    let destination = Host::start(&Config::live());
    let config =
        Config::live().limits("send_timeout", "\"1s\"").tables(&forward(&[destination.rtmp.to_string()]));
    let host = Host::start(&config);
    let mut publisher = Publisher::open(host.rtmp, &host.key("film"));
    let mut media = Numbered::new(100_000);
    publisher.send(&media.headers());
    publisher.send(&media.frames(2));
    wait_push(&host, "it is sent", |push| push["state"] == "sending");
    destination.signal(Signal::STOP);
    let push = wait_for(SOON, "the push fails", || {
        publisher.send(&media.frames(5));
        pushes(&host).into_iter().find(|push| push["failures"].as_u64() >= Some(1))
    });
    destination.signal(Signal::CONT);
    assert_eq!(push["last_error"], "stalled for 1s", "{push}");
    publisher.send(&media.frames(25));
    wait_push(&host, "it is sent again", |push| push["state"] == "sending");
}

#[test]
fn a_forward_to_oneself_is_refused_as_a_loop() {
    let address = free_address();
    let host = Host::start(&at(address).tables(&forward(&[format!("rtmp://{address}/live/[stream]2")])));
    let viewer = Capture::http(&host, "live/film");
    host.wait_waiting(1);
    let publisher = Publisher::open(host.rtmp, "live/film").pace(Numbered::new(2000));
    let push = wait_push(&host, "the forward fails", |push| push["failures"].as_u64() >= Some(1));
    assert_eq!(push["last_error"], "a loop: the stream comes from there", "{push}");
    viewer.wait_access_units(60, SOON);
    publisher.stop();
    let streams = host.api_json("/api/v2/streams")["total"].as_u64();
    assert!(streams <= Some(1), "the forward makes no stream");
}

#[test]
fn a_backend_names_the_destinations_of_a_stream() {
    let destination = Host::start(&Config::live());
    let url = format!("rtmp://{}/live/elsewhere?token={TOKEN}", destination.rtmp);
    let answer = json!({ "code": 0, "data": { "urls": [url] } }).to_string();
    let mut answers = vec![Reply::Answer(503, String::new()), Reply::Answer(200, answer)].into_iter();
    let hooks = HookServer::answering(move |call| match call.json["stream"].as_str() {
        Some("film") => answers.next().unwrap(),
        _ => Reply::Answer(200, "1".to_owned()),
    });
    let table = format!(
        "[cluster]\nallow = [\"127.0.0.0/8\"]\n\
         [vhost.\"__defaultVhost__\".forward]\nenabled = true\nbackend = \"{}\"\n\
         [vhost.\"__defaultVhost__\".http_hooks]\nsecret = \"{}\"",
        hooks.url("/forward"),
        "5ecret".repeat(6),
    );
    let host = Host::start(&Config::live().tables(&table));
    let viewer = Capture::http(&destination, "live/elsewhere");
    destination.wait_waiting(1);
    let publisher = Publisher::open(host.rtmp, "live/film").pace(Numbered::new(2000));
    // The first answer is that of a server at fault.
    let calls = hooks.wait("on_forward", 2);
    for call in &calls {
        let names = ["vhost", "app", "stream", "ip", "stream_url"].map(|field| call.text(field));
        assert_eq!(names, ["__defaultVhost__", "live", "film", "127.0.0.1", "/live/film"]);
        assert!(!call.text("client_id").is_empty() && call.header("remuxd-signature").starts_with("v1="));
    }
    viewer.wait_access_units(60, SOON);
    // A backend that refuses a stream is not asked again.
    let other = Publisher::open(host.rtmp, "live/other").pace(Numbered::new(2000));
    host.wait_log(&["not forwarded", "live/other", "code 1"]);
    assert_eq!(pushes(&host).len(), 1);
    other.stop();
    publisher.stop();
    assert_eq!(viewer.finish(SOON).end, End::Clean);
}

#[test]
fn a_backend_leads_nowhere_that_the_config_does_not_allow() {
    let destination = Host::start(&Config::live());
    let url = format!("rtmp://{}/live/film", destination.rtmp);
    let answer = json!({ "code": 0, "data": { "urls": [url] } }).to_string();
    let hooks = HookServer::answering(move |_| Reply::Answer(200, answer.clone()));
    let table = format!(
        "[cluster]\nallow = [\"10.0.0.0/8\"]\n\
         [vhost.\"__defaultVhost__\".forward]\nenabled = true\nbackend = \"{}\"",
        hooks.url("/forward"),
    );
    let host = Host::start(&Config::live().tables(&table));
    let _publisher = Publisher::open(host.rtmp, "live/film");
    let push = wait_push(&host, "the forward fails", |push| push["failures"].as_u64() >= Some(1));
    assert_eq!(push["last_error"], "127.0.0.1 is not in cluster.allow", "{push}");
}

#[test]
fn a_reload_starts_and_ends_forwards_of_live_streams() {
    let destinations = [Host::start(&Config::live()), Host::start(&Config::live())];
    let addresses = destinations.each_ref().map(|destination| destination.rtmp.to_string());
    let config = |destinations: &[String]| Config::live().tables(&forward(destinations)).toml();
    let host = Host::start(&Config::live());
    let publisher = Publisher::open(host.rtmp, "live/film").pace(Numbered::new(2000));
    let viewers = destinations.each_ref().map(|destination| Capture::http(destination, "live/film"));
    destinations.iter().for_each(|destination| destination.wait_waiting(1));
    host.write_config(&config(&addresses[..1]));
    host.reload();
    viewers[0].wait_access_units(30, SOON);
    host.write_config(&config(&addresses[1..]));
    host.reload();
    viewers[1].wait_access_units(30, SOON);
    let [first, second] = viewers;
    assert_eq!(first.finish(SOON).end, End::Clean, "the first destination was told the end");
    let push = wait_push(&host, "one is left", |_| pushes(&host).len() == 1);
    assert!(push["destination"].as_str().unwrap().contains(&addresses[1]), "{push}");
    publisher.stop();
    let seen = second.finish(SOON + Duration::from_secs(1));
    check_order(&seen.tags).unwrap();
    assert_eq!(seen.end, End::Clean);
}
