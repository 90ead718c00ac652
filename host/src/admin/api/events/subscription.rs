//! A subscription: the queue of one subscriber, and the body of its response.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame};
use serde_json::json;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio_util::sync::CancellationToken;

use super::frame::frame;

/// Number of looks at the host that wait for a subscriber, each with all that it has seen.
const MAX_WAITING: usize = 8;

/// The longest time of a subscription. Browsers subscribe again by themselves.
pub(super) const MAX_TIME: Duration = Duration::from_secs(3600);

/// Time for the last frames of a subscription.
pub(super) const END_TIME: Duration = Duration::from_secs(5);

/// Why a subscription ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Reason {
    /// It has not been read fast enough.
    Slow = 1,
    /// It has lasted as long as one may.
    Time,
    /// The host stops.
    Stopping,
}

/// The side that sends.
#[derive(Debug)]
pub(super) struct Subscriber {
    frames: Sender<Bytes>,
    reason: Arc<AtomicU8>,
    /// Cancelled when the connection must be closed.
    pub close: CancellationToken,
}

/// The side that is read: the body of a response. It ends with an event that says why.
#[derive(Debug)]
pub(in crate::admin) struct Subscription {
    frames: Receiver<Bytes>,
    reason: Arc<AtomicU8>,
    close: CancellationToken,
    is_over: bool,
}

/// In the extensions of a response that stays: cancelled when its connection must be closed.
#[derive(Clone, Debug)]
pub(in crate::admin) struct Stay(pub CancellationToken);

/// Returns both sides, with a first frame.
pub(super) fn subscription(first: Bytes) -> (Subscriber, Subscription) {
    let (sender, receiver) = channel(MAX_WAITING);
    let _ = sender.try_send(first);
    let (reason, close) = (Arc::new(AtomicU8::new(0)), CancellationToken::new());
    let subscriber = Subscriber { frames: sender, reason: reason.clone(), close: close.clone() };
    (subscriber, Subscription { frames: receiver, reason, close, is_over: false })
}

impl Subscriber {
    /// Sends what has been seen.
    ///
    /// # Errors
    /// The reason for which the subscription ends: the subscriber does not read, or, without one, has left.
    pub fn send(&self, frames: &Bytes) -> Result<(), Option<Reason>> {
        self.frames.try_send(frames.clone()).map_err(|error| match error {
            TrySendError::Full(_) => Some(Reason::Slow),
            TrySendError::Closed(_) => None,
        })
    }

    /// Ends the subscription: what waits is sent, then the reason.
    pub fn end(self, reason: Reason) {
        self.reason.store(reason as u8, Ordering::Relaxed);
    }
}

impl Subscription {
    /// Returns what closes its connection.
    pub fn stay(&self) -> Stay {
        Stay(self.close.clone())
    }

    /// Returns the last frame.
    fn farewell(&self) -> Bytes {
        let reason = match self.reason.load(Ordering::Relaxed) {
            1 => "events were not read fast enough",
            2 => "a subscription lasts an hour",
            _ => "the host stops",
        };
        frame("end", &json!({ "reason": reason }))
    }
}

impl Body for Subscription {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        let next = std::task::ready!(self.frames.poll_recv(cx));
        self.is_over = next.is_none();
        Poll::Ready(Some(Ok(Frame::data(next.unwrap_or_else(|| self.farewell())))))
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    fn read(mut subscription: Subscription) -> Vec<String> {
        let mut texts = Vec::new();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        while let Some(frame) = runtime.block_on(subscription.frame()) {
            texts.push(String::from_utf8(frame.unwrap().into_data().unwrap().to_vec()).unwrap());
        }
        texts
    }

    #[test]
    fn a_slow_reader_is_told_so_after_what_it_has() {
        let (subscriber, subscription) = subscription("hello".into());
        let mut sent = 1;
        let reason = loop {
            match subscriber.send(&"x".into()) {
                Ok(()) => sent += 1,
                Err(reason) => break reason,
            }
        };
        assert_eq!(reason, Some(Reason::Slow));
        subscriber.end(Reason::Slow);
        let texts = read(subscription);
        assert!(sent == MAX_WAITING && texts.len() == sent + 1, "{sent} {}", texts.len());
        assert_eq!(texts[sent], "event: end\ndata: {\"reason\":\"events were not read fast enough\"}\n\n");
    }

    #[test]
    fn a_subscriber_that_has_left_is_noticed() {
        let (subscriber, subscription) = subscription("hello".into());
        drop(subscription);
        assert_eq!(subscriber.send(&"x".into()), Err(None));
    }
}
