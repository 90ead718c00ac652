//! Wakers of the tasks that wait for the same event.

use std::task::Waker;

use slab::Slab;

/// Wakers by key. A task registers once and keeps its key until it leaves; it waits again each time it sets its waker.
#[derive(Debug, Default)]
pub(super) struct Wakers(Slab<Option<Waker>>);

impl Wakers {
    /// Adds a task, which does not wait yet.
    pub(super) fn register(&mut self) -> usize {
        self.0.insert(None)
    }

    /// Removes a task.
    pub(super) fn leave(&mut self, key: usize) {
        self.0.remove(key);
    }

    /// Sets the waker of a task.
    pub(super) fn wait(&mut self, key: usize, waker: &Waker) {
        set_waker(&mut self.0[key], waker);
    }

    /// Takes the wakers of all tasks that wait. The caller wakes them after it has released its lock.
    pub(super) fn take(&mut self) -> Vec<Waker> {
        self.0.iter_mut().filter_map(|(_, waker)| waker.take()).collect()
    }

    /// Number of registered tasks.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

/// Sets the waker of a task. A slot that wakes the task already stays as it is.
pub(super) fn set_waker(slot: &mut Option<Waker>, waker: &Waker) {
    match slot {
        Some(old) => old.clone_from(waker),
        none => *none = Some(waker.clone()),
    }
}

/// Wakes all of `wakers`.
pub(super) fn wake(wakers: Vec<Waker>) {
    for waker in wakers {
        waker.wake();
    }
}
