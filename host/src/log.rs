//! The log: lines to standard error, written by a thread of its own. As JSON each line is an object, also that of a panic.
//!
//! A reader of the log that stops must not stop the host. So lines go into a bounded queue; a line that finds it full is
//! dropped and counted, and the log says so once it is read again.

use std::io::{self, IsTerminal, Write};
use std::panic::PanicHookInfo;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use anyhow::Context;
use parking_lot::Mutex;
use tracing::{error, warn};
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::layer::{Layer, Layered, SubscriberExt};
use tracing_subscriber::registry::Registry;
use tracing_subscriber::reload::{self, Handle};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, fmt};

use crate::conf::Log;

/// Maximum number of lines that wait to be written: enough for a burst, a few MiB at most.
const MAX_LINES: usize = 8192;

/// Interval in which a [`LineLimit`] has its number of lines.
const LINE_INTERVAL: Duration = Duration::from_secs(10);

/// The counters of dropped lines, one for each log.
static DROPPED: Mutex<Vec<ErrorCounter>> = Mutex::new(Vec::new());

/// The parts of the log that a reload changes; empty before it has started.
static CONTROL: OnceLock<Control> = OnceLock::new();

/// Layers below the one that writes the lines.
type Filtered = Layered<reload::Layer<EnvFilter, Registry>, Registry>;

struct Control {
    filter: Handle<EnvFilter, Registry>,
    lines: Handle<Box<dyn Layer<Filtered> + Send + Sync>, Filtered>,
    writer: NonBlocking,
}

/// The running log. On drop, lines that wait are written, for at most a second.
#[derive(Debug)]
#[must_use]
pub struct LogWriter {
    _worker: WorkerGuard,
}

/// Starts the log of this process.
///
/// # Errors
/// `log.level` is no filter. Culprit: operator.
pub fn start(log: &Log) -> anyhow::Result<LogWriter> {
    let filter = EnvFilter::try_new(&log.level).with_context(|| format!("log.level {:?}", log.level))?;
    let queue = NonBlockingBuilder::default().buffered_lines_limit(MAX_LINES).lossy(true).thread_name("log");
    let (writer, worker) = queue.finish(Output::default());
    count_dropped(writer.error_counter());
    let (filter, filter_handle) = reload::Layer::new(filter);
    hook_panics(log.json);
    let (lines, lines_handle) = reload::Layer::new(lines(log.json, writer.clone()));
    tracing_subscriber::registry().with(filter).with(lines).init();
    // Set once, since only one subscriber can be the global one.
    let _ = CONTROL.set(Control { filter: filter_handle, lines: lines_handle, writer });
    Ok(LogWriter { _worker: worker })
}

/// Changes level and format of the running log.
///
/// # Errors
/// `log.level` is no filter. Culprit: operator.
pub fn set(log: &Log) -> Result<(), ParseError> {
    let filter = EnvFilter::try_new(&log.level)?;
    if let Some(Control { filter: old, lines: old_lines, writer }) = CONTROL.get() {
        // Fails only if the log has ended.
        let _ = old.reload(filter);
        let _ = old_lines.reload(lines(log.json, writer.clone()));
        hook_panics(log.json);
    }
    Ok(())
}

fn lines(json: bool, writer: NonBlocking) -> Box<dyn Layer<Filtered> + Send + Sync> {
    let lines = fmt::layer()
        // An error about writing the log would go to the same log.
        .log_internal_errors(false)
        .with_ansi(io::stderr().is_terminal())
        .with_writer(writer);
    if json { Box::new(lines.json()) } else { Box::new(lines) }
}

/// Makes panics lines of a log in JSON, or else those of the standard library.
fn hook_panics(json: bool) {
    match json {
        true => std::panic::set_hook(Box::new(log_panic)),
        false => drop(std::panic::take_hook()),
    }
}

