//! State of a ring: its entries, join points and configurations, under the ring's lock.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;

use super::entry::{Entry, EntryRole, Pace, RingLimits};
use crate::media::Millis;
use crate::stream::wakers::Wakers;

/// Largest number of entries in a batch.
pub(super) const MAX_BATCH_ENTRIES: usize = 256;

/// Largest number of bytes in a batch of several entries: the amount that a slow viewer's connection keeps alive.
const MAX_BATCH_BYTES: u64 = 512 * 1024;

#[derive(Debug)]
pub(super) struct State<E: Entry> {
    pub(super) limits: RingLimits,
    pub(super) entries: VecDeque<Slot<E>>,
    /// Sequence number of the first entry held.
    first: u64,
    /// Bytes pushed ever, before the first and after the last entry.
    pub(super) bytes_before: u64,
    pub(super) bytes_after: u64,
    joins: VecDeque<Join<E>>,
    /// Readers that join now start at this entry or later.
    pub(super) earliest_join: u64,
    /// Configurations in force, by slot.
    pub(super) configs: Vec<(u8, E)>,
    /// The preamble and `configs`, shared by the joins since the last change.
    pub(super) replay: Arc<Replay<E>>,
    /// Merged readers see entries before this one.
    pub(super) flushed: u64,
    pub(super) dirty: bool,
    pub(super) cached: Option<Cached<E>>,
    pub(super) each: Wakers,
    pub(super) merged: Wakers,
    pub(super) pacer: Option<Waker>,
    /// Woken when there is another reader.
    pub(super) writer: Option<Waker>,
    pub(super) ended: bool,
}

#[derive(Debug)]
pub(super) struct Slot<E> {
    entry: E,
    /// Bytes pushed ever, up to and with this entry.
    bytes_after: u64,
}

impl<E: Entry> Slot<E> {
    pub(super) fn dts(&self) -> Millis {
        self.entry.dts()
    }
}

#[derive(Clone, Debug)]
struct Join<E> {
    at: u64,
    dts: Millis,
    /// Bytes pushed ever before it.
    bytes_before: u64,
    replay: Arc<Replay<E>>,
}

#[derive(Clone, Debug)]
pub(super) struct Replay<E> {
    pub(super) preamble: Option<E>,
    configs: Vec<E>,
}

#[derive(Debug)]
pub(super) struct Cached<E: Entry> {
    from: u64,
    replayed: Replayed,
    to: u64,
    batch: Arc<E::Batch>,
}

/// Entries that a batch contains before the first one read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Replayed {
    Nothing,
    Configs,
    All,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Cursor {
    /// Starts at the first join point at or after this entry; gets the preamble unless it had one.
    Joining { after: u64, replay: Replayed },
    /// Reading, next at entry `next`. Entries before `backlog` existed when the reader joined and are readable without a flush.
    At { next: u64, backlog: u64 },
}

impl<E: Entry> State<E> {
    pub(super) fn new(limits: RingLimits) -> State<E> {
        State {
            limits,
            entries: VecDeque::new(),
            first: 0,
            bytes_before: 0,
            bytes_after: 0,
            joins: VecDeque::new(),
            earliest_join: 0,
            configs: Vec::new(),
            replay: Arc::new(Replay { preamble: None, configs: Vec::new() }),
            flushed: 0,
            dirty: false,
            cached: None,
            each: Wakers::default(),
            merged: Wakers::default(),
            pacer: None,
            writer: None,
            ended: false,
        }
    }

    pub(super) fn head(&self) -> u64 {
        self.first + self.entries.len() as u64
    }

    /// Position of the newest join point, else of the next entry.
    pub(super) fn newest_join(&self) -> u64 {
        self.join_before(Millis(0))
    }

