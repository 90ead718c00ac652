//! Launch: how a module's process is started and limited.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::module::load::stage::Staged;
use crate::module::log::ModuleLog;

/// Resource limits of a module's process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// As [`Terms::max_output`](crate::module::Terms::max_output).
    pub max_output: usize,
    /// Bytes of memory, in addition to those of the program itself.
    pub max_memory: usize,
}

/// Command and limits of a module's process.
#[derive(Clone, Debug)]
pub struct Launch {
    /// The module's name, for the log.
    pub name: String,
    /// The host's program, which must call [`module_main`](super::module_main) for the hidden command.
    pub program: PathBuf,
    /// The module.
    pub file: Arc<Staged>,
    /// The process's limits.
    pub allowance: Allowance,
    /// Limit of a call's time: `modules.call_timeout`.
    pub call_limit: Duration,
    /// Receives the module's log lines.
    pub log: Arc<ModuleLog>,
}
