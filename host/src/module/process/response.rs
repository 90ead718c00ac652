//! Responses: the bodies of frames from a module's process, which is hostile.

use bytes::{Buf, BufMut, Bytes};
use smallvec::SmallVec;

use super::error::WireError;
use super::frame::{bytes, frame, i64, kind, malformed, message, put_bytes, put_list, seal, u8, u32};
use crate::module::description::{Description, DescriptionError};
use crate::module::fault::ModuleFault;
use crate::module::load::preflight::Build;
use crate::module::output::{BlockHead, CallOutput, MAX_STATE, OutBlock};
use crate::module::text::one_line;

/// Tags of faults.
mod fault {
    pub const NONE: u8 = 0;
    pub const PANICKED: u8 = 1;
    pub const REMUX: u8 = 2;
    pub const FLOODED: u8 = 3;
    pub const LARGE_STATE: u8 = 4;
    pub const BAD_FLAGS: u8 = 5;
    pub const BAD_TRACK: u8 = 6;
    pub const POISONED: u8 = 7;
    pub const UNSUPPORTED: u8 = 8;
}

/// Tags of parts.
mod part {
    pub const BYTES: u8 = 0;
    pub const PAYLOAD: u8 = 1;
}

/// A loaded module as its process reports it.
pub struct Described {
    pub description: Description,
    pub build: Build,
    /// Protections that the kernel does not have.
    pub missing: Vec<String>,
}

/// Makes the frame that describes a module.
pub fn describe(description: &Description, build: &Build, missing: &[String]) -> Vec<u8> {
    let mut to = frame(kind::DESCRIBED);
    let body = postcard::to_allocvec(&(description, build, missing));
    to.extend(body.expect("a description in memory can be written"));
    seal(&mut to, 0);
    to
}

/// Reads the body of a frame that describes a module. The inner error is about the description's values.
pub fn described(from: &[u8]) -> Result<Result<Described, DescriptionError>, WireError> {
    let Ok(((description, build, missing), [])) =
        postcard::take_from_bytes::<(Description, Build, Vec<String>)>(from)
    else {
        return malformed("description");
    };
    let build = Build { rustc: one_line(&build.rustc), ..build };
    let missing = missing.iter().map(|text| one_line(text)).collect();
    Ok(description.checked().map(|description| Described { description, build, missing }))
}

/// Makes the frame that responds to a call: its fault, if any, and its blocks. Parts that lie in `payload` are written as
/// ranges of it.
pub fn done(result: &Result<(), ModuleFault>, blocks: &[OutBlock], payload: &Bytes) -> Vec<u8> {
    let mut to = frame(kind::DONE);
    put_fault(&mut to, result.as_ref().err());
    for block in blocks {
        to.put_u8(block.flags.0);
        to.put_u8(block.track);
        to.put_i64(block.dts.0);
        put_list(&mut to, &block.parts, |to, bytes| match offset(bytes, payload) {
            Some(offset) => {
                to.put_u8(part::PAYLOAD);
                to.put_u32(bytes.len() as u32);
                to.put_u32(offset as u32);
            }
            None => {
                to.put_u8(part::BYTES);
                put_bytes(to, bytes);
            }
        });
    }
    seal(&mut to, 0);
    to
}

/// Returns the offset of `bytes` if they are a slice of `payload`, not merely equal to one.
fn offset(bytes: &[u8], payload: &[u8]) -> Option<usize> {
    let (part, whole) = (bytes.as_ptr_range(), payload.as_ptr_range());
    let within = !bytes.is_empty() && whole.start <= part.start && part.end <= whole.end;
    within.then(|| part.start as usize - whole.start as usize)
}

