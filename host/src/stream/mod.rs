//! Streams: who publishes, who watches, and the rings between them.
//!
//! Purpose: remux once, share the bytes. A publisher's tags go into the ring of its [`Stream`]; each live mount
//! remuxes them once into a ring of blocks; a viewer is a cursor into one of these rings.
//!
//! Invariants: nothing here grows with a viewer's backlog; no viewer starts, or goes on after a gap, in the
//! middle of a GOP; a module's fault ends its own remuxer and nothing else.
//!
//! No IO, no tokio: readers are woken through [`std::task::Waker`], and time comes in as an argument. Used by
//! `http`, `net` and `main`; uses `module`, `media` and `conf`.

mod error;
mod hub;
mod key;
mod mount;
mod remux;
mod ring;
mod span;
#[expect(clippy::module_inception, reason = "the layer is named for what it is about")]
mod stream;
mod sweep;
mod wakers;

pub use error::{HandoverError, MountError, PublishError};
pub use hub::{Hub, StreamWait};
pub use key::StreamKey;
pub use mount::{LiveMount, Viewer};
pub use ring::{Entry, JoinAt, Pace, Reader, Ring, RingLimits, Role};
pub use span::{Span, SpanBuf};
pub use stream::{Publisher, Stream};
