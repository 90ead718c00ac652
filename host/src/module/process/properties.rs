//! Properties: what holds for bytes of any kind on the wire. The unit tests and the fuzz target `wire` try to break it.

use std::fmt::Debug;
use std::io::Write;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

use bytes::Bytes;

use super::link::{LinkError, Receiver};
use super::wire::{self, Frame, LENGTH, WireError, kind};
use crate::module::intake::Intake;
use crate::module::loaded::Description;
use crate::module::{ModuleFault, OutBlock};

/// What a tag's payload holds in all of this.
pub static PAYLOAD: &[u8] = b"0123456789";

/// Takes `data` for frames, and for every body of one, at both ends: it is read or refused, what it costs is within
/// `limit`, and what was read is the same once written and read again.
///
/// # Panics
/// When that does not hold.
pub fn check_wire(limit: usize, data: &[u8]) {
    let body = Bytes::copy_from_slice(data);
    check_answer(limit, body.clone());
    holds(body.clone(), wire::state, wire::put_state, kind::STATE);
    holds(body.clone(), wire::logged, |(level, line)| wire::line(kind::LOG, Some(*level), line), kind::LOG);
    holds(
        body.clone(),
        |body| wire::words(&body),
        |line| wire::line(kind::REFUSED, None, line),
        kind::REFUSED,
    );
    if let Ok(described) = wire::described(body.clone()) {
        // Refused or not: it has been looked at.
        let _ = Description::read(&described.info);
    }
    let setup = |mut body| Ok((wire::number(&mut body)?, wire::setup(&mut body)?));
    let put_setup = |(number, setup): &_| {
        let mut make = wire::about(kind::MAKE, *number);
        wire::put_setup(&mut make, setup);
        sealed(make)
    };
    holds(body.clone(), setup, put_setup, kind::MAKE);
    let tag = |mut body| Ok((wire::number(&mut body)?, wire::tag(body)?));
    let put_tag = |(number, tag): &(_, crate::media::Tag)| {
        let mut frame = wire::about(kind::TAG, *number);
        wire::put_tag(&mut frame, tag);
        frame.extend_from_slice(&tag.payload);
        sealed(frame)
    };
    holds(body, tag, put_tag, kind::TAG);
    check_frames(limit, data);
}

/// How a call went, the rule that a block of its answer broke, and the blocks.
type Answer = (Result<Result<(), ModuleFault>, WireError>, Option<ModuleFault>, Vec<OutBlock>);

/// An answer as read with a budget of `limit`.
pub fn read_answer(limit: usize, body: Bytes) -> Answer {
    let mut blocks = Vec::new();
    let mut intake = Intake::new(&mut blocks, limit);
    let result = wire::answer(body, &Bytes::from_static(PAYLOAD), &mut intake);
    let broken = intake.fault().cloned();
    (result, broken, blocks)
}

fn check_answer(limit: usize, body: Bytes) {
    let read = read_answer(limit, body);
    let bytes: usize = read.2.iter().flat_map(|block| &block.parts).map(Bytes::len).sum();
    assert!(bytes <= limit, "{bytes} of {limit} bytes");
    if let (Ok(result), None, blocks) = &read {
        let again = body_of(wire::done(result, blocks, &Bytes::from_static(PAYLOAD)), kind::DONE);
        assert_eq!(format!("{read:?}"), format!("{:?}", read_answer(limit, again)));
    }
}

/// What `read` makes of a body is the same after `write` and `read`.
fn holds<T: Debug>(
    body: Bytes,
    read: impl Fn(Bytes) -> Result<T, WireError>,
    write: impl Fn(&T) -> Vec<u8>,
    kind: u8,
) {
    if let Ok(value) = read(body) {
        let again = read(body_of(write(&value), kind));
        assert_eq!(format!("{again:?}"), format!("{:?}", Ok::<_, WireError>(value)));
    }
}

fn sealed(mut frame: Vec<u8>) -> Vec<u8> {
    wire::seal(&mut frame, 0);
    frame
}

/// The body of a frame that was written.
pub fn body_of(mut frame: Vec<u8>, kind: u8) -> Bytes {
    let len = frame.len() - LENGTH;
    assert_eq!(frame[..LENGTH], (len as u32).to_be_bytes(), "sealed");
    let frame = Frame::read(frame.split_off(LENGTH).into()).expect("it has a kind");
    frame.body(kind).expect("it is of that kind")
}

/// Frames come out of a socket as they stand in `data`, up to one that is longer than `limit`, empty, or cut.
fn check_frames(limit: usize, data: &[u8]) {
    let (mut near, far) = UnixStream::pair().expect("a pair of sockets");
    near.write_all(data).expect("a socket has room for it");
    near.shutdown(Shutdown::Write).expect("both ends are open");
    let (mut receiver, mut rest) = (Receiver::new(far), data);
    loop {
        let frame = receiver.frame(limit, None);
        let Some((length, after)) = rest.split_first_chunk::<LENGTH>() else {
            return assert!(matches!(frame, Err(LinkError::Closed)), "{frame:?}");
        };
        let len = u32::from_be_bytes(*length) as usize;
        match frame {
            Ok(frame) => {
                let (whole, others) = after.split_at(len);
                assert!(len <= limit && frame.kind == whole[0] && frame.body == whole[1..], "{frame:?}");
                assert!(receiver.is_empty() || !others.is_empty());
                rest = others;
            }
            Err(LinkError::Wire(WireError::TooLong { .. })) => return assert!(len > limit),
            Err(LinkError::Wire(WireError::Malformed { .. })) => return assert_eq!(len, 0),
            Err(LinkError::Closed) => return assert!(len > after.len()),
            Err(error) => panic!("{error}"),
        }
    }
}
