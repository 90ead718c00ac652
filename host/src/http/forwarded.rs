//! Clients behind proxies: `Forwarded` (RFC 7239), `X-Forwarded-*` and `X-Real-IP`.
//!
//! An entry is believed only if a trusted proxy wrote it. The walk starts at the connection's peer and reads the list
//! from its end, which the nearest proxy wrote, while the address reached is a trusted proxy; the first that is not is
//! the client. Entries further left, which the client may have forged, are never read.
//!
//! An entry without an address (`unknown`, `_hidden`, anything malformed) ends the walk at the proxy that wrote it.
//! `Forwarded` is split at every comma, although a quoted string may contain one: otherwise a quote that a client opens
//! could hide the entry that the proxy appends.

use std::net::{IpAddr, SocketAddr};

use hyper::Request;
use hyper::header::{FORWARDED, HOST, HeaderMap};

use crate::conf::{ForwardedHeader, Proxy};
use crate::module::Transport;

const X_FORWARDED_FOR: &str = "x-forwarded-for";
const X_FORWARDED_PROTO: &str = "x-forwarded-proto";
const X_FORWARDED_HOST: &str = "x-forwarded-host";
const X_REAL_IP: &str = "x-real-ip";

/// The client of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// The client's address. Behind trusted proxies, the address that they report.
    pub address: IpAddr,
    /// The origin that the client sees, if trusted proxies report it.
    pub public_origin: Option<PublicOrigin>,
}

/// Scheme and host of the URL by which a client reached the outermost proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicOrigin {
    /// Whether the client uses TLS.
    pub secure: bool,
    /// The host, with the port unless it is the scheme's default.
    pub host: String,
}

impl Client {
    /// Returns the client that sent `request` over a connection from `peer`.
    pub fn of<B>(request: &Request<B>, peer: IpAddr, proxy: &Proxy) -> Client {
        let mut client = Client { address: peer.to_canonical(), public_origin: None };
        if !proxy.trusts(peer) {
            return client;
        }
        let headers = request.headers();
        let authority = request.uri().authority().map(|authority| authority.as_str());
        let asked = authority.or_else(|| headers.get(HOST)?.to_str().ok());
        let hops = hops(headers, proxy);
        let (mut secure, mut host) = (hops.secure, hops.host);
        for hop in hops.from_the_end {
            secure = hop.secure.or(secure);
            host = hop.host.or(host);
            let Some(address) = hop.address else { break };
            client.address = address;
            if !proxy.trusts(address) {
                break;
            }
        }
        let host = host.or(asked).filter(|host| is_host(host));
        client.public_origin =
            secure.zip(host).map(|(secure, host)| PublicOrigin { secure, host: host.to_owned() });
        client
    }

    /// Returns the URL of `path` as the client sees it, or the path alone if its public origin is unknown.
    pub fn url(&self, transport: Transport, path: &str) -> String {
        let Some(PublicOrigin { secure, host }) = &self.public_origin else { return path.to_owned() };
        let scheme = match (transport == Transport::WEBSOCKET, secure) {
            (false, false) => "http",
            (false, true) => "https",
            (true, false) => "ws",
            (true, true) => "wss",
        };
        format!("{scheme}://{host}{path}")
    }
}

/// The chain of proxies, as the headers report it.
struct Hops<'a> {
    /// Entries of the list, the nearest proxy's first.
    from_the_end: Box<dyn Iterator<Item = Hop<'a>> + 'a>,
    secure: Option<bool>,
    host: Option<&'a str>,
}

/// One entry: what a proxy reports about its own client.
#[derive(Debug, Default)]
struct Hop<'a> {
    address: Option<IpAddr>,
    secure: Option<bool>,
    host: Option<&'a str>,
}

fn hops<'a>(headers: &'a HeaderMap, proxy: &Proxy) -> Hops<'a> {
    let name = |header: &ForwardedHeader| match header {
        ForwardedHeader::Forwarded => FORWARDED.as_str(),
        ForwardedHeader::XForwardedFor => X_FORWARDED_FOR,
        ForwardedHeader::XRealIp => X_REAL_IP,
    };
    let present = proxy.headers.iter().find(|header| headers.contains_key(name(header)));
    if present == Some(&ForwardedHeader::Forwarded) {
        let from_the_end = Box::new(from_the_end(headers, FORWARDED.as_str()).map(forwarded));
        return Hops { from_the_end, secure: None, host: None };
    }
    let addresses = present.map(|header| from_the_end(headers, name(header)));
    let hop = |text| Hop { address: address(text), ..Hop::default() };
    // The first value is the outermost proxy's, whether proxies append to these headers or only one sets them.
    let first = |name| first(headers, name);
    Hops {
        from_the_end: Box::new(addresses.into_iter().flatten().map(hop)),
        secure: first(X_FORWARDED_PROTO).and_then(secure),
        host: first(X_FORWARDED_HOST),
    }
}