/// Writes a panic to the log, as the standard library writes it to standard error.
fn log_panic(panic: &PanicHookInfo<'_>) {
    let message = panic.payload_as_str().unwrap_or("a value that is no text");
    let location = panic.location().map(ToString::to_string).unwrap_or_default();
    let thread = std::thread::current();
    error!(thread = thread.name(), "panicked at {location}: {message}");
}

/// Adds the counter of a log to [`dropped_lines`].
pub fn count_dropped(counter: ErrorCounter) {
    DROPPED.lock().push(counter);
}

/// Number of lines that were dropped because a log was not read or not written in time.
pub fn dropped_lines() -> usize {
    DROPPED.lock().iter().map(ErrorCounter::dropped_lines).sum()
}

/// Limit of a line that peers can cause as often as they like: one in [`LINE_INTERVAL`] by default.
#[derive(Debug)]
pub struct LineLimit {
    burst: u32,
    /// The first line of the current interval.
    start: Option<Instant>,
    /// Number of lines in it.
    lines: u32,
    suppressed: u64,
}

impl Default for LineLimit {
    fn default() -> LineLimit {
        LineLimit::burst(1)
    }
}

impl LineLimit {
    /// Returns a limit of `burst` lines in [`LINE_INTERVAL`].
    pub fn burst(burst: u32) -> LineLimit {
        LineLimit { burst, start: None, lines: 0, suppressed: 0 }
    }

    /// Counts an event at `now`. Returns whether it gets a line, and the number of events without one before it.
    pub fn line(&mut self, now: Instant) -> Option<u64> {
        if self.start.is_none_or(|start| now.duration_since(start) >= LINE_INTERVAL) {
            (self.start, self.lines) = (Some(now), 0);
        }
        if self.lines == self.burst {
            self.suppressed += 1;
            return None;
        }
        self.lines += 1;
        Some(std::mem::take(&mut self.suppressed))
    }
}

/// Standard error, on the thread of the log.
#[derive(Debug, Default)]
struct Output {
    /// Number of dropped lines that the log has reported.
    reported: usize,
}

impl Write for Output {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        io::stderr().write_all(line)?;
        let dropped = dropped_lines();
        if dropped > self.reported {
            warn!(count = dropped - self.reported, "log lines were dropped, because the log was not read");
            self.reported = dropped;
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where lines go in tests.
    #[derive(Clone, Default)]
    struct Lines(std::sync::Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            self.0.lock().write(line)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_panic_is_a_line_of_json() {
        let lines = Lines::default();
        let sink = lines.clone();
        let subscriber = tracing_subscriber::fmt().json().with_writer(move || sink.clone()).finish();
        let hook = std::panic::take_hook();
        tracing::subscriber::with_default(subscriber, || {
            std::panic::set_hook(Box::new(log_panic));
            assert!(std::panic::catch_unwind(|| panic!("two\nlines")).is_err());
        });
        std::panic::set_hook(hook);
        let line: serde_json::Value = serde_json::from_slice(&lines.0.lock()).unwrap();
        let message = line["fields"]["message"].as_str().unwrap();
        assert!(message.starts_with("panicked at ") && message.ends_with(": two\nlines"), "{line}");
        assert_eq!(line["level"], "ERROR");
    }

    #[test]
    fn a_limited_line_tells_how_many_came_between() {
        let (start, mut limit) = (Instant::now(), LineLimit::default());
        let seconds =
            [(0, Some(0)), (1, None), (9, None), (10, Some(2)), (11, None), (40, Some(1)), (50, Some(0))];
        for (second, line) in seconds {
            assert_eq!(limit.line(start + Duration::from_secs(second)), line, "{second}");
        }
        let mut limit = LineLimit::burst(2);
        let seconds =
            [(0, Some(0)), (9, Some(0)), (9, None), (10, Some(1)), (10, Some(0)), (19, None), (20, Some(1))];
        for (second, line) in seconds {
            assert_eq!(limit.line(start + Duration::from_secs(second)), line, "{second}");
        }
    }
}
