//! HTTPS, WSS and RTMPS: every version and protocol, and misbehaving peers.

use std::collections::HashSet;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use remuxd_tests::audio::{read_adts, read_mp3};
use remuxd_tests::browser::{self, Player};
use remuxd_tests::capture::{Capture, End};
use remuxd_tests::clip::Clip;
use remuxd_tests::compare::{Coverage, check_order, compare, compare_units};
use remuxd_tests::decode::decode;
use remuxd_tests::encoder::{Encoder, publish_looped};
use remuxd_tests::flv::{Reader, Tag, read_file};
use remuxd_tests::host::{Config, Host};
use remuxd_tests::publisher::{Numbered, Publisher};
use remuxd_tests::scratch::Scratch;
use remuxd_tests::socket::connect_narrow;
use remuxd_tests::tls::{self, Certificate, Files, Version};
use remuxd_tests::tool::{Ffmpeg, run};
use remuxd_tests::ts::{self, Stream};
use remuxd_tests::wait::{SOON, wait_until};

/// Starts a host with TLS and a certificate for 127.0.0.1.
pub(crate) fn start() -> (Host, Files) {
    start_with(Config::live())
}

fn start_with(config: Config) -> (Host, Files) {
    let files = Files::of(&Certificate::of(&["127.0.0.1"]));
    (Host::start(&config.tables(&files.listeners())), files)
}

/// Starts a curl that verifies the host's certificate and records the response.
fn curl(host: &Host, files: &Files, path: &str, arguments: &[&str], output: &Path) -> Child {
    let mut command = Command::new("curl");
    command
        .args(["--silent", "--show-error", "--no-buffer", "--max-time", "60", "--cacert"])
        .arg(files.cert());
    command.args(["--write-out", "%{http_version} %{http_code} %{content_type} %{ssl_verify_result}"]);
    let url = format!("https://{}{path}", host.https.unwrap());
    command.args(arguments).arg("--output").arg(output).arg(url).stdout(Stdio::piped()).spawn().unwrap()
}

/// Compares a served format with the published file: each access unit, from the first.
fn check_served(format: &str, published: &[Tag], served: &[u8]) -> Result<(), String> {
    match format {
        "flv" => {
            let mut reader = Reader::default();
            reader.push(served)?;
            check_order(reader.tags())?;
            compare(published, reader.tags(), Coverage::Whole).map(drop)
        }
        "ts" => {
            let stream = Stream::read(served);
            ts::check(&stream).map_err(|faults| format!("{faults:?}"))?;
            let served = ts::access_units(&stream)?;
            compare_units(&ts::published_units(published), &served, Coverage::Whole).map(drop)
        }
        _ => {
            let frames = match format {
                "mp3" => read_mp3(served),
                _ => read_adts(served).into_iter().map(|frame| frame.data).collect(),
            };
            let same = frames == crate::audio::published(published);
            if same { Ok(()) } else { Err(format!("{} other frames", frames.len())) }
        }
    }
}

