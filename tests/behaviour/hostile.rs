//! Hostile input: the peer is dropped with a reason, other peers notice nothing, and memory stays bounded.
//!
//! The inputs have crashed or hung existing RTMP implementations, or exhausted their memory.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use remuxd_tests::capture::Capture;
use remuxd_tests::flv::{AUDIO, SCRIPT, Tag, VIDEO};
use remuxd_tests::host::{Config, Host};
use remuxd_tests::http::Request;
use remuxd_tests::publisher::{Numbered, Pace, Publisher};
use remuxd_tests::rtmp::{
    ABORT, Amf, COMMAND, Connection, Message, SET_CHUNK_SIZE, WINDOW_ACK_SIZE, amf, chunks, type0,
};
use remuxd_tests::socket::connect_narrow;
use remuxd_tests::wait::{SOON, wait_until};
use remuxd_tests::websocket;

/// Limit for the growth of the host's resident memory over one attack. The limits of one connection (`max_message`
/// 16 MiB, `max_buffered` 32 MiB) fit in; the lengths that the inputs claim do not.
const GROWTH: u64 = 64 << 20;

/// A host with a good publisher and a good viewer.
struct Bystanders {
    host: Host,
    viewer: Capture,
    publisher: Pace,
    resident: u64,
}

impl Bystanders {
    fn start() -> Bystanders {
        let host = Host::start(&Config::live());
        let key = host.key("good");
        let viewer = Capture::http(&host, &key);
        let publisher = Publisher::open(host.rtmp, &key).pace(Numbered::new(2000));
        viewer.wait_access_units(10, SOON);
        let resident = host.resident();
        Bystanders { host, viewer, publisher, resident }
    }

    fn frames(&self) -> usize {
        Numbered::numbers(&self.viewer.tags()).len()
    }

    /// Checks that the viewer gets further frames, and that memory has not grown.
    fn unharmed(&self, name: &str) {
        let frames = self.frames() + 5;
        self.viewer.wait_until(SOON, name, |tags| Numbered::numbers(tags).len() >= frames);
        let grown = self.host.resident().saturating_sub(self.resident);
        assert!(grown < GROWTH, "{name}: {} MiB more", grown >> 20);
    }

    /// Checks that the viewer got every frame.
    fn finish(self) {
        let sent = self.publisher.stop();
        let seen = self.viewer.finish(SOON);
        assert_eq!(Numbered::numbers(&seen.tags), (0..sent).collect::<Vec<_>>(), "the good viewer saw a gap");
    }
}

/// Returns whether the host closes the connection; false if it answers instead.
fn is_dropped(connection: &mut Connection) -> bool {
    connection.socket().set_read_timeout(Some(SOON)).unwrap();
    match connection.call("createStream", &[Amf::Null]) {
        Ok(_) => false,
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
            panic!("the host neither answers nor closes")
        }
        Err(_) => true,
    }
}

fn message(kind: u8, payload: Vec<u8>) -> Message {
    Message { kind, stream: 0, timestamp: 0, payload }
}

fn set_chunk_size(size: u32) -> Vec<u8> {
    chunks(2, &message(SET_CHUNK_SIZE, size.to_be_bytes().to_vec()), 128)
}

/// Returns a `connect` whose command object is `object`.
fn connect_with(object: &[u8]) -> Vec<u8> {
    let payload = [&amf::write(&["connect".into(), 1.0.into()]), object].concat();
    [set_chunk_size(65536), chunks(3, &message(COMMAND, payload), 65536)].concat()
}

/// The required fate of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// The host closes it, and logs its address and the reason.
    Dropped,
    /// The host keeps it: the input is legal.
    Kept,
    /// Either: the specification does not decide.
    Either,
}

