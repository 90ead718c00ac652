//! Ring: a bounded sequence with one writer and many readers.
//!
//! A stream's ring holds tags, a live mount's ring holds blocks. A reader is a cursor: it owns no queue, and
//! readers at the same place share one [`Batch`](Entry::Batch).
//!
//! Invariants:
//! - a reader starts at a join point, after the configuration that was in force there;
//! - a reader that falls out of the ring goes on at the newest join point, never in the middle of a GOP;
//! - without readers the ring holds what a joiner needs and no more, back to the join point [`RingLimits::lead`]
//!   before the newest; with readers at most [`RingLimits::window`] besides, and [`RingLimits::max_bytes`];
//! - a GOP over its limits is no join point any more: joiners wait for the next.
//!
//! Readers come in two paces: [`Pace::Each`] is woken by every entry, [`Pace::Merged`] by [`Ring::flush`], so
//! that thousands of viewers write once for several entries. Who flushes, and when, is the caller's clock.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;

use crate::media::Millis;

use super::wakers::{Wakers, wake};

/// A batch holds no more than this many entries.
const MAX_BATCH_ENTRIES: usize = 256;

/// A batch holds no more bytes than this, or one entry: what a slow viewer's connection may hold on to.
const MAX_BATCH_BYTES: u64 = 512 * 1024;

/// What lies in a ring.
pub trait Entry: Clone + Send + 'static {
    /// What readers at the same place share.
    type Batch: std::fmt::Debug + Send + Sync + 'static;

    /// Bytes that the entry keeps alive.
    fn size(&self) -> usize;

    /// Where it lies on the timeline.
    fn dts(&self) -> Millis;

    /// Puts entries together.
    fn batch<'a>(entries: impl Iterator<Item = &'a Self>) -> Self::Batch;
}

/// What an entry means to a reader who joins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Part of a GOP.
    Media,
    /// A reader may start here.
    Join,
    /// A configuration: passed to readers like media, and replayed to joiners. Replaces the last one in the same
    /// slot; joiners get them by ascending slot.
    Config(u8),
    /// Only for joiners who get their first entry; comes before all configurations.
    Preamble,
}

/// How much a ring holds.
#[derive(Clone, Copy, Debug)]
pub struct RingLimits {
    /// How far behind the newest entry a reader may fall, beyond `lead`.
    pub window: Millis,
    /// How far before the newest join point one is kept to join at: the most that [`JoinAt::Before`] gets. The window
    /// slides with each join point.
    pub lead: Millis,
    /// Bytes in all.
    pub max_bytes: usize,
    /// Entries of a GOP that is kept for joiners.
    pub max_gop_entries: usize,
    /// Bytes of a GOP that is kept for joiners.
    pub max_gop_bytes: usize,
}

/// Where a new reader starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JoinAt {
    /// At the newest join point there is, else the next.
    Newest,
    /// At the oldest join point at most this long before the newest, else the next.
    Before(Millis),
    /// At the next join point to come.
    Next,
}

/// When a reader is woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// By every entry.
    Each,
    /// By [`Ring::flush`].
    Merged,
}

/// A bounded sequence with one writer and many readers.
#[derive(Debug)]
pub struct Ring<E: Entry> {
    state: Mutex<State<E>>,
}

#[derive(Debug)]
struct State<E: Entry> {
    limits: RingLimits,
    entries: VecDeque<Slot<E>>,
    /// Sequence number of the first entry held.
    first: u64,
    /// Bytes pushed ever, before the first and after the last entry.
    bytes_before: u64,
    bytes_after: u64,
    joins: VecDeque<Join<E>>,
    /// Who joins, starts here at the earliest.
    turned: u64,
    /// Configurations in force, by slot.
    configs: Vec<(u8, E)>,
    /// The preamble and `configs`, shared by the joins since the last change.
    replay: Arc<Replay<E>>,
    /// Merged readers see entries before this one.
    flushed: u64,
    dirty: bool,
    cached: Option<Cached<E>>,
    each: Wakers,
    merged: Wakers,
    pacer: Option<Waker>,
    ended: bool,
}

