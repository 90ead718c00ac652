//! Lines for the operator's log. The host puts the module's name in front.
//!
//! A module has a `tracing` and a `log` of its own that nobody listens to; these functions reach the host's.
//! Without a host, in a module's own tests, they do nothing.

use std::sync::OnceLock;

use crate::abi::RawLogger;

/// How much a line matters.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level(pub u8);

impl Level {
    /// Something does not work.
    pub const ERROR: Level = Level(1);
    /// Something is odd, and was worked around.
    pub const WARN: Level = Level(2);
    /// Something that an operator may want to know.
    pub const INFO: Level = Level(3);
    /// Something that the module's author may want to know.
    pub const DEBUG: Level = Level(4);
}

static LOGGER: OnceLock<RawLogger> = OnceLock::new();

/// The first logger stays: there is one host.
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

/// Logs one line: something does not work.
pub fn error(line: &str) {
    log(Level::ERROR, line);
}

/// Logs one line: something is odd, and was worked around.
pub fn warn(line: &str) {
    log(Level::WARN, line);
}

/// Logs one line that an operator may want to know.
pub fn info(line: &str) {
    log(Level::INFO, line);
}

/// Logs one line that the module's author may want to know.
pub fn debug(line: &str) {
    log(Level::DEBUG, line);
}
