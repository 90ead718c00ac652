//! WebSocket viewers as connections: limits, shutdown, and close codes for protocol errors.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use remuxd_tests::host::{Config, Host};
use remuxd_tests::http::Request;
use remuxd_tests::publisher::{Numbered, Publisher};
use remuxd_tests::socket::connect_narrow;
use remuxd_tests::wait::{SOON, wait_until};
use remuxd_tests::websocket::{self, Socket};
use tungstenite::Message;

/// Starts a host with a live stream of `frames` frames.
fn live(config: &Config, media: &mut Numbered, frames: u32) -> (Host, String, Publisher) {
    let host = Host::start(config);
    let key = host.key("live");
    let mut publisher = Publisher::open(host.rtmp, &key);
    publisher.send(&media.headers());
    publisher.send(&media.frames(frames));
    (host, key, publisher)
}

/// Reads up to the close frame and returns its code. Then the connection must end cleanly.
fn close_code(socket: &mut Socket) -> Result<u16, String> {
    loop {
        match socket.read() {
            Ok(Message::Close(Some(frame))) => {
                let code = frame.code.into();
                // Sends the answer; the host may have closed by then.
                let _ = socket.flush();
                return match socket.get_mut().read(&mut [0]) {
                    Ok(0) => Ok(code),
                    other => Err(format!("after {code}: {other:?}")),
                };
            }
            Ok(_) => {}
            Err(error) => return Err(error.to_string()),
        }
    }
}

#[test]
fn a_viewer_counts_as_a_connection_until_it_leaves() {
    // The publisher and two viewers.
    let config = Config::live().limits("max_connections", "3");
    let (host, key, _publisher) = live(&config, &mut Numbered::new(500), 10);
    let path = host.path(&key);
    let [mut leaver, _stayer] = [(); 2].map(|()| websocket::open(host.http, &path, &[]).unwrap().0);
    let status = || Request::get("/none").send(host.http).map(|response| response.status);
    assert!(status().is_err(), "a fourth connection is served");
    host.wait_log(&["connection refused", "limits.max_connections"]);
    leaver.close(None).unwrap();
    assert!(std::iter::from_fn(|| Some(leaver.read())).find_map(Result::err).is_some());
    wait_until(SOON, "there is room again", || status().is_ok_and(|status| status == 404));
}

#[test]
fn a_host_that_stops_lets_a_slow_viewer_have_the_rest() {
    let (mut host, key, publisher) = live(&Config::live(), &mut Numbered::new(400_000), 24);
    let (mut socket, _) = websocket::open_over(connect_narrow(host.http), &host.ws_url(&key), &[]).unwrap();
    // More than all buffers on the way can take.
    let reader = std::thread::spawn({
        let port = host.http.port();
        move || {
            wait_until(SOON, "the host stops listening", || TcpStream::connect(("127.0.0.1", port)).is_err());
            close_code(&mut socket)
        }
    });
    assert!(host.terminate().success());
    assert_eq!(reader.join().unwrap(), Ok(1000));
    drop(publisher);
}

/// Returns a masked frame with a mask of zeros.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        length @ ..126 => frame.push(0x80 | length as u8),
        length => {
            frame.push(0x80 | 126);
            frame.extend((length as u16).to_be_bytes());
        }
    }
    [&frame[..], &[0; 4], payload].concat()
}

#[test]
fn a_protocol_error_is_answered_by_its_close_code() {
    let (host, key, _publisher) = live(&Config::live(), &mut Numbered::new(500), 10);
    let long = vec![b'x'; 40_000];
    let rows: [(&str, Vec<u8>, u16); 14] = [
        ("an unmasked frame", b"\x82\x03abc".to_vec(), 1002),
        ("a reserved bit", frame(0xc2, b"abc"), 1002),
        ("a reserved opcode", frame(0x83, b"abc"), 1002),
        ("a reserved control opcode", frame(0x8b, b""), 1002),
        ("a fragmented ping", frame(0x09, b""), 1002),
        ("a ping of 126 bytes", frame(0x89, &[0; 126]), 1002),
        ("a continuation of nothing", frame(0x80, b"abc"), 1002),
        ("a message in a message", [frame(0x02, b"a"), frame(0x82, b"b")].concat(), 1002),
        ("a close frame of one byte", frame(0x88, b"\x03"), 1002),
        ("a close code that must not be sent", frame(0x88, b"\x03\xed"), 1002),
        ("a reason that is no UTF-8", frame(0x88, b"\x03\xe8\xff"), 1007),
        ("text that is no UTF-8", frame(0x81, b"\xff"), 1007),
        ("a frame of 2^62 bytes", [&[0x82, 0xff, 0x40][..], &[0; 7], &[0; 4096]].concat(), 1009),
        ("fragments of 80,000 bytes", [frame(0x02, &long), frame(0x80, &long)].concat(), 1009),
    ];
    for (name, bytes, code) in rows {
        let (mut socket, _) = websocket::open(host.http, &host.path(&key), &[]).unwrap();
        socket.get_mut().write_all(&bytes).unwrap();
        // The host ignores everything after that.
        let _ = socket.get_mut().write_all(&[0xff; 100_000]);
        let written = Instant::now();
        assert_eq!(close_code(&mut socket), Ok(code), "{name}");
        assert!(written.elapsed() < Duration::from_secs(10), "{name}: {:?}", written.elapsed());
    }
}
