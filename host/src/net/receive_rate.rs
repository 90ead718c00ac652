//! Rate limit of what HTTP clients send.
//!
//! A viewer sends a request, and next to nothing after it. Pings, settings, window updates, fragments and requests whose answers
//! are read cost the host CPU time and no memory, so the budget does not bound them. They are bounded here, in one place below
//! HTTP/1.1, HTTP/2 and WebSocket: the connections of an address share a token bucket. While it is empty, none of them is read, so
//! that the peer's bytes wait in the kernel. No connection is closed.
//!
//! HTTP/2 clients acknowledge what they are sent with window updates. So bytes that are sent to an address fill its bucket too.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

use super::stall::is_stall;
use crate::http::Stall;

/// Seconds of `limits.receive_rate` that a bucket holds.
const CAPACITY: i64 = 4;

/// Bytes that a read counts at least, because it costs a wake-up.
const MIN_READ: usize = 64;

/// Number of bytes sent that fill the bucket by one byte.
const SENT_PER_BYTE: usize = 64;

/// Least and longest time between two looks at an empty bucket.
const PAUSES: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// The token bucket of an address.
#[derive(Debug)]
pub(super) struct ReceiveRate {
    /// Bytes in a second.
    rate: i64,
    /// Bytes that may be received. Below 0 after a read of more than there were.
    tokens: AtomicI64,
    filled: Mutex<Instant>,
}

impl ReceiveRate {
    /// Returns a full bucket for `rate` bytes in a second; `None` for 0, which is without limit.
    pub(super) fn new(rate: u32) -> Option<Arc<ReceiveRate>> {
        let rate = i64::from(rate);
        let full = AtomicI64::new(rate * CAPACITY);
        (rate > 0).then(|| Arc::new(ReceiveRate { rate, tokens: full, filled: Mutex::new(Instant::now()) }))
    }

    /// Returns for how long nothing may be received. Fills the bucket if it is empty.
    pub(super) fn wait(&self, now: Instant) -> Option<Duration> {
        if self.tokens.load(Relaxed) > 0 {
            return None;
        }
        let mut filled = self.filled.lock();
        let elapsed = now.saturating_duration_since(*filled).as_millis();
        let elapsed = i64::try_from(elapsed).unwrap_or(i64::MAX);
        // Not less than a millisecond, so that no part of a byte is lost often.
        if elapsed > 0 {
            *filled = now;
            self.add(elapsed.saturating_mul(self.rate) / 1000);
        }
        let missing = 1 - self.tokens.load(Relaxed);
        (missing > 0).then(|| Duration::from_millis((missing * 1000 / self.rate) as u64))
    }

    /// Counts bytes that were received, and those that were sent meanwhile.
    pub(super) fn count(&self, received: usize, sent: usize) {
        self.add((sent / SENT_PER_BYTE) as i64 - received.max(MIN_READ) as i64);
    }

    /// Adds to the bucket, up to its capacity. It owes at most as much as it can hold.
    fn add(&self, tokens: i64) {
        let full = self.rate * CAPACITY;
        let _ = self
            .tokens
            .fetch_update(Relaxed, Relaxed, |before| Some(before.saturating_add(tokens).clamp(-full, full)));
    }
}

/// A socket whose reads are limited. It notes when the peer has stalled.
pub(super) struct Limited<S> {
    socket: S,
    /// `None` for a trusted proxy, which sends the requests of many clients.
    rate: Option<Arc<ReceiveRate>>,
    /// Bytes sent since the last read.
    sent: usize,
    /// The newest pause in a row; 0 after a read.
    pause: Duration,
    paused: Option<Pin<Box<Sleep>>>,
    stall: Arc<Stall>,
}

impl<S> Limited<S> {
    pub(super) fn new(socket: S, rate: Option<Arc<ReceiveRate>>, stall: Arc<Stall>) -> Limited<S> {
        Limited { socket, rate, sent: 0, pause: Duration::ZERO, paused: None, stall }
    }

    pub(super) fn into_inner(self) -> S {
        self.socket
    }

    /// Notes a stall, which the first call after it reports, whatever it is.
    fn checked<T>(&self, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if let Poll::Ready(Err(error)) = &result
            && is_stall(error)
        {
            self.stall.note();
        }
        result
    }

    /// Waits until the bucket is not empty. The pauses of a connection in vain double, so that many of them cost little.
    fn poll_rate(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(rate) = &self.rate else { return Poll::Ready(()) };
        loop {
            if let Some(paused) = &mut self.paused {
                ready!(paused.as_mut().poll(cx));
                self.paused = None;
            }
            let Some(wait) = rate.wait(Instant::now()) else { return Poll::Ready(()) };
            self.pause = wait.max(self.pause * 2).clamp(PAUSES.0, PAUSES.1);
            self.paused = Some(Box::pin(sleep(self.pause)));
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Limited<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.poll_rate(cx));
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.socket).poll_read(cx, buffer);
        ready!(self.checked(read))?;
        let (received, sent) = (buffer.filled().len() - before, std::mem::take(&mut self.sent));
        self.pause = Duration::ZERO;
        if let Some(rate) = &self.rate {
            rate.count(received, sent);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> Limited<S> {
    fn wrote(&mut self, result: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(count)) = &result {
            self.sent = self.sent.saturating_add(*count);
        }
        self.checked(result)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Limited<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.socket).poll_write(cx, bytes);
        self.wrote(result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.socket).poll_write_vectored(cx, slices);
        self.wrote(result)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.socket).poll_flush(cx);
        self.checked(flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: u32 = 1000;

    /// Received, sent and passed milliseconds, and the wait after it.
    #[test]
    fn a_bucket_is_filled_by_time_and_by_what_is_sent() {
        let bucket = ReceiveRate::new(RATE).unwrap();
        let mut now = Instant::now();
        let rows = [
            ((3999, 0, 0), None),
            ((64, 0, 0), Some(64)),
            ((0, 0, 63), Some(1)),
            ((0, 0, 2), None),
            // A read of a byte counts as 64 of them.
            ((1, 0, 0), Some(63)),
            ((64, 64 * 200, 0), None),
            // Full again, and no more than that.
            ((5000, 0, 0), Some(4001)),
            ((0, 0, 60_000), None),
            ((4064, 0, 0), Some(65)),
            ((1_000_000, 0, 0), Some(4001)),
        ];
        for (row, ((received, sent, passed), wait)) in rows.into_iter().enumerate() {
            if received > 0 {
                bucket.count(received, sent);
            }
            now += Duration::from_millis(passed);
            assert_eq!(bucket.wait(now), wait.map(Duration::from_millis), "row {row}");
        }
        assert!(ReceiveRate::new(0).is_none());
    }
}
