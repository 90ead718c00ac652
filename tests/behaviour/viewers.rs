//! Viewers that join, leave and wait, and the seam when a publisher comes back.

use std::fs;
use std::time::{Duration, Instant};

use remuxd_tests::capture::{Capture, End};
use remuxd_tests::compare::{access_units, check_order};
use remuxd_tests::flv::{Content, Tag};
use remuxd_tests::host::{Config, Host};
use remuxd_tests::http::Request;
use remuxd_tests::module_dir::ModuleDir;
use remuxd_tests::modules::built;
use remuxd_tests::publisher::{Numbered, Publisher};
use remuxd_tests::times::gap;
use remuxd_tests::tool::root;
use remuxd_tests::wait::{SOON, wait_until};

/// Starts a host with a publisher that has sent `frames`, and waits until they have arrived.
fn live(config: &Config, frames: u32) -> (Host, String, Publisher, Numbered) {
    let host = Host::start(config);
    let key = host.key("live");
    let mut publisher = Publisher::open(host.rtmp, &key);
    let mut media = Numbered::new(500);
    let early = Capture::http(&host, &key);
    // Without a GOP cache the viewer must be there before the first keyframe.
    host.wait_viewers(1);
    publisher.send(&media.headers());
    publisher.send(&media.frames(frames));
    wait_number(&early, frames - 1);
    (host, key, publisher, media)
}

fn wait_number(viewer: &Capture, number: u32) {
    let seen = |tags: &[Tag]| tags.iter().rev().find_map(Numbered::number_of) == Some(number);
    viewer.wait_until(SOON, &format!("frame {number}"), seen);
}

#[test]
fn a_viewer_joins_at_the_last_keyframe() {
    let (host, key, mut publisher, mut media) = live(&Config::live(), 60);
    let viewers = [Capture::http(&host, &key), Capture::websocket(&host, &key), Capture::rtmp(&host, &key)];
    viewers.iter().for_each(|viewer| wait_number(viewer, 59));
    publisher.send(&media.frames(10));
    viewers.iter().for_each(|viewer| wait_number(viewer, 69));
    drop(publisher);
    for viewer in viewers {
        let recording = viewer.finish(SOON);
        assert_eq!(recording.end, End::Clean);
        assert_eq!(Numbered::numbers(&recording.tags), (50..70).collect::<Vec<_>>());
        check_order(&recording.tags).unwrap();
        let headers = recording.tags.iter().take_while(|tag| tag.access_unit().is_none());
        let headers = headers.filter(|tag| tag.content() == Content::SequenceHeader).count();
        assert_eq!(headers, 2, "both sequence headers come first");
        assert!(recording.tags[0].payload.starts_with(b"\x02\x00\x0aonMetaData"), "{:?}", recording.tags[0]);
    }
}

#[test]
fn one_remuxer_serves_viewers_of_two_transports() {
    let modules = ModuleDir::with(&[]);
    let library = built(&root().join("tests/modules/both"), "both", "dev").join("libremuxd_both.so");
    modules.put("both", &fs::read(library).unwrap());
    let modules = format!("[modules]\ndir = {:?}\nload = [\"both\"]", modules.path());
    let config = Config::live().tables(&modules).mount("mount = \"/[app]/[stream].flv\"");
    let (host, key, mut publisher, mut media) = live(&config, 60);
    let viewers = [Capture::http(&host, &key), Capture::websocket(&host, &key)];
    viewers.iter().for_each(|viewer| wait_number(viewer, 59));
    let module = &host.api_json("/api/v1/modules")[0];
    assert_eq!(module["transports"].as_array().unwrap(), &["http", "websocket"]);
    assert_eq!(module["mounts"], 1, "one remuxer");
    publisher.send(&media.frames(10));
    viewers.iter().for_each(|viewer| wait_number(viewer, 69));
    drop(publisher);
    for viewer in viewers {
        let recording = viewer.finish(SOON);
        assert_eq!(recording.end, End::Clean);
        assert_eq!(Numbered::numbers(&recording.tags), (50..70).collect::<Vec<_>>());
        check_order(&recording.tags).unwrap();
    }
}

#[test]
fn without_gop_cache_a_viewer_waits_for_the_next_keyframe() {
    let (host, key, mut publisher, mut media) = live(&Config::live().play("gop_cache", "false"), 60);
    let viewer = Capture::rtmp(&host, &key);
    viewer.wait_started(SOON);
    publisher.send(&media.frames(20));
    wait_number(&viewer, 79);
    drop(publisher);
    assert_eq!(Numbered::numbers(&viewer.finish(SOON).tags), (75..80).collect::<Vec<_>>());
}

#[test]
fn without_gop_cache_the_first_viewer_of_a_mount_waits_too() {
    let (host, key, mut publisher, mut media) = live(&Config::live().play("gop_cache", "false"), 60);
    let viewer = Capture::websocket(&host, &key);
    host.wait_viewers(2);
    publisher.send(&media.frames(20));
    wait_number(&viewer, 79);
    drop(publisher);
    assert_eq!(Numbered::numbers(&viewer.finish(SOON).tags), (75..80).collect::<Vec<_>>());
}

