//! Floods: the viewers of a healthy stream get every frame meanwhile, and the host keeps no memory of the attackers.
//!
//! The floods themselves are in `tests/src/floods.rs`; `tests/soak/floods` measures their cost. What a client may send in a
//! second is without limit for them, so that the other limits are tested too.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use remuxd_tests::floods::{self, FLOODS, Flood, Target};
use remuxd_tests::host::{Config, Host};
use remuxd_tests::http2::{PING, PREFACE, SETTINGS, frame};
use remuxd_tests::neighbour::Neighbour;
use remuxd_tests::tls::{self, Certificate, Files, Version};
use remuxd_tests::wait::{SOON, wait_until};
use remuxd_tests::websocket;
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, HandshakeKind};
use tungstenite::Message;

/// Number of rounds of each flood, from each of two attackers.
const ROUNDS: usize = 10;
/// Limit of the host's memory for peers: 64 MiB, the least.
const LIMIT: u64 = 64 << 20;
/// Resident memory above the budget: the allocator keeps freed memory for seconds, and TLS has buffers of its own.
const SLACK: u64 = 64 << 20;

fn start() -> (Host, Files) {
    let files = Files::of(&Certificate::of(&["127.0.0.1"]));
    let config = Config::live().limits("max_memory", "\"64MiB\"").limits("handshake_timeout", "\"5s\"");
    let config = config.limits("receive_rate", "0");
    (Host::start(&config.tables(&files.listeners())), files)
}

/// Returns the bytes of memory that are charged.
fn charged(host: &Host) -> u64 {
    let kinds = ["connections", "messages", "output"];
    kinds.iter().map(|kind| host.metric(&format!("remuxd_memory_used_bytes{{kind=\"{kind}\"}}"))).sum()
}

fn withstands(transport: &str) {
    let (_, floods) = FLOODS.iter().find(|(name, _)| *name == transport).unwrap();
    let (host, _files) = start();
    let neighbour = Neighbour::start(&host);
    let (target, descriptors, resident) = (Target::of(&host), host.descriptors(), host.resident());
    for Flood { name, round } in *floods {
        std::thread::scope(|scope| {
            for _ in 0..2 {
                // The host may close each connection.
                scope.spawn(|| (0..ROUNDS).for_each(|_| drop(round(&target))));
            }
        });
        neighbour.goes_on(name);
        let (charged, grown) = (charged(&host), host.resident().saturating_sub(resident));
        assert!(charged < LIMIT, "{name}: {} MiB are charged", charged >> 20);
        assert!(grown < LIMIT + SLACK, "{name}: {} MiB more", grown >> 20);
    }
    wait_until(SOON, "the host closes what the floods opened", || host.descriptors() <= descriptors);
    neighbour.finish();
}

#[test]
fn floods_of_connections_take_nothing_from_others() {
    withstands("connections");
}

#[test]
fn floods_of_tls_take_nothing_from_others() {
    withstands("TLS");
}

#[test]
fn floods_of_http_2_take_nothing_from_others() {
    withstands("HTTP/2");
}

#[test]
fn floods_of_websocket_frames_take_nothing_from_others() {
    withstands("WebSocket");
}

/// Frames whose answers are read cost the host no memory, only CPU time.
#[test]
fn frames_are_read_at_the_rate_of_their_address() {
    const RATE: usize = 32 << 10;
    /// What may come at once, and 2 seconds more.
    const SENT: usize = (4 + 2) * RATE;
    let host = Host::start(&Config::live().limits("receive_rate", "\"32KiB\""));
    let neighbour = Neighbour::start(&host);
    let path = host.path(&host.key("good"));
    let rows: [(&str, &dyn Fn()); 2] = [
        ("HTTP/2 pings", &|| {
            // Two connections share the rate of their address.
            let sockets = [(), ()].map(|()| floods::open_from([127, 0, 0, 3].into(), host.http).unwrap());
            send_pings(sockets, SENT);
        }),
        ("WebSocket pings", &|| {
            let socket = floods::open_from([127, 0, 0, 4].into(), host.http).unwrap();
            let url = format!("ws://{}{path}", host.http);
            let (mut socket, _) = websocket::open_over(socket, &url, &[]).unwrap();
            for _ in 0..SENT / (50 * 106) {
                for _ in 0..50 {
                    socket.write(Message::Ping(vec![7; 100].into())).unwrap();
                }
                socket.flush().unwrap();
                let mut answers = 0;
                while answers < 50 {
                    answers += usize::from(socket.read().unwrap().is_pong());
                }
            }
        }),
    ];
    for (name, flood) in rows {
        let started = Instant::now();
        flood();
        // A 64th of what is sent adds to the rate.
        assert!(started.elapsed() > Duration::from_millis(1700), "{name}: {:?}", started.elapsed());
        neighbour.goes_on(name);
    }
    neighbour.finish();
}