#[test]
fn each_format_is_served_over_each_version_and_protocol() {
    // Viewers wait until all of them are there.
    let mut config = Config::live().play("wait", "\"1m\"");
    for format in ["flv", "ts"] {
        config = config.mount(&format!("mount = \"/[app]/[stream].{format}\""));
    }
    for format in ["mp3", "aac"] {
        config = config.mount(&format!("mount = \"/[app]/[stream].{format}\"\nfast_cache = 30"));
    }
    let (host, files) = start_with(config);
    let scratch = Scratch::new();
    let [aac, mp3] = ["aac", "mp3"].map(|audio| host.key(audio));
    let formats = [
        ("flv", &aac, "video/x-flv"),
        ("ts", &aac, "video/MP2T"),
        ("aac", &aac, "audio/x-aac"),
        ("mp3", &mp3, "audio/mpeg"),
    ];
    let versions = [["--tlsv1.2", "--tls-max", "1.2"], ["--tlsv1.3", "--tls-max", "1.3"]];
    let protocols = [("--http1.1", "1.1"), ("--http2", "2"), ("--no-alpn", "1.1")];
    let mut viewers = Vec::new();
    for (format, key, content_type) in formats {
        for version in versions {
            for (protocol, spoken) in protocols {
                let file = scratch.join(&format!("{}{protocol}.{format}", version[0]));
                let arguments = [&version[..], &[protocol]].concat();
                let viewer = curl(&host, &files, &format!("/{key}.{format}"), &arguments, &file);
                viewers.push((viewer, file, format, format!("{spoken} 200 {content_type} 0")));
            }
        }
    }
    let wss = [Version::Tls12, Version::Tls13].map(|version| {
        let address = host.https.unwrap();
        let connect = move || tls::connect_with(address, None, version, &[b"http/1.1"]);
        Capture::websocket_over(connect, host.wss_url(&aac))
    });
    host.wait_waiting(viewers.len() + wss.len());
    let mut publishing = [
        Encoder::Ffmpeg(Ffmpeg::Five).publish(Clip::H264Aac, &host, &aac),
        Encoder::Ffmpeg(Ffmpeg::Nine).publish(Clip::H264Mp3, &host, &mp3),
    ];
    let [with_aac, with_mp3] = publishing.each_mut().map(|one| read_file(&one.finish()));
    let mut decoded = HashSet::new();
    for (mut viewer, file, format, expected) in viewers {
        let mut printed = String::new();
        viewer.stdout.take().unwrap().read_to_string(&mut printed).unwrap();
        // curl fails when the stream, or TLS, ends in any other way than cleanly.
        assert!(viewer.wait().unwrap().success(), "{}", file.display());
        assert_eq!(printed, expected, "{}", file.display());
        let served = std::fs::read(&file).unwrap();
        let published = if format == "mp3" { &with_mp3 } else { &with_aac };
        check_served(format, published, &served)
            .unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        // Most viewers got the same bytes.
        if decoded.insert(served) {
            decode(Ffmpeg::Five, &file).unwrap();
        }
    }
    for viewer in wss {
        let recording = viewer.finish(SOON);
        assert_eq!((recording.end, recording.unfinished), (End::Clean, 0));
        check_served("flv", &with_aac, &recording.bytes).unwrap();
        let file = scratch.join("wss.flv");
        std::fs::write(&file, &recording.bytes).unwrap();
        if decoded.insert(recording.bytes) {
            decode(Ffmpeg::Five, &file).unwrap();
        }
    }
}

#[test]
fn a_response_without_a_length_ends_with_close_notify() {
    let (host, _files) = start();
    let key = host.key("close");
    let mut publisher = Publisher::open(host.rtmp, &key);
    let mut media = Numbered::new(5000);
    publisher.send(&media.headers());
    publisher.send(&media.frames(30));
    let mut stream = tls::connect(host.https.unwrap(), None).unwrap();
    write!(stream, "GET {} HTTP/1.0\r\n\r\n", host.path(&key)).unwrap();
    let mut served = vec![0; 12];
    stream.read_exact(&mut served).unwrap();
    assert_eq!(served, b"HTTP/1.0 200");
    drop(publisher);
    // rustls fails here when the connection ends without it (RFC 8446, 6.1).
    stream.read_to_end(&mut served).unwrap();
    let head = served.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
    let mut reader = Reader::default();
    reader.push(&served[head..]).unwrap();
    assert_eq!(Numbered::numbers(reader.tags()).last(), Some(&29));
}

#[test]
fn ffmpeg_plays_https() {
    let (host, _files) = start();
    let key = host.key("ffmpeg");
    let players = [Ffmpeg::Five, Ffmpeg::Nine].map(|ffmpeg| {
        let mut command = ffmpeg.command();
        command.args(["-xerror", "-tls_verify", "0", "-i", &host.https_url(&key)]);
        // FFmpeg 9 calls the end of any live FLV over HTTP an error, without TLS too.
        command.args(["-map", "0:v", "-map", "0:a", "-t", "3", "-f", "null", "-"]);
        std::thread::spawn(move || run(&mut command))
    });
    host.wait_waiting(players.len());
    let _ = Encoder::Ffmpeg(Ffmpeg::Five).publish(Clip::H264Aac, &host, &key).finish();
    for player in players {
        let output = player.join().unwrap().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    }
}