/// Inputs after a plain handshake.
fn inputs() -> Vec<(&'static str, Fate, Vec<u8>)> {
    let nested = b"\x03\x00\x01a".repeat(200_000);
    let nested_arrays = b"\x0a\x00\x00\x00\x01".repeat(200_000);
    let window = |size: u32| chunks(2, &message(WINDOW_ACK_SIZE, size.to_be_bytes().to_vec()), 128);
    let half = |length: u32| [type0(4, AUDIO, 0, 0, length), vec![0; 128]].concat();
    let abort = chunks(2, &message(ABORT, 4_u32.to_be_bytes().to_vec()), 128);
    let connect = connect_with(&amf::write(&[Amf::Object(vec![("app".into(), "live".into())])]));
    let short = |kind: u8| chunks(2, &message(kind, vec![0, 0]), 128);
    let back = chunks(2, &message(SET_CHUNK_SIZE, 128_u32.to_be_bytes().to_vec()), 1);
    // Sixty messages that never end, a megabyte of each.
    let hoard = (3..63).flat_map(|id| [type0(id, VIDEO, 0, 0, 0xf0_0000), vec![0; 1 << 20]].concat());
    let hoard = [set_chunk_size(1 << 20), hoard.collect()].concat();
    vec![
        ("window of 0", Fate::Either, [window(0), connect.clone()].concat()),
        ("window of 1", Fate::Kept, [window(1), connect.clone()].concat()),
        ("window of 2^32 - 1", Fate::Kept, [window(u32::MAX), connect.clone()].concat()),
        ("a shorter length in mid-message", Fate::Dropped, [half(1000), half(10)].concat()),
        ("200,000 nested objects", Fate::Dropped, connect_with(&nested)),
        ("200,000 nested arrays", Fate::Dropped, connect_with(&nested_arrays)),
        ("an ECMA array of 201,326,592 in 5 bytes", Fate::Dropped, connect_with(b"\x08\x0c\x00\x00\x00")),
        ("a strict array of 2^32 - 1 in 5 bytes", Fate::Dropped, connect_with(b"\x0a\xff\xff\xff\xff")),
        ("a long string of 2^32 - 1 in 5 bytes", Fate::Dropped, connect_with(b"\x0c\xff\xff\xff\xff")),
        ("chunk size 0", Fate::Dropped, set_chunk_size(0)),
        ("chunk size 1 and back", Fate::Kept, [set_chunk_size(1), back, connect.clone()].concat()),
        ("chunk size with the top bit", Fate::Dropped, set_chunk_size(0x8000_0000)),
        (
            "chunk size 2^31 - 1",
            Fate::Either,
            [set_chunk_size(0x7fff_ffff), type0(4, VIDEO, 0, 0, 1 << 20), vec![0; 1 << 20]].concat(),
        ),
        ("a hoard of unfinished messages", Fate::Dropped, hoard),
        ("type 3 on a chunk stream never seen", Fate::Dropped, vec![0xc9, 0, 0, 0]),
        ("a chunk size message of two bytes", Fate::Dropped, short(SET_CHUNK_SIZE)),
        ("an abort, then a message", Fate::Kept, [half(1000), abort, half(128), connect.clone()].concat()),
        (
            "an abort of a chunk stream never seen",
            Fate::Kept,
            [chunks(2, &message(ABORT, vec![0, 0, 0, 60]), 128), connect].concat(),
        ),
        ("media before connect", Fate::Either, half(128)),
        ("no AMF", Fate::Dropped, chunks(3, &message(COMMAND, vec![0xff; 64]), 128)),
        ("an empty command", Fate::Either, chunks(3, &message(COMMAND, vec![]), 128)),
        ("an HTTP request", Fate::Dropped, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".repeat(100)),
    ]
}

#[test]
fn peers_that_break_rtmp_are_dropped_with_a_reason() {
    let bystanders = Bystanders::start();
    for (name, fate, bytes) in inputs() {
        let mut peer = Connection::open(bystanders.host.rtmp).unwrap();
        // The host may close while this is still being sent.
        let _ = peer.write_raw(&bytes);
        let dropped =
            if fate == Fate::Dropped { dropped_in_silence(&mut peer) } else { is_dropped(&mut peer) };
        assert!(
            fate == Fate::Either || dropped == (fate == Fate::Dropped),
            "{name}: dropped {dropped}, {fate:?}"
        );
        if dropped {
            bystanders.host.wait_log(&[&peer.local_addr().to_string()]);
        }
        bystanders.unharmed(name);
    }
    bystanders.finish();
}

/// Returns whether the host closes without further input.
fn dropped_in_silence(peer: &mut Connection) -> bool {
    peer.socket().set_read_timeout(Some(Duration::from_secs(3))).unwrap();
    loop {
        match peer.read() {
            Ok(_) => {}
            Err(error) => {
                return !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut);
            }
        }
    }
}

