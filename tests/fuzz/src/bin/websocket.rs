//! WebSocket: frames of any kind are answered as RFC 6455 demands, and close the connection with the right code within bounded
//! time and memory.
//!
//! Input: two bytes for the peer, then pieces as of `remuxd_fuzz`, which follow a valid opening handshake. Each piece is a length,
//! log2 of the number of times that it is repeated, and bytes.
#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use remuxd::testing::net::in_memory::Peer;
use remuxd_fuzz::http_host::{FRAME, HttpHost, PATH, contains};
use remuxd_fuzz::{peak, read_piece};

/// Longest input of a connection, in bytes: more than the longest message.
const MAX_SENT: usize = 1 << 17;

/// Most parts that the host reads an input in, unless it is short.
const MAX_PARTS: usize = 512;

/// Longest stay of a peer that answers no pings: after two of them, 20 s apart, the host leaves.
const STAY: Duration = Duration::from_secs(100);

/// Memory that a viewer may need, in bytes: a message and the buffer that it is read into, and what is copied meanwhile.
const MAX_MEMORY: usize = 1 << 20;

/// The largest message of a viewer.
const MAX_INCOMING: usize = 64 << 10;

thread_local! {
    static HOST: HttpHost = HttpHost::start();
}

fuzz_target!(|data: &[u8]| {
    let [step, peer, pieces @ ..] = data else { return };
    let (mut frames, mut pieces) = (Vec::new(), pieces);
    while !pieces.is_empty() {
        pieces = read_piece(pieces, &mut frames, MAX_SENT);
    }
    let expected = expected(&frames);
    let handshake = format!(
        "GET {PATH} HTTP/1.1\r\nHost: a.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    let stays = peer & 1 != 0;
    // A long input in few parts, for speed.
    let step = (usize::from(*step) * 64 + 1).max(frames.len() / MAX_PARTS);
    let reads = if peer & 2 == 0 { usize::MAX } else { 1024 + (usize::from(peer >> 2) << 8) };
    let peer = Peer {
        sends: [handshake.as_bytes(), &frames].concat().into(),
        step,
        reads,
        stays: if stays { STAY } else { Duration::ZERO },
    };
    let ((read, host_left), memory) = HOST.with(|host| peak(|| host.serve(peer)));
    assert!(memory <= MAX_MEMORY, "{memory} bytes of memory");
    if read.is_empty() && !stays {
        // The peer closed its end before the answer.
        return;
    }
    assert!(read.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&read));
    let head = read.windows(4).position(|end| end == b"\r\n\r\n").expect("a whole head") + 4;
    let close = answers(&read[head..], reads == usize::MAX);
    if reads != usize::MAX {
        return;
    }
    assert!(contains(&read, FRAME) || !stays, "the stream comes before anything else");
    match expected {
        // The host pings, gets no pong, and leaves.
        None if stays => assert_eq!((close, host_left), (Some(Some(1001)), true)),
        None => {}
        Some(codes) => {
            assert!(host_left || !stays);
            let Some(code) = close else { return assert!(!stays, "no close frame instead of {codes:?}") };
            assert!(codes.contains(&code), "{code:?} instead of {codes:?}");
        }
    }
});

