//! The common part of the bench's three programs.
//!
//! - `floor`: the cheapest possible server: one thread, one `write` for each socket and tick.
//! - `source`: publishes the same stream over RTMP in real time.
//! - `load`: opens viewers, drains them, and measures a sample of them.
//!
//! `tests/bench/run` starts them and computes the results. They share no code with the host, so that an error of the host
//! cannot hide in the measurement.

pub mod args;
pub mod bits;
pub mod clock;
pub mod content;
pub mod essence;
pub mod flv;
pub mod limit;
pub mod rtmp;
pub mod viewer;
