//! Properties of the protocol that hold for arbitrary bytes. The unit tests and the fuzz target `wire` try to break them.

use std::fmt::Debug;
use std::io::Write;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

use bytes::Bytes;

use super::error::WireError;
use super::frame::{self, Frame, LENGTH, about, kind, line, logged, message, seal};
use super::link::{LinkError, Receiver};
use super::request::{self, put_setup, put_tag};
use super::response::{describe, described, done, put_state, read_done, read_state};
use crate::module::fault::ModuleFault;
use crate::module::output::{CallOutput, OutBlock};

/// The payload of the tag that responses refer to.
pub static PAYLOAD: &[u8] = b"0123456789";

/// Reads `data` as frames and as every kind of body: it is read or refused, its cost is within `limit`, and a value that was
/// read is the same after it is written and read again.
///
/// # Panics
/// If a property does not hold.
pub fn check_wire(limit: usize, data: &[u8]) {
    let body = Bytes::copy_from_slice(data);
    check_response(limit, body.clone());
    holds(body.clone(), read_state, put_state, kind::STATE);
    holds(body.clone(), logged, |(level, text)| line(kind::LOG, Some(*level), text), kind::LOG);
    holds(body.clone(), |body| message(&body), |text| line(kind::REFUSED, None, text), kind::REFUSED);
    if let Ok(Ok(read)) = described(&body) {
        let again = body_of(describe(&read.description, &read.build, &read.missing), kind::DESCRIBED);
        let again = described(&again).expect("it can be read").expect("it obeys the rules");
        assert_eq!((again.description, again.missing), (read.description, read.missing));
    }
    let setup = |mut body| Ok((frame::number(&mut body)?, request::setup(&mut body)?));
    let put_setup = |(number, setup): &_| {
        let mut make = about(kind::MAKE, *number);
        put_setup(&mut make, setup);
        sealed(make)
    };
    holds(body.clone(), setup, put_setup, kind::MAKE);
    let tag = |mut body| Ok((frame::number(&mut body)?, request::tag(body)?));
    let put_tag = |(number, tag): &(_, crate::media::Tag)| {
        let mut frame = about(kind::TAG, *number);
        put_tag(&mut frame, tag);
        frame.extend_from_slice(&tag.payload);
        sealed(frame)
    };
    holds(body, tag, put_tag, kind::TAG);
    check_frames(limit, data);
}

/// Reads a response with a budget of `limit`. Returns the result, the rule that a block broke, and the blocks.
#[expect(clippy::type_complexity, reason = "tests take it apart at once")]
pub fn read_response(
    limit: usize,
    body: Bytes,
) -> (Result<Result<(), ModuleFault>, WireError>, Option<ModuleFault>, Vec<OutBlock>) {
    let mut blocks = Vec::new();
    let mut output = CallOutput::new(&mut blocks, limit);
    let result = read_done(body, &Bytes::from_static(PAYLOAD), &mut output);
    let broken = output.fault().cloned();
    (result, broken, blocks)
}

fn check_response(limit: usize, body: Bytes) {
    let read = read_response(limit, body);
    let bytes: usize = read.2.iter().flat_map(|block| &block.parts).map(Bytes::len).sum();
    assert!(bytes <= limit, "{bytes} of {limit} bytes");
    if let (Ok(result), None, blocks) = &read {
        let again = body_of(done(result, blocks, &Bytes::from_static(PAYLOAD)), kind::DONE);
        assert_eq!(format!("{read:?}"), format!("{:?}", read_response(limit, again)));
    }
}

/// Checks that a value from `read` is the same after `write` and `read`.
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
    seal(&mut frame, 0);
    frame
}

/// Returns the body of a frame that was written.
pub fn body_of(mut frame: Vec<u8>, kind: u8) -> Bytes {
    let len = frame.len() - LENGTH;
    assert_eq!(frame[..LENGTH], (len as u32).to_be_bytes(), "sealed");
    let frame = Frame::read(frame.split_off(LENGTH).into()).expect("it has a kind");
    frame.body(kind).expect("it is of that kind")
}

/// Checks that a receiver yields the frames of `data` in order, up to one that is longer than `limit`, empty, or cut.
fn check_frames(limit: usize, data: &[u8]) {
    let (mut near, far) = UnixStream::pair().expect("a pair of sockets");
    near.write_all(data).expect("a socket has room for it");
    near.shutdown(Shutdown::Write).expect("both ends are open");
    let (mut receiver, mut rest) = (Receiver::new(far), data);
    loop {
        let frame = receiver.frame(limit, &mut None);
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