#[test]
fn an_unknown_stream_is_404_after_wait() {
    let host = Host::start(&Config::live().play("wait", "\"500ms\""));
    let start = Instant::now();
    let path = host.path(&host.key("nobody"));
    assert_eq!(Request::get(&path).send(host.http).unwrap().status, 404);
    let took = start.elapsed();
    assert!(took >= Duration::from_millis(450) && took < Duration::from_secs(5), "{took:?}");
    let refusal = remuxd_tests::websocket::open(host.http, &path, &[]).map(drop).unwrap_err();
    assert!(
        matches!(&refusal, tungstenite::Error::Http(response) if response.status() == 404),
        "{refusal:?}"
    );
}

/// `wait` is for streams that are not live.
#[test]
fn a_viewer_of_a_publisher_that_has_just_begun_gets_200_without_wait() {
    let host = Host::start(&Config::live().play("wait", "0"));
    let key = host.key("begins");
    let mut publisher = Publisher::open(host.rtmp, &key);
    let path = host.path(&key);
    let address = host.http;
    let viewer = std::thread::spawn(move || Request::get(&path).send(address).unwrap().status);
    let session = "remuxd_sessions{action=\"play\",protocol=\"http\"} 1";
    wait_until(SOON, "the viewer's session", || host.api_page("/metrics").contains(session));
    let mut media = Numbered::new(500);
    publisher.send(&media.headers());
    publisher.send(&media.frames(30));
    assert_eq!(viewer.join().unwrap(), 200);
}

#[test]
fn a_viewer_waits_for_its_publisher_and_then_gets_200() {
    let host = Host::start(&Config::live());
    let key = host.key("later");
    let socket = std::net::TcpStream::connect(host.http).unwrap();
    let watch = socket.try_clone().unwrap();
    let path = host.path(&key);
    let viewer = std::thread::spawn(move || Request::get(&path).send_over(socket).unwrap().status);
    let mut publisher = Publisher::open(host.rtmp, &key);
    watch.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    // The outcome is not known before there is media.
    assert!(watch.peek(&mut [0]).is_err(), "a status line before the first byte of media");
    watch.set_read_timeout(Some(SOON)).unwrap();
    let mut media = Numbered::new(500);
    publisher.send(&media.headers());
    publisher.send(&media.frames(30));
    assert_eq!(viewer.join().unwrap(), 200);
}

#[test]
fn a_publisher_that_comes_back_finds_its_viewers() {
    let (host, key, publisher, media) = live(&Config::live().publish("republish_wait", "\"5s\""), 30);
    let viewers = [Capture::http(&host, &key), Capture::websocket(&host, &key), Capture::rtmp(&host, &key)];
    viewers.iter().for_each(|viewer| wait_number(viewer, media.number() - 1));
    drop(publisher);
    let mut again = Numbered::new(500);
    // The publisher comes back in the middle of a GOP, with its clock at zero.
    let rest: Vec<Tag> = again.frames(40).split_off(3 * 10);
    let mut publisher = Publisher::reopen(host.rtmp, &key);
    publisher.send(&again.headers());
    publisher.send(&rest);
    viewers.iter().for_each(|viewer| wait_number(viewer, 39));
    drop(publisher);
    for viewer in viewers {
        let recording = viewer.finish(SOON);
        assert_eq!(recording.end, End::Clean);
        let expected: Vec<u32> = (25..30).chain(25..40).collect();
        assert_eq!(Numbered::numbers(&recording.tags), expected);
        check_order(&recording.tags).unwrap();
        let units = access_units(&recording.tags);
        let seam = units.iter().rposition(|unit| unit.keyframe).unwrap();
        let gap = gap(&units, seam);
        assert!(gap.is_some_and(|gap| (1..=i64::from(Numbered::STEP)).contains(&gap)), "{gap:?}");
    }
}

#[test]
fn the_wait_for_a_publisher_ends() {
    let (host, key, publisher, _) = live(&Config::live().publish("republish_wait", "\"500ms\""), 10);
    let viewer = Capture::http(&host, &key);
    wait_number(&viewer, 9);
    let start = Instant::now();
    drop(publisher);
    assert_eq!(viewer.finish(SOON).end, End::Clean);
    assert!(start.elapsed() >= Duration::from_millis(450), "{:?}", start.elapsed());
}

#[test]
fn a_silent_publisher_is_closed() {
    let host = Host::start(&Config::live().publish("firstpkt_timeout", "\"1s\""));
    let mut silent = Publisher::open(host.rtmp, &host.key("silent"));
    while silent.connection().read().is_ok() {}
    let host = Host::start(&Config::live().publish("normal_timeout", "\"1s\""));
    let key = host.key("stuck");
    let mut stuck = Publisher::open(host.rtmp, &key);
    let viewer = Capture::http(&host, &key);
    host.wait_viewers(1);
    let mut media = Numbered::new(500);
    stuck.send(&media.headers());
    stuck.send(&media.frames(3));
    wait_number(&viewer, 2);
    assert_eq!(viewer.finish(SOON).end, End::Clean);
}
