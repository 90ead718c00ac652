//! HTTP/2 streams: those whose viewer takes nothing, and connections without any.
//!
//! A socket that takes no bytes is TCP's affair (`TCP_USER_TIMEOUT`). But a peer may answer pings and use other streams
//! while it opens no flow-control window for one of them (RFC 9113, 5.2); hyper then waits for ever, and asks neither
//! body nor service meanwhile. So a stream's task runs beside a watch: its body notes what it hands over, the data
//! note what of it is written. To drop the task is to reset the stream (CANCEL).
//!
//! Nor does hyper close a connection on which nothing is asked for, as it does over HTTP/1.1. The same tasks tell when
//! there is no stream.

use std::future::Future;
use std::io::IoSlice;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Buf;
use hyper::body::{Body, Frame, SizeHint};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tracing::debug;

/// Looks at a stream within the time in which it must move.
const LOOKS: u32 = 4;

tokio::task_local! {
    /// That of the HTTP/2 stream whose task this is.
    static PROGRESS: Arc<Progress>;
}

/// Runs the tasks of one connection's HTTP/2 streams, and ends one that has unsent bytes and writes none for `limit`, or
/// up to a quarter more.
#[derive(Clone, Debug)]
pub(super) struct Streams {
    limit: Duration,
    /// How many there are.
    open: watch::Sender<usize>,
}

impl Streams {
    pub(super) fn new(limit: Duration) -> Streams {
        Streams { limit, open: watch::Sender::new(0) }
    }

    /// Resolves when there was none for `limit`.
    pub(super) async fn none_for(&self, limit: Duration) {
        let mut open = self.open.subscribe();
        // Both waits fail only without a sender, which is here.
        while open.wait_for(|open| *open == 0).await.is_ok() {
            if timeout(limit, open.changed()).await.is_err() {
                return;
            }
        }
    }
}

/// Counts a stream.
struct Open(watch::Sender<usize>);

impl Open {
    fn new(open: &watch::Sender<usize>) -> Open {
        open.send_modify(|open| *open += 1);
        Open(open.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.send_modify(|open| *open -= 1);
    }
}

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Streams {
    fn execute(&self, stream: F) {
        let (limit, open) = (self.limit, Open::new(&self.open));
        tokio::spawn(async move {
            let _open = open;
            let progress = Arc::new(Progress::default());
            tokio::select! {
                () = PROGRESS.scope(progress.clone(), stream) => {}
                () = progress.stall(limit) => debug!("an HTTP/2 stream is reset: its viewer takes nothing"),
            }
        });
    }
}

/// How far a stream has come.
#[derive(Debug, Default)]
struct Progress {
    /// Bytes that are to be written.
    unsent: AtomicUsize,
    /// Bytes that are written; wraps.
    sent: AtomicUsize,
}

impl Progress {
    /// Resolves when bytes wait for `limit` and none is written.
    async fn stall(&self, limit: Duration) {
        let mut still = 0;
        let mut before = 0;
        // One more: the bytes may have come just before the first.
        while still <= LOOKS {
            sleep(limit / LOOKS).await;
            let sent = self.sent.load(Relaxed);
            still = if self.unsent.load(Relaxed) > 0 && sent == before { still + 1 } else { 0 };
            before = sent;
        }
    }
}

/// A body that tells its stream's watch how far it is. Made in the task of the stream.
#[derive(Debug)]
pub(super) struct Watched<B> {
    body: B,
    progress: Arc<Progress>,
}

impl<B> Watched<B> {
    pub(super) fn new(body: B) -> Watched<B> {
        // Outside of a stream's task nobody looks at it.
        Watched { body, progress: PROGRESS.try_with(Arc::clone).unwrap_or_default() }
    }
}

impl<B: Body + Unpin> Body for Watched<B> {
    type Data = WatchedData<B::Data>;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, B::Error>>> {
        let frame = std::task::ready!(Pin::new(&mut self.body).poll_frame(cx));
        let data = |data: B::Data| {
            self.progress.unsent.fetch_add(data.remaining(), Relaxed);
            WatchedData { data, progress: self.progress.clone() }
        };
        Poll::Ready(frame.map(|frame| frame.map(|frame| frame.map_data(data))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The data of a [`Watched`] body.
#[derive(Debug)]
pub(super) struct WatchedData<D: Buf> {
    data: D,
    progress: Arc<Progress>,
}

impl<D: Buf> Buf for WatchedData<D> {
    fn remaining(&self) -> usize {
        self.data.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.data.chunk()
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        self.data.chunks_vectored(slices)
    }

    fn advance(&mut self, count: usize) {
        self.progress.unsent.fetch_sub(count, Relaxed);
        self.progress.sent.fetch_add(count, Relaxed);
        self.data.advance(count);
    }
}

impl<D: Buf> Drop for WatchedData<D> {
    fn drop(&mut self) {
        self.progress.unsent.fetch_sub(self.data.remaining(), Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How long a stream lives that does `act` every `limit / 2`.
    async fn life(limit: Duration, act: impl Fn(&Progress)) -> Option<Duration> {
        let progress = Progress::default();
        let started = tokio::time::Instant::now();
        tokio::select! {
            () = progress.stall(limit) => Some(started.elapsed()),
            () = async {
                for _ in 0..20 {
                    act(&progress);
                    sleep(limit / 2).await;
                }
            } => None,
        }
    }

    #[test]
    fn only_a_stream_that_has_something_and_writes_nothing_is_stalled() {
        let limit = Duration::from_millis(80);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            assert_eq!(life(limit, |_| ()).await, None, "nothing to write");
            let moves = |progress: &Progress| {
                progress.unsent.store(1, Relaxed);
                progress.sent.fetch_add(1, Relaxed);
            };
            assert_eq!(life(limit, moves).await, None, "slow");
            let stalled = life(limit, |progress| progress.unsent.store(1, Relaxed)).await;
            assert!(stalled.is_some_and(|life| life >= limit), "{stalled:?}");
        });
    }

    #[test]
    fn data_count_what_is_written_and_what_is_dropped() {
        let progress = Arc::new(Progress::default());
        progress.unsent.store(10, Relaxed);
        let mut data = WatchedData { data: bytes::Bytes::from_static(b"0123456789"), progress };
        let progress = data.progress.clone();
        data.advance(4);
        assert_eq!((progress.unsent.load(Relaxed), progress.sent.load(Relaxed)), (6, 4));
        drop(data);
        assert_eq!((progress.unsent.load(Relaxed), progress.sent.load(Relaxed)), (0, 4));
    }
}
