//! Cluster: what an edge does with the streams of its origins.
//!
//! Uses `media` and `remuxd-bitstream`. Knows no socket so far.

#[cfg_attr(not(test), expect(dead_code, reason = "the pull task is about to use it"))]
mod splice;
