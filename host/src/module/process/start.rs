//! Start of a module in a process of its own.

use std::sync::Arc;

use tracing::warn;

use super::connection::Connection;
use super::isolated::Process;
use super::launch::Launch;
use super::response::Described;
use crate::module::error::LoadError;
use crate::module::loaded::{Code, Module};
use crate::module::terms::Terms;

/// Number of missing protections that are logged: our own processes never report more.
const MAX_MISSING: usize = 16;

/// Loads the module in a process of its own and runs the self-test there.
///
/// # Errors
/// [`LoadError`]: the process has ended.
pub fn start(launch: Launch, terms: &Terms) -> Result<Arc<Module>, LoadError> {
    let (connection, described) = open_tested(&launch)?;
    for protection in described.missing.iter().take(MAX_MISSING) {
        warn!(module = launch.name, missing = protection, "the module's process lacks a protection");
    }
    let code = Code::Isolated(Arc::new(Process::running(launch, connection)));
    Ok(Arc::new(Module::new(code, described.description, described.build, terms)))
}

/// Runs the self-test in another process, which ends after it.
///
/// # Errors
/// As for [`start`].
pub fn test(launch: &Launch) -> Result<(), LoadError> {
    open_tested(launch).map(drop)
}

fn open_tested(launch: &Launch) -> Result<(Connection, Described), LoadError> {
    let (mut connection, described) = Connection::open(launch)?;
    connection.self_test()?;
    Ok((connection, described))
}
