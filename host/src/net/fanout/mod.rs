//! Fan-out: the threads that send batches to the viewers of live mounts over HTTP/1.1 and WebSocket.
//!
//! A connection comes here when its request has been answered, with the head of the response, and leaves when the response has
//! ended. Meanwhile it has no task that runs, no buffer and no entry in the runtime's epoll instance: only a [`Socket`], a place in
//! its group, and a task that sleeps until the response ends or must end.
//!
//! Each thread has an epoll instance and [groups](group): its viewers of one mount with one framing. At each tick a group reads its
//! ring once, copies the span into one [`Batch`](batch::Batch), and sends that to each of its viewers, one system call for each. A
//! viewer whose socket is full is *behind*: it has a position of its own, until it is level with its group again.
//!
//! Invariants:
//! - a socket has one owner: a task before and after, one fan-out thread in between;
//! - nothing is queued for a viewer but the rest of one batch, which counts as memory while it is kept;
//! - no lock is taken once for each viewer and tick, and no other thread is woken.
//!
//! Used by `net`; uses `http` for the frames of WebSocket, `stream`, `policy` for the records of sessions, and `budget`.

mod batch;
mod group;
mod inbox;
mod member;
mod shard;
mod socket;

use std::io;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::oneshot;

pub use batch::Framing;
pub use socket::Socket;

use self::inbox::{Command, Inbox};
use self::shard::Shard;
use super::receive_rate::ReceiveRate;
use crate::budget::{Account, OverBudget};
use crate::http::websocket::frames::{CloseCode, Violation};
use crate::policy::{Load, Session};
use crate::stream::{Span, Viewer};

/// How many viewers more than the least busy thread has, the thread of a mount may have and still get the mount's next one.
const IMBALANCE: usize = 64;

/// The fan-out threads of a host. They end when this is dropped, and their connections are closed.
#[derive(Debug)]
pub struct Fanout {
    inboxes: Vec<Arc<Inbox>>,
    next: AtomicU64,
}

/// A viewer whose response begins.
#[derive(Debug)]
pub(super) struct Arrival {
    pub(super) socket: Socket,
    /// The head of the response.
    pub(super) head: Vec<u8>,
    /// The first span of the viewer.
    pub(super) first: Arc<Span>,
    pub(super) viewer: Viewer,
    pub(super) framing: Framing,
    pub(super) session: Arc<Session>,
    /// The limit of what the client may send.
    pub(super) rate: Option<Arc<ReceiveRate>>,
    /// Whether the connection may serve another request.
    pub(super) keep_alive: bool,
}

/// The content of the close frame of a WebSocket.
#[derive(Clone, Copy, Debug)]
pub(super) struct Farewell {
    pub(super) code: Option<CloseCode>,
    pub(super) text: &'static str,
}

/// The end of a response.
#[derive(Debug)]
pub(super) struct Left {
    pub(super) reason: Reason,
    /// Resolves when the connection is closed, or with the socket if it may serve another request.
    pub(super) closed: oneshot::Receiver<TcpStream>,
}

/// The reason why a response has ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum Reason {
    #[error("the stream ended")]
    StreamEnded,
    #[error("it was ended")]
    Ordered,
    #[error("the client left")]
    ClientLeft,
    #[error("no answer to pings")]
    NoAnswer,
    #[error("{0}")]
    Violation(#[from] Violation),
    #[error("{0}")]
    OverBudget(#[from] OverBudget),
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// A viewer that a fan-out thread serves.
#[derive(Debug)]
pub(super) struct Served {
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
            let shard = Shard::new(inbox.clone(), load.add(), account())?;
            fanout.inboxes.push(inbox);
            std::thread::Builder::new().name(format!("remuxd-fanout-{index}")).spawn(move || shard.run())?;
        }
        Ok(fanout)
    }

    /// Hands a viewer to a thread.
    pub(super) fn serve(&self, arrival: Arrival) -> Served {
        let inbox = self.choose(&arrival).clone();
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (leaves, left) = oneshot::channel();
        inbox.viewers.fetch_add(1, Ordering::Relaxed);
        inbox.send(Command::Add { id, arrival: Box::new(arrival), leaves });
        Served { inbox, id, left }
    }

    /// Returns the numbers of viewers that the threads serve.
    pub fn viewers(&self) -> Vec<usize> {
        self.inboxes.iter().map(|inbox| inbox.viewers.load(Ordering::Relaxed)).collect()
    }

    /// Returns the thread for a viewer. A mount with few viewers has them on one thread, so that a tick wakes one thread; one
    /// with many has them on all.
    fn choose(&self, arrival: &Arrival) -> &Arc<Inbox> {
        let viewers = |inbox: &Arc<Inbox>| inbox.viewers.load(Ordering::Relaxed);
        let own = &self.inboxes[Arc::as_ptr(arrival.viewer.mount()).addr() / 64 % self.inboxes.len()];
        let idle = self.inboxes.iter().min_by_key(|inbox| viewers(inbox)).unwrap_or(own);
        if viewers(own) > viewers(idle) + IMBALANCE { idle } else { own }
    }
}

impl Drop for Fanout {
    fn drop(&mut self) {
        self.inboxes.iter().for_each(|inbox| inbox.send(Command::Stop));
    }
}

impl Served {
    /// Waits until the response has ended; `None` if its thread ends.
    pub(super) async fn left(&mut self) -> Option<Left> {
        (&mut self.left).await.ok()
    }

    /// Ends the response once the batch that is being sent is complete.
    pub(super) fn end(&self, farewell: Farewell) {
        self.inbox.send(Command::End { id: self.id, farewell });
    }
}
