//! Frames: the units of the protocol between the host and a module's process, and their fields. Sans-IO.
//!
//! A frame is a length (four bytes), a kind (one byte) and a body. Integers are big-endian; a text is its length in four
//! bytes and UTF-8. Both ends are the same build of the program, so there is no version.
//!
//! | From the host | Body | Response |
//! |---|---|---|
//! | `MAKE` | the remuxer's number, facts of the stream, state, options | `DONE` |
//! | `TAG` | the remuxer's number, header fields, payload | `DONE` |
//! | `FINISH`, `FREE` | the remuxer's number | `DONE` |
//! | `STATE` | the remuxer's number | `STATE` |
//! | `TEST` | 0 | `DONE` or `REFUSED` |
//!
//! The process sends `DESCRIBED` or `REFUSED` once, when it has loaded the module, and `LOG` at any time. `DONE` holds the
//! fault of the call, then its blocks. A part of a block is either bytes or a range of the payload of the call's tag:
//! the host has those bytes, so they do not travel back. `DESCRIBED` is encoded by serde.
//!
//! The module's process is hostile: its frames are read to the end or refused, and reading one costs no more than a small
//! multiple of its length, which the host limits.

use bytes::{Buf, BufMut, Bytes};

use super::error::WireError;
use crate::module::text::one_line;

/// Length of a frame's length, in bytes.
pub const LENGTH: usize = 4;

/// Longest frame that describes a module, in bytes.
pub const MAX_DESCRIPTION: usize = 1 << 20;
/// Bytes that a response may have beyond the budget of its call: a fault's message and the largest state.
pub const RESPONSE_SLACK: usize = 128 << 10;
/// Longest text, in bytes: a log line, a refusal, a fault's message. [`one_line`] makes no longer ones.
pub const MAX_TEXT: usize = 8 << 10;

/// Kinds of frames.
pub mod kind {
    pub const MAKE: u8 = 1;
    pub const TAG: u8 = 2;
    pub const FINISH: u8 = 3;
    pub const STATE: u8 = 4;
    pub const FREE: u8 = 5;
    pub const TEST: u8 = 6;
    pub const DESCRIBED: u8 = 16;
    pub const REFUSED: u8 = 17;
    pub const LOG: u8 = 18;
    pub const DONE: u8 = 19;
}

pub fn malformed<T>(what: &'static str) -> Result<T, WireError> {
    Err(WireError::Malformed { what })
}

/// A frame, without its length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub kind: u8,
    pub body: Bytes,
}

impl Frame {
    /// Reads a frame from the bytes after its length.
    pub fn read(mut bytes: Bytes) -> Result<Frame, WireError> {
        let kind = u8(&mut bytes, "kind")?;
        Ok(Frame { kind, body: bytes })
    }

    /// Returns the body if the frame has this kind.
    pub fn body(self, kind: u8) -> Result<Bytes, WireError> {
        if self.kind == kind { Ok(self.body) } else { Err(WireError::Kind { kind: self.kind }) }
    }
}

/// Starts a frame; [`seal`] ends it.
pub fn frame(kind: u8) -> Vec<u8> {
    let mut frame = vec![0; LENGTH];
    frame.push(kind);
    frame
}

/// Writes the length of a frame; `more` bytes of its body are sent separately.
pub fn seal(frame: &mut [u8], more: usize) {
    let len = (frame.len() - LENGTH + more) as u32;
    frame[..LENGTH].copy_from_slice(&len.to_be_bytes());
}

// Fields.

pub fn u8(from: &mut Bytes, what: &'static str) -> Result<u8, WireError> {
    from.try_get_u8().or_else(|_| malformed(what))
}

pub fn u32(from: &mut Bytes, what: &'static str) -> Result<u32, WireError> {
    from.try_get_u32().or_else(|_| malformed(what))
}

pub fn i64(from: &mut Bytes, what: &'static str) -> Result<i64, WireError> {
    from.try_get_i64().or_else(|_| malformed(what))
}

pub fn bytes(from: &mut Bytes, what: &'static str) -> Result<Bytes, WireError> {
    let len = u32(from, what)? as usize;
    if len <= from.len() { Ok(from.split_to(len)) } else { malformed(what) }
}

pub fn text(from: &mut Bytes, what: &'static str) -> Result<String, WireError> {
    String::from_utf8(bytes(from, what)?.into()).or_else(|_| malformed(what))
}

/// Reads a list. Each element takes at least a byte, so the length of the body limits the allocation.
pub fn list<T>(
    from: &mut Bytes,
    what: &'static str,
    read: impl Fn(&mut Bytes, &'static str) -> Result<T, WireError>,
) -> Result<Vec<T>, WireError> {
    let count = u32(from, what)?;
    (0..count).map(|_| read(from, what)).collect()
}

pub fn put_bytes(to: &mut Vec<u8>, bytes: &[u8]) {
    to.put_u32(bytes.len() as u32);
    to.extend_from_slice(bytes);
}

pub fn put_list<T>(to: &mut Vec<u8>, list: &[T], put: impl Fn(&mut Vec<u8>, &T)) {
    to.put_u32(list.len() as u32);
    list.iter().for_each(|element| put(to, element));
}

/// Starts a frame about the remuxer `number`.
pub fn about(kind: u8, number: u32) -> Vec<u8> {
    let mut frame = frame(kind);
    frame.put_u32(number);
    frame
}

/// Reads the number of a remuxer at the start of a body.
pub fn number(from: &mut Bytes) -> Result<u32, WireError> {
    u32(from, "number of a remuxer")
}

/// Makes a frame of text: a refusal or, after its level, a log line.
pub fn line(kind: u8, level: Option<u8>, text: &str) -> Vec<u8> {
    let mut to = frame(kind);
    to.extend(level);
    let end = text.floor_char_boundary(MAX_TEXT);
    to.extend_from_slice(&text.as_bytes()[..end]);
    seal(&mut to, 0);
    to
}

/// Reads the body of a `LOG`: level and line.
pub fn logged(mut from: Bytes) -> Result<(u8, String), WireError> {
    Ok((u8(&mut from, "level")?, message(&from)?))
}

/// Reads a text for people, such as the body of a `REFUSED`.
pub fn message(from: &[u8]) -> Result<String, WireError> {
    if from.len() > MAX_TEXT { malformed("text") } else { Ok(one_line(&String::from_utf8_lossy(from))) }
}
