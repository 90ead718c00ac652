//! The PROXY protocol, before HTTP and RTMP, from the kit, HAProxy and nginx.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use remuxd_tests::clip::Clip;
use remuxd_tests::encoder::publish_looped;
use remuxd_tests::host::{Config, Host};
use remuxd_tests::http::Request;
use remuxd_tests::proxy::{Kind, connect_from};
use remuxd_tests::publisher::Publisher;
use remuxd_tests::tls::{self, Certificate, Files, Version};
use remuxd_tests::tool::{Ffmpeg, run};

/// Returns a configuration whose listeners require the header and accept it from 127.0.0.1 alone.
fn config() -> Config {
    Config::live()
        .rtmp("proxy_protocol", "true")
        .http("proxy_protocol", "true")
        .limits("handshake_timeout", "\"2s\"")
        .tables("[proxy]\ntrusted = [\"127.0.0.1\"]\n[log]\nlevel = \"debug\"")
}

/// Returns a header of version 2 with this command, family and content.
fn version2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    header.extend([0x20 | command, family]);
    header.extend((body.len() as u16).to_be_bytes());
    header.extend(body);
    header
}

const IPV4: &[u8] = &[203, 0, 113, 5, 127, 0, 0, 1, 0x12, 0x34, 0, 80];
/// PP2_TYPE_NOOP with three bytes.
const TLV: &[u8] = &[0x04, 0, 3, 0, 0, 0];

#[test]
fn a_header_names_the_client() {
    let host = Host::start(&config());
    let ipv6 = [&[0x20, 0x01, 0x0d, 0xb8][..], &[0; 11], &[7], &[0; 16], &[0x12, 0x34, 0, 80]].concat();
    let cases = [
        (b"PROXY TCP4 203.0.113.5 127.0.0.1 4660 80\r\n".to_vec(), "203.0.113.5"),
        (b"PROXY TCP6 2001:db8::7 ::1 4660 80\r\n".to_vec(), "2001:db8::7"),
        (b"PROXY UNKNOWN\r\n".to_vec(), "127.0.0.1"),
        (version2(1, 0x11, IPV4), "203.0.113.5"),
        (version2(1, 0x11, &[IPV4, TLV].concat()), "203.0.113.5"),
        (version2(1, 0x21, &ipv6), "2001:db8::7"),
        (version2(0, 0x00, b""), "127.0.0.1"),
        (version2(1, 0x00, TLV), "127.0.0.1"),
    ];
    for (index, (header, client)) in cases.iter().enumerate() {
        let mut socket = TcpStream::connect(host.http).unwrap();
        socket.set_nodelay(true).unwrap();
        header.chunks(7).for_each(|part| socket.write_all(part).unwrap());
        assert_eq!(Request::get("/nothing").send_over(socket).unwrap().status, 404);
        let refused = host.wait_nth_log("refused client=", index + 1);
        assert!(refused.contains(&format!("client={client} ")), "{refused}");
    }
}

#[test]
fn the_header_comes_before_tls() {
    let files = Files::of(&Certificate::of(&["127.0.0.1"]));
    let listeners = files.listeners().replace("enabled = true\n", "enabled = true\nproxy_protocol = true\n");
    let host = Host::start(&config().tables(&listeners));
    let header = version2(1, 0x11, IPV4);
    for (address, says, log) in [
        (host.https.unwrap(), &b"GET /nothing HTTP/1.0\r\n\r\n"[..], "refused client=203.0.113.5 "),
        (host.rtmps.unwrap(), b"no RTMP", "rtmp connection closed peer=203.0.113.5:4660 "),
    ] {
        let mut socket = TcpStream::connect(address).unwrap();
        socket.write_all(&header).unwrap();
        let mut stream = tls::handshake(socket, None, Version::Tls13, &[]).unwrap();
        stream.write_all(says).unwrap();
        host.wait_log(&[log]);
        assert!(tls::connect(address, None).is_err(), "TLS without the header");
    }
}

/// Returns how long the host keeps a connection that sends these bytes and then nothing.
fn lifetime(from: Ipv4Addr, to: SocketAddr, says: &[u8]) -> Duration {
    let opened = Instant::now();
    let mut socket = connect_from(from, to).unwrap();
    // The host may have closed already.
    let _ = socket.write_all(says);
    let mut answer = Vec::new();
    let _ = socket.read_to_end(&mut answer);
    assert_eq!(String::from_utf8_lossy(&answer), "");
    opened.elapsed()
}

#[test]
fn untrusted_peers_and_peers_without_a_header_are_closed() {
    let host = Host::start(&config());
    let (proxy, stranger) = (Ipv4Addr::LOCALHOST, Ipv4Addr::new(127, 0, 0, 9));
    let header = version2(1, 0x11, IPV4);
    let long = version2(1, 0x11, &[0; 60_000]);
    let request = b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n";
    for address in [host.http, host.rtmp] {
        let at_once = Duration::from_millis(1500);
        assert!(lifetime(stranger, address, &header) < at_once);
        assert!(lifetime(proxy, address, request) < at_once);
        assert!(lifetime(proxy, address, &[3; 1537]) < at_once);
        assert!(lifetime(proxy, address, &long) < at_once);
        assert!(lifetime(proxy, address, &[b"PROXY TCP4 ".as_slice(), &[b'1'; 200]].concat()) < at_once);
        for start in [b"".as_slice(), b"PROXY TCP4 203.0", &header[..20]] {
            let took = lifetime(proxy, address, start);
            assert!(took > Duration::from_millis(1900) && took < Duration::from_secs(8), "{took:?}");
        }
    }
    host.wait_nth_log("not a trusted proxy", 2);
    host.wait_nth_log("no usable PROXY protocol header", 8);
    host.wait_nth_log("no PROXY protocol header in time", 6);
}

#[test]
fn rtmp_through_haproxy_and_nginx_has_the_address_of_the_publisher() {
    let host = Host::start(&config());
    let v1 = [("send-proxy-v2", "send-proxy")];
    let ways = [(Kind::Haproxy, &[][..]), (Kind::Haproxy, &v1[..]), (Kind::NginxStream, &[][..])];
    for (index, (kind, changes)) in ways.into_iter().enumerate() {
        let proxy = kind.start_changed(&host, changes);
        let mut publisher = Publisher::open(proxy.rtmp, &host.key(&format!("named{index}")));
        let own = publisher.connection().socket().local_addr().unwrap();
        host.wait_log(&["publishing", &format!("peer={own} ")]);
        let url = format!("rtmp://{}/{}", proxy.rtmp, host.key(&format!("played{index}")));
        let _publishing = publish_looped(Clip::H264Aac, &url);
        let mut command = Ffmpeg::Five.command();
        command.args(["-xerror", "-i", &url, "-map", "0:v", "-map", "0:a", "-t", "2", "-f", "null", "-"]);
        let output = run(&mut command).unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{kind:?}");
    }
}

#[test]
fn http_through_haproxy_has_the_address_of_the_viewer() {
    let host = Host::start(&config());
    for version in ["send-proxy-v2", "send-proxy"] {
        let (rtmp, http) = (format!("{} send-proxy-v2", host.rtmp), format!("{} {version}", host.http));
        let proxy = Kind::Haproxy.start_changed(&host, &[(&rtmp, &http)]);
        let socket = connect_from(Ipv4Addr::new(127, 0, 0, 9), proxy.rtmp).unwrap();
        assert_eq!(Request::get("/nothing").send_over(socket).unwrap().status, 404);
    }
    host.wait_nth_log("refused client=127.0.0.9 ", 2);
}
