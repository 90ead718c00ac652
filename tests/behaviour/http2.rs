//! HTTP/2 frame by frame (RFC 9113): frames that no well-behaved client sends, and idle connections.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use remuxd_tests::host::{Config, Host};
use remuxd_tests::http::Request;
use remuxd_tests::http2::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, PREFACE, RST_STREAM, SETTINGS,
    WINDOW_UPDATE, frame, get,
};
use remuxd_tests::publisher::{Numbered, Publisher};
use remuxd_tests::wait::SOON;

/// The error code for a peer that causes excessive load (RFC 9113, 7).
const ENHANCE_YOUR_CALM: u32 = 11;

/// Returns the status in a response's header block, if it is in the static table.
fn status(block: &[u8]) -> u16 {
    match block[0] {
        0x88 => 200,
        0x8c => 400,
        0x8d => 404,
        _ => 0,
    }
}

#[derive(Debug)]
struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

/// A client that acknowledges settings, and answers pings if the test wants it to.
struct Peer {
    socket: TcpStream,
    answers_pings: bool,
}

impl Peer {
    fn open(host: &Host) -> Peer {
        let socket = TcpStream::connect(host.http).unwrap();
        socket.set_nodelay(true).unwrap();
        socket.set_read_timeout(Some(SOON)).unwrap();
        let mut peer = Peer { socket, answers_pings: true };
        peer.send(PREFACE);
        peer.send(&frame(SETTINGS, 0, 0, b""));
        peer
    }

    fn send(&mut self, bytes: &[u8]) {
        // The host may have closed already.
        let _ = self.socket.write_all(bytes);
    }

    fn read(&mut self) -> io::Result<Frame> {
        let mut head = [0; 9];
        self.socket.read_exact(&mut head)?;
        let [_, high, middle, low, ..] = [0, head[0], head[1], head[2]];
        let mut payload = vec![0; u32::from_be_bytes([0, high, middle, low]) as usize];
        self.socket.read_exact(&mut payload)?;
        let (kind, flags) = (head[3], head[4]);
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        match kind {
            SETTINGS if flags & ACK == 0 => self.send(&frame(SETTINGS, ACK, 0, b"")),
            PING if flags & ACK == 0 && self.answers_pings => self.send(&frame(PING, ACK, 0, &payload)),
            _ => {}
        }
        Ok(Frame { kind, flags, stream, payload })
    }

    /// Returns the status of a stream's response.
    fn answer(&mut self, stream: u32) -> u16 {
        loop {
            let frame = self.read().unwrap();
            if (frame.kind, frame.stream) == (HEADERS, stream) {
                return status(&frame.payload);
            }
        }
    }

    /// Reads to the end of the connection, and returns the code of the last GOAWAY.
    fn end(mut self) -> Option<u32> {
        let mut code = None;
        loop {
            match self.read() {
                Ok(Frame { kind: GOAWAY, payload, .. }) => {
                    code = Some(u32::from_be_bytes([payload[4], payload[5], payload[6], payload[7]]));
                }
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => panic!("the host keeps it"),
                Err(_) => return code,
            }
        }
    }
}

#[test]
fn requests_must_follow_the_rules_of_http_1() {
    let host = Host::start(&Config::live());
    let mut peer = Peer::open(&host);
    let whole = END_HEADERS | END_STREAM;
    let rows: [(&str, Vec<u8>, u16); 6] = [
        ("a good one", frame(HEADERS, whole, 1, &get("a.example", "/none")), 404),
        ("a user before the host", frame(HEADERS, whole, 3, &get("user@a.example", "/none")), 400),
        ("a user and a password", frame(HEADERS, whole, 5, &get("user:word@a.example", "/none")), 400),
        (
            "a body without a length",
            [frame(HEADERS, END_HEADERS, 7, &get("a.example", "/none")), frame(DATA, END_STREAM, 7, b"body")]
                .concat(),
            400,
        ),
        ("a body that does not come", frame(HEADERS, END_HEADERS, 9, &get("a.example", "/none")), 400),
        (
            "an end after the headers",
            [frame(HEADERS, END_HEADERS, 11, &get("a.example", "/none")), frame(DATA, END_STREAM, 11, b"")]
                .concat(),
            404,
        ),
    ];
    for ((name, bytes, status), stream) in rows.into_iter().zip((1..).step_by(2)) {
        peer.send(&bytes);
        assert_eq!(peer.answer(stream), status, "{name}");
    }
}

#[test]
fn a_connection_without_requests_is_closed() {
    let limit = Duration::from_secs(2);
    let host = Host::start(&Config::live().limits("handshake_timeout", "\"2s\""));
    for answers_pings in [true, false] {
        let mut peer = Peer::open(&host);
        peer.answers_pings = answers_pings;
        peer.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &get("a.example", "/none")));
        assert_eq!(peer.answer(1), 404);
        let answered = Instant::now();
        assert_eq!(peer.end(), Some(0), "the host sends GOAWAY");
        let took = answered.elapsed();
        // A peer that ignores the GOAWAY has the same time again.
        let most = if answers_pings { limit * 2 } else { limit * 4 };
        assert!(took > limit - Duration::from_millis(100) && took < most, "{answers_pings}: {took:?}");
    }
}

