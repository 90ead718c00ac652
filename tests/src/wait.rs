//! Waiting for a fact instead of sleeping for a time.

use std::time::{Duration, Instant};

/// Limit for a fact that should hold at once, on a loaded machine.
pub const SOON: Duration = Duration::from_secs(30);

/// Asks `fact` until it answers, and returns the answer; `None` if `within` passes before.
///
/// The only loop of the tests that sleeps between two looks.
pub fn poll_for<T>(within: Duration, mut fact: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + within;
    loop {
        let answer = fact();
        if answer.is_some() || Instant::now() > deadline {
            return answer;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Asks `fact` until it answers, and returns the answer.
///
/// # Panics
/// When `within` has passed, naming `what` was waited for.
pub fn wait_for<T>(within: Duration, what: &str, fact: impl FnMut() -> Option<T>) -> T {
    poll_for(within, fact).unwrap_or_else(|| panic!("not within {within:?}: {what}"))
}

/// Asks `fact` until it is true.
///
/// # Panics
/// As [`wait_for`].
pub fn wait_until(within: Duration, what: &str, mut fact: impl FnMut() -> bool) {
    wait_for(within, what, || fact().then_some(()));
}
