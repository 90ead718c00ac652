//! The read buffer of a thread.
//!
//! A connection has a buffer only from a read of its socket until it has read the messages in it, without waiting in between. So
//! the connections of a thread take turns with one buffer.

use std::cell::Cell;
use std::io;
use std::task::Poll;

use crate::rtmp::Input;

/// Its size, in bytes: more than a publisher sends from one beat to the next.
const SIZE: usize = 64 * 1024;

thread_local! {
    static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Reads into the buffer, and lends it to `input` if that has received something.
pub(super) fn lend(
    input: &mut Input,
    receive: impl FnOnce(&mut Vec<u8>) -> Poll<io::Result<usize>>,
) -> Poll<io::Result<usize>> {
    let mut buffer = BUFFER.take();
    buffer.reserve_exact(SIZE);
    let received = receive(&mut buffer);
    if buffer.is_empty() {
        BUFFER.set(buffer);
    } else {
        input.lend(buffer);
    }
    received
}

/// Takes the buffer back. What has not been read stays in the input.
pub(super) fn give_back(input: &mut Input) {
    if let Some(buffer) = input.give_back(SIZE) {
        BUFFER.set(buffer);
    }
}