#[test]
fn mpegts_js_plays_https_and_wss() {
    let (host, _files) = start();
    let key = host.key("browser");
    let _publishing = publish_looped(Clip::H264Aac, &host.rtmp_url(&key));
    Capture::http(&host, &key).wait_access_units(30, SOON);
    for url in [host.https_url(&key), host.wss_url(&key)] {
        let outcome = browser::play(Player::Mpegts, &url, "av", Duration::from_secs(30)).unwrap();
        assert!(outcome.errors.is_empty(), "{outcome:?}");
        assert!(outcome.advanced > 1.0 && outcome.frames > 20 && outcome.audio_bytes > 0, "{outcome:?}");
    }
}

/// Publishes and plays over RTMPS with clients that trust the host's certificate, and checks that each access unit arrives.
fn rtmps(ffmpeg: Ffmpeg, clip: Clip) {
    let (host, files) = start();
    let key = host.key("rtmps");
    let (url, file) = (host.rtmps_url(&key), clip.path());
    let believes = |command: &mut Command| {
        command.args(["-tls_verify", "1", "-ca_file"]).arg(files.cert());
    };
    let viewer = Capture::http(&host, &key);
    let mut player = ffmpeg.command();
    believes(&mut player);
    player.args(["-i", &url, "-map", "0:v", "-map", "0:a", "-c", "copy", "-f", "flv", "-"]);
    let player = Capture::command(player);
    host.wait_waiting(2);
    let mut publisher = ffmpeg.command();
    publisher.args(["-re", "-i"]).arg(&file).args(["-map", "0", "-c", "copy", "-f", "flv"]);
    believes(&mut publisher);
    run(publisher.arg(&url)).unwrap();
    let published = read_file(&file);
    let recording = viewer.finish(SOON);
    assert_eq!(recording.end, End::Clean);
    compare(&published, &recording.tags, Coverage::Whole).unwrap();
    let played = player.finish(SOON);
    let units = compare(&published, &played.tags, Coverage::FromKeyframe).unwrap();
    assert!(units > 100, "{units}");
}

#[test]
fn ffmpeg_5_publishes_and_plays_rtmps() {
    rtmps(Ffmpeg::Five, Clip::H264Aac);
}

#[test]
fn ffmpeg_9_publishes_and_plays_rtmps() {
    rtmps(Ffmpeg::Nine, Clip::HevcAac);
}

/// Returns the time after which the host closes the connection.
fn lifetime(mut socket: TcpStream, opened: Instant) -> Duration {
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    while socket.read(&mut [0; 4096]).is_ok_and(|length| length > 0) {
        assert!(opened.elapsed() < Duration::from_secs(20), "the host keeps the connection open");
    }
    opened.elapsed()
}

#[test]
fn slow_handshakes_are_closed_by_the_deadline() {
    let (host, _files) = start_with(Config::live().limits("handshake_timeout", "\"1s\""));
    let hello = tls::client_hello();
    let addresses = [host.https.unwrap(), host.rtmps.unwrap()];
    let openings =
        [("nothing", &hello[..0]), ("half a hello", &hello[..hello.len() / 2]), ("a hello", &hello[..])];
    let mut sockets = Vec::new();
    for address in addresses {
        for (name, bytes) in openings {
            let opened = Instant::now();
            let mut socket = TcpStream::connect(address).unwrap();
            socket.write_all(bytes).unwrap();
            sockets.push((name, socket, opened));
        }
        let opened = Instant::now();
        let stream = tls::connect(address, None).unwrap();
        sockets.push(("TLS and no request", stream.sock.try_clone().unwrap(), opened));
        // Its end would be a close.
        std::mem::forget(stream);
    }
    for (name, socket, opened) in sockets {
        let took = lifetime(socket, opened);
        assert!(took > Duration::from_millis(800) && took < Duration::from_secs(6), "{name}: {took:?}");
    }
}

