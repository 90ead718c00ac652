//! Samples: earlier readings of counters, so that pages can show rates.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::admin::machine::Ticks;

/// Least time between two readings that are compared.
const LEAST: Duration = Duration::from_secs(1);

/// Two earlier readings. Nothing is read unless somebody asks for a page.
#[derive(Debug)]
pub(super) struct Earlier<T> {
    older: Option<(Instant, T)>,
    newer: Option<(Instant, T)>,
}

impl<T> Default for Earlier<T> {
    fn default() -> Earlier<T> {
        Earlier { older: None, newer: None }
    }
}

impl<T> Earlier<T> {
    /// Keeps a reading if the newest is at least `interval` old. Returns the one to compare it with: the one before the newest,
    /// else the newest; `None` if there is none before `now`.
    pub fn base(
        &mut self,
        now: Instant,
        interval: Duration,
        reading: impl FnOnce() -> T,
    ) -> Option<&(Instant, T)> {
        let age = |one: &(Instant, T)| now.saturating_duration_since(one.0);
        if self.newer.as_ref().is_none_or(|newer| age(newer) >= interval) {
            self.older = self.newer.replace((now, reading()));
        }
        self.older.as_ref().or(self.newer.as_ref()).filter(|one| age(one) >= LEAST)
    }
}

/// The samples of the machine.
#[derive(Debug, Default)]
pub(in crate::admin::api) struct Samples(Mutex<Earlier<Ticks>>);

impl Samples {
    /// Returns the ticks, and the seconds, since an earlier reading; since the start of everything for the first one.
    pub(super) fn since(&self, now: Instant, ticks: Ticks) -> (Ticks, Option<Duration>) {
        let mut earlier = self.0.lock();
        match earlier.base(now, 3 * LEAST, || ticks) {
            Some((then, base)) => (ticks - *base, Some(now.saturating_duration_since(*then))),
            None => (ticks, None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reading_is_compared_with_an_earlier_one() {
        let (start, mut earlier) = (Instant::now(), Earlier::default());
        let mut base = |seconds, reading| {
            let now = start + Duration::from_secs(seconds);
            earlier.base(now, Duration::from_secs(10), || reading).map(|(_, reading)| *reading)
        };
        for (seconds, reading, expected) in [
            (0, 1, None),
            (0, 2, None),
            (5, 3, Some(1)),
            (10, 4, Some(1)),
            (19, 5, Some(1)),
            (20, 6, Some(4)),
            (600, 7, Some(6)),
        ] {
            assert_eq!(base(seconds, reading), expected, "{seconds} s");
        }
    }
}
