//! Histograms of times.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A histogram of times, whose buckets have fixed upper bounds.
#[derive(Debug)]
pub struct Histogram<const N: usize> {
    /// Ascending, in seconds.
    bounds: &'static [f64; N],
    /// Number of times up to each bound, without those up to the bound before.
    buckets: [AtomicU64; N],
    count: AtomicU64,
    micros: AtomicU64,
}

impl<const N: usize> Histogram<N> {
    /// Creates an empty histogram with these upper bounds, ascending, in seconds.
    pub fn new(bounds: &'static [f64; N]) -> Histogram<N> {
        let buckets = [const { AtomicU64::new(0) }; N];
        Histogram { bounds, buckets, count: AtomicU64::new(0), micros: AtomicU64::new(0) }
    }

    /// Counts a time.
    pub fn add(&self, took: Duration) {
        let bucket = self.bounds.partition_point(|bound| *bound < took.as_secs_f64());
        if let Some(bucket) = self.buckets.get(bucket) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        self.count.fetch_add(1, Ordering::Relaxed);
        self.micros.fetch_add(took.as_micros() as u64, Ordering::Relaxed);
    }

    /// Returns the bounds, each with the number of times up to it.
    pub fn buckets(&self) -> impl Iterator<Item = (f64, u64)> {
        let counts = self.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed));
        let below = counts.scan(0, |sum, count| {
            *sum += count;
            Some(*sum)
        });
        self.bounds.iter().copied().zip(below)
    }

    /// Number of times.
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// All times together, in seconds.
    pub fn sum(&self) -> f64 {
        self.micros.load(Ordering::Relaxed) as f64 / 1e6
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_counted_up_to_each_bound() {
        let histogram = Histogram::new(&[0.01, 0.1]);
        for millis in [1, 10, 11, 100, 101] {
            histogram.add(Duration::from_millis(millis));
        }
        assert!(histogram.buckets().eq([(0.01, 2), (0.1, 4)]));
        assert_eq!((histogram.count(), histogram.sum()), (5, 0.223));
    }
}
