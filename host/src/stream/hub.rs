//! Hub: all streams by name, and the tasks that wait for one.

use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use parking_lot::Mutex;

use crate::conf::{PublishConflict, Vhost};

use super::error::PublishError;
use super::key::StreamKey;
use super::pacing::StreamPacer;
use super::stream::{Publisher, Stream};
use super::wakers::{Wakers, wake};

/// All streams.
#[derive(Debug, Default)]
pub struct Hub {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    streams: HashMap<StreamKey, Arc<Stream>>,
    /// Tasks that wait for a stream to be published.
    waiting: Wakers,
}

impl Hub {
    /// A hub without streams.
    pub fn new() -> Arc<Hub> {
        Arc::default()
    }

    /// Starts a publisher, on a new stream or on one whose publisher left and whose viewers wait. The caller spawns the pacer
    /// of a new stream.
    ///
    /// # Errors
    /// [`PublishError::Busy`] when the stream is live and its vhost keeps the first publisher.
    pub fn publish(
        self: &Arc<Self>,
        key: StreamKey,
        vhost: &Arc<Vhost>,
    ) -> Result<(Publisher, Option<StreamPacer>), PublishError> {
        let (publisher, waiting) = {
            let mut state = self.state.lock();
            let stream = state
                .streams
                .entry(key.clone())
                .or_insert_with(|| Arc::new(Stream::new(key, vhost.clone())))
                .clone();
            let replace = vhost.publish.conflict == PublishConflict::Replace;
            let publisher = Stream::publish(&stream, replace)?;
            (publisher, state.waiting.take())
        };
        wake(waiting);
        let pacer = publisher.pacer();
        Ok((publisher, pacer))
    }

    /// Returns the stream if it is live, or if its viewers wait for its publisher to return.
    pub fn find(&self, key: &StreamKey) -> Option<Arc<Stream>> {
        self.state.lock().streams.get(key).cloned()
    }

    /// Waits until the stream has a publisher.
    pub fn wait_for(self: &Arc<Self>, key: StreamKey) -> StreamWait {
        let waiter = self.state.lock().waiting.register();
        StreamWait { hub: self.clone(), key, waiter }
    }

    /// Returns whether the stream has a publisher; waits while its viewers wait for the publisher to return.
    pub fn settle(self: &Arc<Self>, key: StreamKey) -> impl Future<Output = bool> + Send + use<> {
        let wait = self.wait_for(key);
        poll_fn(move |cx| match wait.look(cx) {
            Some(stream) if stream.is_live() => Poll::Ready(true),
            Some(_) => Poll::Pending,
            None => Poll::Ready(false),
        })
    }

    /// Ends a stream whose publisher left and did not return. The caller waits `republish_wait` after [`Publisher::leave`] and
    /// passes the number that it returned. Does nothing if another publisher has come.
    pub fn expire(&self, stream: &Arc<Stream>, left: u64) {
        let waiting = {
            let mut state = self.state.lock();
            if !stream.end_if_left(left) {
                return;
            }
            state.streams.remove(stream.key());
            state.waiting.take()
        };
        wake(waiting);
    }

    /// Ends all streams, when the host stops.
    pub fn end_all(&self) {
        let (streams, waiting) = {
            let mut state = self.state.lock();
            (std::mem::take(&mut state.streams), state.waiting.take())
        };
        for stream in streams.values() {
            stream.end();
        }
        wake(waiting);
    }

    /// Number of viewers and players that wait for a stream to be published.
    pub fn waiting(&self) -> usize {
        self.state.lock().waiting.len()
    }

    /// All streams, in no order.
    pub fn streams(&self) -> Vec<Arc<Stream>> {
        self.state.lock().streams.values().cloned().collect()
    }
}

/// Resolves when a stream has a publisher.
#[derive(Debug)]
pub struct StreamWait {
    hub: Arc<Hub>,
    key: StreamKey,
    waiter: usize,
}

impl StreamWait {
    /// Returns the stream, live or not. The task is woken when that changes.
    fn look(&self, cx: &Context<'_>) -> Option<Arc<Stream>> {
        let mut state = self.hub.state.lock();
        state.waiting.wait(self.waiter, cx.waker());
        state.streams.get(&self.key).cloned()
    }
}

impl Future for StreamWait {
    type Output = Arc<Stream>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Arc<Stream>> {
        match self.look(cx).filter(|stream| stream.is_live()) {
            Some(stream) => Poll::Ready(stream),
            None => Poll::Pending,
        }
    }
}

impl Drop for StreamWait {
    fn drop(&mut self) {
        self.hub.state.lock().waiting.leave(self.waiter);
    }
}
