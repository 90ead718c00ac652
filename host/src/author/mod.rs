//! `remuxd module`: commands for authors of modules.
//!
//! [`Inspected`] describes a file, or reports why it would be refused; [`test_module`] runs the conformance kit on it;
//! [`new_module`] writes a crate. Uses `module`; used by `main`.

mod conformance;
mod inspect;
mod new;
mod test;

pub use conformance::{check_main, run_check};
pub use inspect::Inspected;
pub use new::{Api, default_dir, new_module};
pub use test::{TestError, test_module};
