//! Records of transfers, for operators: the streams that are on their way from origins, or to other servers.

use std::ops::{Add, Deref};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::stream::StreamKey;

/// The records of the transfers of one direction that there are, and the totals of those that have ended.
#[derive(Debug, Default)]
pub struct Transfers {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    records: Vec<Arc<Transfer>>,
    ended: TransferTotals,
}

/// Sums over transfers, ended ones too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TransferTotals {
    /// Bytes of media that were received or sent.
    pub bytes: u64,
    /// Servers that could not be reached or refused, and connections that broke or stalled.
    pub failures: u64,
    /// Streams that went on at another origin, or at the same one again. Pulls only.
    pub failovers: u64,
    /// GOPs that were dropped because a server was too slow. Pushes only.
    pub dropped_gops: u64,
}

/// The purpose of a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransferKind {
    /// An edge takes a stream from an origin.
    Pull,
    /// A stream of this host is sent to another server.
    Forward,
    /// A publisher of an edge is sent to an origin.
    Relay,
}

/// The state of a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransferState {
    /// It connects to a server, asks it for the stream or whether it accepts it, or waits for the first media.
    Connecting,
    /// Media come or go.
    Running,
    /// It has no server at the moment, and waits for the next attempt.
    Waiting,
}

/// The facts about a transfer.
#[derive(Clone, Debug)]
pub struct TransferFacts {
    /// The stream.
    pub stream: StreamKey,
    /// The purpose.
    pub kind: TransferKind,
    /// The URL at the server, without its query; empty before the first.
    pub server: String,
    /// The state.
    pub state: TransferState,
    /// How long it has been in that state.
    pub since: Duration,
    /// The sums of this transfer.
    pub totals: TransferTotals,
    /// The last error. It names no secret.
    pub last_error: Option<String>,
}

/// The record of one transfer.
#[derive(Debug)]
pub(super) struct Transfer {
    stream: StreamKey,
    kind: TransferKind,
    phase: Mutex<Phase>,
    bytes: AtomicU64,
    failures: AtomicU64,
    failovers: AtomicU64,
    dropped_gops: AtomicU64,
}

#[derive(Debug)]
struct Phase {
    server: String,
    state: TransferState,
    since: Instant,
    last_error: Option<String>,
}

/// Holds a record in [`Transfers`] until the transfer ends.
#[derive(Debug)]
pub(super) struct TransferEntry {
    transfers: Arc<Transfers>,
    record: Arc<Transfer>,
}

impl Transfers {
    /// Returns the facts about all transfers, by stream and server.
    pub fn list(&self) -> Vec<TransferFacts> {
        let records = self.state.lock().records.clone();
        let mut facts: Vec<_> = records.iter().map(|record| record.facts()).collect();
        facts.sort_by_cached_key(|one| (one.stream.to_string(), one.server.clone()));
        facts
    }

    /// Returns the sums over all transfers so far.
    pub fn totals(&self) -> TransferTotals {
        let state = self.state.lock();
        state.records.iter().fold(state.ended, |sum, record| sum + record.totals())
    }

    /// Adds the record of a transfer, which connects.
    pub(super) fn add(self: &Arc<Self>, stream: &StreamKey, kind: TransferKind) -> TransferEntry {
        let phase = Phase {
            server: String::new(),
            state: TransferState::Connecting,
            since: Instant::now(),
            last_error: None,
        };
        let record = Arc::new(Transfer {
            stream: stream.clone(),
            kind,
            phase: Mutex::new(phase),
            bytes: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            failovers: AtomicU64::new(0),
            dropped_gops: AtomicU64::new(0),
        });
        self.state.lock().records.push(record.clone());
        TransferEntry { transfers: self.clone(), record }
    }
}

impl Deref for TransferEntry {
    type Target = Transfer;

    fn deref(&self) -> &Transfer {
        &self.record
    }
}

impl Drop for TransferEntry {
    fn drop(&mut self) {
        let mut state = self.transfers.state.lock();
        state.ended = state.ended + self.record.totals();
        state.records.retain(|one| !Arc::ptr_eq(one, &self.record));
    }
}

impl Transfer {
    /// Notes that it connects to `server`.
    pub fn connecting(&self, server: String) {
        self.phase.lock().set(TransferState::Connecting, Some(server));
    }