#[test]
fn renegotiation_is_refused() {
    let (host, _files) = start();
    let neighbour = Neighbour::start(&host);
    for _ in 0..5 {
        let mut command = Command::new("openssl");
        command.args(["s_client", "-tls1_2", "-connect", &host.https.unwrap().to_string()]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut client = command.spawn().unwrap();
        // `R` renegotiates; the input stays open until the client ends.
        let mut input = client.stdin.take().unwrap();
        input.write_all(b"R\n").unwrap();
        let mut printed = String::new();
        client.stderr.take().unwrap().read_to_string(&mut printed).unwrap();
        assert!(!client.wait().unwrap().success() && printed.contains("no renegotiation"), "{printed}");
    }
    neighbour.finish();
}

/// Requests in early data could be replayed.
#[test]
fn early_data_is_not_accepted() {
    let (host, _files) = start();
    let mut config = tls::client_config(false, Version::Tls13, &[]);
    config.enable_early_data = true;
    let config = Arc::new(config);
    // Returns the client after a request and its answer, and whether it was allowed to send early data.
    let connect = || {
        let name = ServerName::try_from("unnamed").unwrap();
        let mut client = ClientConnection::new(config.clone(), name).unwrap();
        let may_be_early = client.early_data().is_some();
        let mut socket = std::net::TcpStream::connect(host.https.unwrap()).unwrap();
        client.writer().write_all(b"GET /none HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = Vec::new();
        // The tickets of the session come before the answer.
        while client.complete_io(&mut socket).is_ok_and(|(read, _)| read > 0) {
            // Ends with an error, since more may come.
            let _ = client.reader().read_to_end(&mut answer);
        }
        assert!(answer.starts_with(b"HTTP/1.1 404"), "{}", String::from_utf8_lossy(&answer));
        (client, may_be_early)
    };
    let (first, _) = connect();
    assert_eq!(first.handshake_kind(), Some(HandshakeKind::Full));
    let (second, may_be_early) = connect();
    assert_eq!(second.handshake_kind(), Some(HandshakeKind::Resumed), "a client of the same session");
    assert!(!may_be_early && !second.is_early_data_accepted(), "the ticket allows no early data");
}

/// A trusted proxy sends the requests of many clients. Limited to 1 KiB/s, it would need a minute.
#[test]
fn a_trusted_proxy_is_read_without_a_rate() {
    let config = Config::live().limits("receive_rate", "\"1KiB\"");
    let host = Host::start(&config.tables("[proxy]\ntrusted = [\"127.0.0.3\"]\n"));
    let sockets = [(), ()].map(|()| floods::open_from([127, 0, 0, 3].into(), host.http).unwrap());
    let started = Instant::now();
    send_pings(sockets, 64 << 10);
    assert!(started.elapsed() < Duration::from_secs(30), "{:?}", started.elapsed());
}

/// Sends HTTP/2 pings of `len` bytes in all over two connections, and reads the answers.
fn send_pings(mut sockets: [TcpStream; 2], len: usize) {
    let pings = frame(PING, 0, 0, &[0; 8]).repeat(200);
    for socket in &mut sockets {
        socket.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, b"")].concat()).unwrap();
    }
    for number in 0..len / pings.len() {
        let socket = &mut sockets[number % 2];
        socket.write_all(&pings).unwrap();
        socket.read_exact(&mut vec![0; pings.len()]).unwrap();
    }
}