/// Connects a client that takes `part` of the time for its TLS handshake and then trickles its request. Returns the time
/// after which the host closes the connection.
fn lifetime_of_a_trickle(address: SocketAddr, part: Duration, protocols: &[&[u8]], says: &[u8]) -> Duration {
    let opened = Instant::now();
    let mut socket = TcpStream::connect(address).unwrap();
    socket.set_nodelay(true).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let name = "unnamed".try_into().unwrap();
    let config = tls::client_config(false, Version::Tls13, protocols);
    let mut client = rustls::ClientConnection::new(config.into(), name).unwrap();
    let mut hello = Vec::new();
    client.write_tls(&mut hello).unwrap();
    // This is the slow client, not a wait for a fact.
    for (index, byte) in hello.iter().enumerate() {
        let due = part * index as u32 / hello.len() as u32;
        std::thread::sleep(due.saturating_sub(opened.elapsed()));
        socket.write_all(&[*byte]).unwrap();
    }
    let mut printed = says.iter();
    loop {
        assert!(opened.elapsed() < Duration::from_secs(30), "the host keeps the connection open");
        let waits = |error: &std::io::Error| error.kind() == ErrorKind::WouldBlock;
        match client.read_tls(&mut socket) {
            Ok(0) => break,
            Err(error) if !waits(&error) => break,
            _ => drop(client.process_new_packets()),
        }
        if !client.is_handshaking() {
            // When everything is sent, the client waits.
            let _ = printed.next().map(|byte| client.writer().write_all(&[*byte]));
        }
        if client.wants_write() && client.write_tls(&mut socket).is_err() {
            break;
        }
    }
    assert!(!client.is_handshaking(), "closed within the handshake, after {:?}", opened.elapsed());
    opened.elapsed()
}

#[test]
fn tls_and_the_first_request_share_one_deadline() {
    let limit = Duration::from_secs(5);
    let (host, _files) = start_with(Config::live().limits("handshake_timeout", "\"5s\""));
    let (https, rtmps) = (host.https.unwrap(), host.rtmps.unwrap());
    let head = [b"GET / HTTP/1.1\r\nX: ".as_slice(), &[b'y'; 1000]].concat();
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    let clients: [(_, &[&[u8]], &[u8]); 3] =
        [(https, &[b"http/1.1"], &head), (https, &[b"h2"], preface), (rtmps, &[], &[3; 700])];
    std::thread::scope(|scope| {
        for (address, protocols, says) in clients {
            scope.spawn(move || {
                let took = lifetime_of_a_trickle(address, limit * 3 / 5, protocols, says);
                assert!(took > limit - Duration::from_millis(200), "{protocols:?}: {took:?}");
                assert!(took < limit * 3 / 2, "{protocols:?}: {took:?}");
            });
        }
    });
}

#[test]
fn open_handshakes_do_not_delay_the_end_of_the_host() {
    let (mut host, _files) = start();
    let mut socket = TcpStream::connect(host.https.unwrap()).unwrap();
    // Others have not begun.
    let _silent = [host.http, host.https.unwrap(), host.rtmps.unwrap()].map(TcpStream::connect);
    socket.write_all(&tls::client_hello()).unwrap();
    // The host has answered and waits.
    assert!(socket.read(&mut [0; 4096]).unwrap() > 0);
    let asked = Instant::now();
    assert!(host.terminate().success());
    assert!(asked.elapsed() < Duration::from_secs(3), "{:?}", asked.elapsed());
}

/// Returns everything that a socket receives after `sent`, and its end.
fn answer(address: SocketAddr, sent: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut socket = TcpStream::connect(address)?;
    socket.set_read_timeout(Some(Duration::from_secs(20)))?;
    socket.write_all(sent)?;
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).map(|_| answer)
}

