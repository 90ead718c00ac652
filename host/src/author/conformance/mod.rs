//! Conformance: what a module must do, tried on it.
//!
//! Purpose: known tag sequences are played to a module, and what it does is held against the rules of the interface. A
//! short one belongs to the loading of every module, see [`self_test`](crate::module::self_test); this kit is what
//! `remuxd module test` runs for authors.
//!
//! The host knows no format, so the rules are those that hold for any: no faults, one role a block, output that depends
//! on nothing but the input.

mod bench;
mod checks;
mod decode;
mod growth;
mod history;
mod kit;
mod play;
mod sequences;
mod threads;

pub use bench::CheckResult;
pub use kit::{check_main, checks, run_check};
