//! Process: modules in processes of their own.
//!
//! With `isolation = "process"` no code of the module runs in the host. Its generation has one child process, the
//! host's own program with the arguments `__module FILE ..`, which all its remuxers share. They are called one at a
//! time, so one remuxer delays the others by `modules.call_timeout` at most. A remuxer runs once for a stream, not once
//! for a viewer, and the payload of a tag crosses in one direction only, so the cost is bearable.
//!
//! A process that ends is reaped at once. One that breaks the protocol, or whose call takes too long, is killed. Either is
//! a fault of the remuxer that was called; the others lose their state and start again at their streams' next join points,
//! as after any fault. The next remuxer to be made starts the process again. The process ends with its generation, and with
//! the host.
//!
//! A stream whose call ended the process, or hung in the host, gets a process of its own from then on, so that it interrupts
//! the others once at most.
//!
//! Invariants: a hostile process cannot harm the host, see [`frame`]; calls block threads of the worker pool, never those
//! of the network. Used by the rest of `module` only.

mod child;
mod connection;
mod crash_notes;
pub mod error;
mod frame;
mod isolated;
mod launch;
mod link;
#[cfg(any(test, fuzzing))]
mod properties;
mod reaped;
mod request;
mod response;
mod sandbox;
mod spawn;
mod start;
#[cfg(test)]
mod tests;

pub use child::module_main;
pub use crash_notes::{CrashNote, CrashNotes, Slot};
pub use isolated::{IsolatedRemuxer, Process};
pub use launch::{Allowance, Launch};
#[cfg(fuzzing)]
pub use properties::check_wire;
pub use start::{start, test};
