//! A set of tasks that wait for the same thing.

use std::task::Waker;

use slab::Slab;

/// Tasks by key. A task that registers keeps its key until it leaves, and waits again each time it sets its
/// waker.
#[derive(Debug, Default)]
pub(super) struct Wakers(Slab<Option<Waker>>);

impl Wakers {
    /// Adds a task that does not wait yet.
    pub(super) fn register(&mut self) -> usize {
        self.0.insert(None)
    }

    /// Removes a task.
    pub(super) fn leave(&mut self, key: usize) {
        self.0.remove(key);
    }

    /// Makes a task wait.
    pub(super) fn wait(&mut self, key: usize, waker: &Waker) {
        match &mut self.0[key] {
            Some(old) => old.clone_from(waker),
            slot => *slot = Some(waker.clone()),
        }
    }

    /// Takes the wakers of all tasks that wait. Wake them after the lock is released.
    pub(super) fn take(&mut self) -> Vec<Waker> {
        self.0.iter_mut().filter_map(|(_, waker)| waker.take()).collect()
    }

    /// How many tasks are registered.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

/// Wakes all of `wakers`.
pub(super) fn wake(wakers: Vec<Waker>) {
    for waker in wakers {
        waker.wake();
    }
}
