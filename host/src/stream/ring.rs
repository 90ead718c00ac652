//! Ring: a bounded sequence with one writer and many readers.
//!
//! A stream's ring holds tags, a live mount's ring holds blocks. A reader is a cursor: it owns no queue, and
//! readers at the same position share one [`Batch`](Entry::Batch).
//!
//! Invariants:
//! - a reader starts at a join point, after the configuration that was in force there;
//! - a reader that falls out of the ring continues at the newest join point, never in the middle of a GOP;
//! - without readers the ring holds what a joiner needs and no more, back to the join point [`RingLimits::history`]
//!   before the newest; with readers at most [`RingLimits::window`] besides, and [`RingLimits::max_bytes`];
//! - a GOP over its limits is no join point any more: joiners wait for the next.
//!
//! Readers come in two paces: [`Pace::Each`] is woken by every entry, [`Pace::Merged`] by [`Ring::flush`], so
//! that thousands of viewers write once for several entries. The ring's pacer flushes, by the caller's clock.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use crate::media::Millis;
use crate::sync::Mutex;

mod entry;
mod state;

pub use entry::{Entry, EntryRole, JoinAt, Pace, RingLimits};

use self::state::{Cursor, Replayed, State};
use super::wakers::{set_waker, wake};

/// A bounded sequence with one writer and many readers.
#[derive(Debug)]
pub struct Ring<E: Entry> {
    state: Mutex<State<E>>,
}

impl<E: Entry> Ring<E> {
    /// An empty ring.
    pub fn new(limits: RingLimits) -> Arc<Ring<E>> {
        Arc::new(Ring { state: Mutex::new(State::new(limits)) })
    }

    /// Appends an entry and wakes the readers of [`Pace::Each`].
    pub fn push(&self, entry: E, role: EntryRole) {
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

    /// Marks a change of codec or sequence header: new readers start after this point.
    pub fn mark_change(&self) {
        let mut state = self.state.lock();
        state.earliest_join = state.head();
    }

    /// Marks a change at time `dts`: new readers start after it.
    pub fn mark_change_at(&self, dts: Millis) {
        let mut state = self.state.lock();
        state.earliest_join = state.earliest_join.max(state.join_after(dts));
    }

    /// Makes new readers start after this point, without the configurations so far.
    pub fn forget(&self) {
        let mut state = self.state.lock();
        state.earliest_join = state.head();
        state.clear_configs();
    }

    /// Makes all entries visible to merged readers and wakes them.
    pub fn flush(&self) {
        let readers = {
            let mut state = self.state.lock();
            state.dirty = false;
            state.flushed = state.head();
            state.merged.take()
        };
        wake(readers);
    }

    /// Waits until there is something to [`flush`](Self::flush) (true) or the ring has ended (false). One task at a time may
    /// wait.
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

    /// Number of readers.
    pub fn reader_count(&self) -> usize {
        self.state.lock().readers()
    }

    /// Wakes a task when there is another reader, or at [`wake_writer`](Self::wake_writer). One task at a time can wait.
    pub fn watch_readers(&self, waker: &Waker) {
        set_waker(&mut self.state.lock().writer, waker);
    }

    /// Wakes the task that watches the readers.
    pub fn wake_writer(&self) {
        let writer = self.state.lock().writer.take();
        if let Some(writer) = writer {
            writer.wake();
        }
    }

    /// Whether a reader that joins now finds a join point.
    pub fn has_join(&self) -> bool {
        let state = self.state.lock();
        state.newest_join() < state.head()
    }

    /// Whether nothing was ever pushed.
    pub fn is_untouched(&self) -> bool {
        let state = self.state.lock();
        state.head() == 0 && state.replay.preamble.is_none()
    }

    /// The preamble that readers begin with.
    pub fn preamble(&self) -> Option<E> {
        self.state.lock().replay.preamble.clone()
    }

    /// The configurations in force, by slot.
    pub fn configs(&self) -> Vec<(u8, E)> {
        self.state.lock().configs.clone()
    }

    /// Replaces the configuration in a slot by an equal one: joiners get it from the next join point on, readers have it
    /// already. Whatever owns the memory of the old one can then be released.
    pub fn renew_config(&self, slot: u8, entry: E) {
        self.state.lock().set_config(slot, entry);
    }

    /// Time of the newest entry.
    pub fn newest(&self) -> Option<Millis> {
        self.state.lock().entries.back().map(|slot| slot.dts())
    }

    /// Bytes and entries held.
    pub fn held(&self) -> (usize, usize) {
        let state = self.state.lock();
        ((state.bytes_after - state.bytes_before) as usize, state.entries.len())
    }

    /// Changes the limits. Readers that are beyond them continue at the newest join point, and followers change their pace.
    pub fn set_limits(&self, limits: RingLimits) {
        let (each, merged, pacer) = {
            let mut state = self.state.lock();
            state.limits = limits;
            state.trim();
            // So that the pacer looks at its interval too.
            state.dirty = !state.ended;
            (state.each.take(), state.merged.take(), state.pacer.take())
        };
        wake(each);
        wake(merged);
        if let Some(pacer) = pacer {
            pacer.wake();
        }
    }

    /// Creates a reader whose pace is that of [`RingLimits::pace`], also when it changes.
    pub fn follower(self: &Arc<Self>, join: JoinAt) -> Reader<E> {
        let pace = self.state.lock().limits.pace;
        let mut reader = self.reader(join, pace);
        reader.follows = true;
        reader
    }

    /// Creates a reader.
    pub fn reader(self: &Arc<Self>, join: JoinAt, pace: Pace) -> Reader<E> {
        let mut state = self.state.lock();
        let key = state.wakers(pace).register();
        let after = match join {
            JoinAt::Newest => state.newest_join(),
            JoinAt::Before(history) => state.join_before(history),
            JoinAt::Next => state.head(),
        };
        drop(state);
        self.wake_writer();
        Reader {
            ring: self.clone(),
            key,
            pace,
            follows: false,
            cursor: Cursor::Joining { after, replay: Replayed::All },
            skipped: 0,
            lag: Millis(0),
        }
    }
}

/// A cursor into a [`Ring`].
#[derive(Debug)]
pub struct Reader<E: Entry> {
    ring: Arc<Ring<E>>,
    key: usize,
    pace: Pace,
    /// Whether its pace is that of the ring.
    follows: bool,
    cursor: Cursor,
    skipped: u64,
    lag: Millis,
}

impl<E: Entry> Reader<E> {
    /// Waits for the next batch; `None` when the ring has ended and everything was read.
    pub fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Option<Arc<E::Batch>>> {
        let mut state = self.ring.state.lock();
        if self.follows && self.pace != state.limits.pace {
            state.wakers(self.pace).leave(self.key);
            self.pace = state.limits.pace;
            self.key = state.wakers(self.pace).register();
        }
        if let Some(batch) = state.read(&mut self.cursor, self.pace, &mut self.skipped) {
            self.lag = state.lag(self.cursor);
            return Poll::Ready(Some(batch));
        }
        if state.ended {
            return Poll::Ready(None);
        }
        state.wakers(self.pace).wait(self.key, cx.waker());
        Poll::Pending
    }

