//! Limits of publishers and viewers, over every protocol: of a stream, a vhost, the host and an address.

use remuxd_tests::asking::{ALL, Ask, show_refusals};
use remuxd_tests::capture::{Capture, End};
use remuxd_tests::flv::{Tag, VIDEO};
use remuxd_tests::host::{Config, Host};
use remuxd_tests::http::Request;
use remuxd_tests::publisher::{Numbered, Publisher};
use remuxd_tests::rtmp::Message;
use remuxd_tests::socket::connect_from;
use remuxd_tests::tls::{Certificate, Files};
use remuxd_tests::tool::Ffmpeg;
use remuxd_tests::wait::{SOON, wait_until};

/// Starts a host with TLS, with these limits of the host and of its default vhost. No viewer waits for a stream.
fn start(host: &str, vhost: &str) -> (Host, Files) {
    let files = Files::of(&Certificate::of(&["127.0.0.1"]));
    (Host::start(&config(&files, host, vhost)), files)
}

fn config(files: &Files, host: &str, vhost: &str) -> Config {
    let config = Config::live().play("wait", "\"0s\"").publish("publish_conflict", "\"replace\"");
    let config = config.tables(&files.listeners());
    let config = config.tables(&format!("[vhost.\"__defaultVhost__\".limits]\n{vhost}"));
    let keys = host.lines().filter_map(|line| line.split_once(" = "));
    keys.fold(config, |config, (key, value)| config.limits(key, value))
}

/// A publisher that has sent frames.
fn publish(host: &Host, key: &str) -> Publisher {
    let mut publisher = Publisher::open(host.rtmp, key);
    let mut media = Numbered::new(500);
    publisher.send(&media.headers());
    publisher.send(&media.frames(3));
    publisher
}

/// The status of a viewer that is one too many: of an address, or of all.
fn refused(ask: Ask, of_address: bool) -> &'static str {
    match ask {
        Ask::RtmpPublish | Ask::RtmpsPublish => "NetStream.Publish.Denied",
        Ask::RtmpPlay | Ask::RtmpsPlay => "NetStream.Play.Failed",
        _ if of_address => "429",
        _ => "503",
    }
}

/// The status of a viewer of a stream that is not published.
fn admitted(ask: Ask) -> &'static str {
    if matches!(ask, Ask::RtmpPlay | Ask::RtmpsPlay) { "NetStream.Play.StreamNotFound" } else { "404" }
}

#[test]
fn viewers_are_limited_over_every_protocol() {
    let rows = [
        ("max_viewers = 3", "", false, true),
        ("", "max_viewers = 3", false, true),
        ("", "max_viewers_per_stream = 3", false, false),
        ("max_viewers_per_address = 3", "", true, true),
        ("", "max_viewers_per_address = 3", true, true),
    ];
    for (of_host, of_vhost, of_address, of_other_streams) in rows {
        let (host, _files) = start(of_host, of_vhost);
        let key = host.key("film");
        let publisher = publish(&host, &key);
        let viewers =
            [Capture::http(&host, &key), Capture::websocket(&host, &key), Capture::rtmp(&host, &key)];
        viewers.iter().for_each(|viewer| viewer.wait_access_units(3, SOON));
        for ask in ALL.into_iter().filter(|ask| !ask.publishes()) {
            let limit = format!("{of_host}{of_vhost}");
            assert_eq!(ask.status(&host, &key, "", ""), refused(ask, of_address), "{ask:?} {limit}");
            let other = if of_other_streams { refused(ask, of_address) } else { admitted(ask) };
            assert_eq!(ask.status(&host, &host.key("other"), "", ""), other, "{ask:?} {limit}");
        }
        let response = Request::get(&host.path(&key)).send(host.http).unwrap();
        assert_eq!(response.header("retry-after"), Some("5"));
        host.wait_log(&["access refused", "action=play", "limits.max_viewers", "is 3"]);
        drop(publisher);
        for viewer in viewers {
            assert_eq!(viewer.finish(SOON).end, End::Clean);
        }
        wait_until(SOON, "viewers that left make room", || {
            Request::get(&host.path(&key)).send(host.http).unwrap().status == 404
        });
    }
}

#[test]
fn publishers_are_limited_unless_they_replace_one() {
    for (of_host, of_vhost) in
        [("max_publishers = 1", ""), ("", "max_publishers = 1"), ("max_publishers_per_address = 1", "")]
    {
        let (host, _files) = start(of_host, of_vhost);
        let mut first = publish(&host, &host.key("film"));
        for ask in [Ask::RtmpPublish, Ask::RtmpsPublish] {
            assert_eq!(
                ask.status(&host, &host.key("other"), "", ""),
                refused(ask, false),
                "{of_host}{of_vhost}"
            );
        }
        host.wait_log(&["access refused", "action=publish", "limits.max_publishers", "is 1"]);
        let second = publish(&host, &host.key("film"));
        assert_eq!(first.connection().read_until(Message::status).unwrap(), "NetStream.Publish.BadName");
        drop((first, second));
        wait_until(SOON, "a publisher that left makes room", || {
            Ask::RtmpPublish.status(&host, &host.key("other"), "", "") == "NetStream.Publish.Start"
        });
    }
}

#[test]
fn another_address_is_not_limited() {
    let (host, _files) = start("max_viewers_per_address = 1", "");
    let key = host.key("film");
    let _publisher = publish(&host, &key);
    let viewer = Capture::http(&host, &key);
    viewer.wait_access_units(1, SOON);
    let status =
        |address| Request::get(&host.path(&key)).send_over(connect_from(address, host.http)).unwrap().status;
    assert_eq!((status([127, 0, 0, 1]), status([127, 0, 0, 2])), (429, 200));
}

