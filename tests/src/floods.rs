//! Floods: what an attacker repeats as fast as the host lets it. Each flood is a list of rounds of bounded length, so that a test
//! can run some of them, and a measurement as many as fit into a time.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, Type};

use crate::host::Host;
use crate::http2::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, PING, PREFACE, RST_STREAM, SETTINGS, WINDOW_UPDATE,
};
use crate::http2::{frame, get};
use crate::rtmp::Connection;
use crate::{tls, websocket};

/// How long a round waits for the host.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is attacked.
#[derive(Clone, Debug)]
pub struct Target {
    /// Address of RTMP.
    pub rtmp: SocketAddr,
    /// Address of HTTP.
    pub http: SocketAddr,
    /// Address of HTTPS.
    pub https: SocketAddr,
    /// Path of a live stream.
    pub path: String,
}

impl Target {
    /// Returns the addresses of a host with HTTPS, and the path of its stream `live/good`.
    ///
    /// # Panics
    /// When HTTPS does not listen.
    #[must_use]
    pub fn of(host: &Host) -> Target {
        let https = host.https.expect("the configuration enables HTTPS");
        Target { rtmp: host.rtmp, http: host.http, https, path: host.path(&host.key("good")) }
    }
}

/// A flood.
#[derive(Clone, Copy, Debug)]
pub struct Flood {
    /// What is sent.
    pub name: &'static str,
    /// Performs a round. An error is the host's refusal: it closes the connection.
    pub round: fn(&Target) -> io::Result<()>,
}

/// The floods by transport.
pub const FLOODS: &[(&str, &[Flood])] = &[
    (
        "connections",
        &[
            Flood { name: "connections that are closed at once", round: connections },
            Flood { name: "RTMP handshakes", round: rtmp_handshakes },
            Flood { name: "slow opens", round: slow_opens },
        ],
    ),
    (
        "TLS",
        &[
            Flood { name: "TLS handshakes", round: tls_handshakes },
            Flood { name: "TLS client hellos, no more", round: client_hellos },
            Flood { name: "TLS key updates", round: key_updates },
        ],
    ),
    (
        "HTTP/2",
        &[
            Flood { name: "HTTP/2 rapid reset", round: rapid_reset },
            Flood { name: "HTTP/2 CONTINUATION", round: continuation },
            Flood { name: "HTTP/2 SETTINGS, answers read", round: settings },
            Flood { name: "HTTP/2 PING, answers read", round: pings },
            Flood { name: "HTTP/2 windows of one byte", round: small_windows },
            Flood { name: "HTTP/2 initial windows that change", round: changing_windows },
            Flood { name: "HTTP/2 empty DATA", round: empty_data },
        ],
    ),
    (
        "WebSocket",
        &[
            Flood { name: "WebSocket pings, answers read", round: websocket_pings },
            Flood { name: "WebSocket fragments of one byte", round: fragments },
            Flood { name: "WebSocket empty fragments", round: empty_fragments },
        ],
    ),
];

fn connections(target: &Target) -> io::Result<()> {
    for _ in 0..20 {
        for address in [target.rtmp, target.http, target.https] {
            let socket = open(address)?;
            // Leaves no port behind that has to wait.
            SockRef::from(&socket).set_linger(Some(Duration::ZERO))?;
        }
    }
    Ok(())
}

fn rtmp_handshakes(target: &Target) -> io::Result<()> {
    for _ in 0..20 {
        Connection::over(open(target.rtmp)?)?.connect("live")?;
    }
    Ok(())
}

