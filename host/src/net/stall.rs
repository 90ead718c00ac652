//! Stalled HTTP/2 streams, and idle HTTP/2 connections.
//!
//! TCP handles a socket that accepts no bytes (`TCP_USER_TIMEOUT`). But a peer may answer pings and use other streams
//! while it opens no flow-control window for one of them (RFC 9113, 5.2); hyper then waits for ever and polls neither
//! body nor service meanwhile. So each stream's task runs beside a watch: the body counts the bytes that it hands over,
//! and their buffers count the bytes that are written. Dropping the task resets the stream (CANCEL).
//!
//! hyper does not close an idle HTTP/2 connection either, as it does over HTTP/1.1. The number of these tasks shows
//! whether a connection is idle. Nor does it limit streams that the peer resets after they were accepted: the same tasks
//! show whether a stream was of use.

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Buf;
use hyper::body::{Body, Frame, SizeHint};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tracing::debug;

use crate::http::Stall;
use crate::policy::ConnectionId;

/// Number of progress checks per stall timeout.
const CHECKS: u32 = 4;

/// Limit of streams that were of no use, above the number of those that were.
const MAX_USELESS: usize = 100;

tokio::task_local! {
    /// Progress of the HTTP/2 stream that the current task serves.
    static PROGRESS: Arc<Progress>;
}

/// Whether an error of a socket is that of `TCP_USER_TIMEOUT`: the peer has accepted no byte for `limits.send_timeout`.
pub(super) fn is_stall(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::TimedOut
}

/// Executor of one connection's HTTP/2 streams. It resets a stream that has unsent bytes and writes none for `limit`, up
/// to a quarter longer.
#[derive(Clone, Debug)]
pub(super) struct Streams {
    id: ConnectionId,
    limit: Duration,
    connection: Arc<Stall>,
    counts: watch::Sender<Counts>,
}

/// Numbers of a connection's streams.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    open: usize,
    /// Streams that ended before they carried a byte or were complete, less the others; at least 0.
    useless: usize,
}

impl Streams {
    pub(super) fn new(id: ConnectionId, limit: Duration, connection: Arc<Stall>) -> Streams {
        Streams { id, limit, connection, counts: watch::Sender::default() }
    }

    /// Resolves when no stream was open for `limit`.
    pub(super) async fn none_for(&self, limit: Duration) {
        let mut counts = self.counts.subscribe();
        // Both waits fail only once the sender is dropped, which `self` owns.
        while counts.wait_for(|counts| counts.open == 0).await.is_ok() {
            if timeout(limit, counts.changed()).await.is_err() {
                return;
            }
        }
    }

    /// Resolves when too many streams were of no use.
    pub(super) async fn useless(&self) {
        // Fails only once the sender is dropped, which `self` owns.
        let _ = self.counts.subscribe().wait_for(|counts| counts.useless > MAX_USELESS).await;
    }
}

/// One open stream in the counts of its connection.
struct Open {
    counts: watch::Sender<Counts>,
    progress: Arc<Progress>,
}

impl Open {
    fn new(Streams { limit, connection, counts, .. }: &Streams) -> Open {
        counts.send_modify(|counts| counts.open += 1);
        let progress = Progress::new(Stall::new(*limit, Some(connection.clone())));
        Open { counts: counts.clone(), progress: Arc::new(progress) }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let useful = self.progress.useful.load(Relaxed);
        self.counts.send_modify(|counts| {
            counts.open -= 1;
            counts.useless = if useful { counts.useless.saturating_sub(1) } else { counts.useless + 1 };
        });
    }
}

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Streams {
    fn execute(&self, stream: F) {
        let (connection, limit, open) = (self.id, self.limit, Open::new(self));
        tokio::spawn(async move {
            let progress = &open.progress;
            tokio::select! {
                () = PROGRESS.scope(progress.clone(), stream) => {}
                () = progress.stall(limit) => {
                    debug!(%connection, "an HTTP/2 stream is reset: its viewer accepts no bytes");
                }
            }
        });
    }
}

/// Returns the stall of the HTTP/2 stream that the current task serves; `None` for another task.
pub(super) fn stream_stall() -> Option<Arc<Stall>> {
    PROGRESS.try_with(|progress| progress.stall.clone()).ok()
}

