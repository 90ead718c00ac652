//! Frames of WebSocket (RFC 6455, 5), sans-IO: what a server sends, and what a viewer may send.
//!
//! Viewers send pings, pongs and close; the payload of anything else is checked and dropped. So a reader holds no message, only
//! the payload of a control frame, at most 125 bytes.

/// The largest message that a viewer may send, in bytes.
pub const MAX_INCOMING: u64 = 64 * 1024;

/// The largest payload of a control frame, in bytes (RFC 6455, 5.5).
const MAX_CONTROL: usize = 125;

/// The longest header of a client's frame: two bytes, a length of eight, a mask of four.
const MAX_HEAD: usize = 14;

const FIN: u8 = 0x80;
const RESERVED: u8 = 0x70;
const MASKED: u8 = 0x80;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// A code in a close frame (RFC 6455, 7.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CloseCode(pub u16);

impl CloseCode {
    /// The purpose is fulfilled.
    pub const NORMAL: CloseCode = CloseCode(1000);
    /// An endpoint has gone.
    pub const GOING_AWAY: CloseCode = CloseCode(1001);
    /// A violation of the protocol.
    pub const PROTOCOL: CloseCode = CloseCode(1002);
    /// Text that is no UTF-8.
    pub const INVALID_DATA: CloseCode = CloseCode(1007);
    /// A violation of a rule of the server.
    pub const POLICY: CloseCode = CloseCode(1008);
    /// A message over the limit.
    pub const TOO_BIG: CloseCode = CloseCode(1009);

    /// Whether a close frame may contain it (RFC 6455, 7.4).
    fn may_be_sent(self) -> bool {
        matches!(self.0, 1000..=1003 | 1007..=1014 | 3000..=4999)
    }
}