#[test]
fn plain_protocols_at_a_port_for_tls_are_reported() {
    let (host, _files) = start_with(Config::live().tables("[log]\nlevel = \"debug\""));
    let (https, rtmps) = (host.https.unwrap(), host.rtmps.unwrap());
    let body = [b'x'; 300_000];
    let posts = [b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 300000\r\n\r\n".as_slice(), &body].concat();
    for request in [b"GET /live/x.flv HTTP/1.1\r\nHost: x\r\n\r\n".as_slice(), b"G", &posts] {
        let printed = String::from_utf8(answer(https, request).unwrap()).unwrap();
        let (head, body) = printed.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{printed}");
        assert!(head.contains(&format!("\r\nContent-Length: {}", body.len())), "{printed}");
        assert!(head.contains("\r\nConnection: close"), "{printed}");
        assert!(body.contains("plain HTTP") && body.contains("HTTPS"), "{printed}");
    }
    host.wait_nth_log("plain HTTP on a TLS port", 3);
    assert_eq!(answer(rtmps, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap_or_default(), b"");
    host.wait_nth_log("plain HTTP on a TLS port", 4);
    for (index, address) in [https, rtmps].into_iter().enumerate() {
        assert_eq!(answer(address, &[3; 1537]).unwrap_or_default(), b"");
        host.wait_nth_log("plain RTMP on a TLS port", index + 1);
    }
}

#[test]
fn the_wrong_protocol_is_closed_and_harms_nobody() {
    let (host, _files) = start();
    let key = host.key("good");
    let publisher = Publisher::open(host.rtmp, &key).pace(Numbered::new(1000));
    let viewer = Capture::wss(&host, &key);
    viewer.wait_access_units(10, SOON);
    // A TLS alert at most (RFC 8446, 6).
    for address in [host.https.unwrap(), host.rtmps.unwrap()] {
        let printed = answer(address, b"\0what TLS never begins with").unwrap();
        assert!(printed.is_empty() || printed[0] == 21, "{printed:?}");
    }
    let hello = tls::client_hello();
    let printed = answer(host.http, &hello).unwrap();
    assert!(printed.is_empty() || printed.starts_with(b"HTTP/1.1 400"), "{printed:?}");
    assert_eq!(answer(host.rtmp, &hello).unwrap_or_default(), b"");

    // Damaged in each byte of its head and at some later bytes, and followed by noise.
    let noise: Vec<u8> = (0..20_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    for at in (0..60).chain((60..hello.len()).step_by(97)) {
        let mut damaged = hello.clone();
        damaged[at] ^= 0x5a;
        for address in [host.https.unwrap(), host.rtmps.unwrap()] {
            let mut socket = TcpStream::connect(address).unwrap();
            // The host may close at once.
            let _ = socket.write_all(&damaged).and_then(|()| socket.write_all(&noise));
        }
    }
    // A handshake that is good, and noise in place of records.
    let mut stream = tls::connect(host.https.unwrap(), None).unwrap();
    stream.sock.write_all(&noise).unwrap();
    let took = lifetime(stream.sock.try_clone().unwrap(), Instant::now());
    assert!(took < Duration::from_secs(6), "{took:?}");

    let frames = viewer.tags().len();
    viewer.wait_access_units(frames + 10, SOON);
    assert_eq!(viewer.end(), None);
    publisher.stop();
}

#[test]
fn a_viewer_that_does_not_read_is_closed() {
    let (host, _files) = start_with(Config::live().limits("send_timeout", "\"1s\""));
    let key = host.key("stalled");
    let publisher = Publisher::open(host.rtmp, &key).pace(Numbered::new(200_000));
    let good = Capture::wss(&host, &key);
    good.wait_access_units(10, SOON);
    let before = host.descriptors();
    let mut stalled = tls::handshake(connect_narrow(host.https.unwrap()), None, Version::Tls13, &[]).unwrap();
    write!(stalled, "GET {} HTTP/1.1\r\nHost: x\r\n\r\n", host.path(&key)).unwrap();
    wait_until(SOON, "the viewer's socket is there", || host.descriptors() > before);
    wait_until(SOON * 2, "the viewer's socket is gone", || host.descriptors() <= before);
    assert!(stalled.read_to_end(&mut Vec::new()).is_err(), "the stalled response ends cleanly");
    assert_eq!(good.end(), None, "the other viewer stays");
    publisher.stop();
}
