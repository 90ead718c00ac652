//! Each key of `[limits]` for connections, rates, timeouts, message sizes and memory over a reload: clients that come later find
//! the new value, those that were there keep the old one, and a viewer that watches misses nothing.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use remuxd_tests::capture::Capture;
use remuxd_tests::host::{Config, Host};
use remuxd_tests::http::{Request, Response};
use remuxd_tests::publisher::{Numbered, Publisher};
use remuxd_tests::rtmp::{Amf, Connection, Message, SET_CHUNK_SIZE, type0};
use remuxd_tests::socket::{connect_from, connect_narrow};
use remuxd_tests::wait::{SOON, poll_for, wait_until};

use crate::reload_listeners::Watched;

/// Starts a host with `old` as the value of a key, reloads it with `new`, and calls `before` and `after` with it; what `before`
/// returns are clients that came before the reload.
fn reloaded<T>(
    config: Config,
    key: &str,
    [old, new]: [&str; 2],
    before: impl FnOnce(&Host) -> T,
    after: impl FnOnce(&Host, T),
) {
    let config = config.limits(key, old);
    let scene = Watched::new(&config);
    let there = before(&scene.host);
    scene.reload_showing(&config.limits(key, new), &[&format!("limits.{key}: ")]);
    after(&scene.host, there);
    scene.finish();
}

/// Connects from 127.0.0.`address`.
fn connect(address: u8, listener: SocketAddr) -> TcpStream {
    connect_from([127, 0, 0, address], listener)
}

/// Whether the host answers a request over this connection. It closes a connection over a limit at once.
fn answers(socket: TcpStream) -> bool {
    let head = Request::get("/healthz").send_over(socket);
    head.and_then(Response::text).is_ok_and(|body| body == "ok\n")
}

/// Waits until the host closes a connection that it may have answered.
fn closes(mut socket: &TcpStream) {
    socket.set_read_timeout(Some(SOON)).unwrap();
    loop {
        match socket.read(&mut [0; 4096]) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) => {
                let reset = [ErrorKind::ConnectionReset, ErrorKind::BrokenPipe].contains(&error.kind());
                return assert!(reset, "the host keeps the connection: {error}");
            }
        }
    }
}

/// Whether the host has not closed a connection.
fn is_open(mut socket: &TcpStream) -> bool {
    socket.set_nonblocking(true).unwrap();
    loop {
        match socket.read(&mut [0; 4096]) {
            Ok(0) => return false,
            Ok(_) => {}
            Err(error) => return error.kind() == ErrorKind::WouldBlock,
        }
    }
}

#[test]
fn max_connections_holds_for_those_that_come_later() {
    let before = |host: &Host| connect(9, host.http);
    reloaded(Config::live(), "max_connections", ["100000", "2"], before, |host, there| {
        // The publisher and the viewer are two already.
        assert!([1, 9].into_iter().all(|address| !answers(connect(address, host.http))));
        assert!(answers(there));
    });
}

#[test]
fn max_connections_per_address_holds_for_those_that_come_later() {
    let before = |host: &Host| connect(1, host.http);
    reloaded(Config::live(), "max_connections_per_address", ["4096", "2"], before, |host, there| {
        assert!(!answers(connect(1, host.http)) && answers(connect(9, host.http)));
        assert!(answers(there));
    });
}

#[test]
fn accept_rate_holds_for_those_that_come_later() {
    let answered = |host: &Host| (0..20).filter(|_| answers(connect(9, host.http))).count();
    let before = |host: &Host| assert_eq!(answered(host), 20);
    reloaded(Config::live(), "accept_rate", ["0", "2"], before, |host, ()| {
        wait_until(SOON, "the next second", || answers(connect(9, host.http)));
        let count = answered(host);
        assert!(count < 20, "{count} of 20");
        assert!(answers(connect(8, host.http)), "another address");
    });
}

