//! Builds the modules when cargo runs the host from its checkout.
//!
//! `cargo run` builds a program and its dependencies, but the host depends on no module. So the host makes cargo build the
//! modules next to it before it loads them. Outside a checkout this does nothing.

use std::env;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail};

/// Builds the modules of the checkout if cargo started this program from it.
///
/// # Errors
/// Cargo cannot be started, or fails after printing its errors.
pub(crate) fn build_modules() -> anyhow::Result<()> {
    // Cargo sets these for the programs that it runs, some of which, such as tests, start a host themselves.
    let package = env!("CARGO_MANIFEST_DIR");
    let (Some(cargo), Some(started)) = (env::var_os("CARGO"), env::var_os("CARGO_MANIFEST_DIR")) else {
        return Ok(());
    };
    if started != package {
        return Ok(());
    }
    let program = env::current_exe().context("cannot find the path of this program")?;
    let (Some(built), Some(target)) = (program.parent(), program.ancestors().nth(2)) else { return Ok(()) };
    let profile = match built.file_name() {
        Some(name) if name != "debug" => name,
        _ => "dev".as_ref(),
    };
    let mut build = Command::new(cargo);
    // Excludes the host: it could be rebuilt with other features of its dependencies.
    build.current_dir(Path::new(package).join("..")).args(["build", "--workspace", "--profile"]).arg(profile);
    build.args(["--exclude", env!("CARGO_PKG_NAME"), "--exclude", "remuxd-tests"]);
    let status = build.arg("--target-dir").arg(target).status().context("cannot start cargo")?;
    if !status.success() {
        bail!("cannot build the modules: {status}");
    }
    Ok(())
}