    /// Notes that media come from `server`, or that it accepts them.
    pub fn running(&self, server: String) {
        self.phase.lock().set(TransferState::Running, Some(server));
    }

    /// Notes that it waits for the next attempt.
    pub fn waiting(&self) {
        self.phase.lock().set(TransferState::Waiting, None);
    }

    /// Notes an error of a server. Returns whether it is another one than the last.
    pub fn fail(&self, error: String) -> bool {
        self.failures.fetch_add(1, Relaxed);
        let mut phase = self.phase.lock();
        let is_new = phase.last_error.as_ref() != Some(&error);
        phase.last_error = Some(error);
        is_new
    }

    /// Counts a stream that went on at another origin.
    pub fn fail_over(&self) {
        self.failovers.fetch_add(1, Relaxed);
    }

    /// Counts bytes of media.
    pub fn add_bytes(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Relaxed);
    }

    /// Counts GOPs that were dropped.
    pub fn drop_gops(&self, count: u64) {
        self.dropped_gops.fetch_add(count, Relaxed);
    }

    fn totals(&self) -> TransferTotals {
        TransferTotals {
            bytes: self.bytes.load(Relaxed),
            failures: self.failures.load(Relaxed),
            failovers: self.failovers.load(Relaxed),
            dropped_gops: self.dropped_gops.load(Relaxed),
        }
    }

    fn facts(&self) -> TransferFacts {
        let totals = self.totals();
        let phase = self.phase.lock();
        TransferFacts {
            stream: self.stream.clone(),
            kind: self.kind,
            server: phase.server.clone(),
            state: phase.state,
            since: phase.since.elapsed(),
            totals,
            last_error: phase.last_error.clone(),
        }
    }
}

impl Phase {
    fn set(&mut self, state: TransferState, server: Option<String>) {
        (self.state, self.since) = (state, Instant::now());
        if let Some(server) = server {
            self.server = server;
        }
    }
}

impl Add for TransferTotals {
    type Output = TransferTotals;

    fn add(self, other: TransferTotals) -> TransferTotals {
        TransferTotals {
            bytes: self.bytes + other.bytes,
            failures: self.failures + other.failures,
            failovers: self.failovers + other.failovers,
            dropped_gops: self.dropped_gops + other.dropped_gops,
        }
    }
}

impl TransferKind {
    /// Returns its name in the API.
    pub fn name(self) -> &'static str {
        match self {
            TransferKind::Pull => "pull",
            TransferKind::Forward => "forward",
            TransferKind::Relay => "relay",
        }
    }
}

impl TransferFacts {
    /// Returns the name of the state in the API.
    pub fn state_name(&self) -> &'static str {
        match (self.state, self.kind) {
            (TransferState::Connecting, _) => "connecting",
            (TransferState::Running, TransferKind::Pull) => "receiving",
            (TransferState::Running, _) => "sending",
            (TransferState::Waiting, _) => "waiting",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_outlive_their_transfers() {
        let transfers = Arc::<Transfers>::default();
        let key = |stream| StreamKey::new("a", "live", stream);
        let second = transfers.add(&key("y"), TransferKind::Forward);
        let first = transfers.add(&key("x"), TransferKind::Pull);
        second.connecting("rtmp://b/live/y".to_owned());
        second.running("rtmp://b/live/y".to_owned());
        second.add_bytes(5);
        second.drop_gops(2);
        first.connecting("rtmp://o/live/x".to_owned());
        assert!(first.fail("broken".to_owned()) && !first.fail("broken".to_owned()));
        first.running("rtmp://p/live/x".to_owned());
        first.fail_over();
        first.add_bytes(10);
        let facts = transfers.list();
        let shown: Vec<_> = facts.iter().map(|one| (&*one.server, one.state_name())).collect();
        assert_eq!(shown, [("rtmp://p/live/x", "receiving"), ("rtmp://b/live/y", "sending")]);
        assert_eq!(facts[0].last_error.as_deref(), Some("broken"));
        first.waiting();
        assert_eq!(transfers.list()[0].state_name(), "waiting");
        let expected = TransferTotals { bytes: 15, failures: 2, failovers: 1, dropped_gops: 2 };
        assert_eq!(transfers.totals(), expected);
        drop((first, second));
        assert!(transfers.list().is_empty());
        assert_eq!(transfers.totals(), expected);
    }
}
