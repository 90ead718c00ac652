//! The common part of the bench's programs.
//!
//! - `floor`: the cheapest possible server: one thread, one `write` for each socket and tick.
//! - `source`: publishes the same stream, or many of them, over RTMP in real time.
//! - `load`: opens viewers or players, drains them, and measures a sample of them.
//! - `seal`: what rustls needs to encrypt a captured stream.
//! - `delay`: a link with a delay, for kernels without one.
//! - `minute`: remuxes a minute, for a counter of instructions.
//!
//! `tests/bench/run` starts them and computes the results. They share no code with the host, so that an error of the host
//! cannot hide in the measurement. Only `benches/parts.rs` calls the host's code: it measures the parts alone.

pub mod args;
pub mod bits;
pub mod capture;
pub mod clock;
pub mod content;
pub mod essence;
pub mod flv;
pub mod limit;
#[cfg(feature = "remux")]
pub mod minute;
pub mod rtmp;
#[cfg(feature = "tls")]
pub mod secure;
pub mod viewer;