#[test]
fn peers_that_break_the_handshake_are_dropped() {
    let bystanders = Bystanders::start();
    for bytes in [
        &b"\x06"[..],
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        &[0xff; 5000],
    ] {
        let mut peer = TcpStream::connect(bystanders.host.rtmp).unwrap();
        let address = peer.local_addr().unwrap();
        let _ = peer.write_all(bytes);
        peer.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
        let end = peer.read_to_end(&mut Vec::new()).map_err(|error| error.kind());
        assert!(!matches!(end, Err(io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)), "kept: {bytes:?}");
        bystanders.host.wait_log(&[&address.to_string()]);
        bystanders.unharmed("a broken handshake");
    }
    bystanders.finish();
}

#[test]
fn connecting_and_closing_costs_nothing() {
    let bystanders = Bystanders::start();
    for _ in 0..50 {
        drop(TcpStream::connect(bystanders.host.rtmp).unwrap());
        drop(TcpStream::connect(bystanders.host.http).unwrap());
        drop(Connection::open(bystanders.host.rtmp).unwrap());
    }
    bystanders.unharmed("connect and close");
    let (start, before) = (Instant::now(), bystanders.host.cpu_time());
    let frames = bystanders.frames() + 25;
    bystanders.viewer.wait_until(SOON, "a second of media", |tags| Numbered::numbers(tags).len() >= frames);
    let busy = bystanders.host.cpu_time() - before;
    assert!(busy < start.elapsed() / 2, "something spins: {busy:?} in {:?}", start.elapsed());
    bystanders.finish();
}

#[test]
fn chunks_of_two_messages_may_interleave() {
    let host = Host::start(&Config::live());
    let key = host.key("interleaved");
    let viewer = Capture::http(&host, &key);
    let mut publisher = Publisher::open(host.rtmp, &key);
    let mut media = Numbered::new(150_000);
    publisher.send(&media.headers());
    let mut sent = Vec::new();
    for _ in 0..5 {
        let tags = media.frame();
        let wire = |chunk_stream, tag: &Tag| {
            let payload = tag.payload.clone();
            chunks(
                chunk_stream,
                &Message { kind: tag.kind, stream: 1, timestamp: tag.timestamp, payload },
                65536,
            )
        };
        let (video, audio) = (wire(6, &tags[0]), wire(4, &tags[1]));
        // After the first chunk of the picture: 12 bytes of header and 64 KiB.
        let (first, rest) = video.split_at(12 + 65536);
        publisher.connection().write_raw(&[first, &audio, rest].concat()).unwrap();
        sent.extend([tags[1].clone(), tags[0].clone()]);
    }
    viewer.wait_until(SOON, "five pictures", |tags| Numbered::numbers(tags).len() == 5);
    drop(publisher);
    let served = viewer.finish(SOON);
    let payloads = |tags: &[Tag], kind| -> Vec<Vec<u8>> {
        tags.iter()
            .filter(|tag| tag.kind == kind && tag.access_unit().is_some())
            .map(|tag| tag.payload.clone())
            .collect()
    };
    assert_eq!(payloads(&served.tags, VIDEO), payloads(&sent, VIDEO));
    let audio = payloads(&served.tags, AUDIO);
    assert!(audio.len() >= 4 && payloads(&sent, AUDIO).ends_with(&audio), "{} audio frames", audio.len());
}

#[test]
fn a_publishers_nonsense_reaches_no_player() {
    let bystanders = Bystanders::start();
    let tags: [(&str, u8, &[u8]); 8] = [
        ("empty video", VIDEO, b""),
        ("empty audio", AUDIO, b""),
        ("half a video header", VIDEO, b"\x17\x01"),
        ("half an enhanced header", VIDEO, b"\x91hv"),
        ("a ModEx of 2^24 bytes", VIDEO, b"\x97hvc1\xff\xff\xff\x00"),
        ("a multitrack tag that ends early", VIDEO, b"\x96\x11hvc1\x00\xff\xff\xff"),
        ("an AVC configuration of garbage", VIDEO, b"\x17\x00\x00\x00\x00\xff\xff\xff\xff\xff\xff\xff"),
        ("metadata that is no AMF", SCRIPT, b"\x02\x00\x0aonMetaData\x0a\xff\xff\xff\xff"),
    ];
    for (index, (name, kind, payload)) in tags.into_iter().enumerate() {
        let key = bystanders.host.key(&format!("nonsense{index}"));
        let mut publisher = Publisher::open(bystanders.host.rtmp, &key);
        let mut media = Numbered::new(500);
        let viewer = Capture::http(&bystanders.host, &key);
        publisher.send(&media.headers());
        publisher.send(&media.frames(3));
        viewer.wait_access_units(3, SOON);
        let nonsense = Tag { kind, timestamp: media.time(), payload: payload.to_vec() };
        // The publisher is either kept, and its stream continues, or dropped, and its viewer's response ends cleanly.
        let _ = publisher.try_send(&nonsense);
        for tag in media.frames(30) {
            if publisher.try_send(&tag).is_err() {
                break;
            }
        }
        drop(publisher);
        let recording = viewer.finish(SOON);
        assert_eq!(recording.unfinished, 0, "{name}");
        bystanders.unharmed(name);
    }
    bystanders.finish();
}

