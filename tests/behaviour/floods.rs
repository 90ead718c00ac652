//! Floods: the viewers of a healthy stream get every frame meanwhile, and the host keeps no memory of the attackers.
//!
//! The floods themselves are in `tests/src/floods.rs`; `tests/soak/floods` measures their cost.

use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::sync::Arc;

use remuxd_tests::floods::{FLOODS, Flood, Target};
use remuxd_tests::host::{Config, Host};
use remuxd_tests::neighbour::Neighbour;
use remuxd_tests::tls::{self, Certificate, Files, Version};
use remuxd_tests::wait::{SOON, wait_until};
use rustls::ClientConnection;
use rustls::pki_types::ServerName;

/// Number of rounds of each flood, from each of two attackers.
const ROUNDS: usize = 10;
/// Limit of the host's memory for peers: 64 MiB, the least.
const LIMIT: u64 = 64 << 20;
/// Resident memory above the budget: the allocator keeps freed memory for seconds, and TLS has buffers of its own.
const SLACK: u64 = 64 << 20;

fn start() -> (Host, Files) {
    let files = Files::of(&Certificate::of(&["127.0.0.1"]));
    let config = Config::live().limits("max_memory", "\"64MiB\"").limits("handshake_timeout", "\"5s\"");
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
    let connect = || {
        let name = ServerName::try_from("unnamed").unwrap();
        ClientConnection::new(config.clone(), name).unwrap()
    };
    let mut client = connect();
    let mut socket = std::net::TcpStream::connect(host.https.unwrap()).unwrap();
    // The tickets of the session come before the answer.
    client.writer().write_all(b"GET /none HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    while client.complete_io(&mut socket).is_ok_and(|(read, _)| read > 0) {}
    assert!(connect().early_data().is_none());
}
