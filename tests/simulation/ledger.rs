//! What happened in a run: counts over time, and when streams and viewers were back.

use crate::agenda::{SECOND, Time};
use crate::redis::Command;

/// Length of a bucket of the counts.
pub const BUCKET: Time = SECOND / 10;

/// Counts by bucket.
#[derive(Clone, Debug)]
pub struct Series(Vec<u64>);

impl Series {
    fn new(end: Time) -> Series {
        Series(vec![0; (end / BUCKET) as usize + 1])
    }

    pub fn add(&mut self, at: Time, count: u64) {
        if let Some(bucket) = self.0.get_mut((at / BUCKET) as usize) {
            *bucket += count;
        }
    }

    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Returns the mean a second from `from` up to `to`.
    pub fn mean(&self, from: Time, to: Time) -> f64 {
        let found = &self.0[(from / BUCKET) as usize..(to / BUCKET) as usize];
        found.iter().sum::<u64>() as f64 * SECOND as f64 / (to - from) as f64
    }

    /// Returns the most within a second, of any ten buckets in a row from `from` on.
    pub fn peak(&self, from: Time) -> u64 {
        let found = &self.0[(from / BUCKET) as usize..];
        found.windows((SECOND / BUCKET) as usize).map(|second| second.iter().sum()).max().unwrap_or(0)
    }

    /// Returns the most in one bucket from `from` on.
    pub fn spike(&self, from: Time) -> u64 {
        self.0[(from / BUCKET) as usize..].iter().copied().max().unwrap_or(0)
    }

    /// Returns the counts of whole seconds.
    pub fn seconds(&self) -> Vec<u64> {
        self.0.chunks_exact((SECOND / BUCKET) as usize).map(|second| second.iter().sum()).collect()
    }
}

#[derive(Debug)]
pub struct Ledger {
    /// Commands that Redis was sent, by kind in the order of [`Command::ALL`].
    pub commands: Vec<Series>,
    /// All of them.
    pub all_commands: Series,
    /// Notifications that Redis sent to followers.
    pub notifications: Series,
    /// Pulls that were opened, by origin.
    pub pulls: Vec<Series>,
    /// Pulls that were asked of an origin that has stopped or does not have the stream.
    pub failed_pulls: Series,
    /// Bytes that origins sent at the start of pulls.
    pub burst_bytes: Series,
    /// Viewers without media, at the end of each second.
    pub dark: Vec<u64>,
    /// The most pulls without media at one edge.
    pub most_pending: usize,
    /// Viewers who were told that there are too many pulls without media.
    pub refused: u64,
    /// Lookups that nothing could answer while Redis was away.
    pub unanswered: u64,
    /// Commands that waited for too long, or found Redis away.
    pub timeouts: u64,
    /// How long after the fault each lost stream had all its viewers back.
    pub streams_back: Vec<Time>,
    pub streams_lost: usize,
    /// How long after the fault each lost viewer had media again.
    pub viewers_back: Vec<Time>,
    pub viewers_lost: usize,
    /// Lost viewers who turned to another stream before theirs was back.
    pub viewers_left: usize,
}

impl Ledger {
    pub fn new(origins: usize, end: Time) -> Ledger {
        let series = || Series::new(end);
        Ledger {
            commands: Command::ALL.iter().map(|_| series()).collect(),
            all_commands: series(),
            notifications: series(),
            pulls: (0..origins).map(|_| series()).collect(),
            failed_pulls: series(),
            burst_bytes: series(),
            dark: Vec::new(),
            most_pending: 0,
            refused: 0,
            unanswered: 0,
            timeouts: 0,
            streams_back: Vec::new(),
            streams_lost: 0,
            viewers_back: Vec::new(),
            viewers_lost: 0,
            viewers_left: 0,
        }
    }

    pub fn count(&mut self, command: Command, at: Time, count: usize) {
        self.commands[command as usize].add(at, count as u64);
        self.all_commands.add(at, count as u64);
    }

    /// Returns the pulls of all origins by second.
    pub fn pulls_by_second(&self) -> Vec<u64> {
        let mut sums = vec![0; self.dark.len()];
        for origin in &self.pulls {
            sums.iter_mut().zip(origin.seconds()).for_each(|(sum, count)| *sum += count);
        }
        sums
    }
}

/// Returns the time until 50, 95, 99 and 100 % of `lost` were back; `None` for what never was.
pub fn shares(back: &[Time], lost: usize) -> [Option<Time>; 4] {
    let mut sorted = back.to_vec();
    sorted.sort_unstable();
    [50, 95, 99, 100].map(|percent| match (lost * percent).div_ceil(100) {
        0 => None,
        rank => sorted.get(rank - 1).copied(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peaks_are_of_any_second() {
        let mut series = Series::new(4 * SECOND);
        for (at, count) in [(SECOND - 1, 3), (SECOND, 4), (3 * SECOND, 5)] {
            series.add(at, count);
        }
        assert_eq!((series.total(), series.peak(0), series.spike(0)), (12, 7, 5));
        assert_eq!(series.seconds(), [3, 4, 0, 5]);
        assert_eq!(series.mean(0, 2 * SECOND), 3.5);
    }

    #[test]
    fn shares_are_of_what_was_lost() {
        let back: Vec<Time> = (1..=99).collect();
        assert_eq!(shares(&back, 100), [Some(50), Some(95), Some(99), None]);
        assert_eq!(shares(&[7], 1), [Some(7); 4]);
        assert_eq!(shares(&[], 0), [None; 4]);
    }
}
