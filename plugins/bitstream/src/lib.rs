//! Wire syntax shared by the host and its modules.
//!
//! Pure functions over bytes, without IO, clocks or global state. Depends on `remuxd-plugin-api` only, so that any module may use
//! it.

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
