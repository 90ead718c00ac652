//! The inbox of a fan-out thread: what other threads want of it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Wake, Waker};
use std::time::Instant;

use parking_lot::Mutex;
use rustix::event::{EventfdFlags, eventfd};
use tokio::sync::oneshot;

use super::session::{Arrival, Farewell, Left};

/// A request to a fan-out thread.
#[derive(Debug)]
pub(super) enum Command {
    /// Serves a viewer.
    Add { id: u64, arrival: Box<Arrival>, leaves: oneshot::Sender<Left>, counted: CountedHere },
    /// Ends the response of a viewer.
    End { id: u64, farewell: Farewell },
    /// A group has something to read, since this time.
    Read { group: usize, since: Instant },
    /// Ends the thread.
    Stop,
}

/// The requests that wait for a fan-out thread.
#[derive(Debug)]
pub(super) struct Inbox {
    commands: Mutex<Vec<Command>>,
    /// An event counter, which makes the thread's epoll instance readable.
    event: OwnedFd,
    /// Whether the thread has been woken since it looked last.
    is_woken: AtomicBool,
    /// Number of viewers that the thread serves, or is about to.
    viewers: AtomicUsize,
}

impl Inbox {
    pub(super) fn new() -> io::Result<Arc<Inbox>> {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let (commands, is_woken) = (Mutex::default(), AtomicBool::new(false));
        Ok(Arc::new(Inbox { commands, event, is_woken, viewers: AtomicUsize::new(0) }))
    }

    /// Number of viewers that the thread serves, or is about to.
    pub(super) fn viewers(&self) -> usize {
        self.viewers.load(Ordering::Relaxed)
    }

    /// Adds a request and wakes the thread.
    pub(super) fn send(&self, command: Command) {
        self.commands.lock().push(command);
        if !self.is_woken.swap(true, Ordering::SeqCst) {
            // Fails only if the counter were full, and the thread then is about to look.
            let _ = rustix::io::write(&self.event, &1_u64.to_ne_bytes());
        }
    }

    /// Moves the requests into `commands`, which is empty.
    pub(super) fn take(&self, commands: &mut Vec<Command>) {
        self.is_woken.store(false, Ordering::SeqCst);
        std::mem::swap(&mut *self.commands.lock(), commands);
    }
}

/// Becomes readable when there is a request. Must be watched edge-triggered: nobody reads the counter.
impl AsFd for Inbox {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}

/// Counts a viewer of a thread, until it is dropped.
#[derive(Debug)]
pub(super) struct CountedHere(Arc<Inbox>);

impl CountedHere {
    pub(super) fn new(inbox: &Arc<Inbox>) -> CountedHere {
        inbox.viewers.fetch_add(1, Ordering::Relaxed);
        CountedHere(inbox.clone())
    }
}

impl Drop for CountedHere {
    fn drop(&mut self) {
        self.0.viewers.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Wakes the thread of a group, once until the group is read.
pub(super) struct GroupWaker {
    inbox: Arc<Inbox>,
    group: usize,
    is_woken: AtomicBool,
}

impl GroupWaker {
    pub(super) fn new(inbox: Arc<Inbox>, group: usize) -> (Arc<GroupWaker>, Waker) {
        let waker = Arc::new(GroupWaker { inbox, group, is_woken: AtomicBool::new(false) });
        (waker.clone(), waker.into())
    }

    /// Lets the next wake-up through. To be called before the group is read.
    pub(super) fn rearm(&self) {
        self.is_woken.store(false, Ordering::SeqCst);
    }
}

impl Wake for GroupWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.is_woken.swap(true, Ordering::SeqCst) {
            self.inbox.send(Command::Read { group: self.group, since: Instant::now() });
        }
    }
}
