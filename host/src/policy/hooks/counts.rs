//! Counters of hooks.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::HookAction;
use crate::policy::Histogram;

/// Upper bounds of the buckets of [`Latency`], in seconds. SLOs are among them.
const LATENCY_BUCKETS: [f64; 10] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 3.0, 10.0];

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

/// A histogram of the time that requests took.
#[derive(Debug)]
struct Latency(Histogram<{ LATENCY_BUCKETS.len() }>);

impl Default for Latency {
    fn default() -> Latency {
        Latency(Histogram::new(&LATENCY_BUCKETS))
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

impl HookCounts {
    pub(super) fn add(&self, action: HookAction, result: HookResult) {
        self.requests[action as usize][result as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn time(&self, action: HookAction, took: Duration) {
        self.latency[action as usize].0.add(took);
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
    pub fn latency(&self, action: HookAction) -> &Histogram<{ LATENCY_BUCKETS.len() }> {
        &self.latency[action as usize].0
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