/// Returns the entries of a list header, the last first. Proxies append to its last line, or add a line.
fn from_the_end<'a>(headers: &'a HeaderMap, name: &str) -> impl Iterator<Item = &'a str> + use<'a> {
    let lines: Vec<_> = headers.get_all(name).iter().collect();
    // A line that is not text counts as one malformed entry.
    lines.into_iter().rev().flat_map(|line| line.to_str().unwrap_or("").rsplit(',').map(str::trim))
}

fn first<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    Some(headers.get(name)?.to_str().ok()?.split(',').next()?.trim())
}

/// Parses one element of `Forwarded`: pairs separated by semicolons (RFC 7239, section 4).
fn forwarded(element: &str) -> Hop<'_> {
    let mut hop = Hop::default();
    for (name, value) in element.split(';').filter_map(|pair| pair.split_once('=')) {
        let (name, value) = (name.trim(), value.trim());
        // No valid value has a character that needs a backslash in quotes.
        let value = value.strip_prefix('"').map_or(Some(value), |quoted| quoted.strip_suffix('"'));
        let Some(value) = value else { continue };
        if name.eq_ignore_ascii_case("for") {
            hop.address = address(value);
        } else if name.eq_ignore_ascii_case("proto") {
            hop.secure = secure(value);
        } else if name.eq_ignore_ascii_case("host") {
            hop.host = Some(value);
        }
    }
    hop
}

/// Parses an address with or without a port: `192.0.2.1`, `192.0.2.1:80`, `2001::7`, `[2001::7]`, `[2001::7]:80`.
fn address(text: &str) -> Option<IpAddr> {
    // The port may be obfuscated (section 6.3).
    let text = text.split_once(":_").map_or(text, |(node, _)| node);
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).filter(|ip| ip.contains(':'));
    let ip = bare.unwrap_or(text).parse().ok();
    let ip = ip.or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()))?;
    Some(ip.to_canonical())
}

fn secure(scheme: &str) -> Option<bool> {
    match scheme.to_ascii_lowercase().as_str() {
        "https" | "wss" => Some(true),
        "http" | "ws" => Some(false),
        _ => None,
    }
}

