//! The PROXY protocol (haproxy.org, proxy-protocol.txt, versions 1 and 2): a proxy's first bytes name its client.
//!
//! A listener requires the header on every connection or on none, as the specification demands: a server that guesses
//! would believe any peer. The header comes before everything else, TLS included.
//!
//! Exactly the header is read from the socket; the next reader finds the first byte behind it. Bounds: 107 bytes for version 1 (section 2.1), [`MAX_HEADER`] for version 2, whose TLVs are skipped.

use std::io;
use std::net::{IpAddr, SocketAddr};

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tracing::info;

use super::peer::Peer;
use super::server::Server;
use crate::conf::Config;

/// The signature of version 2 (section 2.2). No version 1 header is shorter.
const V2_PREFIX: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// Bytes that decide between the versions; no header is shorter.
pub const SIGNATURE: usize = V2_PREFIX.len();

/// The fixed part of version 2: prefix, version and command, family and transport, length of the rest.
const V2_FIXED: usize = SIGNATURE + 4;

/// The largest header of version 1, including CRLF (section 2.1).
const MAX_V1: usize = 107;

/// Limit of a version 2 header, in bytes: addresses and certificate names fit with room to spare.
pub const MAX_HEADER: usize = 4096;

/// A header that cannot be used. Culprit: peer, or the operator who configured it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HeaderError {
    /// The connection broke.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The first bytes belong to neither version.
    #[error("the connection opens with no PROXY protocol header")]
    Missing,
    /// The header is longer than the limit.
    #[error("the header has more than {limit} bytes")]
    TooLong {
        /// The limit, in bytes.
        limit: usize,
    },
    /// A version 1 header that does not follow the grammar.
    #[error("version 1: a malformed line")]
    Line,
    /// An unknown version or command in version 2.
    #[error("version 2: version and command {0:#04x}")]
    Command(u8),
    /// An address family and transport in version 2 that is not TCP.
    #[error("version 2: family and transport {0:#04x}")]
    Family(u8),
    /// A version 2 header too short for the addresses of its family.
    #[error("version 2: addresses of {length} bytes")]
    Addresses {
        /// Length of the addresses, in bytes.
        length: usize,
    },
}

/// The part of a header that is still to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    /// This many bytes; 0 when the header is complete.
    Bytes(usize),
    /// Up to the end of the line, at most this many bytes.
    Line(usize),
}

/// Reads the header of a new connection. Returns the address in it, else the peer's own; `None`, after logging the
/// reason, if the connection must be closed.
pub(super) async fn take(
    server: &Server,
    config: &Config,
    socket: &mut TcpStream,
    Peer { address: peer, id: connection }: Peer,
    deadline: Instant,
) -> Option<SocketAddr> {
    let refusals = server.access.refusals();
    if !config.proxy.trusts(peer.ip()) {
        if let Some(before) = refusals.count("untrusted_proxy") {
            info!(%peer, %connection, before, "connection refused: not a trusted proxy");
        }
        return None;
    }
    let header = timeout_at(deadline, read(socket)).await;
    if let Ok(Ok(source)) = header {
        return Some(source.unwrap_or(peer));
    }
    let before = refusals.count("proxy_header")?;
    match header {
        Ok(Err(error)) => {
            info!(%peer, %connection, %error, before, "connection refused: no usable PROXY protocol header");
        }
        _ => info!(%peer, %connection, before, "connection refused: no PROXY protocol header in time"),
    }
    None
}

/// Reads the header and nothing behind it.
async fn read(socket: &mut TcpStream) -> Result<Option<SocketAddr>, HeaderError> {
    let mut header = vec![0; SIGNATURE];
    socket.read_exact(&mut header).await?;
    loop {
        match rest(&header)? {
            Rest::Bytes(0) => return source(&header),
            Rest::Bytes(count) => {
                let start = header.len();
                header.resize(start + count, 0);
                socket.read_exact(&mut header[start..]).await?;
            }
            Rest::Line(most) => {
                // Every byte up to the end of the line belongs to the header and can be read.
                let mut ahead = [0; MAX_V1];
                let count = socket.peek(&mut ahead[..most]).await?;
                let line = ahead[..count].iter().position(|byte| *byte == b'\n').map_or(count, |end| end + 1);
                if line == 0 {
                    return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
                }
                let start = header.len();
                header.resize(start + line, 0);
                socket.read_exact(&mut header[start..]).await?;
            }
        }
    }
}

