//! `remuxd module`: what the host's program does for authors of modules.
//!
//! [`Inspected`] tells what a file is, or why it would be refused. Uses `plugin`; used by `main`.

mod inspect;

pub use inspect::Inspected;
