//! Headers from proxies: a PROXY protocol header of any bytes is consumed exactly or refused within the limit, and a
//! request's headers give the peer's address or one that they contain.
#![no_main]

use std::net::{IpAddr, Ipv4Addr};

use hyper::Request;
use libfuzzer_sys::fuzz_target;
use remuxd::testing::conf::Config;
use remuxd::testing::http::Client;
use remuxd::testing::net::proxy::{MAX_HEADER, Rest, SIGNATURE, rest, source};

const CONFIG: &str = r#"
[proxy]
trusted = ["127.0.0.0/8", "fd00::/8"]
headers = ["x-forwarded-for", "forwarded", "x-real-ip"]
"#;

thread_local! {
    static PROXY: remuxd::testing::conf::Proxy = Config::parse(CONFIG, "fuzz.toml").expect("a valid config").proxy;
}

/// Reads a header as from a socket: never more bytes than certainly belong to it.
fn header(data: &[u8]) {
    let mut taken = SIGNATURE;
    while let Some(start) = data.get(..taken) {
        match rest(start) {
            Ok(Rest::Bytes(0)) => {
                // Bytes after it do not change the result.
                let alone = source(start).ok();
                assert!(start.starts_with(b"PROXY ") || alone.is_none() || source(data).ok() == alone);
                return;
            }
            Ok(Rest::Bytes(count)) => taken += count,
            Ok(Rest::Line(most)) => {
                let ahead = &data[taken..data.len().min(taken + most)];
                let line = ahead.iter().position(|byte| *byte == b'\n').map_or(ahead.len(), |end| end + 1);
                if line == 0 {
                    return;
                }
                taken += line;
            }
            Err(_) => return,
        }
        assert!(taken <= MAX_HEADER);
    }
}

fn headers(data: &[u8]) {
    let mut lines = data.split(|byte| *byte == b'\n');
    let names = ["x-forwarded-for", "x-forwarded-for", "forwarded", "forwarded", "x-forwarded-proto", "host"];
    let mut request = Request::new(());
    for name in names {
        let value = lines.next().and_then(|line| hyper::header::HeaderValue::from_bytes(line).ok());
        value.into_iter().for_each(|value| {
            request.headers_mut().append(name, value);
        });
    }
    let peer = IpAddr::from(Ipv4Addr::LOCALHOST);
    let client = PROXY.with(|proxy| Client::of(&request, peer, proxy));
    assert_eq!(client.address, client.address.to_canonical());
    if let Some(origin) = client.public_origin {
        assert!(!origin.host.is_empty() && !origin.host.contains(['/', '"', '<', '\\', ' ']), "{origin:?}");
    }
    // The headers of an untrusted peer are ignored.
    let stranger = IpAddr::from([192, 0, 2, 1]);
    assert_eq!(PROXY.with(|proxy| Client::of(&request, stranger, proxy)).address, stranger);
}

fuzz_target!(|data: &[u8]| {
    header(data);
    headers(data);
});