/// Counters of a stream's bytes.
#[derive(Debug)]
struct Progress {
    /// Bytes handed over by the body and not yet written.
    unsent: AtomicUsize,
    /// Bytes written; wraps.
    sent: AtomicUsize,
    /// Whether a byte was written, or the response has no body.
    useful: AtomicBool,
    stall: Arc<Stall>,
}

impl Progress {
    fn new(stall: Arc<Stall>) -> Progress {
        Progress {
            unsent: AtomicUsize::new(0),
            sent: AtomicUsize::new(0),
            useful: AtomicBool::new(false),
            stall,
        }
    }

    /// Resolves when bytes have waited for `limit` without one being written, which it notes for the stream's body.
    async fn stall(&self, limit: Duration) {
        let mut checks = Checks::default();
        while checks.still < CHECKS {
            sleep(limit / CHECKS).await;
            checks.add(self.unsent.load(Relaxed), self.sent.load(Relaxed));
        }
        self.stall.note();
    }
}

/// The checks of one stream so far.
#[derive(Debug, Default)]
struct Checks {
    /// Number of checks in a row before which bytes had waited, and none was written since.
    still: u32,
    had_unsent: bool,
    sent: usize,
}

impl Checks {
    fn add(&mut self, unsent: usize, sent: usize) {
        let stalled = self.had_unsent && sent == self.sent;
        self.still = if stalled { self.still + 1 } else { 0 };
        (self.had_unsent, self.sent) = (unsent > 0, sent);
    }
}

/// A body that reports its bytes to its stream's watch. Must be created in the task of the stream.
#[derive(Debug)]
pub(super) struct Watched<B> {
    body: B,
    progress: Arc<Progress>,
}

impl<B: Body> Watched<B> {
    pub(super) fn new(body: B) -> Watched<B> {
        // Outside a stream's task no watch reads it.
        let progress = PROGRESS.try_with(Arc::clone);
        let progress = progress.unwrap_or_else(|_| Arc::new(Progress::new(Stall::new(Duration::ZERO, None))));
        progress.useful.store(body.is_end_stream(), Relaxed);
        Watched { body, progress }
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
        self.progress.useful.store(true, Relaxed);
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

    fn progress() -> Progress {
        Progress::new(Stall::new(Duration::ZERO, None))
    }

    /// Returns the time until a stream that does `act` every `limit / 2` is stalled.
    async fn time_to_stall(limit: Duration, act: impl Fn(&Progress)) -> Option<Duration> {
        let progress = progress();
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
            assert_eq!(time_to_stall(limit, |_| ()).await, None, "nothing to write");
            let moves = |progress: &Progress| {
                progress.unsent.store(1, Relaxed);
                progress.sent.fetch_add(1, Relaxed);
            };
            assert_eq!(time_to_stall(limit, moves).await, None, "slow");
            let stalled = time_to_stall(limit, |progress| progress.unsent.store(1, Relaxed)).await;
            assert!(stalled.is_some_and(|time| time >= limit), "{stalled:?}");
        });
    }

    /// Bytes that come, or the last that is written, just after a check: the latest end, at a quarter more than the limit.
    #[test]
    fn a_stream_is_stalled_at_the_check_after_the_limit() {
        for (name, counters) in [("nothing was sent before", (1, 0)), ("a byte was sent", (1, 7))] {
            let mut checks = Checks::default();
            checks.add(0, 0);
            let number = (1..).find(|_| {
                checks.add(counters.0, counters.1);
                checks.still == CHECKS
            });
            assert_eq!(number, Some(CHECKS + 1), "{name}");
        }
    }

    #[test]
    fn data_count_what_is_written_and_what_is_dropped() {
        let progress = Arc::new(progress());
        progress.unsent.store(10, Relaxed);
        let mut data = WatchedData { data: bytes::Bytes::from_static(b"0123456789"), progress };
        let progress = data.progress.clone();
        data.advance(4);
        assert_eq!((progress.unsent.load(Relaxed), progress.sent.load(Relaxed)), (6, 4));
        drop(data);
        assert_eq!((progress.unsent.load(Relaxed), progress.sent.load(Relaxed)), (0, 4));
    }
}