    /// Position of the oldest join point at most `history` before the newest and within the limit on bytes, else of the next
    /// entry.
    pub(super) fn join_before(&self, history: Millis) -> u64 {
        let Some(newest) = self.joins.back().filter(|join| join.at >= self.earliest_join) else {
            return self.head();
        };
        if history == Millis(0) {
            return newest.at;
        }
        let too_old = |join: &Join<E>| {
            join.at < self.earliest_join
                || newest.dts.0.saturating_sub(join.dts.0) > history.0
                || self.bytes_after - join.bytes_before > self.limits.max_bytes as u64
        };
        let oldest = self.joins.partition_point(too_old);
        self.joins.get(oldest).map_or(newest.at, |join| join.at)
    }

    /// Position of the oldest join point after time `dts`, else of the next entry.
    pub(super) fn join_after(&self, dts: Millis) -> u64 {
        let later = self.joins.iter().find(|join| join.dts > dts);
        later.map_or(self.head(), |join| join.at)
    }

    pub(super) fn readers(&self) -> usize {
        self.each.len() + self.merged.len()
    }

    pub(super) fn wakers(&mut self, pace: Pace) -> &mut Wakers {
        match pace {
            Pace::Each => &mut self.each,
            Pace::Merged => &mut self.merged,
        }
    }

    pub(super) fn push(&mut self, entry: E, role: EntryRole) {
        match role {
            EntryRole::Preamble => {
                Arc::make_mut(&mut self.replay).preamble = Some(entry);
                return;
            }
            EntryRole::Config(slot) => self.set_config(slot, entry.clone()),
            EntryRole::Join => {
                let (at, dts, bytes_before) = (self.head(), entry.dts(), self.bytes_after);
                self.joins.push_back(Join { at, dts, bytes_before, replay: self.replay.clone() });
            }
            EntryRole::Media => {}
        }
        self.bytes_after += entry.size() as u64;
        self.entries.push_back(Slot { entry, bytes_after: self.bytes_after });
        self.trim();
    }

    pub(super) fn set_config(&mut self, slot: u8, entry: E) {
        match self.configs.binary_search_by_key(&slot, |(slot, _)| *slot) {
            Ok(at) => self.configs[at].1 = entry,
            Err(at) => self.configs.insert(at, (slot, entry)),
        }
        Arc::make_mut(&mut self.replay).configs =
            self.configs.iter().map(|(_, config)| config.clone()).collect();
    }

    pub(super) fn clear_configs(&mut self) {
        self.configs.clear();
        Arc::make_mut(&mut self.replay).configs.clear();
    }

    /// Drops entries that no reader and no joiner may need.
    pub(super) fn trim(&mut self) {
        if let Some(join) = self.joins.back() {
            let entries = self.head() - join.at;
            let bytes = self.bytes_after - join.bytes_before;
            if entries > self.limits.max_gop_entries as u64 || bytes > self.limits.max_gop_bytes as u64 {
                self.joins.clear();
            }
        }
        let keep_from = self.join_before(self.limits.history);
        let window = self.limits.window.0 + self.limits.history.0;
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

    /// Returns the time between the last entry that a reader at `cursor` has read and the newest one.
    pub(super) fn lag(&self, cursor: Cursor) -> Millis {
        let Cursor::At { next, .. } = cursor else { return Millis(0) };
        let last = next.checked_sub(self.first + 1).and_then(|index| self.entries.get(index as usize));
        let times = last.zip(self.entries.back());
        Millis(times.map_or(0, |(last, newest)| newest.dts().0.saturating_sub(last.dts().0).max(0)))
    }

    /// Returns the next batch for a reader at `cursor`, and moves the cursor. Counts in `skipped` if the reader fell out.
    pub(super) fn read(
        &mut self,
        cursor: &mut Cursor,
        pace: Pace,
        skipped: &mut u64,
    ) -> Option<Arc<E::Batch>> {
        if let Cursor::At { next, .. } = *cursor
            && next < self.first
        {
            *skipped += 1;
            *cursor = Cursor::Joining { after: self.newest_join(), replay: Replayed::Configs };
        }
        let (from, replay, replayed, limit) = match *cursor {
            Cursor::Joining { after, replay } => {
                // In order, and many where every frame is one.
                let join = self.joins.get(self.joins.partition_point(|join| join.at < after))?;
                // A joiner gets everything at once: it is late already.
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
