//! Administration: reloads, what triggers them, and what the host says of itself.
//!
//! Purpose: one [`Reloader`] replaces modules, vhosts and mounts while streams are live. It is asked by SIGHUP, by the file
//! watch ([`watch`]) and over a Unix socket ([`Control`]), which `remuxd reload` and `remuxd status` use. [`Api`] answers
//! there, and what changes nothing also over TCP.
//!
//! Invariants: a reload happens as a whole or not at all, one at a time, and never on a network thread; nobody but the
//! host's own user and root can ask for one; no connection is touched by it.
//!
//! Used by `host` and `main`; uses `load`, `net`, `http`, `stream`, `module` and `conf`.

mod api;
mod command;
mod control;
mod metrics;
mod reload;
mod report;
mod server;
mod watch;

pub use api::Api;
pub use command::{reload_command, status_command};
pub use control::{Control, ControlError, remove_dead_sockets, socket_path};
pub use reload::{Cause, Reloader};
pub use report::{ModuleReport, Report, Verdict};
pub use server::{serve_control, serve_tcp};
pub use watch::watch;
