//! Pacing: the ticks at which merged readers get what has been pushed.
//!
//! Whoever creates a ring with merged readers gets its pacer and must run it. A pacer waits until something has been
//! pushed, then flushes at the next tick; without merged readers it sleeps. The caller brings the clock.

use std::future::{Future, poll_fn};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use super::key::StreamKey;
use super::ring::{Entry, Ring};
use super::source::Source;

/// A source of ticks.
pub trait Clock: Send + 'static {
    /// Creates a clock that ticks `every` so often, at once and then at instants of this phase. A tick that nobody waited for is
    /// skipped.
    fn new(every: Duration, phase: Phase) -> Self;

    /// Waits for the next tick.
    fn tick(&mut self) -> impl Future<Output = ()> + Send;

    /// Waits for `delay`.
    fn sleep(delay: Duration) -> impl Future<Output = ()> + Send;
}

/// The part of an interval by which a stream is behind others, so that they do not all come at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Phase(u8);

impl Phase {
    /// Number of phases: few, so that a thread wakes once for several streams.
    const COUNT: u8 = 8;

    /// Returns a phase by its number.
    pub fn new(number: u8) -> Phase {
        Phase(number % Phase::COUNT)
    }

    /// Returns the time by which the stream is behind, at this interval.
    pub fn of(self, interval: Duration) -> Duration {
        interval * u32::from(self.0) / u32::from(Phase::COUNT)
    }
}

impl StreamKey {
    /// The phase of the stream.
    pub fn phase(&self) -> Phase {
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        Phase::new(hasher.finish() as u8)
    }
}

/// The pacer of a stream's ring, which serves its RTMP players.
#[derive(Debug)]
#[must_use = "RTMP players wait for ever without it"]
pub struct StreamPacer {
    source: Arc<Source>,
}

impl StreamPacer {
    pub(super) fn new(source: Arc<Source>) -> StreamPacer {
        StreamPacer { source }
    }

    /// Flushes the ring at each tick until it ends.
    pub async fn run<C: Clock>(self) {
        let tags = self.source.tags();
        let mut ticks = Ticks::<C>::new(self.source.key().phase());
        while poll_fn(|cx| tags.poll_dirty(cx)).await {
            ticks.next(self.source.vhost().play.merge_write).await;
            tags.flush();
        }
    }
}

/// The ticks of a pacer, whose interval may change.
pub(super) struct Ticks<C> {
    phase: Phase,
    clock: Option<(Duration, C)>,
}

impl<C: Clock> Ticks<C> {
    pub fn new(phase: Phase) -> Ticks<C> {
        Ticks { phase, clock: None }
    }

    /// Waits for the next tick of a clock with this interval.
    pub async fn next(&mut self, every: Duration) {
        let clock = match self.clock.take() {
            Some((before, clock)) if before == every => clock,
            _ => C::new(every, self.phase),
        };
        let (_, clock) = self.clock.insert((every, clock));
        clock.tick().await;
    }
}

/// Waits until the ring is dirty (true) or has ended (false), at most for `timeout`.
pub(super) async fn dirty_within<E: Entry, C: Clock>(ring: &Ring<E>, timeout: Duration) -> Option<bool> {
    let mut sleep = pin!(C::sleep(timeout));
    poll_fn(|cx| match ring.poll_dirty(cx) {
        Poll::Ready(dirty) => Poll::Ready(Some(dirty)),
        Poll::Pending => sleep.as_mut().poll(cx).map(|()| None),
    })
    .await
}
