//! The fan-out threads, as the connections' tasks see them.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::oneshot;
use tracing::error;

use super::inbox::{Command, CountedHere, Inbox};
use super::session::{Arrival, Farewell, Left};
use super::shard::Shard;
use crate::budget::Account;
use crate::policy::Load;

/// How many viewers more than the least busy thread has, the thread of a mount may have and still get the mount's next one.
const IMBALANCE: usize = 64;

/// The fan-out threads of a host. They end when this is dropped, and their connections are closed.
#[derive(Debug)]
pub struct Fanout {
    inboxes: Vec<Arc<Inbox>>,
    next: AtomicU64,
}

/// A viewer that a fan-out thread serves.
#[derive(Debug)]
pub(in crate::net) struct Served {
    inbox: Arc<Inbox>,
    id: u64,
    left: oneshot::Receiver<Left>,
}

impl Fanout {
    /// Starts `threads` threads, which measure how late they are for `load`. What they keep for slow viewers is charged to accounts
    /// of `account`.
    ///
    /// # Errors
    /// A thread, an epoll instance or an event counter cannot be created.
    pub fn start(threads: usize, load: &Load, account: impl Fn() -> Account) -> io::Result<Fanout> {
        let mut fanout = Fanout { inboxes: Vec::new(), next: AtomicU64::new(0) };
        for index in 0..threads.max(1) {
            let inbox = Inbox::new()?;
            fanout.inboxes.push(inbox.clone());
            let (lag, account) = (load.add(), account());
            let new = move || Shard::new(inbox.clone(), lag.clone(), account.clone());
            let shard = new()?;
            std::thread::Builder::new()
                .name(format!("remuxd-fanout-{index}"))
                .spawn(move || run(shard, new))?;
        }
        Ok(fanout)
    }

    /// Hands a viewer to a thread.
    pub(in crate::net) fn serve(&self, arrival: Arrival) -> Served {
        let inbox = self.choose(&arrival).clone();
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (leaves, left) = oneshot::channel();
        let counted = CountedHere::new(&inbox);
        inbox.send(Command::Add { id, arrival: Box::new(arrival), leaves, counted });
        Served { inbox, id, left }
    }

    /// Returns the numbers of viewers that the threads serve.
    pub fn viewers(&self) -> Vec<usize> {
        self.inboxes.iter().map(|inbox| inbox.viewers()).collect()
    }

    /// Returns the thread for a viewer. A mount with few viewers has them on one thread, so that a tick wakes one thread; one
    /// with many has them on all.
    fn choose(&self, arrival: &Arrival) -> &Arc<Inbox> {
        let own = &self.inboxes[arrival.position.ring_address() / 64 % self.inboxes.len()];
        let idle = self.inboxes.iter().min_by_key(|inbox| inbox.viewers()).unwrap_or(own);
        if own.viewers() > idle.viewers() + IMBALANCE { idle } else { own }
    }
}

/// Serves on this thread. A panic is a fault of the host: the thread's connections are closed, and it begins anew.
fn run(mut shard: Shard, new: impl Fn() -> io::Result<Shard>) {
    while catch_unwind(AssertUnwindSafe(|| shard.run())).is_err() {
        error!("a fan-out thread has panicked; its viewers were closed");
        shard = match new() {
            Ok(shard) => shard,
            Err(error) => return error!(%error, "a fan-out thread cannot begin anew"),
        };
    }
}

impl Drop for Fanout {
    fn drop(&mut self) {
        self.inboxes.iter().for_each(|inbox| inbox.send(Command::Stop));
    }
}

impl Served {
    /// Waits until the response has ended; `None` if its thread ends.
    pub(in crate::net) async fn left(&mut self) -> Option<Left> {
        (&mut self.left).await.ok()
    }

    /// Ends the response once the batch that is being sent is complete.
    pub(in crate::net) fn end(&self, farewell: Farewell) {
        self.inbox.send(Command::End { id: self.id, farewell });
    }
}