/// Reads the response to a call and passes its blocks to `output`; ranges become slices of `payload`. The outer error is
/// about the response, the inner one is the call's fault.
pub fn read_done(
    mut from: Bytes,
    payload: &Bytes,
    output: &mut CallOutput<'_>,
) -> Result<Result<(), ModuleFault>, WireError> {
    let from = &mut from;
    let result = read_fault(from)?;
    while !from.is_empty() {
        let (flags, track) = (u8(from, "flags")?, u8(from, "track")?);
        let head = BlockHead { flags, track, dts: i64(from, "time")? };
        let count = u32(from, "parts")? as usize;
        let mut parts = SmallVec::<[Bytes; 4]>::new();
        // A part may take more memory than bytes on the wire, so parts beyond the budget are not read.
        for _ in 0..if output.has_room(count) { count } else { 0 } {
            parts.push(read_part(from, payload)?);
        }
        let bytes = parts.iter().map(Bytes::len).sum();
        let own = || parts.into_iter().filter(|part| !part.is_empty()).collect();
        if !output.take(head, count, bytes, own) {
            break;
        }
    }
    Ok(result)
}

fn read_part(from: &mut Bytes, payload: &Bytes) -> Result<Bytes, WireError> {
    let what = "part";
    match u8(from, what)? {
        part::BYTES => bytes(from, what),
        part::PAYLOAD => {
            let (len, offset) = (u32(from, what)? as usize, u32(from, what)? as usize);
            match offset.checked_add(len) {
                Some(end) if end <= payload.len() => Ok(payload.slice(offset..end)),
                _ => malformed(what),
            }
        }
        _ => malformed(what),
    }
}

/// Makes the frame that responds with a remuxer's state.
pub fn put_state(state: &Result<Vec<u8>, ModuleFault>) -> Vec<u8> {
    let mut to = frame(kind::STATE);
    put_fault(&mut to, state.as_ref().err());
    to.extend_from_slice(state.as_deref().unwrap_or_default());
    seal(&mut to, 0);
    to
}

/// Reads a remuxer's state. The outer error is about the response, the inner one is the call's fault.
pub fn read_state(mut from: Bytes) -> Result<Result<Vec<u8>, ModuleFault>, WireError> {
    let result = read_fault(&mut from)?;
    Ok(result.map(|()| from.into()))
}

fn put_fault(to: &mut Vec<u8>, fault: Option<&ModuleFault>) {
    let Some(fault) = fault else { return to.put_u8(fault::NONE) };
    let (tag, number, message): (u8, usize, &str) = match fault {
        ModuleFault::Panicked { message } => (fault::PANICKED, 0, message),
        ModuleFault::Remux { message } => (fault::REMUX, 0, message),
        ModuleFault::Unsupported { message } => (fault::UNSUPPORTED, 0, message),
        ModuleFault::Flooded { limit } => (fault::FLOODED, *limit, ""),
        ModuleFault::LargeState { size, .. } => (fault::LARGE_STATE, *size, ""),
        ModuleFault::BadFlags { flags } => (fault::BAD_FLAGS, usize::from(*flags), ""),
        ModuleFault::BadTrack { track } => (fault::BAD_TRACK, usize::from(*track), ""),
        // Other faults do not occur in the process itself.
        _ => (fault::POISONED, 0, ""),
    };
    to.put_u8(tag);
    to.put_u64(number as u64);
    put_bytes(to, message.as_bytes());
}

fn read_fault(from: &mut Bytes) -> Result<Result<(), ModuleFault>, WireError> {
    let what = "fault";
    let tag = u8(from, what)?;
    if tag == fault::NONE {
        // Only this byte: blocks keep the whole response in memory, so all of it must count against the budget.
        return Ok(Ok(()));
    }
    let number = from.try_get_u64().or_else(|_| malformed(what))? as usize;
    let message = message(&bytes(from, what)?)?;
    Ok(Err(match tag {
        fault::PANICKED => ModuleFault::Panicked { message },
        fault::REMUX => ModuleFault::Remux { message },
        fault::UNSUPPORTED => ModuleFault::Unsupported { message },
        fault::FLOODED => ModuleFault::Flooded { limit: number },
        fault::LARGE_STATE => ModuleFault::LargeState { size: number, limit: MAX_STATE },
        fault::BAD_FLAGS => ModuleFault::BadFlags { flags: number as u8 },
        fault::BAD_TRACK => ModuleFault::BadTrack { track: number as u8 },
        fault::POISONED => ModuleFault::Poisoned,
        _ => return malformed(what),
    }))
}