#[test]
fn a_flood_of_commands_stays_bounded() {
    let bystanders = Bystanders::start();
    let mut peer = Connection::open(bystanders.host.rtmp).unwrap();
    peer.connect("live").unwrap();
    // Nobody reads the answers.
    peer.socket().set_write_timeout(Some(Duration::from_secs(2))).unwrap();
    for _ in 0..100_000 {
        if peer.command(0, "createStream", &[Amf::Null]).is_err() {
            break;
        }
    }
    bystanders.unharmed("100,000 createStream");
    bystanders.finish();
}

#[test]
fn http_heads_without_end_are_refused() {
    let bystanders = Bystanders::start();
    let mut peer = TcpStream::connect(bystanders.host.http).unwrap();
    peer.write_all(b"GET /live/x.flv HTTP/1.1\r\nHost: x\r\n").unwrap();
    let line = format!("X-Filler: {}\r\n", "y".repeat(1000));
    let sent = (0..10_000).take_while(|_| peer.write_all(line.as_bytes()).is_ok()).count();
    assert!(sent < 10_000, "the host takes 10 MB of head");
    bystanders.unharmed("a head without end");
    bystanders.finish();
}

#[test]
fn websocket_frames_that_claim_much_are_refused() {
    let bystanders = Bystanders::start();
    let host = &bystanders.host;
    let (socket, _) = websocket::open(host.http, &host.path(&host.key("good")), &[]).unwrap();
    let mut peer = socket.get_ref().try_clone().unwrap();
    // A masked binary frame of 2^62 bytes.
    peer.write_all(&[&[0x82, 0xff, 0x40, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4][..], &[0; 4096]].concat()).unwrap();
    let deadline = Instant::now() + SOON;
    let mut buffer = [0; 65536];
    // Bytes in flight may still arrive.
    while peer.read(&mut buffer).is_ok_and(|length| length > 0) {
        assert!(Instant::now() < deadline, "the host keeps it");
    }
    bystanders.unharmed("a frame of 2^62 bytes");
    let status = Request::get(&host.path(&host.key("good"))).send(host.http).unwrap().status;
    assert_eq!(status, 200);
    bystanders.finish();
}

#[test]
fn a_path_cannot_forge_a_line_of_the_log() {
    let host = Host::start(&Config::live().tables("[log]\nlevel = \"debug\""));
    for path in ["/li%0a2026-01-01T00:00:00Z%20ERROR%20forged.flv", "/live/%1b[2J.flv", "/live/%c2%9b2J.flv"]
    {
        assert_eq!(Request::get(path).send(host.http).unwrap().status, 400, "{path}");
    }
    let log = host.log();
    assert!(!log.lines().any(|line| line.starts_with("2026-01-01") || line.contains('\u{9b}')), "{log}");
}

/// A connection whose first bytes might begin HTTP/2 waits without work.
#[test]
fn a_part_of_the_http2_preface_costs_nothing() {
    let host = Host::start(&Config::live().limits("handshake_timeout", "\"1m\""));
    let sockets: Vec<_> = (0..300)
        .map(|_| {
            let mut socket = TcpStream::connect(host.http).unwrap();
            socket.write_all(b"P").unwrap();
            socket
        })
        .collect();
    // Answered after all of them: each has been accepted and looked at.
    assert_eq!(Request::get("/").send(host.http).unwrap().status, 404);
    let before = host.cpu_time();
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(2) {
        assert_eq!(Request::get("/").send(host.http).unwrap().status, 404);
        std::thread::park_timeout(Duration::from_millis(200));
    }
    let used = host.cpu_time() - before;
    drop(sockets);
    assert!(used < Duration::from_millis(100), "{used:?} in {:?}", began.elapsed());
}

