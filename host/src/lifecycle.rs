//! The lifecycle of a host: running, leaving, draining, stopping.
//!
//! A phase includes those before it: who waits for one also learns of a later one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use tokio_util::sync::CancellationToken;

/// The phase that a host is in. Clones share it.
#[derive(Clone, Debug)]
pub struct Lifecycle {
    leaving: CancellationToken,
    draining: CancellationToken,
    stopping: CancellationToken,
    /// Whether something outside of the host is missing, without which it goes on.
    is_degraded: Arc<AtomicBool>,
}

/// The lifecycle of a running host.
impl Default for Lifecycle {
    fn default() -> Lifecycle {
        // To cancel a token cancels its children.
        let stopping = CancellationToken::new();
        let draining = stopping.child_token();
        Lifecycle { leaving: draining.child_token(), draining, stopping, is_degraded: Arc::default() }
    }
}

impl Lifecycle {
    /// Whether load balancers should send new clients.
    pub fn is_ready(&self) -> bool {
        !self.leaving.is_cancelled()
    }

    /// Whether the host serves clients without something outside of it that it should have.
    pub fn is_degraded(&self) -> bool {
        self.is_degraded.load(Relaxed)
    }

    /// Sets whether something outside of the host is missing. It is ready all the same.
    pub fn set_degraded(&self, is_degraded: bool) {
        self.is_degraded.store(is_degraded, Relaxed);
    }

    /// From now on the host is not ready, but serves new clients.
    pub fn leave(&self) {
        self.leaving.cancel();
    }

    /// From now on listeners are closed, and connections close when they have nothing to serve.
    pub fn drain(&self) {
        self.draining.cancel();
    }

    /// From now on sessions end.
    pub fn stop(&self) {
        self.stopping.cancel();
    }

    /// Returns a token that is cancelled at the latest when the host drains.
    pub fn until_draining(&self) -> CancellationToken {
        self.draining.child_token()
    }

    /// Waits until the host drains.
    pub async fn draining(&self) {
        self.draining.cancelled().await;
    }

    /// Waits until the host stops.
    pub async fn stopping(&self) {
        self.stopping.cancelled().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phase_includes_those_before_it() {
        type Step = fn(&Lifecycle);
        let rows: [(Step, [bool; 3]); 3] = [
            (Lifecycle::leave, [true, false, false]),
            (Lifecycle::drain, [true, true, false]),
            (Lifecycle::stop, [true, true, true]),
        ];
        for (step, expected) in rows {
            let lifecycle = Lifecycle::default();
            assert!(lifecycle.is_ready());
            step(&lifecycle);
            let Lifecycle { draining, stopping, .. } = &lifecycle;
            assert_eq!([!lifecycle.is_ready(), draining.is_cancelled(), stopping.is_cancelled()], expected);
        }
    }
}
