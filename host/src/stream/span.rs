//! Span: consecutive pieces of output, ready to be written by many viewers.
//!
//! All viewers at the same position of a ring write the same [`Span`]; each has a [`SpanBuf`], a position in it.
//! Payloads are shared with the messages that the publisher sent. Only framing, adjacent pieces of at most
//! [`FRAMING`] bytes each, is copied into one piece, once for all viewers: this halves the iovecs of a write.

use std::io::IoSlice;
use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};

use crate::budget::Charge;

/// Pieces up to this size are framing: tag headers and trailers, never an access unit worth sharing.
const FRAMING: usize = 64;

/// Immutable pieces of output in order.
#[derive(Debug, Default)]
pub struct Span {
    parts: Box<[Bytes]>,
    len: usize,
    /// Charges of the blocks that the pieces are from: their memory counts as long as a viewer writes them.
    charges: Box<[Arc<Charge>]>,
}

impl Span {
    /// Creates a span of `parts`, in order.
    pub fn gather(parts: impl IntoIterator<Item = Bytes>) -> Span {
        let mut gathered = Vec::new();
        let mut framing = BytesMut::new();
        let mut len = 0;
        for part in parts {
            len += part.len();
            if part.len() <= FRAMING {
                framing.extend_from_slice(&part);
            } else {
                if !framing.is_empty() {
                    gathered.push(framing.split().freeze());
                }
                gathered.push(part);
            }
        }
        if !framing.is_empty() {
            gathered.push(framing.freeze());
        }
        Span { parts: gathered.into_boxed_slice(), len, charges: Box::default() }
    }

    /// Adds the charges of the memory of its pieces.
    pub(super) fn charged(mut self, mut charges: Vec<Arc<Charge>>) -> Span {
        // Blocks of one call have one charge.
        charges.dedup_by(|one, other| Arc::ptr_eq(one, other));
        self.charges = charges.into_boxed_slice();
        self
    }

    /// The pieces.
    pub fn parts(&self) -> &[Bytes] {
        &self.parts
    }

    /// Bytes in all pieces.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// One viewer's position in a [`Span`].
#[derive(Clone, Debug)]
pub struct SpanBuf {
    span: Arc<Span>,
    part: usize,
    offset: usize,
    remaining: usize,
}

impl SpanBuf {
    /// The start of `span`.
    pub fn new(span: Arc<Span>) -> SpanBuf {
        let remaining = span.len;
        SpanBuf { span, part: 0, offset: 0, remaining }
    }
}

impl Buf for SpanBuf {
    fn remaining(&self) -> usize {
        self.remaining
    }

    fn chunk(&self) -> &[u8] {
        self.span.parts.get(self.part).map_or(&[], |part| &part[self.offset..])
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let mut parts = self.span.parts[self.part..].iter();
        let mut count = 0;
        for slice in slices {
            let Some(part) = parts.next() else { break };
            let offset = if count == 0 { self.offset } else { 0 };
            *slice = IoSlice::new(&part[offset..]);
            count += 1;
        }
        count
    }

    fn advance(&mut self, mut count: usize) {
        assert!(count <= self.remaining, "advanced past the end of a span");
        self.remaining -= count;
        while count > 0 {
            let left = self.span.parts[self.part].len() - self.offset;
            if count < left {
                self.offset += count;
                return;
            }
            count -= left;
            self.part += 1;
            self.offset = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts() -> Vec<Bytes> {
        [11, 500, 4, 11, 300, 4, 0].map(|len| (0..len).map(|i| i as u8).collect()).to_vec()
    }

    #[test]
    fn gathers_framing_and_shares_payloads() {
        let parts = parts();
        let span = Span::gather(parts.clone());
        assert_eq!(span.parts().iter().map(Bytes::len).collect::<Vec<_>>(), [11, 500, 15, 300, 4]);
        assert_eq!(span.parts()[1].as_ptr(), parts[1].as_ptr());
        assert_eq!(span.parts()[3].as_ptr(), parts[4].as_ptr());
        assert_eq!(span.len(), 830);
    }

    #[test]
    fn reads_the_same_bytes_whole_vectored_and_in_steps() {
        let all: Vec<u8> = parts().concat();
        let span = Arc::new(Span::gather(parts()));
        for step in [1, 3, 16, 100, 830] {
            let mut buf = SpanBuf::new(span.clone());
            let mut read = Vec::new();
            while buf.has_remaining() {
                let mut slices = [IoSlice::new(&[]); 3];
                let count = buf.chunks_vectored(&mut slices);
                let vectored: Vec<u8> =
                    slices[..count].iter().flat_map(|slice| slice.iter().copied()).collect();
                assert_eq!(vectored[..buf.chunk().len()], *buf.chunk());
                let take = step.min(vectored.len());
                read.extend_from_slice(&vectored[..take]);
                buf.advance(take);
            }
            assert_eq!(read, all, "in steps of {step}");
        }
    }
}
