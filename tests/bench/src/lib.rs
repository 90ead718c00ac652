//! What the three programs of the bench share.
//!
//! - `floor`: the cheapest server that could do the job: one thread, one `write` a socket a tick.
//! - `source`: publishes the same stream over RTMP in real time.
//! - `load`: opens viewers, drains them, and measures what a sample of them sees.
//!
//! `tests/bench/run` starts them and does the arithmetic. Nothing here depends on the host: a ruler must not be
//! made of what it measures.

pub mod args;
pub mod bits;
pub mod clock;
pub mod content;
pub mod essence;
pub mod flv;
pub mod limit;
pub mod rtmp;
pub mod viewer;