    /// Returns the last `count` entries of the last batch to the ring: the next batch begins with them. Entries that were
    /// replayed to a joiner cannot be returned.
    pub fn unread(&mut self, count: usize) {
        if let Cursor::At { next, .. } = &mut self.cursor {
            *next -= count as u64;
        }
    }

    /// Creates another reader at the same position.
    pub fn fork(&self) -> Reader<E> {
        let key = self.ring.state.lock().wakers(self.pace).register();
        let Reader { ref ring, pace, follows, cursor, skipped, lag, .. } = *self;
        Reader { ring: ring.clone(), key, pace, follows, cursor, skipped, lag }
    }

    /// Whether both readers belong to one ring and read the same entry next.
    pub fn is_level(&self, other: &Reader<E>) -> bool {
        match (self.cursor, other.cursor) {
            (Cursor::At { next, .. }, Cursor::At { next: others, .. }) => {
                next == others && Arc::ptr_eq(&self.ring, &other.ring)
            }
            _ => false,
        }
    }

    /// The address of its ring, which no other ring has as long as this reader lives.
    pub fn ring_address(&self) -> usize {
        Arc::as_ptr(&self.ring).addr()
    }

    /// Sets [`skipped`](Self::skipped), for a reader that continues another one's work.
    pub fn set_skipped(&mut self, skipped: u64) {
        self.skipped = skipped;
    }

    /// Whether it waits for a join point.
    pub fn is_joining(&self) -> bool {
        matches!(self.cursor, Cursor::Joining { .. })
    }

    /// Number of times that this reader was too slow and moved to a newer join point.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// Time between the last entry of the last batch and the newest entry that there was then.
    pub fn lag(&self) -> Millis {
        self.lag
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
