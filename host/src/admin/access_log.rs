//! The access log: one line for each session, when it ends, in a file of its own.
//!
//! The same facts are in the log of the process, with the target `remuxd::access`.

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arc_swap::ArcSwapOption;
use jiff::Timestamp;
use serde_json::json;
use tracing::warn;
use tracing_appender::non_blocking::{NonBlocking, NonBlockingBuilder, WorkerGuard};

use crate::conf::{AccessFormat, AccessLogFile};
use crate::log::count_dropped;
use crate::module::text::push_visible;
use crate::policy::{Action, Outcome, Session, SessionLog};

/// Maximum number of lines that wait to be written. Further ones are dropped and counted.
const MAX_LINES: usize = 8192;

/// The access log of the host, which may have no file. A reload replaces the file.
#[derive(Debug, Default)]
pub struct AccessLog(ArcSwapOption<OpenedLog>);

/// An access log with its file. On drop, lines that wait are written, for at most a second.
#[derive(Debug)]
pub struct OpenedLog {
    format: AccessFormat,
    lines: NonBlocking,
    /// Number of times that the file was to be opened again.
    reopens: Arc<AtomicUsize>,
    _worker: WorkerGuard,
}

impl AccessLog {
    /// Replaces the file by another one, or by none.
    pub fn replace(&self, opened: Option<OpenedLog>) {
        self.0.store(opened.map(Arc::new));
    }

    /// Makes the next line open the file again, which a rotation has moved.
    pub fn reopen(&self) {
        if let Some(opened) = &*self.0.load() {
            opened.reopens.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl SessionLog for AccessLog {
    fn ended(&self, session: &Session, outcome: &Outcome) {
        if let Some(opened) = &*self.0.load() {
            opened.write(session, outcome);
        }
    }
}

impl OpenedLog {
    /// Opens the file, to which lines are appended.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn open(config: &AccessLogFile) -> io::Result<OpenedLog> {
        let reopens = Arc::<AtomicUsize>::default();
        let (file, path) = (open(&config.file)?, config.file.clone());
        let output = Output { file, path, opened: 0, reopens: reopens.clone() };
        let queue = NonBlockingBuilder::default().buffered_lines_limit(MAX_LINES).lossy(true);
        let (lines, worker) = queue.thread_name("access-log").finish(output);
        count_dropped(lines.error_counter());
        Ok(OpenedLog { format: config.format, lines, reopens, _worker: worker })
    }

    fn write(&self, session: &Session, outcome: &Outcome) {
        let line = match self.format {
            AccessFormat::Combined => combined(session, outcome, Timestamp::now()),
            AccessFormat::Json => json_line(session, outcome, Timestamp::now()),
        };
        // A full queue counts the line.
        let _ = self.lines.clone().write_all(line.as_bytes());
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).open(path)
}

/// The file, on the thread of the log.
#[derive(Debug)]
struct Output {
    file: File,
    path: PathBuf,
    opened: usize,
    reopens: Arc<AtomicUsize>,
}

impl Write for Output {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let reopens = self.reopens.load(Ordering::Relaxed);
        if std::mem::replace(&mut self.opened, reopens) != reopens {
            match open(&self.path) {
                Ok(file) => self.file = file,
                Err(error) => {
                    warn!(file = %self.path.display(), %error, "the access log cannot be opened again")
                }
            }
        }
        self.file.write(line)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Returns a line in the combined format of nginx and Apache, and after it duration, time to the first byte, session, reason, skips,
/// largest lag and variant:
///
/// `192.0.2.7 - alice [29/Nov/2026:14:20:11 +0000] "PLAY /live/film.flv HTTP" 200 1234 "REFERER" "AGENT" 12.345 0.003 ID "REASON" 0
/// 0.120 "track=2"`
fn combined(session: &Session, outcome: &Outcome, now: Timestamp) -> String {
    let verb = match session.action() {
        Action::Publish => "PUBLISH",
        Action::Play => "PLAY",
    };
    let or_dash = |text: &str| if text.is_empty() { "-".to_owned() } else { escaped(text) };
    let format = session.format();
    let mut line = format!(
        "{} - {} [{}] ",
        session.address(),
        or_dash(session.subject()),
        now.strftime("%d/%b/%Y:%H:%M:%S +0000")
    );
    let point = if format.is_empty() { "" } else { "." };
    let protocol = session.protocol().to_string().to_uppercase();
    // Writing to a string cannot fail.
    let _ = write!(line, "\"{verb} /{}{point}{} {protocol}\" ", session.key(), escaped(format));
    let _ = write!(line, "{} {} ", outcome.status(), session.bytes());
    let _ = write!(line, "\"{}\" \"{}\" ", or_dash(session.page_url()), or_dash(session.user_agent()));
    let first =
        session.first_byte().map_or_else(|| "-".to_owned(), |time| format!("{:.3}", time.as_secs_f64()));
    let seconds = session.elapsed().as_secs_f64();
    let _ = write!(line, "{seconds:.3} {first} {} \"{}\" ", session.id(), escaped(&outcome.to_string()));
    let (lag, variant) = (session.max_lag().as_secs_f64(), or_dash(session.variant()));
    let _ = writeln!(line, "{} {lag:.3} \"{variant}\"", session.skips());
    line
}

fn json_line(session: &Session, outcome: &Outcome, now: Timestamp) -> String {
    let key = session.key();
    let line = json!({
        "time": now.to_string(),
        "session": session.id().to_string(),
        "connection": session.connection().to_string(),
        "action": session.action().to_string(),
        "protocol": session.protocol().to_string(),
        "vhost": &*key.vhost,
        "app": &*key.app,
        "stream": &*key.stream,
        "format": session.format(),
        "variant": session.variant(),
        "address": session.address(),
        "subject": session.subject(),
        "user_agent": session.user_agent(),
        "referer": session.page_url(),
        "status": outcome.status(),
        "bytes": session.bytes(),
        "seconds": session.elapsed().as_secs_f64(),
        "first_byte_seconds": session.first_byte().map(|time| time.as_secs_f64()),
        "skips": session.skips(),
        "max_lag_seconds": session.max_lag().as_secs_f64(),
        "outcome": outcome.name(),
        "reason": outcome.to_string(),
    });
    format!("{line}\n")
}

/// Escapes what could end a quoted field or a line.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '"' => escaped.push_str("\\x22"),
            // Writing to a string cannot fail.
            _ => drop(push_visible(&mut escaped, character)),
        }
    }
    escaped
}
