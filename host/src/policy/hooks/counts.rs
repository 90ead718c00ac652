//! Counters of hooks.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::HookAction;

/// Upper bounds of the buckets of [`Latency`], in seconds. SLOs are among them.
pub const LATENCY_BUCKETS: [f64; 10] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 3.0, 10.0];

/// The result of a request to a hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HookResult {
    /// A gate allowed, or an event arrived.
    Ok,
    /// A gate refused, or a server does not take an event.
    Refused,
    /// There was no answer, or one of a server at fault.
    Failed,
    /// An allowance of before was used; nothing was sent.
    Cached,
}

impl HookResult {
    /// All results, in the order of their discriminants.
    pub const ALL: [HookResult; 4] =
        [HookResult::Ok, HookResult::Refused, HookResult::Failed, HookResult::Cached];

    /// The name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            HookResult::Ok => "ok",
            HookResult::Refused => "refused",
            HookResult::Failed => "failed",
            HookResult::Cached => "cached",
        }
    }
}

/// The counters of all hooks of the host.
#[derive(Debug, Default)]
pub struct HookCounts {
    requests: [[AtomicU64; HookResult::ALL.len()]; HookAction::ALL.len()],
    latency: [Latency; HookAction::ALL.len()],
    dropped: AtomicU64,
    given_up: AtomicU64,
}

/// A histogram of the time that requests took.
#[derive(Debug, Default)]
pub struct Latency {
    buckets: [AtomicU64; LATENCY_BUCKETS.len()],
    count: AtomicU64,
    micros: AtomicU64,
}

impl HookCounts {
    pub(super) fn add(&self, action: HookAction, result: HookResult) {
        self.requests[action as usize][result as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn time(&self, action: HookAction, took: Duration) {
        self.latency[action as usize].add(took);
    }

    pub(super) fn drop_event(&self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn give_up(&self) {
        self.given_up.fetch_add(1, Ordering::Relaxed);
    }

    /// Number of requests of a kind with a result.
    pub fn requests(&self, action: HookAction, result: HookResult) -> u64 {
        self.requests[action as usize][result as usize].load(Ordering::Relaxed)
    }

    /// The times of requests of a kind.
    pub fn latency(&self, action: HookAction) -> &Latency {
        &self.latency[action as usize]
    }

    /// Number of events that were dropped because too many waited.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Number of events that were given up after all attempts.
    pub fn given_up(&self) -> u64 {
        self.given_up.load(Ordering::Relaxed)
    }
}

impl Latency {
    fn add(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        for (bucket, bound) in self.buckets.iter().zip(LATENCY_BUCKETS) {
            if seconds <= bound {
                bucket.fetch_add(1, Ordering::Relaxed);
            }
        }
        self.count.fetch_add(1, Ordering::Relaxed);
        self.micros.fetch_add(took.as_micros() as u64, Ordering::Relaxed);
    }

    /// Number of requests that took at most as long as each of [`LATENCY_BUCKETS`].
    pub fn buckets(&self) -> impl Iterator<Item = (f64, u64)> {
        LATENCY_BUCKETS.into_iter().zip(self.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed)))
    }

    /// Number of requests.
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// The time of all requests together, in seconds.
    pub fn sum(&self) -> f64 {
        self.micros.load(Ordering::Relaxed) as f64 / 1e6
    }
}
