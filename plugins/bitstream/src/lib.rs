//! Wire syntax shared by the host and its modules.
//!
//! Everything here is a pure function over bytes: no IO, no clock, no state beyond the value at hand. It
//! depends on the vocabulary of `remuxd-plugin-api` alone, so that any module may use it.

pub mod aac;
pub mod amf0;
pub mod avc;
mod bits;
pub mod flv;
pub mod hevc;
pub mod mpa;
pub mod nal;
pub mod opus;
mod record;

pub use record::Truncated;