#[derive(Debug)]
struct Slot<E> {
    entry: E,
    /// Bytes pushed ever, up to and with this entry.
    bytes_after: u64,
}

#[derive(Clone, Debug)]
struct Join<E> {
    at: u64,
    dts: Millis,
    replay: Arc<Replay<E>>,
}

#[derive(Clone, Debug)]
struct Replay<E> {
    preamble: Option<E>,
    configs: Vec<E>,
}

#[derive(Debug)]
struct Cached<E: Entry> {
    from: u64,
    replayed: Replayed,
    to: u64,
    batch: Arc<E::Batch>,
}

/// What a batch has before its first entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Replayed {
    Nothing,
    Configs,
    All,
}

#[derive(Clone, Copy, Debug)]
enum Cursor {
    /// Starts at the first join point at or after this entry; gets the preamble unless it had one.
    Joining { after: u64, replay: Replayed },
    /// Reads on at entry `next`. What was there when it joined, up to entry `backlog`, it need not wait for.
    At { next: u64, backlog: u64 },
}

impl<E: Entry> Ring<E> {
    /// An empty ring.
    pub fn new(limits: RingLimits) -> Arc<Ring<E>> {
        Arc::new(Ring {
            state: Mutex::new(State {
                limits,
                entries: VecDeque::new(),
                first: 0,
                bytes_before: 0,
                bytes_after: 0,
                joins: VecDeque::new(),
                turned: 0,
                configs: Vec::new(),
                replay: Arc::new(Replay { preamble: None, configs: Vec::new() }),
                flushed: 0,
                dirty: false,
                cached: None,
                each: Wakers::default(),
                merged: Wakers::default(),
                pacer: None,
                ended: false,
            }),
        })
    }

    /// Appends an entry and wakes the readers of [`Pace::Each`].
    pub fn push(&self, entry: E, role: Role) {
        let (readers, pacer) = {
            let mut state = self.state.lock();
            state.push(entry, role);
            let pacer = if state.merged.len() > 0 && !state.dirty {
                state.dirty = true;
                state.pacer.take()
            } else {
                None
            };
            (state.each.take(), pacer)
        };
        wake(readers);
        if let Some(pacer) = pacer {
            pacer.wake();
        }
    }

    /// What comes is of another kind than what is there: who joins from now on starts after this.
    pub fn turn(&self) {
        let mut state = self.state.lock();
        state.turned = state.head();
    }

    /// Shows the readers of [`Pace::Merged`] all entries and wakes them.
    pub fn flush(&self) {
        let readers = {
            let mut state = self.state.lock();
            state.dirty = false;
            state.flushed = state.head();
            state.merged.take()
        };
        wake(readers);
    }

    /// Waits until there is something to [`flush`](Self::flush): true; or the ring ended: false. One task at
    /// a time may wait.
    pub fn poll_dirty(&self, cx: &mut Context<'_>) -> Poll<bool> {
        let mut state = self.state.lock();
        if state.ended {
            return Poll::Ready(false);
        }
        if state.dirty {
            return Poll::Ready(true);
        }
        state.pacer = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Ends the ring: readers get what is left and then the end.
    pub fn end(&self) {
        let (each, merged, pacer) = {
            let mut state = self.state.lock();
            state.ended = true;
            state.flushed = state.head();
            (state.each.take(), state.merged.take(), state.pacer.take())
        };
        wake(each);
        wake(merged);
        if let Some(pacer) = pacer {
            pacer.wake();
        }
    }

    /// Whether the ring ended.
    pub fn is_ended(&self) -> bool {
        self.state.lock().ended
    }

    /// How many readers there are.
    pub fn reader_count(&self) -> usize {
        self.state.lock().readers()
    }

    /// Whether a reader who comes now finds a join point.
    pub fn has_join(&self) -> bool {
        let state = self.state.lock();
        state.newest_join() < state.head()
    }

    /// Whether nothing was pushed ever.
    pub fn is_untouched(&self) -> bool {
        let state = self.state.lock();
        state.head() == 0 && state.replay.preamble.is_none()
    }

    /// The configurations in force, by slot.
    pub fn configs(&self) -> Vec<(u8, E)> {
        self.state.lock().configs.clone()
    }

    /// Replaces the configuration in a slot by one that says the same: joiners get it from the next join point on, readers
    /// have it already. What made the old one may go then.
    pub fn renew_config(&self, slot: u8, entry: E) {
        self.state.lock().set_config(slot, entry);
    }

    /// Bytes and entries held.
    pub fn held(&self) -> (usize, usize) {
        let state = self.state.lock();
        ((state.bytes_after - state.bytes_before) as usize, state.entries.len())
    }

    /// A new reader.
    pub fn reader(self: &Arc<Self>, join: JoinAt, pace: Pace) -> Reader<E> {
        let mut state = self.state.lock();
        let key = state.wakers(pace).register();
        let after = match join {
            JoinAt::Newest => state.newest_join(),
            JoinAt::Before(lead) => state.join_before(lead),
            JoinAt::Next => state.head(),
        };
        drop(state);
        Reader {
            ring: self.clone(),
            key,
            pace,
            cursor: Cursor::Joining { after, replay: Replayed::All },
            skipped: 0,
        }
    }
}

impl<E: Entry> State<E> {
    fn head(&self) -> u64 {
        self.first + self.entries.len() as u64
    }

