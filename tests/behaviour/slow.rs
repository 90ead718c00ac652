//! Slow peers: slow to open, slow to read.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::pin::Pin;
use std::time::{Duration, Instant};

use hyper::body::{Body as _, Incoming};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use remuxd_tests::capture::Capture;
use remuxd_tests::compare::check_order;
use remuxd_tests::flv::Reader;
use remuxd_tests::host::{Config, Host};
use remuxd_tests::http::Request;
use remuxd_tests::publisher::{Numbered, Publisher};
use remuxd_tests::rtmp::Connection;
use remuxd_tests::socket::connect_narrow;
use remuxd_tests::wait::{SOON, wait_until};

/// Returns the time after which the host closes the connection.
fn lifetime(mut socket: TcpStream, opened: Instant) -> Duration {
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut buffer = [0; 4096];
    // The host may answer first; a reset counts as an end.
    while socket.read(&mut buffer).is_ok_and(|length| length > 0) {
        assert!(opened.elapsed() < Duration::from_secs(20), "the host keeps the connection open");
    }
    opened.elapsed()
}

#[test]
fn slow_opens_are_closed_by_the_deadline() {
    let host = Host::start(&Config::live().limits("handshake_timeout", "\"1s\""));
    let raw = |address: SocketAddr, bytes: &[u8]| {
        let opened = Instant::now();
        let mut socket = TcpStream::connect(address).unwrap();
        socket.write_all(bytes).unwrap();
        (socket, opened)
    };
    let after_handshake = |connects: bool| {
        let opened = Instant::now();
        let mut connection = Connection::open(host.rtmp).unwrap();
        if connects {
            connection.connect("live").unwrap();
        }
        (connection.socket().try_clone().unwrap(), opened)
    };
    let cases = [
        ("HTTP, nothing", raw(host.http, b"")),
        ("HTTP, half a head", raw(host.http, b"GET /live/x.flv HTTP/1.1\r\nHost: x\r\n")),
        ("HTTP/2 preface only", raw(host.http, b"PRI * HTTP/2.0\r\n\r\n")),
        ("RTMP, nothing", raw(host.rtmp, b"")),
        ("RTMP, half a C1", raw(host.rtmp, &[3; 700])),
        ("RTMP, no connect", after_handshake(false)),
        ("RTMP, no publish or play", after_handshake(true)),
    ];
    for (name, (socket, opened)) in cases {
        let took = lifetime(socket, opened);
        assert!(took > Duration::from_millis(900) && took < Duration::from_secs(6), "{name}: {took:?}");
    }
}

#[test]
fn a_trickle_does_not_extend_the_deadline() {
    let host = Host::start(&Config::live().limits("handshake_timeout", "\"1s\""));
    for address in [host.http, host.rtmp] {
        let opened = Instant::now();
        let mut socket = TcpStream::connect(address).unwrap();
        let mut trickle = socket.try_clone().unwrap();
        let writer = std::thread::spawn(move || {
            let mut bytes = b"\x03GET / HTTP/1.1\r\nX: ".iter().chain(std::iter::repeat(&b'y'));
            while trickle.write_all(&[*bytes.next().unwrap()]).is_ok()
                && opened.elapsed() < Duration::from_secs(20)
            {
                std::thread::sleep(Duration::from_millis(50));
            }
        });
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        while socket.read(&mut [0; 4096]).is_ok_and(|length| length > 0) {}
        let took = opened.elapsed();
        assert!(took < Duration::from_secs(6), "{address}: {took:?}");
        // Ends the writer, if the host has not yet.
        let _ = socket.shutdown(Shutdown::Both);
        writer.join().unwrap();
    }
}

