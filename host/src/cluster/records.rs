//! The records of all pulls, for operators.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::stream::StreamKey;

/// The records of the pulls that there are, and the totals of those that have ended.
#[derive(Debug, Default)]
pub(super) struct Records {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    records: Vec<Arc<Record>>,
    ended: PullTotals,
}

/// Sums over all pulls, ended ones too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PullTotals {
    /// Bytes of media that were received.
    pub bytes: u64,
    /// Origins that could not be reached or refused, and connections that broke or stalled.
    pub failures: u64,
    /// Streams that went on at another origin, or at the same one again.
    pub failovers: u64,
}

/// The state of a pull.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PullState {
    /// It connects to an origin, or waits for its first media.
    Connecting,
    /// It receives media.
    Receiving,
    /// No origin has the stream at the moment, and viewers wait.
    Waiting,
}

/// The facts about a pull.
#[derive(Clone, Debug)]
pub struct PullFacts {
    /// The stream.
    pub stream: StreamKey,
    /// The URL at the origin, without its query; empty before the first.
    pub origin: String,
    /// The state.
    pub state: PullState,
    /// How long it has been in that state.
    pub since: Duration,
    /// The sums of this pull.
    pub totals: PullTotals,
    /// The last error. It names no secret.
    pub last_error: Option<String>,
}

/// The record of one pull.
#[derive(Debug)]
pub(super) struct Record {
    stream: StreamKey,
    phase: Mutex<Phase>,
    bytes: AtomicU64,
    failures: AtomicU64,
    failovers: AtomicU64,
}

#[derive(Debug)]
struct Phase {
    origin: String,
    state: PullState,
    since: Instant,
    last_error: Option<String>,
}

/// Holds a record in [`Records`] until the pull ends.
#[derive(Debug)]
pub(super) struct RecordEntry {
    records: Arc<Records>,
    record: Arc<Record>,
}

impl Records {
    /// Returns the facts about all pulls, by stream.
    pub fn list(&self) -> Vec<PullFacts> {
        let records = self.state.lock().records.clone();
        let mut facts: Vec<_> = records.iter().map(|record| record.facts()).collect();
        facts.sort_by_cached_key(|one| one.stream.to_string());
        facts
    }

    /// Returns the sums over all pulls so far.
    pub fn totals(&self) -> PullTotals {
        let state = self.state.lock();
        state.records.iter().fold(state.ended, |sum, record| sum + record.totals())
    }

    /// Adds the record of a pull.
    pub fn add(self: &Arc<Self>, stream: &StreamKey) -> RecordEntry {
        let phase = Phase {
            origin: String::new(),
            state: PullState::Connecting,
            since: Instant::now(),
            last_error: None,
        };
        let record = Arc::new(Record {
            stream: stream.clone(),
            phase: Mutex::new(phase),
            bytes: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            failovers: AtomicU64::new(0),
        });
        self.state.lock().records.push(record.clone());
        RecordEntry { records: self.clone(), record }
    }
}

impl std::ops::Deref for RecordEntry {
    type Target = Record;

    fn deref(&self) -> &Record {
        &self.record
    }
}

impl Drop for RecordEntry {
    fn drop(&mut self) {
        let mut state = self.records.state.lock();
        state.ended = state.ended + self.record.totals();
        state.records.retain(|one| !Arc::ptr_eq(one, &self.record));
    }
}

impl Record {
    /// Notes that it connects to an origin.
    pub fn connecting(&self, origin: String) {
        let mut phase = self.phase.lock();
        phase.origin = origin;
        phase.set(PullState::Connecting);
    }

    /// Notes that it receives media from an origin; `again` if it turned to it from another one, or from itself.
    pub fn receiving(&self, origin: String, again: bool) {
        self.failovers.fetch_add(again.into(), Relaxed);
        let mut phase = self.phase.lock();
        phase.origin = origin;
        phase.set(PullState::Receiving);
    }

    /// Notes that viewers wait for an origin.
    pub fn waiting(&self) {
        self.phase.lock().set(PullState::Waiting);
    }

    /// Notes an error of an origin.
    pub fn failed(&self, error: String) {
        self.failures.fetch_add(1, Relaxed);
        self.phase.lock().last_error = Some(error);
    }

    /// Counts bytes of media.
    pub fn add_bytes(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Relaxed);
    }

    fn totals(&self) -> PullTotals {
        PullTotals {
            bytes: self.bytes.load(Relaxed),
            failures: self.failures.load(Relaxed),
            failovers: self.failovers.load(Relaxed),
        }
    }

    fn facts(&self) -> PullFacts {
        let totals = self.totals();
        let phase = self.phase.lock();
        PullFacts {
            stream: self.stream.clone(),
            origin: phase.origin.clone(),
            state: phase.state,
            since: phase.since.elapsed(),
            totals,
            last_error: phase.last_error.clone(),
        }
    }
}

impl Phase {
    fn set(&mut self, state: PullState) {
        (self.state, self.since) = (state, Instant::now());
    }
}

impl std::ops::Add for PullTotals {
    type Output = PullTotals;

    fn add(self, other: PullTotals) -> PullTotals {
        PullTotals {
            bytes: self.bytes + other.bytes,
            failures: self.failures + other.failures,
            failovers: self.failovers + other.failovers,
        }
    }
}

impl PullState {
    /// Returns its name in the API.
    pub fn name(self) -> &'static str {
        match self {
            PullState::Connecting => "connecting",
            PullState::Receiving => "receiving",
            PullState::Waiting => "waiting",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_outlive_their_pulls() {
        let records = Arc::<Records>::default();
        let record = records.add(&StreamKey::new("a", "live", "x"));
        record.connecting("rtmp://o/live/x".to_owned());
        record.failed("broken".to_owned());
        record.receiving("rtmp://p/live/x".to_owned(), true);
        record.add_bytes(7);
        let [facts] = &records.list()[..] else { panic!() };
        assert_eq!((&*facts.origin, facts.state), ("rtmp://p/live/x", PullState::Receiving));
        assert_eq!(facts.last_error.as_deref(), Some("broken"));
        let expected = PullTotals { bytes: 7, failures: 1, failovers: 1 };
        assert_eq!(records.totals(), expected);
        drop(record);
        assert!(records.list().is_empty());
        assert_eq!(records.totals(), expected);
    }
}
