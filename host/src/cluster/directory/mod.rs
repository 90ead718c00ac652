//! The directory of the cluster: which nodes there are, and at which of them each stream is published.
//!
//! An `entry` is the signed description of a node or of a publisher; `fence` has the ids by which the newest publisher is known, and
//! `follow` the rules for those who follow a stream and for those who have it. The `book` applies them to all streams that this node
//! knows. In Redis, `scripts` decide in one step which entry is in place; `connect` finds the master, a `link` is the connection in
//! `resp`, and the task in `redis` keeps it. A `list` has nodes alone. The `roster` has the nodes of either, the `balancer` the targets
//! of redirects, and `select` the order in which a pull asks nodes. [`Directory`] is what the rest of the host uses.
//!
//! Invariants: nothing of the directory is believed that no node has signed, or that leads outside of `cluster.allow`; a node never
//! follows a smaller id than it has seen; nothing that is known is forgotten because the directory does not answer, or has lost it.

mod balancer;
mod book;
mod carriers;
mod claim;
mod connect;
#[expect(clippy::module_inception, reason = "the folder is named for its main type")]
mod directory;
mod entry;
mod facts;
mod fence;
mod follow;
mod link;
mod list;
mod listing;
#[cfg(test)]
mod property;
mod redis;
mod resp;
mod roster;
mod scripts;
mod select;
mod shared;
mod targets;
mod watch;

pub use balancer::Balancer;
pub use claim::{BusyElsewhere, Claim};
pub use directory::{Directory, Source, Sources};
pub use entry::{NodeEntry, State, StreamEntry};
pub use facts::DirectoryFacts;
pub use fence::FenceId;
pub use listing::Listing;
#[cfg(fuzzing)]
pub use resp::{RespError, RespReader, Value};
pub use roster::Roster;
pub use shared::Lost;
pub use watch::Watch;
