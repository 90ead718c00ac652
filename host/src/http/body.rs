//! Response bodies: short texts, files, and live streams whose frames share their bytes with all viewers.
//!
//! One frame of a stream is one [`Span`](crate::stream::Span): everything that is ready for the viewer. hyper writes it by
//! `writev` from the shared pieces; nothing is copied for a plain-text viewer. hyper asks for a frame only when it
//! could write the last one, so a slow viewer's backlog stays in the ring.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use hyper::body::{Frame, SizeHint};

use super::files::FileBody;
use crate::stream::{Span, SpanBuf, Viewer};

/// The body of a response.
#[derive(Debug)]
pub enum Body {
    /// These bytes; `None` once taken.
    Whole(Option<Bytes>),
    /// A live stream.
    Live(Live),
    /// A part of a file. It fails when the file cannot be read to the end that was promised.
    File(FileBody),
}

/// A viewer, and what it has got already.
#[derive(Debug)]
pub struct Live {
    viewer: Viewer,
    /// The span that was waited for before the status line went out.
    first: Option<Arc<Span>>,
}

impl Body {
    /// No bytes.
    pub fn empty() -> Body {
        Body::Whole(None)
    }

    /// A live stream: `first`, then what `viewer` has.
    pub(super) fn live(viewer: Viewer, first: Arc<Span>) -> Body {
        Body::Live(Live { viewer, first: Some(first) })
    }
}

impl<T: Into<Bytes>> From<T> for Body {
    fn from(bytes: T) -> Body {
        Body::Whole(Some(bytes.into()))
    }
}

impl hyper::body::Body for Body {
    type Data = Data;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Data>, io::Error>>> {
        let data = match &mut *self {
            Body::Whole(bytes) => bytes.take().map(Data::Bytes),
            Body::Live(live) => {
                let span = match live.first.take() {
                    Some(first) => Some(first),
                    None => std::task::ready!(live.viewer.poll_next(cx)),
                };
                span.map(|span| Data::Span(SpanBuf::new(span)))
            }
            Body::File(file) => {
                let next = std::task::ready!(file.poll_next(cx));
                return Poll::Ready(next.map(|read| read.map(|bytes| Frame::data(Data::Bytes(bytes)))));
            }
        };
        Poll::Ready(data.map(|data| Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Body::Whole(bytes) => bytes.is_none(),
            Body::Live(_) => false,
            Body::File(file) => file.remaining() == 0,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Body::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Body::Live(_) => SizeHint::default(),
            Body::File(file) => SizeHint::with_exact(file.remaining()),
        }
    }
}

/// The data of a frame.
#[derive(Debug)]
pub enum Data {
    /// One piece.
    Bytes(Bytes),
    /// Many pieces, shared.
    Span(SpanBuf),
}

impl Buf for Data {
    fn remaining(&self) -> usize {
        match self {
            Data::Bytes(bytes) => bytes.remaining(),
            Data::Span(span) => span.remaining(),
        }
    }

    fn chunk(&self) -> &[u8] {
        match self {
            Data::Bytes(bytes) => bytes.chunk(),
            Data::Span(span) => span.chunk(),
        }
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        match self {
            Data::Bytes(bytes) => bytes.chunks_vectored(slices),
            Data::Span(span) => span.chunks_vectored(slices),
        }
    }

    fn advance(&mut self, count: usize) {
        match self {
            Data::Bytes(bytes) => bytes.advance(count),
            Data::Span(span) => span.advance(count),
        }
    }
}
