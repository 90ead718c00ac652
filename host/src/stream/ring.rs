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
        !self.state.lock().joins.is_empty()
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
        self.joins.back().map_or(self.head(), |join| join.at)
    }

    /// Where the oldest join point is that lies at most `lead` before the newest, and within the limit on bytes.
    fn join_before(&self, lead: Millis) -> u64 {
        let Some(newest) = self.joins.back().filter(|_| lead > Millis(0)) else { return self.newest_join() };
        let too_old = |join: &Join<E>| {
            let bytes = self.bytes_after - self.bytes_up_to(join.at);
            newest.dts.0.saturating_sub(join.dts.0) > lead.0 || bytes > self.limits.max_bytes as u64
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
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    /// An entry of one byte whose batch is text.
    #[derive(Clone, Debug)]
    struct Letter(char, i64);

    impl Entry for Letter {
        type Batch = String;

        fn size(&self) -> usize {
            1
        }

        fn dts(&self) -> Millis {
            Millis(self.1)
        }

        fn batch<'a>(entries: impl Iterator<Item = &'a Self>) -> String {
            entries.map(|letter| letter.0).collect()
        }
    }

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    const LIMITS: RingLimits = RingLimits {
        window: Millis(100),
        lead: Millis(0),
        max_bytes: 1_000,
        max_gop_entries: 8,
        max_gop_bytes: 1_000,
    };

    /// Pushes letters: upper case joins, digits are configurations in that slot, `^` is a preamble.
    fn push(ring: &Ring<Letter>, letters: &str) {
        for letter in letters.chars() {
            let role = match letter {
                '^' => Role::Preamble,
                '0'..='9' => Role::Config(letter as u8 - b'0'),
                'A'..='Z' => Role::Join,
                _ => Role::Media,
            };
            ring.push(Letter(letter, 0), role);
        }
    }

    /// All that a reader can have now; `$` stands for the end.
    fn read(reader: &mut Reader<Letter>) -> String {
        let mut read = String::new();
        let mut cx = Context::from_waker(Waker::noop());
        loop {
            match reader.poll_read(&mut cx) {
                Poll::Ready(Some(batch)) => read.push_str(&batch),
                Poll::Ready(None) => return read + "$",
                Poll::Pending => return read,
            }
        }
    }

    #[test]
    fn joins_at_the_newest_join_point_with_what_was_in_force_there() {
        let ring = Ring::new(LIMITS);
        push(&ring, "^21xxAaa1Bbb");
        let mut reader = ring.reader(JoinAt::Newest, Pace::Each);
        assert_eq!(read(&mut reader), "^12Bbb");
        push(&ring, "2c^C");
        assert_eq!(read(&mut reader), "2cC", "a preamble is for joiners only");
        assert_eq!(read(&mut ring.reader(JoinAt::Newest, Pace::Each)), "^12C");
    }

    #[test]
    fn replays_the_configuration_of_the_join_point_not_a_later_one() {
        let ring: Arc<Ring<Letter>> = Ring::new(LIMITS);
        ring.push(Letter('x', 0), Role::Config(1));
        push(&ring, "Aa");
        ring.push(Letter('y', 0), Role::Config(1));
        push(&ring, "b");
        assert_eq!(read(&mut ring.reader(JoinAt::Newest, Pace::Each)), "xAayb");
    }

    #[test]
    fn a_renewed_configuration_is_for_joiners_only() {
        let ring = Ring::new(LIMITS);
        push(&ring, "1A");
        let mut reader = ring.reader(JoinAt::Newest, Pace::Each);
        assert_eq!(read(&mut reader), "1A");
        ring.renew_config(1, Letter('x', 0));
        push(&ring, "B");
        assert_eq!(read(&mut reader), "B");
        assert_eq!(read(&mut ring.reader(JoinAt::Newest, Pace::Each)), "xB");
    }

    #[test]
    fn a_reader_that_waited_misses_nothing_from_the_first_join_point() {
        let ring = Ring::new(LIMITS);
        let mut reader = ring.reader(JoinAt::Newest, Pace::Merged);
        push(&ring, "aBbCcDd");
        assert_eq!(read(&mut reader), "BbCcDd");
    }

    #[test]
    fn waits_for_a_join_point() {
        let ring = Ring::new(LIMITS);
        let mut newest = ring.reader(JoinAt::Newest, Pace::Each);
        push(&ring, "ab");
        assert_eq!(read(&mut newest), "");
        push(&ring, "Cc");
        assert_eq!(read(&mut newest), "Cc");
        let mut next = ring.reader(JoinAt::Next, Pace::Each);
        assert_eq!(read(&mut next), "");
        push(&ring, "dE");
        assert_eq!(read(&mut newest), "dE");
        assert_eq!(read(&mut next), "E");
    }

    #[test]
    fn holds_one_gop_without_readers_and_the_window_with() {
        let ring = Ring::new(LIMITS);
        push(&ring, "AabcBbc");
        assert_eq!(ring.held(), (3, 3));
        let mut reader = ring.reader(JoinAt::Newest, Pace::Each);
        assert_eq!(read(&mut reader), "Bbc");
        push(&ring, "CcDd");
        assert_eq!(ring.held(), (7, 7));
        ring.push(Letter('e', 101), Role::Media);
        assert_eq!(ring.held(), (3, 3), "only the newest GOP is within the window");
        assert_eq!(read(&mut reader), "Dde", "a reader that fell out goes on at a join point");
        assert_eq!(reader.skipped(), 2);
        drop(reader);
        push(&ring, "Ff");
        assert_eq!(ring.held(), (2, 2));
    }

    #[test]
    fn falls_out_to_a_join_point_with_configurations_and_no_preamble() {
        let ring = Ring::new(RingLimits { max_bytes: 4, ..LIMITS });
        push(&ring, "^1A");
        let mut reader = ring.reader(JoinAt::Newest, Pace::Each);
        assert_eq!(read(&mut reader), "^1A");
        push(&ring, "abcdefBb");
        assert_eq!(read(&mut reader), "1Bb");
    }

    #[test]
    fn keeps_a_sliding_window_to_join_at() {
        let ring = Ring::new(RingLimits { lead: Millis(50), ..LIMITS });
        let burst = |lead| read(&mut ring.reader(JoinAt::Before(Millis(lead)), Pace::Merged));
        assert_eq!(burst(50), "");
        ring.push(Letter('1', 0), Role::Config(1));
        let letters: Vec<char> = ('A'..='Z').collect();
        for (index, letter) in letters.iter().enumerate() {
            ring.push(Letter(*letter, 10 * index as i64), Role::Join);
            for lead in [0, 9, 10, 50, 1_000] {
                let count = (lead.min(50) / 10) as usize;
                let expected: String = letters[index.saturating_sub(count)..=index].iter().collect();
                assert_eq!(burst(lead), format!("1{expected}"), "{lead} ms before {letter}");
            }
            assert!(ring.held().1 <= 7, "{:?}", ring.held());
        }
    }

    #[test]
    fn a_lead_is_bounded_by_bytes_and_gives_readers_their_window_besides() {
        let limits = RingLimits { lead: Millis(50), ..LIMITS };
        let ring = Ring::new(RingLimits { max_bytes: 3, ..limits });
        push(&ring, "ABCDEF");
        assert_eq!(ring.held(), (3, 3));
        assert_eq!(read(&mut ring.reader(JoinAt::Before(Millis(50)), Pace::Each)), "DEF");

        let ring = Ring::new(limits);
        let join = |dts| ring.push(Letter('A', dts), Role::Join);
        join(0);
        let mut slow = ring.reader(JoinAt::Before(Millis(50)), Pace::Each);
        assert_eq!(read(&mut slow), "A");
        (1..=16).for_each(|index| join(10 * index));
        assert_eq!(ring.held().1, 16, "what came after its lead and its window");
        join(170);
        assert_eq!((read(&mut slow).len(), slow.skipped()), (1, 1), "it catches up at the newest join point");
    }

    #[test]
    fn a_gop_over_its_limits_is_not_joined() {
        let ring = Ring::new(LIMITS);
        push(&ring, "Aabcdefgh");
        assert!(!ring.has_join());
        assert_eq!(ring.held(), (0, 0));
        let mut reader = ring.reader(JoinAt::Newest, Pace::Each);
        assert_eq!(read(&mut reader), "");
        push(&ring, "iB");
        assert_eq!(read(&mut reader), "B");
    }

    #[test]
    fn merged_readers_see_what_was_flushed_and_joiners_all() {
        let ring = Ring::new(LIMITS);
        push(&ring, "Aab");
        let (mut merged, mut each) =
            (ring.reader(JoinAt::Newest, Pace::Merged), ring.reader(JoinAt::Newest, Pace::Each));
        assert_eq!((read(&mut merged), read(&mut each)), ("Aab".into(), "Aab".into()));
        push(&ring, "cd");
        assert_eq!((read(&mut merged), read(&mut each)), ("".into(), "cd".into()));
        ring.flush();
        assert_eq!(read(&mut merged), "cd");
    }

    #[test]
    fn wakes_each_reader_by_its_pace_and_the_pacer_once() {
        let ring = Ring::new(LIMITS);
        let counts: [Arc<Count>; 3] = Default::default();
        let wakers = counts.clone().map(Waker::from);
        let [mut each, mut merged] = [Pace::Each, Pace::Merged].map(|pace| ring.reader(JoinAt::Newest, pace));
        let mut wait = || {
            assert!(each.poll_read(&mut Context::from_waker(&wakers[0])).is_pending());
            assert!(merged.poll_read(&mut Context::from_waker(&wakers[1])).is_pending());
        };
        wait();
        assert!(ring.poll_dirty(&mut Context::from_waker(&wakers[2])).is_pending());
        push(&ring, "ab");
        let count = || counts.each_ref().map(|count| count.0.load(Ordering::Relaxed));
        assert_eq!(count(), [1, 0, 1]);
        assert!(ring.poll_dirty(&mut Context::from_waker(&wakers[2])).is_ready());
        ring.flush();
        assert_eq!(count(), [1, 1, 1]);
        wait();
        ring.end();
        assert_eq!(count(), [2, 2, 1]);
    }

    #[test]
    fn readers_at_the_same_place_share_a_batch() {
        let ring = Ring::new(LIMITS);
        push(&ring, "Aab");
        let mut cx = Context::from_waker(Waker::noop());
        let mut readers = [(); 3].map(|()| ring.reader(JoinAt::Newest, Pace::Merged));
        for _ in 0..2 {
            let batches = readers.each_mut().map(|reader| match reader.poll_read(&mut cx) {
                Poll::Ready(Some(batch)) => batch,
                other => panic!("{other:?}"),
            });
            assert!(batches.iter().all(|batch| Arc::ptr_eq(batch, &batches[0])));
            push(&ring, "cd");
            ring.flush();
        }
    }

    #[test]
    fn ends_after_the_last_entry() {
        let ring = Ring::new(LIMITS);
        let mut late = ring.reader(JoinAt::Newest, Pace::Merged);
        push(&ring, "ab");
        assert_eq!(read(&mut late), "");
        ring.end();
        assert_eq!(read(&mut late), "$", "no join point ever came");
        let ring = Ring::new(LIMITS);
        let mut reader = ring.reader(JoinAt::Newest, Pace::Merged);
        push(&ring, "Ab");
        ring.end();
        assert_eq!(read(&mut reader), "Ab$");
    }

    #[test]
    fn splits_a_long_replay_and_loses_nothing() {
        let ring = Ring::new(RingLimits { max_gop_entries: 10_000, ..LIMITS });
        push(&ring, "A");
        push(&ring, &"b".repeat(MAX_BATCH_ENTRIES * 2));
        let mut reader = ring.reader(JoinAt::Newest, Pace::Merged);
        assert_eq!(read(&mut reader).len(), MAX_BATCH_ENTRIES * 2 + 1);
    }
}