    /// Where the newest join point is, else where the next may be.
    fn newest_join(&self) -> u64 {
        self.join_before(Millis(0))
    }

    /// Where the oldest join point is that lies at most `lead` before the newest, and within the limit on bytes; else where
    /// the next may be.
    fn join_before(&self, lead: Millis) -> u64 {
        let Some(newest) = self.joins.back().filter(|join| join.at >= self.turned) else {
            return self.head();
        };
        if lead == Millis(0) {
            return newest.at;
        }
        let too_old = |join: &Join<E>| {
            let bytes = self.bytes_after - self.bytes_up_to(join.at);
            join.at < self.turned
                || newest.dts.0.saturating_sub(join.dts.0) > lead.0
                || bytes > self.limits.max_bytes as u64
        };
        let oldest = self.joins.partition_point(too_old);
        self.joins.get(oldest).map_or(newest.at, |join| join.at)
    }

    fn readers(&self) -> usize {
        self.each.len() + self.merged.len()
    }

    fn wakers(&mut self, pace: Pace) -> &mut Wakers {
        match pace {
            Pace::Each => &mut self.each,
            Pace::Merged => &mut self.merged,
        }
    }

    fn push(&mut self, entry: E, role: Role) {
        match role {
            Role::Preamble => {
                Arc::make_mut(&mut self.replay).preamble = Some(entry);
                return;
            }
            Role::Config(slot) => self.set_config(slot, entry.clone()),
            Role::Join => {
                let (at, dts) = (self.head(), entry.dts());
                self.joins.push_back(Join { at, dts, replay: self.replay.clone() });
            }
            Role::Media => {}
        }
        self.bytes_after += entry.size() as u64;
        self.entries.push_back(Slot { entry, bytes_after: self.bytes_after });
        self.trim();
    }

    fn set_config(&mut self, slot: u8, entry: E) {
        match self.configs.binary_search_by_key(&slot, |(slot, _)| *slot) {
            Ok(at) => self.configs[at].1 = entry,
            Err(at) => self.configs.insert(at, (slot, entry)),
        }
        Arc::make_mut(&mut self.replay).configs =
            self.configs.iter().map(|(_, config)| config.clone()).collect();
    }

    /// Drops what no reader and no joiner may need.
    fn trim(&mut self) {
        if let Some(join) = self.joins.back() {
            let entries = self.head() - join.at;
            let bytes = self.bytes_after - self.bytes_up_to(join.at);
            if entries > self.limits.max_gop_entries as u64 || bytes > self.limits.max_gop_bytes as u64 {
                self.joins.clear();
            }
        }
        let keep_from = self.join_before(self.limits.lead);
        let window = self.limits.window.0 + self.limits.lead.0;
        let readers = self.readers() > 0;
        while self.first < keep_from {
            let (Some(oldest), Some(newest)) = (self.entries.front(), self.entries.back()) else { break };
            let held = self.bytes_after - self.bytes_before;
            let within = newest.entry.dts().0.saturating_sub(oldest.entry.dts().0) <= window
                && held <= self.limits.max_bytes as u64;
            if readers && within {
                break;
            }
            self.bytes_before = oldest.bytes_after;
            self.entries.pop_front();
            self.first += 1;
        }
        while self.joins.front().is_some_and(|join| join.at < self.first) {
            self.joins.pop_front();
        }
    }