/// Returns the codes of which the host answers with one in its close frame, if these frames end the connection. `None` is a close
/// frame without a code.
fn expected(mut bytes: &[u8]) -> Option<Vec<Option<u16>>> {
    const PROTOCOL: Option<u16> = Some(1002);
    const NOT_UTF8: Option<u16> = Some(1007);
    const TOO_BIG: Option<u16> = Some(1009);
    // An unfinished message: whether it is text, its length, and what may be the start of a character.
    let mut message: Option<(bool, usize, Vec<u8>)> = None;
    loop {
        let [first, second, rest @ ..] = bytes else { return None };
        let (is_last, opcode, length) = (first & 0x80 != 0, first & 15, second & 0x7f);
        let is_control = opcode & 8 != 0;
        let bad_sequence = match opcode {
            0 => message.is_none(),
            1 | 2 => message.is_some(),
            8..=10 => !is_last || length > 125 || opcode == 8 && length == 1,
            _ => true,
        };
        if first & 0x70 != 0 || second & 0x80 == 0 || bad_sequence {
            return Some(vec![PROTOCOL]);
        }
        let (length, rest) = match (length, rest) {
            (126, [a, b, rest @ ..]) => (u64::from(u16::from_be_bytes([*a, *b])), rest),
            (127, [a, b, c, d, e, f, g, h, rest @ ..]) => {
                (u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h]), rest)
            }
            (126 | 127, _) => return None,
            (length, rest) => (u64::from(length), rest),
        };
        // The shortest form must be used (5.2).
        let shortest = match length {
            0..126 => second & 0x7f < 126,
            126..65536 => second & 0x7f == 126,
            _ => true,
        };
        if !shortest {
            return Some(vec![PROTOCOL]);
        }
        if length > MAX_INCOMING as u64 {
            return Some(vec![TOO_BIG]);
        }
        let before = message.as_ref().map_or(0, |(_, before, _)| *before);
        if !is_control && before + length as usize > MAX_INCOMING {
            // It is known from the header, but may be found after the payload, whose text may be wrong as well.
            let whole = rest.len() >= 4 + length as usize;
            return if whole { Some(vec![TOO_BIG, NOT_UTF8]) } else { None };
        }
        let [a, b, c, d, rest @ ..] = rest else { return None };
        let Some((payload, rest)) = rest.split_at_checked(length as usize) else {
            // Text that is wrong already may be found before its frame is complete.
            let is_text =
                opcode == 1 || opcode == 0 && message.as_ref().is_some_and(|(is_text, ..)| *is_text);
            return if is_text && !rest.is_empty() { Some(vec![NOT_UTF8, Some(1001), None]) } else { None };
        };
        let mask = [*a, *b, *c, *d];
        let payload: Vec<u8> =
            payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
        bytes = rest;
        match opcode {
            8 => {
                let [high, low, reason @ ..] = &payload[..] else { return Some(vec![None, Some(1000)]) };
                let code = u16::from_be_bytes([*high, *low]);
                let valid = matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999);
                return Some(match (valid, str::from_utf8(reason)) {
                    (true, Ok(_)) => vec![Some(code)],
                    (true, Err(_)) => vec![NOT_UTF8, PROTOCOL],
                    (false, _) => vec![PROTOCOL],
                });
            }
            9 | 10 => {}
            _ => {
                let (is_text, before, mut rest) = message.take().unwrap_or((opcode == 1, 0, Vec::new()));
                if is_text {
                    rest.extend_from_slice(&payload);
                    match str::from_utf8(&rest) {
                        Ok(_) => rest.clear(),
                        Err(error) if is_last || error.error_len().is_some() => return Some(vec![NOT_UTF8]),
                        Err(error) => drop(rest.drain(..error.valid_up_to())),
                    }
                }
                message = (!is_last).then_some((is_text, before + payload.len(), rest));
            }
        }
    }
}

/// Asserts that bytes are frames of a server, and that a close frame is the last. Returns its code.
fn answers(mut bytes: &[u8], is_whole: bool) -> Option<Option<u16>> {
    while let [first, second, rest @ ..] = bytes {
        assert!(matches!(first, 0x82 | 0x88 | 0x89 | 0x8a) && second & 0x80 == 0, "{bytes:02x?}");
        let (length, rest) = match (second, rest) {
            (126, [a, b, rest @ ..]) => (usize::from(u16::from_be_bytes([*a, *b])), rest),
            (127, _) => panic!("no message of this stream is that long"),
            (126, _) => return None,
            (length, rest) => (usize::from(*length), rest),
        };
        let Some((payload, rest)) = rest.split_at_checked(length) else {
            assert!(!is_whole, "a frame that is cut");
            return None;
        };
        if *first == 0x88 {
            assert!(rest.is_empty(), "a frame after the close frame");
            return Some(payload.first_chunk().map(|code| u16::from_be_bytes(*code)));
        }
        bytes = rest;
    }
    None
}
