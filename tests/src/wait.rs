//! Waiting for a fact instead of sleeping for a time.

use std::time::{Duration, Instant};

/// How long a fact that should hold at once may take on a loaded machine.
pub const SOON: Duration = Duration::from_secs(30);

/// Asks `fact` until it answers, and returns the answer.
///
/// # Panics
/// When `within` has passed, naming `what` was waited for.
pub fn wait_for<T>(within: Duration, what: &str, mut fact: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + within;
    loop {
        if let Some(answer) = fact() {
            return answer;
        }
        assert!(Instant::now() < deadline, "not within {within:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Asks `fact` until it is true.
///
/// # Panics
/// As [`wait_for`].
pub fn wait_until(within: Duration, what: &str, mut fact: impl FnMut() -> bool) {
    wait_for(within, what, || fact().then_some(()));
}