/// Peers that send pings and read no answer.
#[test]
fn pings_whose_answers_nobody_reads_do_not_fill_the_memory() {
    let host = Host::start(&Config::live());
    let key = host.key("pinged");
    let mut publisher = Publisher::open(host.rtmp, &key);
    let mut media = Numbered::new(500);
    publisher.send(&media.headers());
    publisher.send(&media.frames(10));
    let socket = TcpStream::connect(host.http).unwrap();
    let (mut socket, _) = websocket::open_over(socket, &host.ws_url(&key), &[]).unwrap();
    let socket = socket.get_mut();
    socket.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
    let ping = [&[0x89, 0x80 | 125, 0, 0, 0, 0][..], &[7; 125]].concat().repeat(1000);
    let before = host.resident();
    // The host reads no more once it cannot answer: the write times out, or 64 MiB have gone.
    let sent = (0..500).take_while(|_| socket.write_all(&ping).is_ok()).count();
    let grown = host.resident().saturating_sub(before);
    assert!(grown < 16 << 20, "{} MiB more after {} MiB of pings", grown >> 20, (sent * ping.len()) >> 20);
}

/// Peers that send requests to the API and read no answer.
#[test]
fn the_api_answers_beside_peers_that_read_nothing() {
    let host = Host::start(&Config::live());
    let api = host.api.unwrap();
    let requests = b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n".repeat(2000);
    let _sockets: Vec<_> = (0..64)
        .map(|_| {
            let mut socket = connect_narrow(api);
            socket.set_write_timeout(Some(Duration::from_millis(100))).unwrap();
            // The host may close it meanwhile.
            let _ = socket.write_all(&requests);
            socket
        })
        .collect();
    assert!(host.api_page("/metrics").contains("remuxd_streams"));
}

#[test]
fn an_address_has_limits_of_its_own() {
    let limits =
        |key: &str, value: &str| Host::start(&Config::live().play("wait", "\"0s\"").limits(key, value));
    let answers =
        |host: &Host| Request::get("/").send(host.http).is_ok_and(|response| response.status == 404);

    let host = limits("max_connections_per_address", "3");
    let open: Vec<_> = (0..3).map(|_| Connection::open(host.rtmp).unwrap()).collect();
    assert!(!answers(&host));
    let mut refused = TcpStream::connect(host.http).unwrap();
    refused.set_read_timeout(Some(SOON)).unwrap();
    assert_eq!(refused.read(&mut [0]).unwrap_or(0), 0, "closed without an answer");
    drop(open);
    wait_until(SOON, "it may open others", || answers(&host));

    let host = limits("accept_rate", "2");
    let count = (0..20).filter(|_| answers(&host)).count();
    assert!((2..20).contains(&count), "{count} of 20");
    wait_until(SOON, "a second later it may again", || answers(&host));
}

/// Tags of 12 bytes, each behind 15 MiB of a message that the host ignores.
#[test]
fn short_tags_do_not_keep_long_buffers_alive() {
    let test = Bystanders::start();
    let mut publisher = Publisher::open(test.host.rtmp, &test.host.key("pinning"));
    publisher.connection().write_raw(&set_chunk_size(0xff_ffff)).unwrap();
    let ignored = Message { kind: 99, stream: 0, timestamp: 0, payload: vec![0; 15 << 20] };
    // A picture of the current GOP, which the stream's history holds.
    let tag = Message {
        kind: VIDEO,
        stream: 1,
        timestamp: 0,
        payload: [&[0x27, 1, 0, 0, 0][..], &[7; 7]].concat(),
    };
    let mut media = Numbered::new(100);
    publisher.send(&media.headers());
    publisher.send(&media.frame());
    let both = [chunks(5, &ignored, 0xff_ffff), chunks(4, &tag, 0xff_ffff)].concat();
    for _ in 0..20 {
        publisher.connection().write_raw(&both).unwrap();
    }
    test.unharmed("tags behind long messages");
    drop(publisher);
    test.finish();
}
