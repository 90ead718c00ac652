//! The memory budget: a peer that makes the host keep too much is closed with a reason, newcomers are refused while memory is
//! short, and peers that hold little notice nothing.
//!
//! The good publisher and its viewer have the address 127.0.0.1; the others have further addresses of the loopback network.

use std::io::Read;
use std::net::TcpStream;

use remuxd_tests::capture::{Capture, End};
use remuxd_tests::fetch::Fetch;
use remuxd_tests::flv::{Tag, VIDEO};
use remuxd_tests::host::{Config, Host};
use remuxd_tests::http::Request;
use remuxd_tests::publisher::{Numbered, Pace, Publisher};
use remuxd_tests::rtmp::{Connection, Message, SET_CHUNK_SIZE, type0};
use remuxd_tests::socket::connect_from;
use remuxd_tests::wait::{SOON, wait_until};

/// `limits.max_memory` of these tests.
const LIMIT: u64 = 64 << 20;

/// Resident memory above the budget: the allocator keeps freed memory for seconds, and long messages move as they grow.
const SLACK: u64 = 128 << 20;

const MIB: usize = 1 << 20;

fn config() -> Config {
    Config::live().limits("max_memory", "\"64MiB\"")
}

/// A host with a good publisher and a good viewer.
struct Scene {
    host: Host,
    viewer: Capture,
    publisher: Pace,
    resident: u64,
}

impl Scene {
    fn start(config: &Config) -> Scene {
        let host = Host::start(config);
        let key = host.key("good");
        let viewer = Capture::http(&host, &key);
        let publisher = Publisher::open(host.rtmp, &key).pace(Numbered::new(2000));
        viewer.wait_access_units(10, SOON);
        let resident = host.resident();
        Scene { host, viewer, publisher, resident }
    }

    /// Checks that the host's memory is within the budget.
    fn is_bounded(&self) {
        let grown = self.host.resident().saturating_sub(self.resident);
        assert!(grown < LIMIT + SLACK, "{} MiB more", grown >> 20);
    }

    /// Checks that the good viewer got every frame.
    fn finish(self) -> Host {
        let sent = self.publisher.stop();
        let seen = self.viewer.finish(SOON);
        assert_eq!(Numbered::numbers(&seen.tags), (0..sent).collect::<Vec<_>>(), "the good viewer saw a gap");
        self.host
    }
}

fn open_from(host: &Host, address: u8) -> TcpStream {
    connect_from([127, 0, 0, address], host.rtmp)
}

/// Publishes from 127.0.0.`address`.
fn publish_from(host: &Host, address: u8, name: &str) -> Publisher {
    let (publisher, status) = try_publish_from(host, address, name);
    assert_eq!(status, "NetStream.Publish.Start");
    publisher
}

fn try_publish_from(host: &Host, address: u8, name: &str) -> (Publisher, String) {
    Publisher::try_open_over(open_from(host, address), &host.key(name)).unwrap()
}

/// Returns the bytes of memory that are charged, by kind.
fn used(host: &Host) -> [u64; 3] {
    ["connections", "messages", "output"]
        .map(|kind| host.metric(&format!("remuxd_memory_used_bytes{{kind=\"{kind}\"}}")))
}

fn keyframe(bytes: usize) -> Tag {
    let mut payload = vec![0x17, 1, 0, 0, 0];
    payload.extend_from_slice(&(bytes as u32).to_be_bytes());
    payload.push(0x65);
    payload.resize(9 + bytes, 0x55);
    Tag { kind: VIDEO, timestamp: 0, payload }
}

/// Whether the host has sent something that was not read.
fn has_input(connection: &Connection) -> bool {
    let socket = connection.socket();
    socket.set_nonblocking(true).unwrap();
    let found = socket.peek(&mut [0]).is_ok();
    socket.set_nonblocking(false).unwrap();
    found
}

#[test]
fn unfinished_messages_of_many_connections_stay_within_the_budget() {
    let scene = Scene::start(&config());
    let mut peers: Vec<_> = (0..32)
        .map(|number| publish_from(&scene.host, 2 + number % 4, &format!("unfinished{number}")))
        .collect();
    let length = 15 * MIB;
    let size = Message { kind: SET_CHUNK_SIZE, stream: 0, timestamp: 0, payload: vec![0, 0xff, 0xff, 0xff] };
    for peer in &mut peers {
        peer.connection().write(2, &size).unwrap();
        peer.connection().write_raw(&type0(6, VIDEO, 1, 0, length as u32)).unwrap();
    }
    let piece = vec![0; MIB];
    let mut closed = 0;
    // All but the last piece.
    for _ in 1..length / MIB {
        let before = peers.len();
        peers.retain_mut(|peer| peer.connection().write_raw(&piece).is_ok());
        closed += before - peers.len();
        scene.is_bounded();
    }
    assert!(closed > 0, "480 MiB of unfinished messages are kept");
    scene.host.wait_log(&["rtmp connection closed", "127.0.0.2", "limits.max_memory"]);
    drop(peers);
    let host = scene.finish();
    wait_until(SOON, "all memory is given back", || used(&host) == [0, 0, 0]);
}

