//! The configuration: read from TOML, checked as a whole, then immutable.
//!
//! [`Config`] is what the rest of the host sees: inherited, validated, with every default filled in.

mod resolved;

pub use resolved::*;
