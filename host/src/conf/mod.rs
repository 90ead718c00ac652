//! The configuration: read from TOML, checked as a whole, then immutable.
//!
//! [`Config`] is what the rest of the host sees: validated, with every default filled in. Mistakes are found
//! all at once and shown as a [`Report`], before anything listens. `schema` says what can stand in a file,
//! `table` and `value` read it, `resolve` checks it as a whole. A vhost inherits from no other vhost: what it
//! does not say is at its default.

mod diagnostics;
mod mistake;
mod pattern;
mod resolve;
mod resolved;
mod schema;
mod table;
mod target;
mod value;

pub use diagnostics::{Diagnostic, Diagnostics, Place, Report, Source};
pub use mistake::{Hint, Mistake};
pub use pattern::{Match, PatternError};
pub use resolved::*;
pub use target::TargetError;
