//! Rates of sessions, for pages that show them.
//!
//! Nothing is measured unless somebody asks. Then the counters of all sessions are read, at most once in [`INTERVAL`], and a rate
//! is that since an earlier reading, or since the session's start.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::samples::Earlier;
use crate::policy::{Session, SessionId};

/// Least time between two readings: a rate is over up to twice this if somebody asks often.
const INTERVAL: Duration = Duration::from_secs(15);

/// The bytes of sessions at earlier times, by id.
#[derive(Debug, Default)]
pub(in crate::admin::api) struct Rates(Mutex<Earlier<Vec<(SessionId, u64)>>>);

impl Rates {
    /// Returns what each of `sessions` sends or receives, in kilobits per second. `all` lists the sessions of the host in the order
    /// of their ids; it is called once in [`INTERVAL`] at most.
    pub(super) fn of(&self, sessions: &[Arc<Session>], all: impl FnOnce() -> Vec<Arc<Session>>) -> Vec<u64> {
        let now = Instant::now();
        let mut earlier = self.0.lock();
        let base = earlier
            .base(now, INTERVAL, || all().iter().map(|session| (session.id(), session.bytes())).collect());
        let rate = |session: &Arc<Session>| {
            let then = base.and_then(|(then, base)| {
                let index = base.binary_search_by_key(&session.id(), |(id, _)| *id).ok()?;
                Some((now.saturating_duration_since(*then), base[index].1))
            });
            let (period, before) = then.unwrap_or((session.elapsed(), 0));
            kilobits(session.bytes().saturating_sub(before), period)
        };
        sessions.iter().map(rate).collect()
    }
}

/// Returns a rate in kilobits per second.
fn kilobits(bytes: u64, period: Duration) -> u64 {
    // A bit in a millisecond is a kilobit in a second.
    bytes * 8 / (period.as_millis() as u64).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_in_kilobits_per_second() {
        for (bytes, seconds, rate) in [(1_000_000, 8, 1_000), (0, 8, 0), (125, 1, 1), (0, 0, 0)] {
            assert_eq!(kilobits(bytes, Duration::from_secs(seconds)), rate);
        }
    }
}
