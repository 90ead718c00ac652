//! Batches: the bytes of one tick in one buffer, framed once for all viewers of a thread.

use std::io::Write;
use std::sync::OnceLock;

use super::position::Part;
use crate::budget::{Account, Charge, Kind, OverBudget};
use crate::http::websocket::frames;
use crate::rtmp::PlayerForm;
use crate::stream::Span;

/// How a response frames its batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Framing {
    /// Bytes until the connection closes (HTTP/1.0).
    Plain,
    /// A chunk for each batch (RFC 9112, 7.1).
    Chunked,
    /// A binary message for each batch.
    WebSocket,
    /// The messages of an RTMP player.
    Rtmp(PlayerForm),
}

/// Bytes for the sockets of many viewers.
#[derive(Debug)]
pub(super) struct Batch {
    bytes: Box<[u8]>,
    /// Bytes of media in it.
    media: usize,
    /// Its memory, once it is kept for a slow viewer.
    charge: OnceLock<Charge>,
}

impl Batch {
    /// Frames a part of a ring, by one copy.
    pub(super) fn of(framing: Framing, part: &Part) -> Batch {
        match (framing, part) {
            (Framing::Rtmp(form), Part::Tags(tags)) => {
                let (bytes, media) = form.chunks(tags);
                Batch { bytes: bytes.into_boxed_slice(), media, charge: OnceLock::new() }
            }
            (_, Part::Blocks(span)) => Batch::of_span(framing, span),
            // A response has blocks.
            (_, Part::Tags(_)) => Batch::of_bytes(Vec::new()),
        }
    }

    fn of_span(framing: Framing, span: &Span) -> Batch {
        const FRAME: usize = 20;
        let mut bytes = Vec::with_capacity(span.len() + FRAME);
        match framing {
            Framing::Plain | Framing::Rtmp(_) => {}
            // Writing to a vector does not fail.
            Framing::Chunked => drop(write!(bytes, "{:x}\r\n", span.len())),
            Framing::WebSocket => frames::write_binary_head(span.len(), &mut bytes),
        }
        span.parts().iter().for_each(|part| bytes.extend_from_slice(part));
        if framing == Framing::Chunked {
            bytes.extend_from_slice(b"\r\n");
        }
        Batch { bytes: bytes.into_boxed_slice(), media: span.len(), charge: OnceLock::new() }
    }

    /// A batch without media.
    pub(super) fn of_bytes(bytes: Vec<u8>) -> Batch {
        Batch { bytes: bytes.into_boxed_slice(), media: 0, charge: OnceLock::new() }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn media(&self) -> usize {
        self.media
    }

    /// Charges its memory to `account`, unless it is charged already.
    ///
    /// # Errors
    /// There is no memory for it.
    pub(super) fn keep(&self, account: &Account) -> Result<(), OverBudget> {
        if self.charge.get().is_none() {
            // One thread alone has the batch.
            let _ = self.charge.set(account.charge(Kind::Connections, self.bytes.len())?);
        }
        Ok(())
    }
}

impl Framing {
    /// Returns the end of a response whose stream has ended.
    pub(super) fn end(self) -> &'static [u8] {
        match self {
            Framing::Chunked => b"0\r\n\r\n",
            Framing::Plain | Framing::WebSocket | Framing::Rtmp(_) => b"",
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::budget::Budget;

    #[test]
    fn a_span_is_framed() {
        let span = Span::gather([Bytes::from_static(b"0123456789"), Bytes::from_static(b"abcdef")]);
        let rows: [(Framing, &[u8]); 3] = [
            (Framing::Plain, b"0123456789abcdef"),
            (Framing::Chunked, b"10\r\n0123456789abcdef\r\n"),
            (Framing::WebSocket, b"\x82\x100123456789abcdef"),
        ];
        for (framing, expected) in rows {
            let batch = Batch::of_span(framing, &span);
            assert_eq!((batch.bytes(), batch.media()), (expected, 16), "{framing:?}");
        }
    }

    #[test]
    fn a_batch_is_charged_once() {
        let budget = Budget::new(1 << 20);
        let account = budget.address().account();
        let used = || budget.usage().used.iter().map(|(_, bytes)| bytes).sum::<usize>();
        let batch = Batch::of_bytes(vec![0; 1000]);
        batch.keep(&account).unwrap();
        batch.keep(&account).unwrap();
        assert_eq!(used(), 1000);
        drop(batch);
        assert_eq!(used(), 0);
    }
}