/// A hundred connections that say a part of what is needed, and leave.
fn slow_opens(target: &Target) -> io::Result<()> {
    let parts: [(SocketAddr, &[u8]); 4] = [
        (target.rtmp, &[3; 700]),
        (target.http, b"GET /live/good.flv HTTP/1.1\r\nHost: x\r\n"),
        (target.http, b"PRI * HTTP/2.0\r\n"),
        (target.https, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc"),
    ];
    let open = |number: usize| {
        let (address, part) = parts[number % parts.len()];
        let mut socket = open(address)?;
        socket.write_all(part)?;
        Ok(socket)
    };
    (0..100).map(open).collect::<io::Result<Vec<_>>>().map(drop)
}

fn tls_handshakes(target: &Target) -> io::Result<()> {
    (0..5).try_for_each(|_| tls_open(target).map(drop))
}

/// The host answers each with a key exchange and a signature.
fn client_hellos(target: &Target) -> io::Result<()> {
    for _ in 0..5 {
        let mut socket = open(target.https)?;
        socket.write_all(&tls::client_hello())?;
        let length = socket.read(&mut [0; 4096])?;
        if length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(())
}

fn key_updates(target: &Target) -> io::Result<()> {
    let mut stream = tls_open(target)?;
    for _ in 0..200 {
        stream.conn.refresh_traffic_keys().map_err(io::Error::other)?;
        stream.conn.complete_io(&mut stream.sock)?;
    }
    stream.write_all(b"GET /none HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
    stream.read_exact(&mut [0; 12])
}

fn rapid_reset(target: &Target) -> io::Result<()> {
    let block = get("a.example", &target.path);
    let reset = |stream| frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes());
    let open = |stream| frame(HEADERS, END_HEADERS | END_STREAM, stream, &block);
    let all: Vec<u8> = (1..2001_u32).step_by(2).flat_map(|id| [open(id), reset(id)].concat()).collect();
    let mut socket = http2(target)?;
    socket.write_all(&all)?;
    drain(&mut socket)
}

fn continuation(target: &Target) -> io::Result<()> {
    let block = get("a.example", &target.path);
    let mut socket = http2(target)?;
    socket
        .write_all(&[frame(HEADERS, 0, 1, &block), frame(CONTINUATION, 0, 1, b"").repeat(10_000)].concat())?;
    drain(&mut socket)
}

fn empty_data(target: &Target) -> io::Result<()> {
    let block = get("a.example", &target.path);
    let mut socket = http2(target)?;
    socket.write_all(
        &[frame(HEADERS, END_HEADERS, 1, &block), frame(DATA, 0, 1, b"").repeat(10_000)].concat(),
    )?;
    drain(&mut socket)
}

fn settings(target: &Target) -> io::Result<()> {
    answered(target, &frame(SETTINGS, 0, 0, b""), 9)
}

fn pings(target: &Target) -> io::Result<()> {
    answered(target, &frame(PING, 0, 0, &[0; 8]), 17)
}

/// Sends a frame whose answer has this length 20 times 500 times, and reads the answers.
fn answered(target: &Target, frame: &[u8], answer: usize) -> io::Result<()> {
    let mut socket = http2(target)?;
    let (many, mut answers) = (frame.repeat(500), vec![0; answer * 500]);
    for _ in 0..20 {
        socket.write_all(&many)?;
        socket.read_exact(&mut answers)?;
    }
    Ok(())
}

/// A viewer whose window is opened by a byte again and again.
fn small_windows(target: &Target) -> io::Result<()> {
    let mut socket = http2(target)?;
    // SETTINGS_INITIAL_WINDOW_SIZE of 0.
    socket.write_all(&frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]))?;
    socket.write_all(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &get("a.example", &target.path)))?;
    let update = frame(WINDOW_UPDATE, 0, 1, &1_u32.to_be_bytes());
    let ping = frame(PING, 0, 0, &[0; 8]);
    for _ in 0..20 {
        // The answer to the ping shows that the host has read them.
        socket.write_all(&[update.repeat(500), ping.clone()].concat())?;
        socket.read_exact(&mut [0; 17])?;
    }
    Ok(())
}

/// A viewer whose initial window changes between nothing and much.
fn changing_windows(target: &Target) -> io::Result<()> {
    let mut socket = http2(target)?;
    socket.write_all(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &get("a.example", &target.path)))?;
    let size = |size: u32| frame(SETTINGS, 0, 0, &[&[0, 4][..], &size.to_be_bytes()].concat());
    let both = [size(0), size(65_535)].concat().repeat(100);
    for _ in 0..20 {
        socket.write_all(&both)?;
        socket.read_exact(&mut [0; 9 * 200])?;
    }
    Ok(())
}

fn websocket_pings(target: &Target) -> io::Result<()> {
    let ping = [&[0x89, 0x80 | 125, 0, 0, 0, 0][..], &[7; 125]].concat().repeat(50);
    websocket_with(target, &ping, 127 * 50)
}

/// A message of 1000 fragments of a byte; 20 times, each followed by a ping.
fn fragments(target: &Target) -> io::Result<()> {
    fragments_of(target, b"x")
}

fn empty_fragments(target: &Target) -> io::Result<()> {
    fragments_of(target, b"")
}

fn fragments_of(target: &Target, data: &[u8]) -> io::Result<()> {
    let fragment = |first: u8| [&[first, 0x80 | data.len() as u8, 0, 0, 0, 0][..], data].concat();
    let message = [fragment(0x02), fragment(0x00).repeat(998), fragment(0x80)].concat();
    let ping = [0x89, 0x80, 0, 0, 0, 0];
    websocket_with(target, &[&message[..], &ping].concat(), 2)
}

/// Sends bytes over a WebSocket 20 times, and reads at least so many bytes after each.
fn websocket_with(target: &Target, bytes: &[u8], answer: usize) -> io::Result<()> {
    let url = format!("ws://{}{}", target.http, target.path);
    let (mut socket, _) = websocket::open_over(open(target.http)?, &url, &[]).map_err(io::Error::other)?;
    let socket = socket.get_mut();
    for _ in 0..20 {
        socket.write_all(bytes)?;
        socket.read_exact(&mut vec![0; answer])?;
    }
    Ok(())
}

/// Connects from 127.0.0.2, so that the limits of an address do not count for the neighbour.
fn open(address: SocketAddr) -> io::Result<TcpStream> {
    open_from(Ipv4Addr::new(127, 0, 0, 2), address)
}

/// Connects from an address of this machine.
///
/// # Errors
/// The socket's.
pub fn open_from(from: Ipv4Addr, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((from, 0)).into())?;
    socket.connect(&to.into())?;
    socket.set_tcp_nodelay(true)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.set_write_timeout(Some(PATIENCE))?;
    Ok(socket.into())
}

fn tls_open(target: &Target) -> io::Result<tls::Stream> {
    tls::handshake(open(target.https)?, None, tls::Version::Tls13, &[])
}

fn http2(target: &Target) -> io::Result<TcpStream> {
    let mut socket = open(target.http)?;
    socket.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, b"")].concat())?;
    Ok(socket)
}

/// Reads to the end of the connection.
fn drain(socket: &mut TcpStream) -> io::Result<()> {
    let mut buffer = [0; 16384];
    while socket.read(&mut buffer)? > 0 {}
    Ok(())
}