/// Returns the missing part of a header with these first bytes, at least [`SIGNATURE`] of them.
///
/// # Errors
/// [`HeaderError`] if no header starts so, or it is too long.
pub fn rest(start: &[u8]) -> Result<Rest, HeaderError> {
    if start.starts_with(V2_PREFIX) {
        let Some(length) = start.get(V2_FIXED - 2..V2_FIXED) else {
            return Ok(Rest::Bytes(V2_FIXED - start.len()));
        };
        let whole = V2_FIXED + usize::from(u16::from_be_bytes([length[0], length[1]]));
        return match whole {
            ..=MAX_HEADER => Ok(Rest::Bytes(whole.saturating_sub(start.len()))),
            _ => Err(HeaderError::TooLong { limit: MAX_HEADER }),
        };
    }
    if !start.starts_with(b"PROXY ") {
        return Err(HeaderError::Missing);
    }
    match start.len() {
        _ if start.ends_with(b"\n") => Ok(Rest::Bytes(0)),
        MAX_V1.. => Err(HeaderError::TooLong { limit: MAX_V1 }),
        length => Ok(Rest::Line(MAX_V1 - length)),
    }
}

/// Returns the source address in a complete header; `None` if the proxy connects on its own behalf, as for a health
/// check, or does not know the address.
///
/// # Errors
/// [`HeaderError`] for a malformed header.
pub fn source(header: &[u8]) -> Result<Option<SocketAddr>, HeaderError> {
    match header.strip_prefix(V2_PREFIX) {
        Some([command, family, _, _, rest @ ..]) => v2_source(*command, *family, rest),
        _ => v1_source(header).ok_or(HeaderError::Line),
    }
}

/// Parses `PROXY TCP4 source destination source-port destination-port`, or `PROXY UNKNOWN` and anything (section 2.1).
fn v1_source(line: &[u8]) -> Option<Option<SocketAddr>> {
    let line = str::from_utf8(line.strip_suffix(b"\r\n")?).ok()?;
    let fields: Vec<&str> = line.split(' ').collect();
    let digits = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
    match *fields {
        ["PROXY", "UNKNOWN", ..] => Some(None),
        ["PROXY", family, source, destination, source_port, destination_port]
            if digits(source_port) && digits(destination_port) =>
        {
            destination_port.parse::<u16>().ok()?;
            let (source, destination): (IpAddr, IpAddr) = (source.parse().ok()?, destination.parse().ok()?);
            let both = |is: fn(&IpAddr) -> bool| is(&source) && is(&destination);
            let right = match family {
                "TCP4" => both(IpAddr::is_ipv4),
                "TCP6" => both(IpAddr::is_ipv6),
                _ => false,
            };
            let source = SocketAddr::new(source.to_canonical(), source_port.parse().ok()?);
            right.then_some(Some(source))
        }
        _ => None,
    }
}

/// Parses version 2 behind the signature, without the length. TLVs behind the addresses are skipped.
fn v2_source(command: u8, family: u8, rest: &[u8]) -> Result<Option<SocketAddr>, HeaderError> {
    let source = match (command, family) {
        // The family of a LOCAL command must be ignored.
        (0x20, _) => return Ok(None),
        (0x21, 0x11) => v2_address::<4>(rest),
        (0x21, 0x21) => v2_address::<16>(rest),
        // Unknown to the proxy, or of a Unix socket.
        (0x21, 0x00 | 0x01 | 0x31) => return Ok(None),
        (0x21, family) => return Err(HeaderError::Family(family)),
        (command, _) => return Err(HeaderError::Command(command)),
    };
    source.map(Some).ok_or(HeaderError::Addresses { length: rest.len() })
}

