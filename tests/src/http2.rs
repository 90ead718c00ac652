//! HTTP/2 frames (RFC 9113) that no well-behaved client sends.

/// Frame type: a part of a body.
pub const DATA: u8 = 0;
/// Frame type: a header block.
pub const HEADERS: u8 = 1;
/// Frame type: the end of a stream by an error.
pub const RST_STREAM: u8 = 3;
/// Frame type: settings.
pub const SETTINGS: u8 = 4;
/// Frame type: ping.
pub const PING: u8 = 6;
/// Frame type: the end of a connection.
pub const GOAWAY: u8 = 7;
/// Frame type: more window.
pub const WINDOW_UPDATE: u8 = 8;
/// Frame type: more of a header block.
pub const CONTINUATION: u8 = 9;

/// Flag of an answer to SETTINGS or PING.
pub const ACK: u8 = 1;
/// Flag of the last frame of a stream.
pub const END_STREAM: u8 = 1;
/// Flag of the last frame of a header block.
pub const END_HEADERS: u8 = 4;

/// The first bytes of a client.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Returns a frame.
#[must_use]
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Returns the header block of a GET, encoded with the static table of HPACK alone (RFC 7541, A).
#[must_use]
pub fn get(authority: &str, path: &str) -> Vec<u8> {
    let literal = |name: u8, value: &str| [&[name, value.len() as u8], value.as_bytes()].concat();
    [vec![0x82, 0x86], literal(1, authority), literal(4, path)].concat()
}
