//! Clock: tokio's time for the pacers of `stream`, which is free of tokio, and the beats at which publishers are read.
//!
//! A publisher sends some seventy packets a second, and its viewers get what has come at ticks. So it is read at beats, each tick comes
//! shortly after a beat, and nothing comes later than if each packet were read at once. The beats of streams are spread by their
//! [`Phase`]s.

use std::future::Future;
use std::sync::LazyLock;
use std::time::Duration;

use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, sleep};

use crate::stream::{Clock, Phase};

/// The longest time from one beat to the next: what an encoder sends in it fits into the receive buffer of its socket.
const MAX_BEAT: Duration = Duration::from_millis(100);

/// The shortest merge whose publisher is read at beats: for shorter ones there would be as many beats as packets.
const MIN_MERGE: Duration = Duration::from_millis(20);

/// Time from a beat to the tick after it: what was read is remuxed in it.
const REMUX: Duration = Duration::from_millis(4);

/// The start of all beats and ticks.
static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Instants at equal distances, which are the same wherever they are computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Beat {
    every: Duration,
    offset: Duration,
}

impl Beat {
    /// The beats of a stream that nobody reads.
    pub fn unread(phase: Phase) -> Beat {
        Beat { every: MAX_BEAT, offset: phase.of(MAX_BEAT) }
    }

    /// The beats of a stream whose viewers get what has come at ticks; `None` if these are too close.
    pub fn before_ticks(tick: Duration, phase: Phase) -> Option<Beat> {
        if tick < MIN_MERGE {
            return None;
        }
        let beats = tick.as_nanos().div_ceil(MAX_BEAT.as_nanos());
        let every = tick / beats as u32;
        Some(Beat { every, offset: phase.of(every) })
    }

    /// The ticks of a stream.
    fn ticks(every: Duration, phase: Phase) -> Beat {
        let offset = Beat::before_ticks(every, phase).map_or(Duration::ZERO, |beat| beat.offset + REMUX);
        Beat { every, offset }
    }

    /// Returns the first one after `now`.
    pub fn next(self, now: Instant) -> Instant {
        let elapsed = now.saturating_duration_since(*START + self.offset).as_nanos() as u64;
        let every = self.every.as_nanos() as u64;
        *START + self.offset + Duration::from_nanos((elapsed / every + 1) * every)
    }
}

/// An interval of tokio.
#[derive(Debug)]
pub struct TokioClock {
    interval: Interval,
    /// Whether it has not ticked yet: its first tick comes at once.
    is_new: bool,
}

impl Clock for TokioClock {
    fn new(every: Duration, phase: Phase) -> TokioClock {
        let every = every.max(Duration::from_millis(1));
        let mut interval = interval_at(Beat::ticks(every, phase).next(Instant::now()), every);
        interval.set_missed_tick_behavior(MissedTickBehavior::Skip);
        TokioClock { interval, is_new: true }
    }

    async fn tick(&mut self) {
        if !std::mem::take(&mut self.is_new) {
            self.interval.tick().await;
        }
    }

    fn sleep(delay: Duration) -> impl Future<Output = ()> + Send {
        sleep(delay)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn a_tick_follows_a_beat() {
        for (tick, beat) in [(20, 20), (40, 40), (100, 100), (101, 50), (350, 87), (500, 100), (1000, 100)] {
            for phase in (0..8).map(Phase::new) {
                let beats = Beat::before_ticks(ms(tick), phase).unwrap();
                assert_eq!(beats.every.as_millis(), beat, "{tick}");
                let mut at = *START;
                for _ in 0..50 {
                    at = Beat::ticks(ms(tick), phase).next(at);
                    let read = beats.next(at - beats.every);
                    let after = at - read;
                    assert!(after.abs_diff(REMUX) < Duration::from_micros(1), "{after:?} of {tick} ms");
                }
            }
        }
        assert_eq!(Beat::before_ticks(ms(19), Phase::new(0)), None);
    }

    #[test]
    fn beats_are_the_same_instants_for_all() {
        for phase in [0, 5].map(Phase::new) {
            let beat = Beat::before_ticks(ms(40), phase).unwrap();
            let start = beat.next(Instant::now());
            let late = start + ms(40) * 1000;
            for (passed, beats) in [(0, 1), (1, 1), (39_999, 1), (40_000, 2), (119_999, 3)] {
                assert_eq!(
                    beat.next(late + Duration::from_micros(passed)),
                    late + ms(40) * beats,
                    "{passed} µs"
                );
            }
        }
    }
}