/// Parses source and destination addresses of `N` bytes, then their ports; returns the source.
fn v2_address<const N: usize>(bytes: &[u8]) -> Option<SocketAddr>
where
    IpAddr: From<[u8; N]>,
{
    let (source, bytes) = bytes.split_first_chunk::<N>()?;
    let (_, bytes) = bytes.split_first_chunk::<N>()?;
    let (ports, _) = bytes.split_first_chunk::<4>()?;
    // HAProxy writes an IPv4 peer of an IPv6 listener as ::ffff:a.b.c.d.
    let source = IpAddr::from(*source).to_canonical();
    Some((source, u16::from_be_bytes([ports[0], ports[1]])).into())
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    use super::*;

    fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let mut header = V2_PREFIX.to_vec();
        header.extend([0x20 | command, family]);
        header.extend((body.len() as u16).to_be_bytes());
        header.extend(body);
        header
    }

    const IPV4: &[u8] = &[192, 0, 2, 1, 192, 0, 2, 2, 0x12, 0x34, 0, 80];
    const TLV: &[u8] = &[0x04, 0, 3, 0, 0, 0];

    fn ipv6() -> Vec<u8> {
        let mut body = vec![0; 36];
        (body[0], body[1], body[15], body[33]) = (0x20, 0x01, 7, 99);
        body
    }

    fn good() -> Vec<(Vec<u8>, Option<&'static str>)> {
        vec![
            (b"PROXY TCP4 192.0.2.1 192.0.2.2 4660 80\r\n".to_vec(), Some("192.0.2.1:4660")),
            (b"PROXY TCP6 2001::7 2001::8 99 80\r\n".to_vec(), Some("[2001::7]:99")),
            (b"PROXY TCP6 ::ffff:192.0.2.1 ::1 99 80\r\n".to_vec(), Some("192.0.2.1:99")),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (b"PROXY UNKNOWN ffff::1 a b c d e f g h\r\n".to_vec(), None),
            (v2(1, 0x11, IPV4), Some("192.0.2.1:4660")),
            (v2(1, 0x11, &[IPV4, TLV].concat()), Some("192.0.2.1:4660")),
            (v2(1, 0x21, &ipv6()), Some("[2001::7]:99")),
            (v2(1, 0x31, &[b'/'; 216]), None),
            (v2(1, 0x00, b""), None),
            (v2(1, 0x00, TLV), None),
            (v2(0, 0x00, b""), None),
            // A LOCAL command's family is to be ignored, even where its addresses are missing.
            (v2(0, 0x11, b""), None),
            (v2(0, 0x11, IPV4), None),
        ]
    }

    fn bad() -> Vec<Vec<u8>> {
        vec![
            b"GET /live/a.flv HTTP/1.1\r\n\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.1 192.0.2.2 4660 80\n".to_vec(),
            b"PROXY TCP4 192.0.2.1 192.0.2.2 4660\r\n".to_vec(),
            b"PROXY TCP4 2001::7 2001::8 99 80\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.1 192.0.2.2 466000 80\r\n".to_vec(),
            b"PROXY UNKNOWNS\r\n".to_vec(),
            b"PROXY UNKNOWN x\n".to_vec(),
            b"PROXY UDP4 192.0.2.1 192.0.2.2 4660 80\r\n".to_vec(),
            [b"PROXY TCP4 ".as_slice(), &[b'1'; 200], b"\r\n"].concat(),
            [b"PROXY UNKNOWN ".as_slice(), &[b'x'; 200], b"\r\n"].concat(),
            b"PROXY TCP4 \xff\xff 192.0.2.2 4660 80\r\n".to_vec(),
            b"PROXY TCP6 2001::7 ::1 4 8\r\xc6\xbe1 \n".to_vec(),
            b"PROXY TCP6 2001::7 ::1 4 +8\r\n".to_vec(),
            b"PROXY TCP6 2001::7 ::1 4 8 \r\n".to_vec(),
            b"PROXY  TCP6 2001::7 ::1 4 8\r\n".to_vec(),
            v2(1, 0x12, IPV4),
            v2(1, 0x11, &IPV4[..11]),
            v2(1, 0x41, IPV4),
            v2(2, 0x11, IPV4),
            v2(1, 0x11, &[0; MAX_HEADER]),
        ]
    }

    /// Sends `bytes` in steps; returns the source, and the bytes left in the socket behind the header.
    async fn through_a_socket(
        bytes: &[u8],
        step: usize,
    ) -> Result<(Option<SocketAddr>, Vec<u8>), HeaderError> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        client.set_nodelay(true).unwrap();
        let (mut socket, _) = listener.accept().await.unwrap();
        let bytes = bytes.to_vec();
        let sender = tokio::spawn(async move {
            for part in bytes.chunks(step) {
                // The reader may have refused it already.
                let _ = client.write_all(part).await;
                tokio::task::yield_now().await;
            }
        });
        let source = read(&mut socket).await?;
        sender.await.unwrap();
        let mut left = Vec::new();
        socket.read_to_end(&mut left).await.unwrap();
        Ok((source, left))
    }

    #[tokio::test]
    async fn takes_the_header_and_leaves_the_rest() {
        for (header, expected) in good() {
            let bytes = [&header[..], b"GET / HTTP/1.1\r\n\r\n"].concat();
            for step in [1, 13, bytes.len()] {
                let (source, left) = through_a_socket(&bytes, step).await.unwrap();
                assert_eq!(source.map(|source| source.to_string()).as_deref(), expected, "{header:?}");
                assert_eq!(left, b"GET / HTTP/1.1\r\n\r\n", "{header:?}");
            }
        }
    }

    #[tokio::test]
    async fn refuses_malformed_headers() {
        for bytes in bad() {
            for step in [1, bytes.len()] {
                let taken = through_a_socket(&bytes, step).await;
                assert!(taken.is_err(), "{taken:?} of {:?}", String::from_utf8_lossy(&bytes));
            }
        }
    }

    #[tokio::test]
    async fn an_end_within_the_header_is_an_error() {
        for (header, _) in good() {
            for length in 0..header.len() {
                let taken = through_a_socket(&header[..length], usize::MAX).await;
                assert!(matches!(taken, Err(HeaderError::Io(_))), "{taken:?}");
            }
        }
    }

    #[test]
    fn source_agrees_with_read() {
        for (header, expected) in good() {
            let source = source(&header).unwrap();
            assert_eq!(source.map(|source| source.to_string()).as_deref(), expected);
        }
    }
}
