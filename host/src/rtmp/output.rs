//! The write queue of one connection: byte slices for vectored writes.
//!
//! Invariants:
//! - bytes leave in the order in which they were queued;
//! - [`Output::push_bytes`] shares its slice and never copies;
//! - [`Output::extend_from_slice`] (handshakes, chunk headers) copies once, into a buffer shared by many such pieces.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes, BytesMut};

/// Capacity of the buffers for small pieces, in bytes.
const GATHER: usize = 1024;

/// An ordered queue of bytes.
///
/// It is a [`Buf`]: pass it to a vectored write, then [`advance`](Buf::advance) by the bytes written.
#[derive(Debug, Default)]
pub struct Output {
    /// Finished slices, oldest first; none is empty.
    slices: VecDeque<Bytes>,
    /// Small pieces queued after the last slice.
    tail: BytesMut,
    /// Bytes in `slices` and `tail` together.
    len: usize,
}

impl Output {
    /// Creates an empty queue.
    pub fn new() -> Output {
        Output::default()
    }

    /// Returns the number of queued bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns whether no bytes are queued.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Queues `bytes` without copying them.
    pub fn push_bytes(&mut self, bytes: Bytes) {
        if bytes.is_empty() {
            return;
        }
        self.finish_tail();
        self.len += bytes.len();
        self.slices.push_back(bytes);
    }

    /// Queues a copy of `bytes`, which should be small.
    pub fn extend_from_slice(&mut self, bytes: &[u8]) {
        if self.tail.capacity() - self.tail.len() < bytes.len() {
            self.tail.reserve(bytes.len().max(GATHER));
        }
        self.tail.extend_from_slice(bytes);
        self.len += bytes.len();
    }

    /// Removes and returns all slices, oldest first.
    #[cfg(test)]
    pub(super) fn take_all(&mut self) -> VecDeque<Bytes> {
        self.finish_tail();
        self.len = 0;
        std::mem::take(&mut self.slices)
    }

    fn finish_tail(&mut self) {
        if !self.tail.is_empty() {
            self.slices.push_back(self.tail.split().freeze());
        }
    }
}

impl Buf for Output {
    fn remaining(&self) -> usize {
        self.len
    }

    fn chunk(&self) -> &[u8] {
        self.slices.front().map_or(&self.tail[..], |slice| &slice[..])
    }

    fn chunks_vectored<'a>(&'a self, dst: &mut [IoSlice<'a>]) -> usize {
        let tail = Some(&self.tail[..]).filter(|tail| !tail.is_empty());
        let queued = self.slices.iter().map(|slice| &slice[..]).chain(tail);
        dst.iter_mut().zip(queued).map(|(dst, bytes)| *dst = IoSlice::new(bytes)).count()
    }

    /// # Panics
    ///
    /// Panics if `count` exceeds [`remaining`](Buf::remaining), as [`Buf`] requires.
    fn advance(&mut self, mut count: usize) {
        assert!(count <= self.len, "advance past the end");
        self.len -= count;
        while let Some(slice) = self.slices.front_mut() {
            if count < slice.len() {
                slice.advance(count);
                return;
            }
            count -= slice.len();
            self.slices.pop_front();
        }
        self.tail.advance(count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Output {
        let mut output = Output::new();
        output.extend_from_slice(b"ab");
        output.extend_from_slice(b"c");
        output.push_bytes(Bytes::from_static(b"defg"));
        output.push_bytes(Bytes::new());
        output.extend_from_slice(b"hi");
        output
    }

    #[test]
    fn keeps_order_and_gathers_small_pieces() {
        let mut output = sample();
        assert_eq!(output.len(), 9);
        assert_eq!(output.take_all(), ["abc", "defg", "hi"]);
        assert!(output.is_empty());
        assert!(output.take_all().is_empty());
    }

    #[test]
    fn shares_pushed_bytes() {
        let payload = Bytes::from(vec![7; 100]);
        let mut output = sample();
        output.push_bytes(payload.clone());
        assert!(output.take_all().iter().any(|slice| slice.as_ptr() == payload.as_ptr()));
    }

    #[test]
    fn a_vectored_write_gets_every_slice() {
        let output = sample();
        let mut slices = [IoSlice::new(&[]); 8];
        assert_eq!(output.chunks_vectored(&mut slices), 3);
        assert_eq!(
            slices[..3].iter().map(|slice| &slice[..]).collect::<Vec<_>>(),
            [&b"abc"[..], b"defg", b"hi"]
        );
        assert_eq!(output.chunks_vectored(&mut slices[..2]), 2);
    }

    #[test]
    fn advances_by_any_split() {
        for split in 0..=9 {
            let mut output = sample();
            output.advance(split);
            assert_eq!(output.remaining(), 9 - split);
            assert_eq!(output.is_empty(), split == 9);
            assert_eq!(output.copy_to_bytes(9 - split), &b"abcdefghi"[split..]);
        }
    }
}
