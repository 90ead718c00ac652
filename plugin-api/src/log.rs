//! Lines for the host's log, which prefixes them with the module's name.
//!
//! A module links its own copies of `tracing` and `log`, which have no subscriber; use these functions instead. Without a
//! host, as in a module's own tests, they do nothing.

use std::sync::OnceLock;

use crate::abi::RawLogger;

/// The severity of a line.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level(pub u8);

impl Level {
    /// A failure.
    pub const ERROR: Level = Level(1);
    /// An anomaly that was worked around.
    pub const WARN: Level = Level(2);
    /// Information for operators.
    pub const INFO: Level = Level(3);
    /// Information for the module's author.
    pub const DEBUG: Level = Level(4);
}

static LOGGER: OnceLock<RawLogger> = OnceLock::new();

/// Sets the logger. Later calls are ignored: there is one host.
pub(crate) fn set(logger: RawLogger) {
    let _ = LOGGER.set(logger);
}

/// Logs one line at `level`.
pub fn log(level: Level, line: &str) {
    if let Some(logger) = LOGGER.get() {
        // SAFETY: the host keeps `context` valid while this library is mapped.
        unsafe { (logger.log)(logger.context, level.0, line.into()) }
    }
}

/// Logs one line at [`Level::ERROR`].
pub fn error(line: &str) {
    log(Level::ERROR, line);
}

/// Logs one line at [`Level::WARN`].
pub fn warn(line: &str) {
    log(Level::WARN, line);
}

/// Logs one line at [`Level::INFO`].
pub fn info(line: &str) {
    log(Level::INFO, line);
}

/// Logs one line at [`Level::DEBUG`].
pub fn debug(line: &str) {
    log(Level::DEBUG, line);
}