#[test]
fn a_publisher_of_a_huge_gop_is_closed_with_a_reason() {
    let scene = Scene::start(&config());
    let mut publisher = publish_from(&scene.host, 2, "huge");
    let viewer = Capture::http(&scene.host, &scene.host.key("huge"));
    let mut media = Numbered::new(MIB);
    publisher.send(&media.headers());
    publisher.send(&media.frame());
    viewer.wait_access_units(1, SOON);
    // One GOP of 25 MiB: more than a third of the budget.
    for _ in 1..Numbered::GOP {
        if has_input(publisher.connection())
            || media.frame().iter().any(|tag| publisher.try_send(tag).is_err())
        {
            break;
        }
        scene.is_bounded();
    }
    let status = publisher.connection().read_until(Message::status).unwrap();
    assert_eq!(status, "NetStream.Publish.Denied");
    scene.host.wait_log(&["rtmp connection closed", "127.0.0.2", "limits.max_memory"]);
    assert_eq!(viewer.finish(SOON).end, End::Clean);
    drop(publisher);
    scene.finish();
}

/// It sends nothing more, so that no charge of its own fails.
#[test]
fn an_idle_peer_that_holds_too_much_is_closed_when_others_need_memory() {
    let scene = Scene::start(&config());
    let mut idle = publish_from(&scene.host, 2, "idle");
    let (start, mut rest) = (keyframe(9 * MIB), keyframe(9 * MIB));
    // A frame of the same GOP.
    rest.payload[0] = 0x27;
    idle.send([&start, &rest]);
    wait_until(SOON, "the GOP is read", || used(&scene.host)[1] > 18 * MIB as u64);
    let mut others = [3, 4].map(|address| publish_from(&scene.host, address, &format!("other{address}")));
    assert!(!has_input(idle.connection()), "it may hold 18 MiB while others hold little");
    // 34 MiB in all: the idle peer's 18 MiB are more than the 30 MiB that are free, less the 18 MiB of its address.
    others.iter_mut().for_each(|other| other.send([&keyframe(8 * MIB)]));
    assert_eq!(idle.connection().read_until(Message::status).unwrap(), "NetStream.Publish.Denied");
    scene.host.wait_log(&["rtmp connection closed", "127.0.0.2", "limits.max_memory"]);
    drop(idle);
    others.iter_mut().for_each(|other| other.send([&keyframe(1000)]));
    drop(others);
    scene.finish();
}

#[test]
fn newcomers_are_refused_while_memory_is_short() {
    let scene = Scene::start(&config());
    let host = &scene.host;
    let mut holders: Vec<_> =
        (2..16).map(|address| publish_from(host, address, &format!("holder{address}"))).collect();
    // 52.5 MiB in all: four fifths are 51.2 MiB.
    holders.iter_mut().for_each(|holder| holder.send([&keyframe(15 * MIB / 4)]));
    wait_until(SOON, "the messages are read", || used(host)[1] > 52 * MIB as u64);

    let get = |path: &str| {
        let socket = connect_from([127, 0, 0, 99], host.http);
        Request::get(path).send_over(socket).unwrap()
    };
    let good = host.path(&host.key("good"));
    let response = get(&good);
    assert_eq!((response.status, response.header("retry-after")), (503, Some("5")));
    assert_eq!(response.text().unwrap(), "the server is short of memory\n");
    let (_refused, status) = try_publish_from(host, 99, "newcomer");
    assert_eq!(status, "NetStream.Publish.Denied");
    let mut player = Connection::over(open_from(host, 99)).unwrap();
    player.connect("live").unwrap();
    let stream = player.create_stream().unwrap();
    assert_eq!(player.play(stream, "good").unwrap(), "NetStream.Play.Failed");
    host.wait_log(&["refused", "action=publish", "127.0.0.99", "limits.max_memory"]);
    host.wait_log(&["refused", "action=play", "127.0.0.99", "limits.max_memory"]);
    host.wait_log(&["refused client=127.0.0.99", "limits.max_memory"]);
    assert_eq!(host.metric("remuxd_memory_refused_total"), 3);
    assert_eq!(host.metric("remuxd_memory_exceeded_total"), 0, "those that were there before are served");

    drop(holders);
    wait_until(SOON, "viewers are served again", || get(&good).status == 200);
    let (_accepted, status) = try_publish_from(host, 99, "newcomer");
    assert_eq!(status, "NetStream.Publish.Start");
    assert_eq!(player.play(stream, "good").unwrap(), "NetStream.Play.Start");
    scene.finish();
}

