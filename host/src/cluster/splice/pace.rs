//! Pace of a new connection: tells a keyframe that was published after the switch from one of a GOP cache.
//!
//! The *delay* of a unit is its arrival minus its timestamp. It is about the same for all live units. In the burst of a cache it
//! falls from unit to unit, down to that of live units. The amount by which it falls after a unit is the age of that unit on
//! arrival.

use std::collections::VecDeque;

use crate::media::Millis;

/// The time for which units must keep the pace of the clock until the burst of a cache is over.
pub(super) const STEADY: Millis = Millis(200);

/// Delays that differ by less than this, in milliseconds, are equal: jitter, and frames that queue behind a large keyframe.
const JITTER: i32 = 150;

/// Pace of the connection's video, or of its audio if there is no video.
#[derive(Debug)]
pub(super) struct Pace {
    switched: Millis,
    /// Delay when it last fell by more than jitter.
    reference: Option<u32>,
    /// Time when it last fell so.
    fell: Millis,
    /// The units to restart with that may be newer than the switch, the oldest first.
    entries: VecDeque<Entry>,
    /// The smallest delay of a unit since the first of `entries` came.
    lowest: u32,
}

/// A unit that the stream may restart with.
#[derive(Debug)]
struct Entry {
    /// Position of its tag in the connection.
    at: u64,
    arrival: Millis,
    delay: u32,
}

impl Pace {
    /// The pace after a switch at this time.
    pub(super) fn new(switched: Millis) -> Pace {
        Pace { switched, reference: None, fell: switched, entries: VecDeque::new(), lowest: 0 }
    }

    /// Adds a unit; `entry` is the position of its tag if the stream may restart there.
    pub(super) fn add(&mut self, now: Millis, dts: u32, entry: Option<u64>) {
        let delay = (now.0 as u32).wrapping_sub(dts);
        if self.reference.is_none_or(|reference| fall(reference, delay) > JITTER) {
            self.reference = Some(delay);
            self.fell = now;
        }
        if self.entries.is_empty() || fall(self.lowest, delay) > 0 {
            self.lowest = delay;
        }
        while self.entries.front().is_some_and(|entry| self.is_older_than_switch(entry)) {
            self.entries.pop_front();
        }
        if let Some(at) = entry {
            if self.entries.is_empty() {
                self.lowest = delay;
            }
            self.entries.push_back(Entry { at, arrival: now, delay });
        }
    }

    fn is_older_than_switch(&self, entry: &Entry) -> bool {
        let age = fall(entry.delay, self.lowest);
        age > JITTER && entry.arrival.0 - i64::from(age) < self.switched.0
    }

    /// Returns the position of the first entry that is newer than the switch.
    pub(super) fn entry(&self, now: Millis) -> Option<u64> {
        self.deadline().filter(|deadline| now >= *deadline).and(self.needed_from())
    }

    /// Returns the time at which an entry is known to be newer than the switch if no other unit comes before.
    pub(super) fn deadline(&self) -> Option<Millis> {
        self.entries.front().map(|_| Millis(self.fell.0 + STEADY.0))
    }

    /// Returns the position from which on tags may be needed for a restart.
    pub(super) fn needed_from(&self) -> Option<u64> {
        self.entries.front().map(|entry| entry.at)
    }

    /// Discards the entries so far.
    pub(super) fn skip(&mut self) {
        self.entries.clear();
    }
}

/// Returns by how much a delay fell, modulo 2^32.
fn fall(from: u32, to: u32) -> i32 {
    from.wrapping_sub(to) as i32
}