#[test]
fn a_reload_changes_limits_for_those_who_come() {
    let (host, files) = start("", "");
    let key = host.key("film");
    let mut publisher = Publisher::open(host.rtmp, &key);
    let mut media = Numbered::new(500);
    publisher.send(&media.headers());
    publisher.send(&media.frames(2));
    let viewers = [Capture::http(&host, &key), Capture::http(&host, &key)];
    viewers.iter().for_each(|viewer| viewer.wait_access_units(2, SOON));
    let status = || Request::get(&host.path(&key)).send(host.http).unwrap().status;
    host.write_config(&config(&files, "max_viewers = 1\nmax_publishers = 1", "").toml());
    let report = host.reload();
    assert!(report.contains("limits.max_viewers: 0 -> 1; for new clients"), "{report}");
    assert_eq!(status(), 503);
    host.write_config(&config(&files, "", "max_viewers = 3").toml());
    host.reload();
    assert_eq!(status(), 200);
    publisher.send(&media.frames(1));
    for viewer in viewers {
        viewer.wait_until(SOON, "frame 2", |tags| Numbered::numbers(tags).last() == Some(&2));
    }
}

/// 2 Mbit at once are 5 s of 400 kbit/s.
#[test]
fn a_publisher_that_sends_too_much_is_ended_with_a_status() {
    let (host, _files) = start("", "max_bitrate_per_stream = \"400k\"");
    let key = host.key("film");
    let mut publisher = publish(&host, &key);
    let viewer = Capture::http(&host, &key);
    viewer.wait_access_units(3, SOON);
    let mut payload = vec![0x27, 1, 0, 0, 0, 0, 3, 0xd, 0x3b, 0x41];
    payload.resize(200_004, 0x55);
    let frame = Tag { kind: VIDEO, timestamp: 1000, payload };
    publisher.send([&frame]);
    viewer.wait_until(SOON, "a frame of 4 s of the limit", |tags| {
        tags.iter().any(|tag| tag.payload.len() > 200_000)
    });
    let _ = publisher.try_send(&frame);
    assert_eq!(publisher.connection().read_until(Message::status).unwrap(), "NetStream.Publish.Denied");
    host.wait_log(&["session ended", "live/film", "max_bitrate_per_stream", "400000 bit/s"]);
    assert_eq!(viewer.finish(SOON).end, End::Clean);
}

#[test]
fn newcomers_are_refused_while_viewers_are_sent_too_much() {
    let (host, _files) = start("", "max_bitrate = \"100k\"");
    let key = host.key("film");
    let publisher = Publisher::open(host.rtmp, &key).pace(Numbered::new(2000));
    let viewer = Capture::http(&host, &key);
    viewer.wait_access_units(1, SOON);
    let status = || Request::get(&host.path(&key)).send(host.http).unwrap().status;
    wait_until(SOON, "the bitrate is measured", || status() == 503);
    host.wait_log(&["access refused", "vhost.limits.max_bitrate is 100000"]);
    // Who is there stays.
    let sent = publisher.stop();
    assert_eq!(Numbered::numbers(&viewer.finish(SOON).tags).last(), Some(&(sent - 1)));
    wait_until(SOON, "nothing is sent", || status() == 404);
}

/// Every batch is later than a microsecond. The viewers are so many that each thread has some.
#[test]
fn newcomers_are_refused_while_viewers_are_served_late() {
    let (host, _files) = start("max_lag = 0.000001", "");
    let key = host.key("film");
    let publisher = Publisher::open(host.rtmp, &key).pace(Numbered::new(500));
    let watch = || Request::get(&host.path(&key)).send(host.http).unwrap();
    let threads = std::thread::available_parallelism().unwrap().get();
    let mut crowd = Vec::new();
    wait_until(SOON, "a viewer is refused", || {
        let response = watch();
        let refused = response.status == 503 && crowd.len() > 1;
        if refused {
            assert_eq!(response.header("retry-after"), Some("5"));
        }
        crowd.push(response);
        refused || crowd.len() > 100 * threads
    });
    host.wait_log(&["access refused", "limits.max_lag"]);
    assert!(host.metric("remuxd_fanout_viewers{thread=\"0\"}") > 0);
    assert_eq!(Ask::RtmpPlay.status(&host, &key, "", ""), "NetStream.Play.Failed");
    assert_eq!(Ask::RtmpPublish.status(&host, &host.key("other"), "", ""), "NetStream.Publish.Start");
    drop(crowd);
    wait_until(SOON, "nobody is served", || watch().status == 200);
    publisher.stop();
}

#[test]
fn encoders_and_players_show_that_there_is_no_room() {
    let (host, _files) = start("max_viewers = 1\nmax_publishers = 1", "");
    let key = host.key("film");
    let _publisher = publish(&host, &key);
    let viewer = Capture::http(&host, &key);
    viewer.wait_access_units(1, SOON);
    let (url, other) = (host.rtmp_url(&key), host.rtmp_url(&host.key("other")));
    let shown = "The server accepts no more at the moment.";
    show_refusals((&other, shown), (&url, shown));
}

/// ffmpeg reads no status while it sends, but fails.
#[test]
fn an_encoder_that_sends_too_much_fails() {
    let (host, _files) = start("", "max_bitrate_per_stream = \"1k\"");
    let url = host.rtmp_url(&host.key("film"));
    let mut ffmpeg = Ffmpeg::Five.command();
    ffmpeg.args([
        "-v", "warning", "-re", "-f", "lavfi", "-i", "sine", "-t", "60", "-c:a", "aac", "-f", "flv", &url,
    ]);
    let output = ffmpeg.output().unwrap();
    let printed = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{printed}");
    host.wait_log(&["session ended", "max_bitrate_per_stream"]);
}
