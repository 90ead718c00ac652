//! The state of the directory that its tasks and its users share.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot, watch};
use tracing::{info, warn};

use super::book::{Book, Fate, Offered};
use super::carriers::Carriers;
use super::entry::{EntryError, RefusedEntries, StreamEntry};
use super::link::{Link, LinkError};
use super::resp::Value;
use super::roster::Roster;
use crate::conf::{Config, Current};
use crate::log::LineLimit;
use crate::stream::StreamKey;

/// Number of lines about entries and replies that are refused, at once.
const LINES: u32 = 20;

/// The state of the directory.
pub struct Shared {
    /// The config in force.
    pub current: Arc<Current>,
    /// The nodes.
    pub roster: Arc<Roster>,
    state: Mutex<State>,
    /// Wakes the task that keeps the directory in Redis: there is work.
    pub wake: Notify,
}

/// The state behind the lock.
pub struct State {
    /// The streams.
    pub book: Book,
    /// The connection to Redis, while there is one.
    pub link: Option<Link>,
    /// The holders of the publishers of this node.
    claims: HashMap<StreamKey, Vec<oneshot::Sender<Lost>>>,
    /// Those who follow streams.
    watchers: HashMap<StreamKey, watch::Sender<()>>,
    /// Nodes that have streams already.
    pub carriers: Carriers,
    /// Work for the task, beside what the book has.
    pub work: Work,
    /// Counters and times for operators.
    pub counts: Counts,
    lines: LineLimit,
}

/// Work for the task that keeps the directory in Redis.
#[derive(Debug, Default)]
pub struct Work {
    /// Streams to which a subscription may have to begin or to end.
    pub changed: Vec<StreamKey>,
    /// Own publishers with a greater id than the directory has.
    pub raised: Vec<StreamEntry>,
    /// Entries that are newer than those in the directory.
    pub present: HashMap<StreamKey, StreamEntry>,
}

/// A publisher at another node has taken the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    /// The other node.
    pub node: String,
}

/// Counters and times for operators.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// When the directory answered last.
    pub answered: Option<Instant>,
    /// Connections that ended or failed, and replies with errors.
    pub errors: u64,
    /// The last of them. It names no secret. `None` once the directory has answered again.
    pub last_error: Option<String>,
    /// Connections that were opened.
    pub connects: u64,
    /// Lookups of streams that were sent.
    pub lookups: u64,
    /// Publishers that were claimed.
    pub claims: u64,
    /// Those among them that the directory could not be asked about.
    pub local_claims: u64,
    /// Publishers that were refused, since the stream is at another node.
    pub busy: u64,
    /// Publishers that have lost their stream to another node.
    pub lost: u64,
    /// Followed streams that have moved to another node.
    pub moves: u64,
    /// Entries that were presented to a directory that has lost them.
    pub presented: u64,
    /// Entries that were refused.
    pub refused: RefusedEntries,
}

impl Shared {
    /// Creates the state of a directory that nobody has asked yet.
    pub fn new(current: Arc<Current>, roster: Arc<Roster>) -> Shared {
        let state = State {
            book: Book::default(),
            link: None,
            claims: HashMap::new(),
            watchers: HashMap::new(),
            carriers: Carriers::default(),
            work: Work::default(),
            counts: Counts::default(),
            lines: LineLimit::burst(LINES),
        };
        Shared { current, roster, state: Mutex::new(state), wake: Notify::new() }
    }

    /// Locks the state. Nothing waits and no line is written under the lock.
    pub fn lock(&self) -> parking_lot::MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Reads the entry of `key`, or without it of any stream. One that is refused is counted and reported.
    pub fn read(&self, config: &Config, text: &Value, key: Option<&StreamKey>) -> Option<StreamEntry> {
        let allow = &config.cluster.allow;
        let secret = config.cluster.secret.as_ref()?;
        let entry = match (text, key) {
            (Value::Text(text), Some(key)) => StreamEntry::read(text, key, secret, allow),
            (Value::Text(text), None) => StreamEntry::read_any(text, secret, allow),
            (Value::TooLong(len), _) => Err(EntryError::too_long(*len)),
            (Value::Integer(len), _) => Err(EntryError::too_long(usize::try_from(*len).unwrap_or_default())),
            _ => Err(EntryError::Form),
        };
        entry.map_err(|error| self.refuse(&error, key.map(ToString::to_string))).ok()
    }

    /// Counts and reports an entry that is refused.
    pub fn refuse(&self, error: &EntryError, of: Option<String>) {
        let mut state = self.lock();
        state.counts.refused.count(error);
        let line = state.lines.line(Instant::now());
        drop(state);
        if let Some(before) = line {
            warn!(of, %error, before, "an entry of the directory is refused");
        }
    }

    /// Counts and reports an error of Redis.
    pub fn fail(&self, error: &LinkError) {
        let mut state = self.lock();
        state.counts.errors += 1;
        let text = error.to_string();
        let is_new = state.counts.last_error.as_ref() != Some(&text);
        state.counts.last_error = Some(text);
        let line = state.lines.line(Instant::now());
        drop(state);
        if let Some(before) = line.filter(|_| is_new) {
            warn!(%error, before, "the directory does not answer; streams go on with what is known");
        }
    }

