//! Behind nginx, Caddy and HAProxy, as the samples in conf/proxy configure them.

use std::net::Ipv4Addr;
use std::process::Command;
use std::time::{Duration, Instant};

use remuxd_tests::capture::{Capture, End};
use remuxd_tests::flv::Tag;
use remuxd_tests::host::{Config, Host};
use remuxd_tests::http::Request;
use remuxd_tests::proxy::{Kind, Proxy, connect_from};
use remuxd_tests::publisher::{Numbered, Publisher};
use remuxd_tests::scratch::Scratch;
use remuxd_tests::tool::{Ffmpeg, run};
use remuxd_tests::wait::{SOON, poll_for, wait_until};

/// Address of the viewers; the proxies connect from 127.0.0.1.
const VIEWER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 9);

/// Returns the configuration of a host that trusts the proxies of this machine.
fn behind_proxies() -> Config {
    Config::live().tables("[proxy]\ntrusted = [\"127.0.0.1\"]\n")
}

/// Returns a command for curl as a viewer.
fn curl(arguments: &[&str], url: &str) -> Command {
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--insecure", "--no-buffer", "--max-time", "60"]);
    command.args(["--interface", &VIEWER.to_string()]).args(arguments).arg(url);
    command
}

/// Starts viewers with every protocol of the proxy.
fn viewers(kind: Kind, proxy: &Proxy, path: &str) -> Vec<(&'static str, Capture)> {
    let (http, https) = (format!("http://{}{path}", proxy.http), format!("https://{}{path}", proxy.https));
    let plain = {
        let address = proxy.http;
        move || connect_from(VIEWER, address)
    };
    let mut viewers = vec![
        ("HTTP/1.1", Capture::command(curl(&["--http1.1"], &http))),
        ("HTTPS/1.1", Capture::command(curl(&["--http1.1"], &https))),
        ("HTTPS/2", Capture::command(curl(&["--http2"], &https))),
        ("WebSocket", Capture::websocket_over(plain, http.replacen("http", "ws", 1))),
        (
            "secure WebSocket",
            Capture::websocket_over(proxy.connect_tls(VIEWER), https.replacen("http", "ws", 1)),
        ),
    ];
    // nginx 1.22 has HTTP/2 without TLS on ports for it alone.
    if kind != Kind::Nginx {
        viewers.push(("HTTP/2", Capture::command(curl(&["--http2-prior-knowledge"], &http))));
    }
    viewers
}

/// Returns whether the frame has arrived.
fn has(number: u32) -> impl Fn(&[Tag]) -> bool {
    move |tags| tags.iter().rev().find_map(Numbered::number_of) >= Some(number)
}

/// Number of frames that are measured.
const FRAMES: u32 = 30;

/// Sends a frame of one kilobyte when the last one has arrived, so that a proxy which waits for more never gets more.
fn flows_at_once(kind: Kind) {
    let host = Host::start(&behind_proxies());
    let proxy = kind.start(&host);
    let key = host.key("numbered");
    let mut publisher = Publisher::open(host.rtmp, &key);
    let mut media = Numbered::new(1000);
    publisher.send(&media.headers());
    publisher.send(&media.frames(2));
    let direct = Capture::http(&host, &key);
    let viewers = viewers(kind, &proxy, &host.path(&key));
    let all =
        || std::iter::once(("direct", &direct)).chain(viewers.iter().map(|(way, viewer)| (*way, viewer)));
    all().for_each(|(way, viewer)| viewer.wait_until(SOON, way, has(1)));
    let mut delays = vec![Vec::new(); viewers.len() + 1];
    for _ in 0..FRAMES {
        let number = media.number();
        let sent = Instant::now();
        publisher.send(&media.frame());
        std::thread::scope(|scope| {
            for ((way, viewer), delays) in all().zip(&mut delays) {
                scope.spawn(move || {
                    viewer.wait_until(SOON, way, has(number));
                    delays.push(sent.elapsed());
                });
            }
        });
    }
    let medians: Vec<(&str, Duration)> = all()
        .map(|(way, _)| way)
        .zip(delays.iter_mut().map(|delays| {
            delays.sort();
            delays[delays.len() / 2]
        }))
        .collect();
    println!("{kind:?}: {medians:?}");
    let direct = medians[0].1;
    for (way, median) in &medians {
        assert!(*median < direct + Duration::from_millis(60), "{way}: {medians:?}");
    }
    // The host logs each viewer with its own address.
    let seen = |client: &str| {
        let (log, client) = (host.log(), format!("client={client} "));
        log.lines().filter(|line| line.contains("viewing") && line.contains(&client)).count()
    };
    wait_until(SOON, "all viewers are logged", || seen("127.0.0.1") + seen("127.0.0.9") == 1 + viewers.len());
    assert_eq!(seen("127.0.0.1"), 1);
    // The end comes through too.
    drop(publisher);
    for (way, viewer) in viewers {
        let recording = viewer.finish(SOON);
        assert_eq!((recording.end, recording.unfinished), (End::Clean, 0), "{way}");
        assert_eq!(Numbered::numbers(&recording.tags), (0..FRAMES + 2).collect::<Vec<_>>(), "{way}");
    }
}

#[test]
fn streams_flow_through_nginx_at_once() {
    flows_at_once(Kind::Nginx);
}

#[test]
fn streams_flow_through_caddy_at_once() {
    flows_at_once(Kind::Caddy);
}

#[test]
fn streams_flow_through_haproxy_at_once() {
    flows_at_once(Kind::Haproxy);
}

