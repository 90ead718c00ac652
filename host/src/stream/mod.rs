//! Streams: publishers, viewers, and the rings between them.
//!
//! Purpose: remux once, share the bytes. A publisher's tags go into the ring of its [`Stream`]; each live mount remuxes them
//! once into a ring of blocks; a viewer is a cursor into one of these rings.
//!
//! Invariants: nothing here grows with a viewer's backlog; no viewer starts, or continues after a gap, in the middle of a
//! GOP; a module's fault ends its own remuxer and nothing else.
//!
//! No IO, no tokio: readers are woken through [`std::task::Waker`], and the caller brings the [`Clock`]. Used by `http`,
//! `net`, `admin` and `main`; uses `module`, `media`, `budget` and `conf`.
//!
//! # Locks
//! A thread that holds one of these takes only those below it:
//! 1. [`Hub`]: the streams by name, and who waits for one.
//! 2. A [`Stream`]'s mounts: which live mounts there are. A viewer attaches to a mount, and a reload hands it over or lets it
//!    drain, under this lock.
//! 3. The module registry's table: held to read or replace one `Arc`.
//! 4. A remux job's working set: its reader, remuxer and configurations. Held to take it before a run and to put it back; never
//!    during a module call.
//! 5. A mount's fill: the epoch, phase and recipe of what fills its ring. A job checks its epoch and pushes to the ring in one
//!    step under it. Never held during a module call.
//! 6. A stream's renditions: the sources of its other tracks. Held while a tag goes into them.
//! 7. A source's state: the publisher, timelines and codecs of a stream. Held while a tag goes into both rings, so that the
//!    tags of two publishers cannot mix.
//! 8. A ring's state: entries, join points and wakers. Wakers are called after it is released.
//! 9. The records of faults of a stream, and each record; the account of a source's publisher; the hops of a stream.
//! 10. The queue of the worker pool. Held to push or take a task.

mod carriage;
mod demand;
mod entries;
mod error;
mod faults;
mod fill;
mod hub;
mod key;
#[cfg(all(test, feature = "model"))]
mod model;
mod mount;
mod observer;
mod pacing;
mod passage;
#[cfg(test)]
mod property;
mod remux;
mod remuxer;
mod renditions;
mod ring;
mod source;
mod span;
#[expect(clippy::module_inception, reason = "the layer is named for its main type")]
mod stream;
mod supply;
mod sweep;
mod tracks;
mod traffic;
mod wakers;

pub use carriage::{Carriage, CarriageReader};
pub use demand::{Demand, Haste};
pub use error::{MountError, PublishError};
pub use fill::EndReason;
pub use hub::{Hub, StreamWait};
pub use key::StreamKey;
pub use mount::{CountedViewer, LiveMount, Viewer, ViewerPosition};
pub use observer::StreamObserver;
pub use pacing::{Clock, Phase};
pub use passage::Passage;
pub use renditions::Rendition;
pub use ring::{EntryRole, JoinAt, Pace, Reader, Ring, RingLimits};
pub use span::{Span, SpanBuf};
pub use stream::{Publisher, Stream};
pub use supply::{Supply, SupplyError, Waiting};
pub use tracks::Codecs;
