//! Fan-out: the threads that send batches to the viewers of live mounts over HTTP/1.1 and WebSocket, and to RTMP players.
//!
//! A connection comes here when its request has been answered, with the head of the response, and leaves when the response has
//! ended; that of a player also when the player sends something, with its position. Meanwhile it has no task that runs, no buffer and
//! no entry in the runtime's epoll instance: only a [`Socket`], a place in its group, and a task that sleeps until the response ends
//! or must end.
//!
//! Each thread has an epoll instance and [groups](group): its viewers of one mount, or players of one stream, with one framing. At each
//! tick a group reads its ring once, copies the span into one [`Batch`](batch::Batch), and sends that to each of its viewers, one system call for each. A
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
mod position;
mod session;
mod shard;
mod socket;
mod threads;

pub use batch::Framing;
pub(super) use position::{Part, Position};
pub use session::Reason;
pub(super) use session::{Arrival, Farewell, HandedBack, Left};
pub use socket::Socket;
pub use threads::Fanout;
