//! Log: modules' lines in the host's log, rate-limited.
//!
//! A module that logs in each call, or in a loop, would fill the operator's disk and hide other lines. So each generation has
//! a number of lines per second, wherever it runs; the rest is dropped, which is logged once a second.

use std::time::{Duration, Instant};

use parking_lot::Mutex;
use remuxd_plugin_api::log::Level;
use tracing::{enabled, event, warn};

/// Number of lines that a generation may log in a [`WINDOW`].
const MAX_LINES: u32 = 100;
const WINDOW: Duration = Duration::from_secs(1);

/// The rate limit of one generation's log lines.
#[derive(Debug, Default)]
pub(super) struct ModuleLog(Mutex<Window>);

#[derive(Debug, Default)]
struct Window {
    start: Option<Instant>,
    lines: u32,
}

impl ModuleLog {
    /// Logs a line of `module`, which the caller has cleaned. A line that the filter drops does not count.
    pub fn write(&self, module: &str, level: Level, line: &str) {
        // tracing needs levels as constants.
        macro_rules! log {
            ($level:ident) => {
                if enabled!(tracing::Level::$level) && self.admits(module) {
                    event!(tracing::Level::$level, %module, "{line}");
                }
            };
        }
        match level {
            Level::ERROR => log!(ERROR),
            Level::WARN => log!(WARN),
            Level::INFO => log!(INFO),
            _ => log!(DEBUG),
        }
    }

    fn admits(&self, module: &str) -> bool {
        let lines = self.0.lock().count(Instant::now());
        if lines == MAX_LINES + 1 {
            warn!(%module, limit = MAX_LINES, "more lines left out: more than the limit in a second");
        }
        lines <= MAX_LINES
    }
}

impl Window {
    /// Counts a line and returns its number in the current second.
    fn count(&mut self, now: Instant) -> u32 {
        if self.start.is_none_or(|start| now.duration_since(start) >= WINDOW) {
            *self = Window { start: Some(now), lines: 0 };
        }
        self.lines = self.lines.saturating_add(1);
        self.lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_second_has_its_own_lines() {
        let (mut window, start) = (Window::default(), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        assert_eq!([0, 10, 999].map(|ms| window.count(at(ms))), [1, 2, 3]);
        assert_eq!([1000, 1999, 5000, 5001].map(|ms| window.count(at(ms))), [1, 2, 1, 2]);
        window.lines = u32::MAX;
        assert_eq!(window.count(at(5002)), u32::MAX);
    }
}
