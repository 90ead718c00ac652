//! Load: how late the host sends to viewers, as its sending threads measure it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;

/// The lags of all threads that send. A host without one is never late.
#[derive(Debug, Default)]
pub struct Load(Mutex<Vec<Arc<Lag>>>);

/// How late a thread is: the time from the moment at which a batch was due to the moment at which it was sent to the last of the
/// thread's viewers that can take it. The longest of the last second or two.
#[derive(Debug, Default)]
pub struct Lag {
    /// In microseconds.
    published: AtomicU64,
    /// The longest since the last [`Lag::turn`].
    longest: AtomicU64,
}

impl Load {
    /// Adds a thread.
    pub fn add(&self) -> Arc<Lag> {
        let lag = Arc::<Lag>::default();
        self.0.lock().push(lag.clone());
        lag
    }

    /// Returns the lag of each thread.
    pub fn lags(&self) -> Vec<Duration> {
        self.0.lock().iter().map(|lag| lag.current()).collect()
    }

    /// Returns the lag of the thread that is the least late: that of new viewers.
    pub fn least(&self) -> Duration {
        self.lags().into_iter().min().unwrap_or_default()
    }
}

impl Lag {
    /// Notes a lag.
    pub fn note(&self, lag: Duration) {
        let lag = lag.as_micros() as u64;
        // One thread alone writes.
        if lag > self.longest.load(Relaxed) {
            self.longest.store(lag, Relaxed);
            self.published.fetch_max(lag, Relaxed);
        }
    }

    /// Forgets what is older than the last call. To be called each second while there are viewers, and when there are none any more.
    pub fn turn(&self) {
        self.published.store(self.longest.swap(0, Relaxed), Relaxed);
    }

    fn current(&self) -> Duration {
        Duration::from_micros(self.published.load(Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_late_thread_counts_for_two_turns() {
        let load = Load::default();
        assert_eq!(load.least(), Duration::ZERO);
        let [one, other] = [load.add(), load.add()];
        one.note(Duration::from_millis(700));
        other.note(Duration::from_millis(600));
        other.note(Duration::from_millis(20));
        let lags = |one, other| vec![Duration::from_millis(one), Duration::from_millis(other)];
        assert_eq!((load.lags(), load.least()), (lags(700, 600), Duration::from_millis(600)));
        [&one, &other].iter().for_each(|lag| lag.turn());
        one.note(Duration::from_millis(1));
        assert_eq!(load.lags(), lags(700, 600));
        [&one, &other].iter().for_each(|lag| lag.turn());
        assert_eq!(load.lags(), lags(1, 0));
    }
}