#[test]
fn receive_rate_holds_for_those_that_come_later() {
    // Eight times 1 KiB: 4 s of the new rate at once, and what follows waits for 3 s more, since a read may exceed what is left.
    let request = format!("GET /healthz HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(980));
    let time = |mut socket: TcpStream| {
        let began = Instant::now();
        socket.set_read_timeout(Some(SOON)).unwrap();
        for _ in 0..8 {
            socket.write_all(request.as_bytes()).unwrap();
            let mut answer = Vec::new();
            while !answer.ends_with(b"\r\n\r\nok\n") {
                let mut piece = [0; 4096];
                let length = socket.read(&mut piece).unwrap();
                assert!(length > 0, "{}", String::from_utf8_lossy(&answer));
                answer.extend(&piece[..length]);
            }
        }
        began.elapsed()
    };
    let before = |host: &Host| connect(9, host.http);
    reloaded(Config::live(), "receive_rate", ["0", "\"1KiB\""], before, |host, there| {
        let [unlimited, limited] = [there, connect(9, host.http)].map(time);
        assert!(limited > Duration::from_millis(1500) && unlimited < limited, "{unlimited:?}, {limited:?}");
    });
}

#[test]
fn handshake_timeout_holds_for_those_that_come_later() {
    let silent = |host: &Host| [host.http, host.rtmp].map(|listener| connect(9, listener));
    reloaded(Config::live(), "handshake_timeout", ["\"1h\"", "\"1s\""], silent, |host, there| {
        silent(host).iter().for_each(closes);
        assert!(there.iter().all(is_open));
    });
}

#[test]
fn media_timeout_holds_for_those_that_come_later() {
    // What a request adds to the timeout.
    let config = Config::live().publish("firstpkt_timeout", "\"1s\"").publish("normal_timeout", "\"2s\"");
    // A publisher that has sent media, and publishes no more.
    let idle = |host: &Host, name: &str| {
        let mut publisher = Publisher::open(host.rtmp, &host.key(name));
        publisher.send(&Numbered::new(500).headers());
        publisher.connection().command(1, "closeStream", &[Amf::Null]).unwrap();
        publisher
    };
    let before = |host: &Host| idle(host, "there");
    reloaded(config, "media_timeout", ["\"1h\"", "\"1s\""], before, |host, mut there| {
        let mut late = idle(host, "late");
        let address = late.connection().local_addr().to_string();
        closes(late.connection().socket());
        host.wait_log(&["rtmp connection closed", &address, "no media in time"]);
        assert!(is_open(there.connection().socket()));
    });
}

#[test]
fn send_timeout_holds_for_those_that_come_later() {
    let stalled = |host: &Host| {
        let request = Request::get(&host.path(&host.key("large")));
        request.send_over(connect_narrow(host.http)).unwrap()
    };
    let before = |host: &Host| {
        let publisher = Publisher::open(host.rtmp, &host.key("large")).pace(Numbered::new(200_000));
        (publisher, stalled(host))
    };
    reloaded(Config::live(), "send_timeout", ["\"1h\"", "\"1s\""], before, |host, (publisher, there)| {
        let late = stalled(host);
        let address = |response: &Response| response.body.socket().local_addr().unwrap();
        assert_ne!(address(&there), address(&late));
        host.wait_log(&["session ended", "outcome=\"stalled\"", "no progress for 1 s"]);
        // That one, and the viewer that misses nothing.
        host.wait_viewers(2);
        assert_eq!(host.log().matches("no progress for").count(), 1);
        drop(there);
        publisher.stop();
    });
}

#[test]
fn max_message_holds_for_those_that_come_later() {
    let open = |host: &Host| {
        let mut connection = Connection::open(host.rtmp).unwrap();
        connection.connect("live").unwrap();
        connection
    };
    // A message of a kind that the host ignores.
    let message = Message { kind: 99, stream: 0, timestamp: 0, payload: vec![0; 100_000] };
    reloaded(Config::live(), "max_message", ["\"16MiB\"", "\"64KiB\""], open, |host, mut there| {
        there.write(5, &message).unwrap();
        there.create_stream().unwrap();
        let mut late = open(host);
        let address = late.local_addr().to_string();
        // The host may close before the last byte.
        let _ = late.write(5, &message);
        host.wait_log(&["rtmp connection closed", &address, "message of 100000 bytes, limit 65536"]);
        closes(late.socket());
    });
}

#[test]
fn max_buffered_holds_for_those_that_come_later() {
    const CHUNK: usize = 40_000;
    const LENGTH: usize = 60_000;
    let open = |host: &Host| {
        let mut connection = Connection::open(host.rtmp).unwrap();
        connection.connect("live").unwrap();
        let payload = (CHUNK as u32).to_be_bytes().to_vec();
        connection.write(2, &Message { kind: SET_CHUNK_SIZE, stream: 0, timestamp: 0, payload }).unwrap();
        connection
    };
    // Two messages of a kind that the host ignores, each the first of its two chunks.
    let begin = |connection: &mut Connection| {
        [5, 6].into_iter().try_for_each(|chunk_stream| {
            let header = type0(chunk_stream, 99, 0, 0, LENGTH as u32);
            connection.write_raw(&[header, vec![0; CHUNK]].concat())
        })
    };
    let config = Config::live().limits("max_message", "\"64KiB\"");
    reloaded(config, "max_buffered", ["\"32MiB\"", "\"64KiB\""], open, |host, mut there| {
        begin(&mut there).unwrap();
        for chunk_stream in [5, 6] {
            there.write_raw(&[&[0xc0 | chunk_stream][..], &[0; LENGTH - CHUNK]].concat()).unwrap();
        }
        there.create_stream().unwrap();
        let mut late = open(host);
        let address = late.local_addr().to_string();
        // The host may close before the last byte.
        let _ = begin(&mut late);
        host.wait_log(&[
            "rtmp connection closed",
            &address,
            "unfinished messages of 80000 bytes, limit 65536",
        ]);
        closes(late.socket());
    });
}

#[test]
fn max_memory_holds_at_once() {
    // Whether the host keeps a GOP of 25 MiB, more than a third of the new limit, until a viewer has all of it.
    let keeps = |host: &Host, address: u8| {
        let key = host.key(&format!("huge{address}"));
        let (mut publisher, _) = Publisher::try_open_over(connect(address, host.rtmp), &key).unwrap();
        let viewer = Capture::http(host, &key);
        let mut media = Numbered::new(1 << 20);
        let tags = [media.headers(), media.frames(Numbered::GOP)].concat();
        // The host may close meanwhile.
        let _ = tags.iter().try_for_each(|tag| publisher.try_send(tag));
        let last = || Numbered::numbers(&viewer.tags()).last() == Some(&(Numbered::GOP - 1));
        let seen = poll_for(SOON, || if last() { Some(true) } else { viewer.end().map(|_| false) });
        seen.expect("the viewer gets all, or an end")
    };
    let before = |host: &Host| assert!(keeps(host, 8));
    reloaded(Config::live(), "max_memory", ["\"1GiB\"", "\"64MiB\""], before, |host, ()| {
        assert!(!keeps(host, 9));
        host.wait_log(&["rtmp connection closed", "127.0.0.9", "limits.max_memory"]);
        wait_until(SOON, "its memory is free", || host.metric("remuxd_streams") == 1);
    });
}
