//! Server-sent events of the API.

use std::io::{BufRead, BufReader, ErrorKind, Read};
use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, channel};
use std::thread::spawn;
use std::time::{Duration, Instant};

use remuxd_tests::capture::Capture;
use remuxd_tests::clip::Clip;
use remuxd_tests::host::{Config, Host};
use remuxd_tests::http::Request;
use remuxd_tests::publisher::Publisher;
use remuxd_tests::wait::{SOON, poll_for};
use serde_json::Value;

/// A subscriber, which reads on a thread.
struct Events(Receiver<(String, Value)>);

impl Events {
    /// Subscribes, and waits for the first event.
    fn of(api: SocketAddr) -> Events {
        let response = Request::get("/api/v2/events").send(api).unwrap();
        assert_eq!((response.status, response.header("content-type")), (200, Some("text/event-stream")));
        let (sender, receiver) = channel();
        spawn(move || {
            let mut lines = BufReader::new(response.body).lines();
            while let (Some(Ok(event)), Some(Ok(data)), Some(Ok(_))) =
                (lines.next(), lines.next(), lines.next())
            {
                let event = event.strip_prefix("event: ").unwrap().to_owned();
                let data = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
                if sender.send((event, data)).is_err() {
                    return;
                }
            }
        });
        let events = Events(receiver);
        events.wait("hello", |_| true);
        events
    }

    /// Waits for an event, and skips others.
    #[track_caller]
    fn wait(&self, event: &str, is: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + SOON;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let (name, data) =
                self.0.recv_timeout(left).unwrap_or_else(|error| panic!("no {event}: {error}"));
            if name == event && is(&data) {
                return data;
            }
        }
    }
}

#[test]
fn what_goes_on_is_told() {
    let host = Host::start(&Config::live());
    let key = host.key("film");
    let events = Events::of(host.api.unwrap());
    events.wait("numbers", |numbers| numbers["total"] == 0);
    let publisher = Publisher::open(host.rtmp, &key).repeat(Clip::H264Aac);
    events.wait("published", |event| event["stream"] == "live/film");
    events.wait("codecs", |event| event["media"]["video"] == "avc1" && event["media"]["audio"] == "mp4a");
    let viewer = Capture::http(&host, &key);
    viewer.wait_access_units(10, SOON);
    let numbers = events.wait("numbers", |numbers| numbers["streams"][0]["viewers"] == 1);
    assert!(numbers["streams"][0]["kilobits_per_second"].as_f64().unwrap() > 0.0, "{numbers}");
    publisher.stop();
    events.wait("unpublished", |event| event["stream"] == "live/film");
    assert!(host.command(&["reload"]).status.success());
    events.wait("reload", |event| event["number"] == 1 && event["report"]["outcome"] == "unchanged");
    let _ = viewer.finish(SOON);
}

#[test]
fn a_subscription_outlasts_other_requests_and_a_slow_reader_does_not() {
    let host = Host::start(&Config::live());
    let api = host.api.unwrap();
    let began = Instant::now();
    let events = Events::of(api);
    let publishers: Vec<_> = (0..60)
        .map(|number| Publisher::open(host.rtmp, &host.key(&format!("a-long-name-{number:0>150}"))))
        .collect();
    // The other one reads nothing: what it is sent fills the buffers of its connection, which are small, then its queue.
    let slow = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    slow.set_recv_buffer_size(4096).unwrap();
    slow.set_tcp_mss(536).unwrap();
    slow.connect(&api.into()).unwrap();
    let slow = Request::get("/api/v2/events").send_over(slow.into()).unwrap();
    host.wait_log(&["a subscriber of events is dropped"]);
    drop(slow);
    while began.elapsed() < Duration::from_secs(17) {
        events.wait("numbers", |numbers| numbers["total"] == publishers.len());
    }
}

#[test]
fn subscriptions_are_few_and_keep_nobody_out() {
    let host = Host::start(&Config::live());
    let api = host.api.unwrap();
    let mut subscribed: Vec<_> = (0..16).map(|_| Events::of(api)).collect();
    let refused = Request::get("/api/v2/events").send(api).unwrap();
    assert_eq!(refused.status, 503);
    assert_eq!(Request::get("/api/v2/streams").send(api).unwrap().status, 200);
    assert_eq!(Request::new("HEAD", "/api/v2/events").send(api).unwrap().status, 200);
    assert_eq!(Request::new("POST", "/api/v2/events").send(api).unwrap().status, 405);
    // One that has left makes room.
    subscribed.pop();
    let again =
        poll_for(SOON, || (Request::get("/api/v2/events").send(api).unwrap().status == 200).then_some(()));
    assert!(again.is_some());
}

#[test]
fn a_host_that_stops_ends_subscriptions() {
    let mut host = Host::start(&Config::live());
    let mut response = Request::get("/api/v2/events").send(host.api.unwrap()).unwrap();
    let _ = host.terminate();
    let mut text = String::new();
    match response.body.read_to_string(&mut text) {
        Ok(_) => assert!(text.contains("event: end\ndata: {\"reason\":\"the host stops\"}"), "{text}"),
        Err(error) => {
            assert!(matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset), "{error}")
        }
    }
}
