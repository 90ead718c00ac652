//! Self-test: the last step of loading. A short stream is played to a remuxer and to its successor, and what they make is
//! held against the rules that hold for any format. The conformance kit of `remuxd module test` builds on it.

pub mod recorded;
pub mod rules;
pub mod run;
pub mod sequence;

pub use run::self_test;

/// Bytes of output that a call is allowed, beside 16 times its tags: the default of `modules.max_output`.
pub const MAX_OUTPUT: usize = 1 << 20;