/// Appends the head of an unmasked binary message of `length` bytes, which is one frame.
pub fn write_binary_head(length: usize, output: &mut Vec<u8>) {
    output.push(FIN | BINARY);
    match length {
        0..=125 => output.push(length as u8),
        126..=0xffff => {
            output.push(126);
            output.extend_from_slice(&(length as u16).to_be_bytes());
        }
        _ => {
            output.push(127);
            output.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
}

/// Returns a ping without payload.
pub fn ping() -> Vec<u8> {
    vec![FIN | PING, 0]
}

/// Returns the answer to a ping with this payload.
pub fn pong(payload: &[u8]) -> Vec<u8> {
    control(PONG, payload)
}

/// Returns a close frame; without a code, an empty one.
pub fn close(code: Option<CloseCode>, reason: &str) -> Vec<u8> {
    let code = code.map(|code| code.0.to_be_bytes());
    control(CLOSE, &[code.as_ref().map_or(&[][..], |code| code), reason.as_bytes()].concat())
}

fn control(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let payload = &payload[..payload.len().min(MAX_CONTROL)];
    [&[FIN | opcode, payload.len() as u8][..], payload].concat()
}

/// An event of a viewer's frames.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientEvent {
    /// A ping, with its payload.
    Ping(Vec<u8>),
    /// A pong, or a whole message.
    Other,
    /// The viewer closes, with this code.
    Close(Option<CloseCode>),
}

/// A violation of the protocol, with the code that the viewer is told. Culprit: peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a violation of WebSocket, closed with {}", .0.0)]
pub struct Violation(pub CloseCode);

const PROTOCOL: Violation = Violation(CloseCode::PROTOCOL);

/// A reader of a viewer's frames.
#[derive(Debug, Default)]
pub struct ClientFrames {
    head: [u8; MAX_HEAD],
    /// Bytes of `head` so far.
    head_len: u8,
    frame: Option<Frame>,
    /// The message whose last fragment has not come.
    message: Option<Message>,
    /// The payload so far of a control frame.
    control: Vec<u8>,
}

/// A frame whose payload is being read.
#[derive(Clone, Copy, Debug)]
struct Frame {
    opcode: u8,
    is_last: bool,
    mask: [u8; 4],
    length: u64,
    read: u64,
}

/// A message that is being read.
#[derive(Debug, Default)]
struct Message {
    length: u64,
    is_text: bool,
    /// The bytes of an incomplete character.
    partial: Vec<u8>,
}

impl ClientFrames {
    /// Reads up to the next event, and removes what it has read from `input`. Returns `None` if that needs more bytes.
    ///
    /// # Errors
    /// [`Violation`]; what follows has no meaning.
    pub fn read(&mut self, input: &mut &[u8]) -> Result<Option<ClientEvent>, Violation> {
        loop {
            let Some(frame) = self.frame else {
                let Some((&byte, rest)) = input.split_first() else { return Ok(None) };
                *input = rest;
                self.head[usize::from(self.head_len)] = byte;
                self.head_len += 1;
                self.frame = self.parse_head()?;
                continue;
            };
            let count = (frame.length - frame.read).min(input.len() as u64) as usize;
            let (payload, rest) = input.split_at(count);
            *input = rest;
            self.add(frame, payload)?;
            let read = frame.read + count as u64;
            if read < frame.length {
                self.frame = Some(Frame { read, ..frame });
                return Ok(None);
            }
            (self.frame, self.head_len) = (None, 0);
            if let Some(event) = self.finish(frame)? {
                return Ok(Some(event));
            }
        }
    }

    /// Returns the frame once its head is complete.
    fn parse_head(&mut self) -> Result<Option<Frame>, Violation> {
        let head = &self.head[..usize::from(self.head_len)];
        let [first, second, ..] = *head else { return Ok(None) };
        let (opcode, is_last, short) = (first & 0x0f, first & FIN != 0, second & !MASKED);
        let is_control = opcode >= CLOSE;
        let is_valid = match opcode {
            0 => self.message.is_some(),
            TEXT | BINARY => self.message.is_none(),
            // A close frame has no payload, or a code (5.5.1).
            CLOSE => is_last && usize::from(short) <= MAX_CONTROL && short != 1,
            PING | PONG => is_last && usize::from(short) <= MAX_CONTROL,
            _ => false,
        };
        if first & RESERVED != 0 || second & MASKED == 0 || !is_valid {
            return Err(PROTOCOL);
        }
        let extended = match short {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let Some(extension) = head.get(2..2 + extended) else { return Ok(None) };
        let length = match extended {
            0 => u64::from(short),
            _ => extension.iter().fold(0, |length, &byte| length << 8 | u64::from(byte)),
        };
        // The shortest form must be used (5.2).
        let is_shortest = match extended {
            0 => true,
            2 => length > 125,
            _ => length > 0xffff,
        };
        if !is_shortest {
            return Err(PROTOCOL);
        }
        let before = self.message.as_ref().map_or(0, |message| message.length);
        if !is_control && before.saturating_add(length) > MAX_INCOMING {
            return Err(Violation(CloseCode::TOO_BIG));
        }
        let Some(mask) = head.get(2 + extended..6 + extended) else { return Ok(None) };
        let mut frame = Frame { opcode, is_last, mask: [0; 4], length, read: 0 };
        frame.mask.copy_from_slice(mask);
        if is_control {
            self.control.clear();
        } else {
            let message = self.message.get_or_insert_default();
            message.length += length;
            message.is_text |= opcode == TEXT;
        }
        Ok(Some(frame))
    }

    /// Takes a part of a frame's payload.
    fn add(&mut self, frame: Frame, payload: &[u8]) -> Result<(), Violation> {
        let unmasked = payload.iter().enumerate().map(|(index, byte)| {
            let at = (frame.read + index as u64) % 4;
            byte ^ frame.mask[at as usize]
        });
        if frame.opcode >= CLOSE {
            self.control.extend(unmasked);
        } else if let Some(message) = self.message.as_mut().filter(|message| message.is_text) {
            message.partial.extend(unmasked);
            message.check_text()?;
        }
        Ok(())
    }

    /// Ends a frame.
    fn finish(&mut self, frame: Frame) -> Result<Option<ClientEvent>, Violation> {
        match frame.opcode {
            CLOSE => close_event(&self.control).map(Some),
            PING => Ok(Some(ClientEvent::Ping(std::mem::take(&mut self.control)))),
            PONG => Ok(Some(ClientEvent::Other)),
            _ if !frame.is_last => Ok(None),
            _ => match self.message.take() {
                Some(message) if !message.partial.is_empty() => Err(Violation(CloseCode::INVALID_DATA)),
                _ => Ok(Some(ClientEvent::Other)),
            },
        }
    }
}

impl Message {
    /// Checks the text so far and keeps what is an incomplete character.
    fn check_text(&mut self) -> Result<(), Violation> {
        match std::str::from_utf8(&self.partial) {
            Ok(_) => self.partial.clear(),
            Err(error) if error.error_len().is_none() => {
                self.partial.drain(..error.valid_up_to());
            }
            Err(_) => return Err(Violation(CloseCode::INVALID_DATA)),
        }
        Ok(())
    }
}

fn close_event(payload: &[u8]) -> Result<ClientEvent, Violation> {
    let Some((code, reason)) = payload.split_first_chunk() else {
        return if payload.is_empty() { Ok(ClientEvent::Close(None)) } else { Err(PROTOCOL) };
    };
    let code = CloseCode(u16::from_be_bytes(*code));
    if !code.may_be_sent() {
        return Err(PROTOCOL);
    }
    if std::str::from_utf8(reason).is_err() {
        return Err(Violation(CloseCode::INVALID_DATA));
    }
    Ok(ClientEvent::Close(Some(code)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a masked frame.
    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mask = [1, 2, 3, 4];
        let mut frame = vec![first];
        match payload.len() {
            length @ ..126 => frame.push(MASKED | length as u8),
            length => {
                frame.push(MASKED | 126);
                frame.extend((length as u16).to_be_bytes());
            }
        }
        frame.extend(mask);
        frame.extend(payload.iter().enumerate().map(|(index, byte)| byte ^ mask[index % 4]));
        frame
    }

    /// Reads `bytes` in pieces of `step` bytes.
    fn read(bytes: &[u8], step: usize) -> Result<Vec<ClientEvent>, Violation> {
        let mut reader = ClientFrames::default();
        let mut events = Vec::new();
        for mut piece in bytes.chunks(step) {
            while let Some(event) = reader.read(&mut piece)? {
                events.push(event);
            }
            assert!(piece.is_empty());
        }
        Ok(events)
    }

    #[test]
    fn frames_are_read_whole_and_byte_by_byte() {
        let long = vec![b'x'; 300];
        let text = "größe".as_bytes();
        let bytes = [
            frame(0x89, b"are you there"),
            frame(0x8a, b""),
            frame(0x82, &long),
            frame(0x01, &text[..3]),
            frame(0x89, b"between"),
            frame(0x80, &text[3..]),
            frame(0x88, b"\x03\xe8bye"),
        ]
        .concat();
        let expected = [
            ClientEvent::Ping(b"are you there".to_vec()),
            ClientEvent::Other,
            ClientEvent::Other,
            ClientEvent::Ping(b"between".to_vec()),
            ClientEvent::Other,
            ClientEvent::Close(Some(CloseCode::NORMAL)),
        ];
        for step in [1, 2, 7, bytes.len()] {
            assert_eq!(read(&bytes, step).as_deref(), Ok(&expected[..]), "in steps of {step}");
        }
    }

    #[test]
    fn violations_have_their_codes() {
        let long = vec![b'x'; 40_000];
        let rows: [(&str, Vec<u8>, u16); 18] = [
            ("a length of two bytes that needs one", b"\x82\xfe\0\x7d".to_vec(), 1002),
            ("a length of eight bytes that needs two", b"\x82\xff\0\0\0\0\0\0\xff\xff".to_vec(), 1002),
            ("an unmasked frame", b"\x82\x03abc".to_vec(), 1002),
            ("a reserved bit", frame(0xc2, b"abc"), 1002),
            ("a reserved opcode", frame(0x83, b"abc"), 1002),
            ("a reserved control opcode", frame(0x8b, b""), 1002),
            ("a fragmented ping", frame(0x09, b""), 1002),
            ("a ping of 126 bytes", frame(0x89, &[0; 126]), 1002),
            ("a continuation of nothing", frame(0x80, b"abc"), 1002),
            ("a message in a message", [frame(0x02, b"a"), frame(0x82, b"b")].concat(), 1002),
            ("a close frame of one byte", frame(0x88, b"\x03"), 1002),
            ("a close code that must not be sent", frame(0x88, b"\x03\xed"), 1002),
            ("a reason that is no UTF-8", frame(0x88, b"\x03\xe8\xff"), 1007),
            ("text that is no UTF-8", frame(0x81, b"\xff"), 1007),
            ("text that ends in a character", frame(0x81, b"\xc3"), 1007),
            (
                "text that ends in a character, in fragments",
                [frame(0x01, b"\xc3"), frame(0x80, b"")].concat(),
                1007,
            ),
            ("a frame of 2^62 bytes", [&[0x82, 0xff, 0x40][..], &[0; 7], &[0; 4096]].concat(), 1009),
            ("fragments of 80,000 bytes", [frame(0x02, &long), frame(0x80, &long)].concat(), 1009),
        ];
        for (name, bytes, code) in rows {
            for step in [1, bytes.len()] {
                assert_eq!(read(&bytes, step), Err(Violation(CloseCode(code))), "{name}, in steps of {step}");
            }
        }
    }

    #[test]
    fn heads_have_the_shortest_length() {
        let rows: [(usize, &[u8]); 5] = [
            (0, b"\x82\0"),
            (125, b"\x82\x7d"),
            (126, b"\x82\x7e\0\x7e"),
            (0xffff, b"\x82\x7e\xff\xff"),
            (0x10000, b"\x82\x7f\0\0\0\0\0\x01\0\0"),
        ];
        for (length, expected) in rows {
            let mut head = Vec::new();
            write_binary_head(length, &mut head);
            assert_eq!(head, expected, "{length}");
        }
        assert_eq!(close(Some(CloseCode::NORMAL), "end"), b"\x88\x05\x03\xe8end");
        assert_eq!(
            (close(None, ""), ping(), pong(b"a")),
            (vec![0x88, 0], vec![0x89, 0], vec![0x8a, 1, b'a'])
        );
    }
}
