//! Conformance: what a module must do, tried on it.
//!
//! Purpose: known tag sequences are played to a module, and what it does is held against the rules of the interface. A
//! short one, the [self-test](self_test), belongs to the loading of every module; the whole kit is what `remuxd module
//! test` runs for authors.
//!
//! The host knows no format, so the rules are those that hold for any: no faults, one role a block, output that depends
//! on nothing but the input.

mod checks;
mod decode;
mod history;
mod kit;
mod recorded;
mod rules;
mod run;
mod sequences;

pub use checks::Verdict;
pub use kit::{check_main, checks, run_check};
pub use rules::{Breach, Moment, Rule};
pub(super) use run::self_test;

/// What remuxers may make in one call, beside 16 times their tags: the default of `modules.max_output`, in bytes.
pub(super) const MAX_OUTPUT: usize = 1 << 20;
