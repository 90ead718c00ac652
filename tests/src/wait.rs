//! Waiting for a fact instead of sleeping for a time.

use std::time::{Duration, Instant};

/// Limit for a fact that should hold at once, on a loaded machine.
pub const SOON: Duration = Duration::from_secs(30);

/// Limit for the silence of a host, which a test may stop for a while.
pub const SILENCE: Duration = Duration::from_secs(120);

/// Calls `fact` until it returns a value, and returns that value; `None` if `within` passes before.
///
/// No other loop of the tests sleeps between two checks.
pub fn poll_for<T>(within: Duration, mut fact: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + within;
    loop {
        let value = fact();
        if value.is_some() || Instant::now() > deadline {
            return value;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Calls `fact` until it returns a value, and returns that value.
///
/// # Panics
/// When `within` passes before; `what` describes the fact in the message.
pub fn wait_for<T>(within: Duration, what: &str, fact: impl FnMut() -> Option<T>) -> T {
    poll_for(within, fact).unwrap_or_else(|| panic!("not within {within:?}: {what}"))
}

/// Calls `fact` until it returns true.
///
/// # Panics
/// As [`wait_for`].
pub fn wait_until(within: Duration, what: &str, mut fact: impl FnMut() -> bool) {
    wait_for(within, what, || fact().then_some(()));
}