/// Whether the text is safe as host and port in a URL and in a page.
fn is_host(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    use ForwardedHeader::{Forwarded, XForwardedFor, XRealIp};

    const DEFAULT: &[ForwardedHeader] = &[XForwardedFor, Forwarded];

    fn client(peer: &str, names: &[ForwardedHeader], headers: &[(&str, &str)]) -> Client {
        let trusted = ["127.0.0.0/8", "10.0.0.0/8", "fd00::/8"].map(|network| network.parse().unwrap());
        let proxy = Proxy { trusted: trusted.to_vec(), headers: names.to_vec() };
        let request = headers
            .iter()
            .fold(Request::builder().uri("/live/a.flv"), |builder, (name, value)| {
                builder.header(*name, *value)
            })
            .body(())
            .unwrap();
        Client::of(&request, peer.parse().unwrap(), &proxy)
    }

    #[track_caller]
    fn check(peer: &str, names: &[ForwardedHeader], headers: &[(&str, &str)], expected: &str) {
        assert_eq!(client(peer, names, headers).address.to_string(), expected, "{peer} {headers:?}");
    }

    #[test]
    fn the_nearest_address_that_is_no_trusted_proxy_is_the_client() {
        for (list, expected) in [
            ("192.0.2.1", "192.0.2.1"),
            ("192.0.2.1:4711", "192.0.2.1"),
            ("2001:db8::7", "2001:db8::7"),
            ("[2001:db8::7]", "2001:db8::7"),
            ("[2001:db8::7]:4711", "2001:db8::7"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            // Forged by the client.
            ("198.51.100.9, 192.0.2.1", "192.0.2.1"),
            ("10.9.9.9, 192.0.2.1", "192.0.2.1"),
            ("\", 192.0.2.1", "192.0.2.1"),
            // Through more proxies.
            ("192.0.2.1, 10.0.0.7", "192.0.2.1"),
            ("198.51.100.9, 192.0.2.1,10.0.0.7 , fd00::2", "192.0.2.1"),
            // Only trusted addresses: a client inside the network.
            ("10.0.0.8, 10.0.0.7", "10.0.0.8"),
            // No address: the walk ends at the proxy that wrote it.
            ("unknown", "127.0.0.1"),
            ("", "127.0.0.1"),
            ("192.0.2.1, 192.0.2.1.9", "127.0.0.1"),
            ("192.0.2.1, unknown, 10.0.0.7", "10.0.0.7"),
        ] {
            check("127.0.0.1", DEFAULT, &[("x-forwarded-for", list)], expected);
        }
    }

    #[test]
    fn forwarded_is_read_as_rfc_7239_writes_it() {
        for (list, expected) in [
            ("for=192.0.2.1", "192.0.2.1"),
            ("For=\"192.0.2.1:4711\"", "192.0.2.1"),
            ("For=\"[2001:db8:cafe::17]:4711\"", "2001:db8:cafe::17"),
            ("for=\"[2001:db8:cafe::17]:_port\"", "2001:db8:cafe::17"),
            ("for=192.0.2.60;proto=http;by=203.0.113.43", "192.0.2.60"),
            ("by=203.0.113.43; for=192.0.2.60", "192.0.2.60"),
            ("for=192.0.2.43, for=198.51.100.17", "198.51.100.17"),
            ("for=192.0.2.43, for=10.0.0.7", "192.0.2.43"),
            ("for=_hidden, for=10.0.0.7", "10.0.0.7"),
            ("for=unknown", "127.0.0.1"),
            ("for=_SEVKISEK", "127.0.0.1"),
            ("proto=https", "127.0.0.1"),
            ("for=", "127.0.0.1"),
            ("for=\"192.0.2.1", "127.0.0.1"),
            ("192.0.2.1", "127.0.0.1"),
            // A quote that the client opened does not hide it.
            ("for=\", for=192.0.2.1", "192.0.2.1"),
            ("x=\"a\\\", for=192.0.2.1", "192.0.2.1"),
        ] {
            check("127.0.0.1", &[Forwarded], &[("forwarded", list)], expected);
        }
    }

    #[test]
    fn lines_of_one_header_are_one_list() {
        let lines = [("x-forwarded-for", "198.51.100.9"), ("x-forwarded-for", "192.0.2.1")];
        check("127.0.0.1", DEFAULT, &lines, "192.0.2.1");
        let lines = [("x-forwarded-for", "192.0.2.1"), ("x-forwarded-for", "10.0.0.7")];
        check("127.0.0.1", DEFAULT, &lines, "192.0.2.1");
    }

    #[test]
    fn the_first_configured_header_that_is_present_counts() {
        let all =
            [("forwarded", "for=192.0.2.1"), ("x-forwarded-for", "192.0.2.2"), ("x-real-ip", "192.0.2.3")];
        check("127.0.0.1", DEFAULT, &all, "192.0.2.2");
        check("127.0.0.1", &[Forwarded], &all, "192.0.2.1");
        check("127.0.0.1", &[XRealIp, Forwarded], &all, "192.0.2.3");
        check("127.0.0.1", DEFAULT, &all[..1], "192.0.2.1");
        check("127.0.0.1", DEFAULT, &all[2..], "127.0.0.1");
        check("127.0.0.1", &[], &all, "127.0.0.1");
    }

    #[test]
    fn headers_of_untrusted_peers_are_ignored() {
        let all = [("x-forwarded-for", "192.0.2.2"), ("x-forwarded-proto", "https"), ("host", "a.example")];
        for (peer, expected) in [("198.51.100.1", "198.51.100.1"), ("::ffff:198.51.100.1", "198.51.100.1")] {
            let client = client(peer, DEFAULT, &all);
            assert_eq!((client.address.to_string().as_str(), client.public_origin), (expected, None));
        }
        check("::ffff:10.0.0.1", DEFAULT, &all, "192.0.2.2");
    }

    #[test]
    fn urls_are_those_that_the_client_sees() {
        for (headers, http, websocket) in [
            (
                vec![("x-forwarded-proto", "https"), ("host", "a.example:8443")],
                "https://a.example:8443/p",
                "wss://a.example:8443/p",
            ),
            (
                vec![("x-forwarded-proto", "HTTP"), ("host", "a.example")],
                "http://a.example/p",
                "ws://a.example/p",
            ),
            (
                vec![("x-forwarded-proto", "https, http"), ("x-forwarded-host", "b.example"), ("host", "in")],
                "https://b.example/p",
                "wss://b.example/p",
            ),
            (
                vec![(
                    "forwarded",
                    "for=192.0.2.1;proto=https;host=b.example, for=10.0.0.7;proto=http;host=in",
                )],
                "https://b.example/p",
                "wss://b.example/p",
            ),
            // The client's own entry is not read.
            (
                vec![
                    ("forwarded", "for=192.0.2.9;host=evil.example, for=192.0.2.1;proto=https"),
                    ("host", "a"),
                ],
                "https://a/p",
                "wss://a/p",
            ),
            (vec![("host", "a.example")], "/p", "/p"),
            (vec![("x-forwarded-proto", "gopher"), ("host", "a.example")], "/p", "/p"),
            (vec![("x-forwarded-proto", "https"), ("x-forwarded-host", "<script>")], "/p", "/p"),
        ] {
            let client = client("127.0.0.1", DEFAULT, &headers);
            let urls = [Transport::HTTP, Transport::WEBSOCKET].map(|transport| client.url(transport, "/p"));
            assert_eq!(urls, [http, websocket], "{headers:?}");
        }
    }
}