    /// Bytes pushed ever before entry `at`.
    fn bytes_up_to(&self, at: u64) -> u64 {
        match (at - self.first) as usize {
            0 => self.bytes_before,
            index => self.entries[index - 1].bytes_after,
        }
    }

    /// The next batch for a reader at `cursor`, which moves on.
    fn read(&mut self, cursor: &mut Cursor, pace: Pace, skipped: &mut u64) -> Option<Arc<E::Batch>> {
        if let Cursor::At { next, .. } = *cursor
            && next < self.first
        {
            *skipped += self.first - next;
            *cursor = Cursor::Joining { after: self.newest_join(), replay: Replayed::Configs };
        }
        let (from, replay, replayed, limit) = match *cursor {
            Cursor::Joining { after, replay } => {
                // In order, and many where every frame is one.
                let join = self.joins.get(self.joins.partition_point(|join| join.at < after))?;
                // A joiner gets all there is at once: it is late already.
                (join.at, Some(join.replay.clone()), replay, self.head())
            }
            Cursor::At { next, backlog } => {
                let limit = if pace == Pace::Each { self.head() } else { self.flushed.max(backlog) };
                (next, None, Replayed::Nothing, limit)
            }
        };
        if from >= limit {
            return None;
        }
        let start = (from - self.first) as usize;
        let bytes_before = self.bytes_up_to(from);
        let most = self.entries.len().min(start + MAX_BATCH_ENTRIES).min((limit - self.first) as usize);
        let mut end = start + 1;
        while end < most && self.entries[end].bytes_after - bytes_before <= MAX_BATCH_BYTES {
            end += 1;
        }
        let to = self.first + end as u64;
        let backlog = match *cursor {
            Cursor::Joining { .. } => limit,
            Cursor::At { backlog, .. } => backlog,
        };
        *cursor = Cursor::At { next: to, backlog };
        if let Some(cached) = &self.cached
            && (cached.from, cached.replayed, cached.to) == (from, replayed, to)
        {
            return Some(cached.batch.clone());
        }
        let replayed_entries = replay.iter().flat_map(|replay| {
            let preamble = replay.preamble.as_ref().filter(|_| replayed == Replayed::All);
            preamble.into_iter().chain(&replay.configs)
        });
        let entries = self.entries.range(start..end).map(|slot| &slot.entry);
        let batch = Arc::new(E::batch(replayed_entries.chain(entries)));
        self.cached = Some(Cached { from, replayed, to, batch: batch.clone() });
        Some(batch)
    }
}

/// A cursor into a [`Ring`].
#[derive(Debug)]
pub struct Reader<E: Entry> {
    ring: Arc<Ring<E>>,
    key: usize,
    pace: Pace,
    cursor: Cursor,
    skipped: u64,
}

impl<E: Entry> Reader<E> {
    /// The next batch; `None` when the ring ended and all was read.
    pub fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Option<Arc<E::Batch>>> {
        let mut state = self.ring.state.lock();
        if let Some(batch) = state.read(&mut self.cursor, self.pace, &mut self.skipped) {
            return Poll::Ready(Some(batch));
        }
        if state.ended {
            return Poll::Ready(None);
        }
        state.wakers(self.pace).wait(self.key, cx.waker());
        Poll::Pending
    }

    /// How many entries were passed over because this reader was too slow.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }
}

impl<E: Entry> Drop for Reader<E> {
    fn drop(&mut self) {
        let mut state = self.ring.state.lock();
        let key = self.key;
        state.wakers(self.pace).leave(key);
        if state.readers() == 0 {
            state.cached = None;
            state.trim();
        }
    }
}

#[cfg(test)]
mod tests;
