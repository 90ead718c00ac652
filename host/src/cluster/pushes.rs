//! The records of all pushes, for operators.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::stream::StreamKey;

/// The records of the pushes that there are, and the totals of those that have ended.
#[derive(Debug, Default)]
pub struct Pushes {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    records: Vec<Arc<PushRecord>>,
    ended: PushTotals,
}

/// Sums over all pushes, ended ones too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PushTotals {
    /// Bytes of media that were sent.
    pub bytes: u64,
    /// GOPs that were dropped because a server was too slow.
    pub dropped_gops: u64,
    /// Attempts that failed, and connections that broke.
    pub failures: u64,
}

/// The purpose of a push.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PushKind {
    /// A stream of this host is sent to another server.
    Forward,
    /// A publisher of an edge is sent to an origin.
    Relay,
}

/// The state of a push.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PushState {
    /// It connects, and asks whether the server accepts the stream.
    Connecting,
    /// It sends the stream.
    Sending,
    /// It has failed, and waits for the next attempt.
    Waiting,
}

/// The facts about a push.
#[derive(Clone, Debug)]
pub struct PushFacts {
    /// The stream.
    pub stream: StreamKey,
    /// The URL of the destination, without its query.
    pub destination: String,
    /// The purpose.
    pub kind: PushKind,
    /// The state.
    pub state: PushState,
    /// How long it has been in that state.
    pub since: Duration,
    /// Bytes of media that were sent.
    pub bytes: u64,
    /// GOPs that were dropped because the server was too slow.
    pub dropped_gops: u64,
    /// Attempts that failed, and connections that broke.
    pub failures: u64,
    /// The last error. It names no secret.
    pub last_error: Option<String>,
}

/// The record of one push.
#[derive(Debug)]
pub(super) struct PushRecord {
    stream: StreamKey,
    kind: PushKind,
    phase: Mutex<Phase>,
    bytes: AtomicU64,
    dropped_gops: AtomicU64,
    failures: AtomicU64,
}

#[derive(Debug)]
struct Phase {
    destination: String,
    state: PushState,
    since: Instant,
    last_error: Option<String>,
}

/// Holds a record in [`Pushes`] until the push ends.
#[derive(Debug)]
pub(super) struct PushEntry {
    pushes: Arc<Pushes>,
    record: Arc<PushRecord>,
}

impl Pushes {
    /// Returns the facts about all pushes, by stream and destination.
    pub fn list(&self) -> Vec<PushFacts> {
        let records = self.state.lock().records.clone();
        let mut facts: Vec<_> = records.iter().map(|record| record.facts()).collect();
        facts.sort_by_cached_key(|one| (one.stream.to_string(), one.destination.clone()));
        facts
    }

    /// Returns the sums over all pushes so far.
    pub fn totals(&self) -> PushTotals {
        let state = self.state.lock();
        state.records.iter().fold(state.ended, |sum, record| sum + record.totals())
    }

    /// Adds the record of a push, which connects to `destination`.
    pub(super) fn add(
        self: &Arc<Self>,
        stream: &StreamKey,
        kind: PushKind,
        destination: String,
    ) -> PushEntry {
        let phase =
            Phase { destination, state: PushState::Connecting, since: Instant::now(), last_error: None };
        let record = Arc::new(PushRecord {
            stream: stream.clone(),
            kind,
            phase: Mutex::new(phase),
            bytes: AtomicU64::new(0),
            dropped_gops: AtomicU64::new(0),
            failures: AtomicU64::new(0),
        });
        self.state.lock().records.push(record.clone());
        PushEntry { pushes: self.clone(), record }
    }
}

impl std::ops::Deref for PushEntry {
    type Target = PushRecord;

    fn deref(&self) -> &PushRecord {
        &self.record
    }
}

impl Drop for PushEntry {
    fn drop(&mut self) {
        let mut state = self.pushes.state.lock();
        state.ended = state.ended + self.record.totals();
        state.records.retain(|one| !Arc::ptr_eq(one, &self.record));
    }
}

impl PushRecord {
    /// Notes that it connects to `destination`.
    pub fn connecting(&self, destination: String) {
        let mut phase = self.phase.lock();
        phase.destination = destination;
        phase.set(PushState::Connecting);
    }

    /// Notes that the server has accepted the stream.
    pub fn sending(&self) {
        self.phase.lock().set(PushState::Sending);
    }

    /// Notes that it failed and waits. Returns whether the error is another one than the last.
    pub fn failed(&self, error: String) -> bool {
        self.failures.fetch_add(1, Relaxed);
        let mut phase = self.phase.lock();
        phase.set(PushState::Waiting);
        let is_new = phase.last_error.as_ref() != Some(&error);
        phase.last_error = Some(error);
        is_new
    }

    /// Counts bytes of media that were sent.
    pub fn add_bytes(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Relaxed);
    }

    /// Counts GOPs that were dropped.
    pub fn drop_gops(&self, count: u64) {
        self.dropped_gops.fetch_add(count, Relaxed);
    }

    fn totals(&self) -> PushTotals {
        PushTotals {
            bytes: self.bytes.load(Relaxed),
            dropped_gops: self.dropped_gops.load(Relaxed),
            failures: self.failures.load(Relaxed),
        }
    }

    fn facts(&self) -> PushFacts {
        let PushTotals { bytes, dropped_gops, failures } = self.totals();
        let phase = self.phase.lock();
        PushFacts {
            stream: self.stream.clone(),
            destination: phase.destination.clone(),
            kind: self.kind,
            state: phase.state,
            since: phase.since.elapsed(),
            bytes,
            dropped_gops,
            failures,
            last_error: phase.last_error.clone(),
        }
    }
}

impl Phase {
    fn set(&mut self, state: PushState) {
        (self.state, self.since) = (state, Instant::now());
    }
}

impl std::ops::Add for PushTotals {
    type Output = PushTotals;

    fn add(self, other: PushTotals) -> PushTotals {
        PushTotals {
            bytes: self.bytes + other.bytes,
            dropped_gops: self.dropped_gops + other.dropped_gops,
            failures: self.failures + other.failures,
        }
    }
}

impl PushKind {
    /// Returns its name in the API.
    pub fn name(self) -> &'static str {
        match self {
            PushKind::Forward => "forward",
            PushKind::Relay => "relay",
        }
    }
}

impl PushState {
    /// Returns its name in the API.
    pub fn name(self) -> &'static str {
        match self {
            PushState::Connecting => "connecting",
            PushState::Sending => "sending",
            PushState::Waiting => "waiting",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_outlive_their_pushes() {
        let pushes = Arc::<Pushes>::default();
        let key = |stream| StreamKey::new("a", "live", stream);
        let second = pushes.add(&key("y"), PushKind::Forward, "rtmp://b/live/y".into());
        let first = pushes.add(&key("x"), PushKind::Relay, "rtmp://b/live/x".into());
        first.add_bytes(10);
        first.drop_gops(2);
        first.sending();
        assert!(first.failed("broken".into()) && !first.failed("broken".into()));
        second.add_bytes(5);
        let shown: Vec<_> = pushes.list().into_iter().map(|one| (one.destination, one.state)).collect();
        let expected = [("rtmp://b/live/x", PushState::Waiting), ("rtmp://b/live/y", PushState::Connecting)];
        assert_eq!(shown, expected.map(|(destination, state)| (destination.to_owned(), state)));
        let expected = PushTotals { bytes: 15, dropped_gops: 2, failures: 2 };
        assert_eq!(pushes.totals(), expected);
        drop((first, second));
        assert!(pushes.list().is_empty());
        assert_eq!(pushes.totals(), expected);
    }
}
