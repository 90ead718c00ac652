//! The host as a child process, and its configuration.

mod config;
mod process;
mod urls;

pub use config::{API, Config};
pub use process::{Host, executable, remuxd};
