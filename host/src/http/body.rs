//! Response bodies: short texts, files, and live streams whose frames share their bytes with all viewers.
//!
//! The owner of an HTTP/1.1 connection takes the viewer out of the body of a live stream, and sends what it reads by itself. Over
//! HTTP/2 hyper does: one frame of the body is one [`Span`], everything that is ready for the viewer. hyper polls
//! for a frame only once the previous one is written, so a slow viewer's backlog stays in the ring.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use hyper::body::{Frame, SizeHint};

use super::connection::Stall;
use super::files::FileBody;
use crate::budget::Charge;
use crate::policy::{Admission, Outcome};
use crate::stream::{Span, SpanBuf, Viewer};

/// The body of a response.
#[derive(Debug)]
pub enum Body {
    /// A whole body; `None` once it was handed to hyper.
    Whole(Option<Bytes>),
    /// A live stream, which ends with the stream.
    Live(LiveBody),
    /// A part of a file. Fails if the file has become shorter than the announced length.
    File(FileBody),
}

/// The body of a viewer of a live stream. Once taken it is empty.
#[derive(Debug)]
pub struct LiveBody {
    watching: Option<Box<Watching>>,
    has_begun: bool,
}

/// A viewer whose response may begin.
#[derive(Debug)]
pub struct Watching {
    /// Its position.
    pub viewer: Viewer,
    /// The span that was awaited before the status line was sent.
    pub first: Arc<Span>,
    /// Its memory.
    pub room: Charge,
    /// Its admission.
    pub admission: Admission,
    /// Why it may end early.
    pub stall: Arc<Stall>,
}

/// hyper drops the body of a response that it cannot send.
impl Drop for LiveBody {
    fn drop(&mut self) {
        if let Some(watching) = &self.watching
            && let Some(outcome) = watching.stall.outcome()
        {
            watching.admission.session().ends_because(outcome);
        }
    }
}

impl Body {
    /// Creates an empty body.
    pub fn empty() -> Body {
        Body::Whole(None)
    }

    /// Creates the body of a live stream.
    pub(super) fn live(watching: Watching) -> Body {
        Body::Live(LiveBody { watching: Some(Box::new(watching)), has_begun: false })
    }

    /// Takes the viewer of a live stream out of a response that has not begun.
    pub fn take_live(&mut self) -> Option<Box<Watching>> {
        match self {
            Body::Live(live) => live.watching.take(),
            Body::Whole(_) | Body::File(_) => None,
        }
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
            Body::Live(LiveBody { watching: None, .. }) => None,
            Body::Live(LiveBody { watching: Some(watching), has_begun }) => {
                if watching.admission.poll_end(cx).is_ready() {
                    return Poll::Ready(None);
                }
                let span = if std::mem::replace(has_begun, true) {
                    std::task::ready!(watching.viewer.poll_next(cx))
                } else {
                    Some(std::mem::take(&mut watching.first))
                };
                let session = watching.admission.session();
                session.set_progress(watching.viewer.skipped(), watching.viewer.lag().0);
                match span {
                    Some(span) => {
                        session.add_bytes(span.len());
                        Some(Data::Span(SpanBuf::new(span)))
                    }
                    None => {
                        session.ends_because(Outcome::StreamEnded);
                        None
                    }
                }
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

/// The data of a body frame.
#[derive(Debug)]
pub enum Data {
    /// One buffer.
    Bytes(Bytes),
    /// Many buffers, shared with other viewers.
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
