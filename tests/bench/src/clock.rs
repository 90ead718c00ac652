//! The one clock that all processes of the bench read: `CLOCK_MONOTONIC`, in nanoseconds.

use rustix::thread::{ClockId, clock_nanosleep_absolute};
use rustix::time::{Timespec, clock_gettime};

/// Nanoseconds in a second.
pub const SECOND: u64 = 1_000_000_000;

/// Nanoseconds in a millisecond.
pub const MILLISECOND: u64 = 1_000_000;

/// Returns the current time, comparable between processes.
pub fn now() -> u64 {
    let now = clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * SECOND + now.tv_nsec as u64
}

/// Converts nanoseconds to the kernel's type.
pub fn timespec(nanoseconds: u64) -> Timespec {
    Timespec { tv_sec: (nanoseconds / SECOND) as i64, tv_nsec: (nanoseconds % SECOND) as _ }
}

/// Sleeps until the clock reads `instant`; returns at once if it is past.
pub fn sleep_until(instant: u64) {
    // A signal ends the sleep early; nothing else can.
    while now() < instant && clock_nanosleep_absolute(ClockId::Monotonic, &timespec(instant)).is_err() {}
}
