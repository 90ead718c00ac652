//! Events in the order of their times.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

/// A point in simulated time, in microseconds.
pub type Time = u64;

pub const SECOND: Time = 1_000_000;
pub const MILLISECOND: Time = 1_000;

/// The events that are still to come. Those of the same time come in the order in which they were added.
#[derive(Debug)]
pub struct Agenda<E> {
    heap: BinaryHeap<Reverse<Entry<E>>>,
    added: u64,
}

#[derive(Debug)]
struct Entry<E> {
    at: Time,
    number: u64,
    event: E,
}

impl<E> Agenda<E> {
    pub fn new() -> Agenda<E> {
        Agenda { heap: BinaryHeap::new(), added: 0 }
    }

    pub fn add(&mut self, at: Time, event: E) {
        self.heap.push(Reverse(Entry { at, number: self.added, event }));
        self.added += 1;
    }

    /// Returns the next event before `end`, and its time.
    pub fn next_before(&mut self, end: Time) -> Option<(Time, E)> {
        if self.heap.peek()?.0.at >= end {
            return None;
        }
        self.heap.pop().map(|Reverse(entry)| (entry.at, entry.event))
    }
}

impl<E> Ord for Entry<E> {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

impl<E> PartialOrd for Entry<E> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> PartialEq for Entry<E> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<E> Eq for Entry<E> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_by_time_then_in_order() {
        let mut agenda = Agenda::new();
        for (at, event) in [(5, 'd'), (1, 'a'), (3, 'b'), (3, 'c'), (9, 'e')] {
            agenda.add(at, event);
        }
        let found: Vec<_> = std::iter::from_fn(|| agenda.next_before(9)).collect();
        assert_eq!(found, [(1, 'a'), (3, 'b'), (3, 'c'), (5, 'd')]);
        assert_eq!(agenda.next_before(10), Some((9, 'e')));
    }
}
