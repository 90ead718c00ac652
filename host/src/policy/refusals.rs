//! Refusals of the host: their numbers by reason, and a limit of the lines about them.
//!
//! Every refusal has a line in the log, and every one is counted. But peers can cause as many as they like, so a reason has at
//! most [`BURST`] lines in a few seconds; the next line tells how many had none.

use std::collections::BTreeMap;
use std::time::Instant;

use parking_lot::Mutex;

use crate::log::LineLimit;

/// Number of lines about one reason at once.
const BURST: u32 = 20;

/// The refusals by reason. Reasons are words of the code, so there are few.
#[derive(Debug, Default)]
pub struct Refusals(Mutex<BTreeMap<&'static str, Counted>>);

#[derive(Debug)]
struct Counted {
    count: u64,
    lines: LineLimit,
}

impl Refusals {
    /// Counts a refusal. If it gets a line in the log, returns the number of those before it that got none.
    pub fn count(&self, reason: &'static str) -> Option<u64> {
        let mut reasons = self.0.lock();
        let counted =
            reasons.entry(reason).or_insert_with(|| Counted { count: 0, lines: LineLimit::burst(BURST) });
        counted.count += 1;
        counted.lines.line(Instant::now())
    }

    /// Returns the number of refusals for each reason so far.
    pub fn counts(&self) -> Vec<(&'static str, u64)> {
        self.0.lock().iter().map(|(reason, counted)| (*reason, counted.count)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_is_counted_and_has_its_own_lines() {
        let refusals = Refusals::default();
        let lines = |reason| (0..100).filter(|_| refusals.count(reason).is_some()).count();
        assert_eq!([lines("one"), lines("two")], [BURST as usize; 2]);
        assert_eq!(refusals.counts(), [("one", 100), ("two", 100)]);
    }
}