#[test]
fn a_slow_viewer_jumps_to_a_keyframe() {
    let host = Host::start(&Config::live().play("queue_length", "\"2s\""));
    let key = host.key("slow");
    let mut publisher = Publisher::open(host.rtmp, &key);
    let mut media = Numbered::new(100_000);
    publisher.send(&media.headers());
    publisher.send(&media.frames(2));
    let mut response = Request::get(&host.path(&key)).send_over(connect_narrow(host.http)).unwrap();
    assert_eq!(response.status, 200);
    // 40 MB, sixteen seconds of media: more than kernel buffers and ring hold. The mount keeps up.
    let keeps_up = Capture::http(&host, &key);
    for _ in 0..16 {
        publisher.send(&media.frames(25));
        let last = media.number() - 1;
        keeps_up.wait_until(SOON, "the last frame", |tags| Numbered::numbers(tags).last() == Some(&last));
    }
    let last = media.number() - 1;
    let mut reader = Reader::default();
    let mut buffer = vec![0; 65536];
    while Numbered::numbers(reader.tags()).last() != Some(&last) {
        let length = response.body.read(&mut buffer).unwrap();
        assert!(length > 0, "ended");
        reader.push(&buffer[..length]).unwrap();
    }
    check_order(reader.tags()).unwrap();
    let numbers = Numbered::numbers(reader.tags());
    let jumps: Vec<[u32; 2]> =
        numbers.windows(2).map(|pair| [pair[0], pair[1]]).filter(|[a, b]| a + 1 != *b).collect();
    assert!(!jumps.is_empty(), "{} frames and no jump", numbers.len());
    assert!(jumps.iter().all(|[_, to]| to.is_multiple_of(Numbered::GOP)), "{jumps:?}");
    assert_eq!(host.count("skips", Some("flv")), jumps.len() as u64);
    assert_eq!(host.metric("remuxd_module_skips_total{module=\"flv\"}"), jumps.len() as u64);
    let status = host.command(&["status"]);
    let status = String::from_utf8_lossy(&status.stdout);
    let row = status.lines().find(|row| row.starts_with("flv ")).unwrap();
    assert_eq!(row.split_whitespace().nth(6), Some(&*jumps.len().to_string()), "{status}");
    // Memory depends on the stream's window, not on the viewer's backlog.
    assert!(host.resident() < 200 << 20, "{} MiB", host.resident() >> 20);
}

#[test]
fn a_viewer_that_takes_nothing_is_closed() {
    let host = Host::start(&Config::live().limits("send_timeout", "\"1s\""));
    let key = host.key("stalled");
    let publisher = Publisher::open(host.rtmp, &key).pace(Numbered::new(200_000));
    let good = Capture::http(&host, &key);
    good.wait_access_units(10, SOON);
    let before = host.descriptors();
    let mut stalled = Request::get(&host.path(&key)).send_over(connect_narrow(host.http)).unwrap();
    wait_until(SOON, "the viewer's socket is there", || host.descriptors() > before);
    wait_until(SOON * 2, "the viewer's socket is gone", || host.descriptors() <= before);
    let mut rest = Vec::new();
    let end = stalled.body.read_to_end(&mut rest);
    assert!(end.is_err() && !stalled.body.is_whole(), "a stalled viewer is no clean end");
    assert_eq!(good.end(), None, "the other viewer stays");
    publisher.stop();
}

/// Returns the length of the next piece of a body; `None` when its stream is reset.
async fn next_piece(body: &mut Incoming) -> Option<usize> {
    match std::future::poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await {
        Some(Ok(frame)) => Some(frame.data_ref().map_or(0, |data| data.len())),
        Some(Err(_)) => None,
        None => panic!("a clean end"),
    }
}

#[test]
fn an_http_2_stream_that_takes_nothing_is_reset() {
    let debug = "[log]\nlevel = \"info,remuxd::net=debug\"";
    let host = Host::start(&Config::live().limits("send_timeout", "\"1s\"").tables(debug));
    let key = host.key("window");
    let publisher = Publisher::open(host.rtmp, &key).pace(Numbered::new(20_000));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let socket = tokio::net::TcpStream::connect(host.http).await.unwrap();
        // The connection's window never closes, and its pings are answered: only the stream's does.
        let connection = http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(65_535)
            .initial_connection_window_size(1 << 24)
            .handshake::<_, String>(TokioIo::new(socket));
        let (mut requests, connection) = connection.await.unwrap();
        tokio::spawn(connection);
        let request = || hyper::Request::get(host.http_url(&key)).body(String::new()).unwrap();
        let mut stalled = requests.send_request(request()).await.unwrap().into_body();
        let mut other = requests.send_request(request()).await.unwrap().into_body();
        let opened = Instant::now();
        while !host.log().contains("an HTTP/2 stream is reset") {
            next_piece(&mut other).await.unwrap();
            assert!(opened.elapsed() < SOON, "the host keeps the connection open");
        }
        assert!(opened.elapsed() > Duration::from_millis(900), "{:?}", opened.elapsed());
        let mut received = 0;
        while let Some(length) = next_piece(&mut stalled).await {
            received += length;
        }
        assert!(received <= 65_535, "{received}");
        host.wait_log(&["session ended", "outcome=\"stalled\"", "no progress for 1 s"]);
        // The other streams of the connection continue.
        next_piece(&mut other).await.unwrap();
        let mut again = requests.send_request(request()).await.unwrap().into_body();
        next_piece(&mut again).await.unwrap();
        assert_eq!(host.log().matches("an HTTP/2 stream is reset").count(), 1);
    });
    publisher.stop();
}
