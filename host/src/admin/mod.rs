//! Administration: reloads and their triggers, status and metrics.
//!
//! One [`Reloader`] replaces modules, vhosts and mounts while streams are live. SIGHUP, the file watch ([`mod@watch`]) and
//! the control socket ([`Control`]), which `remuxd reload`, `status`, `sessions`, `kick` and `ban` use, trigger it. [`Api`] answers requests
//! on the control socket and over TCP.
//!
//! Invariants: a reload applies completely or not at all, one at a time, and never on a network thread; only the host's
//! own user, root and users of the API who operate can request one; no connection is touched by it.
//!
//! Used by `host` and `main`; uses `candidate`, `net`, `http`, `stream`, `module`, `budget` and `conf`.

mod access_log;
mod api;
mod bans;
mod certificates;
mod change;
mod cluster;
mod command;
mod console;
mod control;
mod diff;
mod directory_metrics;
mod exposition;
mod faults;
mod guard;
mod host_status;
mod limits;
mod logins;
mod machine;
mod metrics;
mod mounts;
mod process;
mod pulls;
mod pushes;
mod reload;
mod report;
mod resources;
mod running;
mod server;
mod sessions;
mod status;
mod stream_metrics;
mod streams;
mod watch;

pub use access_log::{AccessLog, OpenedLog};
pub use api::Api;
pub use command::{
    StatusView, ban_command, bans_command, kick_command, reload_command, sessions_command, status_command,
    unban_command,
};
pub use control::{Control, notes_path, remove_dead_sockets, socket_path};
pub use faults::FaultLog;
pub use reload::{Cause, Reloader};
pub use resources::{memory_limit, raise_descriptor_limit};
pub use running::Running;
pub use server::{serve_control, serve_tcp};
pub use watch::watch;
