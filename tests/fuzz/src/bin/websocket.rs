//! WebSocket: a viewer's frames end with the code that RFC 6455 demands, however they are cut.
//!
//! Input: a byte for the size of the parts that are read at once, one without meaning, then pieces as of `remuxd_fuzz`. Each piece is
//! a length, log2 of the number of times that it is repeated, and bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use remuxd::testing::http::frames::{ClientEvent, ClientFrames, CloseCode, MAX_INCOMING, Violation};
use remuxd_fuzz::read_piece;

/// Longest input of a connection, in bytes: more than the longest message.
const MAX_SENT: usize = 1 << 17;

/// Stands for frames of which no more can be said.
const UNDECIDED: Option<u16> = Some(0);

fuzz_target!(|data: &[u8]| {
    let [step, _, pieces @ ..] = data else { return };
    let (mut frames, mut pieces) = (Vec::new(), pieces);
    while !pieces.is_empty() {
        pieces = read_piece(pieces, &mut frames, MAX_SENT);
    }
    let end = read(&frames, usize::from(*step) * 64 + 1);
    match expected(&frames) {
        None => assert_eq!(end, None),
        Some(codes) => assert!(codes.contains(&end.unwrap_or(UNDECIDED)), "{end:?} instead of {codes:?}"),
    }
});

/// Reads frames in parts. Returns the code with which they end, if they do.
fn read(frames: &[u8], step: usize) -> Option<Option<u16>> {
    let mut reader = ClientFrames::default();
    for mut part in frames.chunks(step) {
        loop {
            match reader.read(&mut part) {
                Ok(None) => break,
                Ok(Some(ClientEvent::Ping(payload))) => assert!(payload.len() <= 125),
                Ok(Some(ClientEvent::Other)) => {}
                Ok(Some(ClientEvent::Close(code))) => return Some(code.map(|code| code.0)),
                Err(Violation(CloseCode(code))) => return Some(Some(code)),
            }
        }
        assert!(part.is_empty(), "nothing is left unread");
    }
    None
}

/// Returns the codes with one of which these frames end, if they do. `None` is a close frame without a code.
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
        if length > MAX_INCOMING {
            return Some(vec![TOO_BIG]);
        }
        let before = message.as_ref().map_or(0, |(_, before, _)| *before);
        if !is_control && before as u64 + length > MAX_INCOMING {
            return Some(vec![TOO_BIG]);
        }
        let [a, b, c, d, rest @ ..] = rest else { return None };
        let Some((payload, rest)) = rest.split_at_checked(length as usize) else {
            // Text that is wrong already may be found before its frame is complete.
            let is_text =
                opcode == 1 || opcode == 0 && message.as_ref().is_some_and(|(is_text, ..)| *is_text);
            return if is_text && !rest.is_empty() { Some(vec![NOT_UTF8, UNDECIDED]) } else { None };
        };
        let mask = [*a, *b, *c, *d];
        let payload: Vec<u8> =
            payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
        bytes = rest;
        match opcode {
            8 => {
                let [high, low, reason @ ..] = &payload[..] else { return Some(vec![None]) };
                let code = u16::from_be_bytes([*high, *low]);
                let valid = matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999);
                return Some(match (valid, str::from_utf8(reason)) {
                    (true, Ok(_)) => vec![Some(code)],
                    (true, Err(_)) => vec![NOT_UTF8],
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