#[test]
fn a_live_stream_keeps_its_connection() {
    let host = Host::start(&Config::live().limits("handshake_timeout", "\"1s\""));
    let key = host.key("live");
    let publisher = Publisher::open(host.rtmp, &key).pace(Numbered::new(500));
    let mut peer = Peer::open(&host);
    peer.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &get("a.example", &host.path(&key))));
    assert_eq!(peer.answer(1), 200);
    let opened = Instant::now();
    while opened.elapsed() < Duration::from_secs(4) {
        assert_ne!(peer.read().unwrap().kind, GOAWAY);
    }
    publisher.stop();
    let last =
        std::iter::from_fn(|| peer.read().ok()).find(|frame| frame.kind == DATA && frame.flags == END_STREAM);
    assert_eq!(last.map(|frame| frame.stream), Some(1), "the stream ends cleanly");
}

#[test]
fn floods_end_the_connection() {
    let host = Host::start(&Config::live());
    let key = host.key("good");
    let publisher = Publisher::open(host.rtmp, &key).pace(Numbered::new(500));
    let block = get("a.example", &host.path(&key));
    let streams = || (1..4000_u32).step_by(2);
    let open = |stream| frame(HEADERS, END_HEADERS | END_STREAM, stream, &block);
    let resets: Vec<u8> = streams().flat_map(|id| [open(id), reset(id)].concat()).collect();
    // A window of more than 2^31 - 1 breaks the stream, which the host resets.
    let window = [0x7f, 0xff, 0xff, 0xff];
    let errors: Vec<u8> =
        streams().flat_map(|id| [open(id), frame(WINDOW_UPDATE, 0, id, &window)].concat()).collect();
    let endless = [frame(HEADERS, 0, 1, &block), frame(CONTINUATION, 0, 1, b"").repeat(10_000)].concat();
    let empty = [frame(HEADERS, END_HEADERS, 1, &block), frame(DATA, 0, 1, b"").repeat(100_000)].concat();
    let resident = host.resident();
    for (name, bytes) in [
        ("streams that are reset", resets),
        ("streams that break the protocol", errors),
        ("headers without end", endless),
        ("empty data", empty),
    ] {
        let mut peer = Peer::open(&host);
        peer.send(&bytes);
        assert_eq!(peer.end(), Some(ENHANCE_YOUR_CALM), "{name}");
    }
    let grown = host.resident().saturating_sub(resident);
    assert!(grown < 64 << 20, "{} MiB more", grown >> 20);
    assert_eq!(Request::get(&host.path(&key)).send(host.http).unwrap().status, 200);
    publisher.stop();
}

#[test]
fn pings_and_settings_without_end_cost_no_memory() {
    let host = Host::start(&Config::live().limits("handshake_timeout", "\"2s\""));
    let resident = host.resident();
    for (name, one) in [("pings", frame(PING, 0, 0, &[0; 8])), ("settings", frame(SETTINGS, 0, 0, b""))] {
        let mut peer = Peer::open(&host);
        peer.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &get("a.example", "/none")));
        peer.socket.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
        // Nobody reads the answers.
        let many = one.repeat(10_000);
        let sent = (0..100).take_while(|_| peer.socket.write_all(&many).is_ok()).count();
        assert!(sent < 100, "{name}: the host keeps reading although nobody reads its answers");
        let grown = host.resident().saturating_sub(resident);
        assert!(grown < 32 << 20, "{name}: {} MiB more", grown >> 20);
    }
}

/// Beside a live stream, 300 others are reset: after they carried a byte, or while they wait.
#[test]
fn requests_that_are_reset_before_they_carry_a_byte_end_the_connection() {
    let host = Host::start(&Config::live());
    let key = host.key("good");
    let publisher = Publisher::open(host.rtmp, &key).pace(Numbered::new(500));
    let open = |stream, path: &str| frame(HEADERS, END_HEADERS | END_STREAM, stream, &get("a.example", path));
    for (path, useful) in [(host.path(&key), true), (host.path(&host.key("nobody")), false)] {
        let mut peer = Peer::open(&host);
        // The connection's window never closes.
        peer.send(&frame(WINDOW_UPDATE, 0, 0, &(1_u32 << 30).to_be_bytes()));
        peer.send(&open(1, &host.path(&key)));
        assert_eq!(peer.answer(1), 200);
        let closed = (3..603_u32).step_by(2).any(|stream| {
            // The host answers the ping once it has accepted the stream.
            peer.send(&[open(stream, &path), frame(PING, 0, 0, &[0; 8])].concat());
            let is_accepted = |frame: &Frame| match useful {
                true => (frame.kind, frame.stream) == (DATA, stream),
                false => (frame.kind, frame.flags) == (PING, ACK),
            };
            loop {
                match peer.read() {
                    Ok(frame) if is_accepted(&frame) => break,
                    Ok(_) => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => panic!("the host is silent"),
                    Err(_) => return true,
                }
            }
            peer.send(&reset(stream));
            false
        });
        assert_eq!(closed, !useful, "{path}");
    }
    publisher.stop();
}

fn reset(stream: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes())
}
