//! HTTP connections: bytes of any kind, HTTP/1.1 or HTTP/2, get well-formed answers within bounded time and memory.
//!
//! Input: two bytes for the peer, then pieces as of `remuxd_fuzz`, each a length, log2 of the number of times that it is repeated,
//! and bytes.
#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use remuxd::testing::net::in_memory::Peer;
use remuxd_fuzz::http_host::HttpHost;
use remuxd_fuzz::{peak, read_piece};

/// Longest input of a connection, in bytes.
const MAX_SENT: usize = 1 << 17;

/// Most parts that the host reads an input in, unless it is short.
const MAX_PARTS: usize = 512;

/// Longest stay of a peer that sends nothing more.
const STAY: Duration = Duration::from_secs(30);

/// Memory that a connection may need, in bytes; the budget counts 16 KiB for it, 112 KiB for HTTP/2 and 16 KiB for each request.
const MAX_MEMORY: usize = 4 << 20;

thread_local! {
    static HOST: HttpHost = HttpHost::start();
}

fuzz_target!(|data: &[u8]| {
    let [step, peer, pieces @ ..] = data else { return };
    let (mut sends, mut pieces) = (Vec::new(), pieces);
    while !pieces.is_empty() {
        pieces = read_piece(pieces, &mut sends, MAX_SENT);
    }
    let is_http2 = sends.starts_with(b"PRI");
    // A long input in few parts, for speed.
    let step = (usize::from(*step) * 8 + 1).max(sends.len() / MAX_PARTS);
    let reads = if peer & 2 == 0 { usize::MAX } else { usize::from(peer >> 2) << 8 };
    let peer =
        Peer { sends: sends.into(), step, reads, stays: if peer & 1 == 0 { Duration::ZERO } else { STAY } };
    let ((read, _), memory) = HOST.with(|host| peak(|| host.serve(peer)));
    assert!(memory <= MAX_MEMORY, "{memory} bytes of memory");
    if is_http2 {
        frames(&read, reads == usize::MAX);
    } else {
        assert!(read.starts_with(&b"HTTP/1.1 "[..read.len().min(9)]) || read.starts_with(b"HTTP/1.0 "));
    }
});

/// Asserts that bytes are HTTP/2 frames of known kinds, the first one SETTINGS.
fn frames(mut bytes: &[u8], is_whole: bool) {
    let mut is_first = true;
    while let [a, b, c, kind, _, _, _, _, _, rest @ ..] = bytes {
        let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
        assert!(length <= 16384 && *kind <= 9 && (*kind == 4 || !is_first), "{bytes:02x?}");
        is_first = false;
        let Some(rest) = rest.get(length..) else { return assert!(!is_whole) };
        bytes = rest;
    }
}