#[test]
fn memory_is_charged_while_it_is_held_and_not_longer() {
    let config = config().play("queue_length", "\"1s\"");
    let host = Host::start(&config.mount("").mount("mount = \"/[app]/[stream].ts\""));
    assert_eq!(host.metric("remuxd_memory_budget_bytes"), LIMIT);
    let key = host.key("charged");
    let mut publisher = Publisher::open(host.rtmp, &key);
    let mut media = Numbered::new(100_000);
    publisher.send(&media.headers());
    publisher.send(&media.frames(Numbered::GOP));
    let captures = [Capture::http(&host, &key), Capture::websocket(&host, &key), Capture::rtmp(&host, &key)];
    let ts = Fetch::start(&host, &format!("/{key}.ts"));
    captures.iter().for_each(|capture| capture.wait_access_units(Numbered::GOP as usize, SOON));
    ts.wait_bytes(2_000_000, SOON);
    let [connections, messages, output] = used(&host);
    let gop = 25 * 100_000;
    assert!((gop..2 * gop).contains(&messages), "{messages} bytes of a GOP of {gop}");
    assert!((gop..2 * gop).contains(&output), "{output} bytes: TS is a copy, FLV is none");
    // Five connections, four viewers and a publisher.
    assert!((100_000..1_000_000).contains(&connections), "{connections} bytes of connections");
    // GOP after GOP, all but the newest is given back.
    (0..5).for_each(|_| publisher.send(&media.frames(Numbered::GOP)));
    publisher.send(&media.frame());
    // The GOP that is complete, the one that begins, and a second for slow readers.
    wait_until(SOON, "earlier GOPs are given back", || used(&host)[1..].iter().all(|bytes| *bytes < 3 * gop));
    drop(publisher);
    for capture in captures {
        assert_eq!(capture.finish(SOON).end, End::Clean);
    }
    drop(ts.finish(SOON));
    wait_until(SOON, "all memory is given back", || used(&host) == [0, 0, 0]);
    let status = host.command(&["status"]);
    let printed = String::from_utf8_lossy(&status.stdout);
    assert!(printed.contains("0 MiB of 64 MiB"), "{printed}");
}

/// Mounts with other options have rings of their own, which count on the stream's publisher.
#[test]
fn copies_of_a_stream_for_many_mounts_stay_within_the_budget() {
    let mount = |config: Config, number| {
        config.mount(&format!(
            "mount = \"/m{number}/[app]/[stream].ts\"\n\
             [vhost.\"__defaultVhost__\".http_remux.options]\nheader_wait = {number}"
        ))
    };
    let scene = Scene::start(&(0..12).fold(config().mount(""), mount));
    let mut publisher = publish_from(&scene.host, 2, "copied");
    let mut media = Numbered::new(MIB / 4);
    publisher.send(&media.headers());
    publisher.send(&media.frames(Numbered::GOP));
    wait_until(SOON, "the GOP is read", || used(&scene.host)[1] > 6 * MIB as u64);
    let watch = |number| {
        let path = format!("/m{number}/{}.ts", scene.host.key("copied"));
        let mut response =
            Request::get(&path).send_over(connect_from([127, 0, 0, 3], scene.host.http)).unwrap();
        let read = response.body.read_exact(&mut vec![0; 5 * MIB]).is_ok();
        (response.status, read, response)
    };
    let outcomes: Vec<_> = (0..12).map(watch).collect();
    scene.is_bounded();
    let served = outcomes.iter().filter(|(status, read, _)| *status == 200 && *read).count();
    let refused = outcomes.iter().filter(|(status, ..)| *status == 503).count();
    assert!(served >= 2 && served + refused == 12, "{served} served, {refused} refused");
    let total: u64 = used(&scene.host).iter().sum();
    assert!(total < LIMIT, "{} MiB", total >> 20);
    drop((outcomes, publisher));
    let host = scene.finish();
    wait_until(SOON, "all memory is given back", || used(&host) == [0, 0, 0]);
}