    /// Takes the answer to a lookup of a stream: its entry and its lease. Without a readable answer nothing changes.
    pub fn on_look(&self, config: &Config, key: &StreamKey, answer: &Value) {
        let now = Instant::now();
        let text = answer.list().and_then(|parts| parts.first());
        let entry = match text {
            Some(Value::Null) => None,
            Some(text) => match self.read(config, text, Some(key)) {
                Some(entry) => Some(entry),
                None => return self.lock().book.refuse(key, now),
            },
            None => return,
        };
        if let Some(held) = entry.clone().filter(|_| self.lock().book.own(key).is_some()) {
            let left = answer.list().and_then(|parts| parts.get(1)?.integer());
            self.on_held(config, held, left == Some(0));
        }
        let mut state = self.lock();
        let offered = state.book.answer(key, entry, now);
        state.follow(key, offered);
        drop(state);
        self.wake.notify_one();
    }

    /// Takes a notification: `e` and the entry that is in place, or `s` and one that somebody has seen.
    pub fn on_message(&self, config: &Config, payload: &[u8]) {
        let Some((kind, text)) = payload.split_first() else { return };
        let text = Value::Text(bytes::Bytes::copy_from_slice(text));
        let Some(entry) = self.read(config, &text, None) else { return };
        let key = entry.key.clone();
        let (is_used, is_own) = {
            let book = &self.lock().book;
            (book.is_used(&key), book.own(&key).is_some())
        };
        match kind {
            b'e' if is_own => self.on_held(config, entry, false),
            b'e' if is_used => {
                let mut state = self.lock();
                let offered = state.book.offer(entry, Instant::now());
                state.follow(&key, offered);
                drop(state);
                self.wake.notify_one();
            }
            b's' if is_own => self.on_seen(config, &entry),
            _ => {}
        }
    }

    /// Takes an entry that is in place in the directory for a stream with a publisher at this node, and whether its lease is over.
    pub fn on_held(&self, config: &Config, held: StreamEntry, is_over: bool) {
        let (key, node) = (held.key.clone(), held.id.node.clone());
        let mut state = self.lock();
        let fate = state.book.contest(held, is_over, own_name(config), wall_ms(), Instant::now());
        let is_lost = fate == Fate::Lost;
        if is_lost {
            state.counts.lost += 1;
            for holder in state.claims.remove(&key).unwrap_or_default() {
                // The publisher may have left.
                let _ = holder.send(Lost { node: node.clone() });
            }
            state.change(&key);
        }
        state.raise(fate);
        drop(state);
        if is_lost {
            info!(stream = %key, node, "the stream is lost to a newer publisher at another node");
        }
        self.wake.notify_one();
    }

    /// Takes an entry that somebody has seen of a stream with a publisher at this node.
    pub fn on_seen(&self, config: &Config, seen: &StreamEntry) {
        let mut state = self.lock();
        let fate = state.book.raise(&seen.key, &seen.id, own_name(config), wall_ms(), Instant::now());
        state.raise(fate);
        drop(state);
        self.wake.notify_one();
    }
}

impl State {
    /// Notes that the directory has answered.
    pub fn answered(&mut self) {
        self.counts.answered = Some(Instant::now());
        self.counts.last_error = None;
    }

    /// Makes an entry the one of this node's publisher, and returns what its holder learns the loss by.
    pub fn hold(&mut self, entry: StreamEntry) -> oneshot::Receiver<Lost> {
        let key = entry.key.clone();
        self.book.hold(entry, Instant::now());
        self.join(&key)
    }

    /// Adds a holder of the publisher that this node has.
    pub fn join(&mut self, key: &StreamKey) -> oneshot::Receiver<Lost> {
        let (holder, lost) = oneshot::channel();
        self.claims.entry(key.clone()).or_default().push(holder);
        self.change(key);
        lost
    }

    /// Removes the holders of a publisher that have left, and ends it with the last one.
    pub fn leave(&mut self, key: &StreamKey) {
        let Some(holders) = self.claims.get_mut(key) else { return };
        holders.retain(|holder| !holder.is_closed());
        if holders.is_empty() {
            self.claims.remove(key);
            self.book.end(key, Instant::now());
            self.change(key);
        }
    }

    /// Begins to follow a stream.
    pub fn watch(&mut self, key: &StreamKey) -> watch::Receiver<()> {
        self.book.begin_follow(key, Instant::now());
        self.change(key);
        self.watchers.entry(key.clone()).or_insert_with(|| watch::channel(()).0).subscribe()
    }

    /// Ends to follow a stream.
    pub fn unwatch(&mut self, key: &StreamKey) {
        if self.book.end_follow(key) {
            self.watchers.remove(key);
            self.change(key);
        }
    }

    /// Carries out what an answer or a notification means for those who follow a stream.
    pub fn follow(&mut self, key: &StreamKey, offered: Offered) {
        let Offered { has_moved, present } = offered;
        if let Some(present) = present {
            self.work.present.insert(key.clone(), present);
        }
        if has_moved && let Some(watcher) = self.watchers.get(key) {
            watcher.send_replace(());
        }
    }

    /// Notes that the use of a stream has changed. A new connection finds out by itself.
    fn change(&mut self, key: &StreamKey) {
        if self.link.is_some() {
            self.work.changed.push(key.clone());
        }
    }

    fn raise(&mut self, fate: Fate) {
        if let Fate::Raised(entry) = fate {
            self.work.raised.push(entry);
        }
    }
}

/// The name of this node. A config with a directory has one.
pub fn own_name(config: &Config) -> &str {
    config.cluster.name.as_deref().unwrap_or_default()
}

/// Returns the milliseconds since 1970 by the clock of this machine.
pub fn wall_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
