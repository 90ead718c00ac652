//! The log: lines to standard error, written by a thread of its own.
//!
//! A reader of the log that stops must not stop the host. So lines go into a bounded queue; a line that finds it full is
//! dropped and counted, and the log says so once it is read again.

use std::io::{self, IsTerminal, Write};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use anyhow::Context;
use parking_lot::Mutex;
use tracing::warn;
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

/// Interval between two lines of a [`LineLimit`].
const LINE_INTERVAL: Duration = Duration::from_secs(10);

/// The counters of dropped lines, one for each log.
static DROPPED: Mutex<Vec<ErrorCounter>> = Mutex::new(Vec::new());

/// What a reload changes of the log; empty before it has started.
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

/// Adds the counter of a log to [`dropped_lines`].
pub fn count_dropped(counter: ErrorCounter) {
    DROPPED.lock().push(counter);
}

/// Number of lines that were dropped because a log was not read or not written in time.
pub fn dropped_lines() -> usize {
    DROPPED.lock().iter().map(ErrorCounter::dropped_lines).sum()
}

/// Limit of a line that peers can cause as often as they like: one in [`LINE_INTERVAL`].
#[derive(Debug, Default)]
pub struct LineLimit {
    last: Option<Instant>,
    suppressed: u64,
}

impl LineLimit {
    /// Counts an event at `now`. Returns whether it gets a line, and the number of events without one before it.
    pub fn line(&mut self, now: Instant) -> Option<u64> {
        if self.last.is_some_and(|last| now.duration_since(last) < LINE_INTERVAL) {
            self.suppressed += 1;
            return None;
        }
        self.last = Some(now);
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

    #[test]
    fn a_limited_line_tells_how_many_came_between() {
        let (start, mut limit) = (Instant::now(), LineLimit::default());
        let seconds =
            [(0, Some(0)), (1, None), (9, None), (10, Some(2)), (11, None), (40, Some(1)), (50, Some(0))];
        for (second, line) in seconds {
            assert_eq!(limit.line(start + Duration::from_secs(second)), line, "{second}");
        }
    }
}
