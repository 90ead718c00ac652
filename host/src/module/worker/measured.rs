//! Measured: the time of the current turn or call of a thread, as the watchdog measures it.

use std::time::{Duration, Instant};

use crate::module::call_time::{CallTime, Thread};

/// The measurement of a turn or a call.
#[derive(Default)]
pub(super) struct Measured {
    /// When the one that was measured last began, in the thread's own notation.
    began: u64,
    /// Its time; `None` once it was reported.
    time: Option<CallTime>,
}

impl Measured {
    /// Measures what began at `began`, which is `at`, on a thread. Returns true once, when it exceeds `limit`.
    pub fn exceeds(&mut self, limit: Duration, began: u64, thread: Thread, at: Instant) -> bool {
        if self.began != began {
            *self = Measured { began, time: Some(CallTime::new(thread, limit, at)) };
        }
        let exceeds = self.time.as_mut().is_some_and(CallTime::measure);
        if exceeds {
            self.time = None;
        }
        exceeds
    }
}