/// Returns whether small frames arrive through nginx one by one, each before the next is sent.
fn arrive_one_by_one_through_nginx(changes: &[(&str, &str)]) -> bool {
    let host = Host::start(&behind_proxies());
    let proxy = Kind::Nginx.start_changed(&host, changes);
    let key = host.key("small");
    let mut publisher = Publisher::open(host.rtmp, &key);
    let mut media = Numbered::new(100);
    publisher.send(&media.headers());
    publisher.send(&media.frames(1));
    let url = format!("http://{}{}", proxy.http, host.path(&key));
    let (viewer, direct) = (Capture::command(curl(&[], &url)), Capture::http(&host, &key));
    host.wait_viewers(2);
    (0..5).all(|_| {
        let number = media.number();
        publisher.send(&media.frame());
        // From here on only the proxy can be late.
        direct.wait_until(SOON, "the frame, without a proxy", has(number));
        poll_for(Duration::from_secs(2), || has(number)(&viewer.tags()).then_some(())).is_some()
    })
}

#[test]
fn nginx_does_not_buffer_unless_it_ignores_the_header_of_the_host() {
    // nginx requests with HTTP/1.0 by default, and buffers a response without chunks until a buffer is full.
    let http10 = ("proxy_http_version 1.1;", "proxy_http_version 1.0;");
    let switched_on = ("proxy_buffering off;", "proxy_buffering on;");
    assert!(arrive_one_by_one_through_nginx(&[http10, switched_on]), "X-Accel-Buffering turns buffering off");
    let ignores_header = ("proxy_buffering off;", "proxy_ignore_headers X-Accel-Buffering;");
    assert!(
        !arrive_one_by_one_through_nginx(&[http10, ignores_header]),
        "a proxy that buffers would be noticed"
    );
}

/// Starts a host behind proxies with an endless stream, live/demo.
fn start_demo() -> Host {
    let scratch = Scratch::new();
    let file = scratch.join("remuxd.toml");
    std::fs::write(&file, behind_proxies().toml()).unwrap();
    Host::start_demo(&["--config", file.to_str().unwrap()])
}

#[test]
fn ffmpeg_decodes_what_comes_through_each_proxy() {
    let host = start_demo();
    for kind in [Kind::Nginx, Kind::Caddy, Kind::Haproxy] {
        let proxy = kind.start(&host);
        for url in [format!("http://{}", proxy.http), format!("https://{}", proxy.https)] {
            let mut command = Ffmpeg::Five.command();
            command.args(["-xerror", "-i", &(url + "/live/demo.flv")]);
            command.args(["-map", "0:v", "-map", "0:a", "-t", "2", "-f", "null", "-"]);
            let output = run(&mut command).unwrap();
            assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{kind:?}");
        }
    }
}

#[test]
fn a_viewer_cannot_forge_its_address() {
    let host = Host::start(&behind_proxies().tables("[log]\nlevel = \"debug\""));
    let forged = ["X-Forwarded-For: 203.0.113.5", "Forwarded: for=203.0.113.6", "X-Real-IP: 203.0.113.7"];
    let forged: Vec<&str> = forged.iter().flat_map(|line| ["--header", line]).collect();
    let ask = |address, name: &str| {
        let mut command = curl(&forged, &format!("http://{address}/{name}.nothing"));
        assert!(run(&mut command).is_ok());
    };
    for kind in [Kind::Nginx, Kind::Caddy, Kind::Haproxy] {
        let proxy = kind.start(&host);
        ask(proxy.http, "through-a-proxy");
    }
    ask(host.http, "directly");
    host.wait_nth_log("refused client=127.0.0.9 ", 4);
}

#[test]
fn a_trusted_proxys_headers_name_the_viewer() {
    let host = Host::start(&behind_proxies().tables("[log]\nlevel = \"debug\""));
    let cases = [
        ("X-Forwarded-For", "203.0.113.5", "203.0.113.5"),
        ("X-Forwarded-For", "2001:db8::7", "2001:db8::7"),
        ("Forwarded", "for=\"[2001:db8::8]:4711\";proto=https", "2001:db8::8"),
        ("Forwarded", "for=unknown", "127.0.0.1"),
        ("X-Forwarded-For", "not an address", "127.0.0.1"),
    ];
    for (index, (name, value, client)) in cases.into_iter().enumerate() {
        let response = Request::get("/nothing").header(name, value).send(host.http).unwrap();
        assert_eq!(response.status, 404);
        let refused = host.wait_nth_log("refused client=", index + 1);
        assert!(refused.contains(&format!("client={client} ")), "{refused}");
    }
}

#[test]
fn the_demo_page_prints_the_public_urls() {
    let host = start_demo();
    for kind in [Kind::Nginx, Kind::Caddy, Kind::Haproxy] {
        let proxy = kind.start(&host);
        for (scheme, websocket, address) in [("http", "ws", proxy.http), ("https", "wss", proxy.https)] {
            let page = run(&mut curl(&[], &format!("{scheme}://{address}/"))).unwrap();
            let page = String::from_utf8(page.stdout).unwrap();
            for scheme in [scheme, websocket] {
                let url = format!("\"{scheme}://{address}/live/demo.flv\"");
                assert!(page.contains(&url), "{kind:?}: {url} is not in the page");
            }
        }
    }
    let page = run(&mut curl(&[], &format!("http://{}/", host.http))).unwrap();
    assert!(String::from_utf8_lossy(&page.stdout).contains("\"/live/demo.flv\""));
}
