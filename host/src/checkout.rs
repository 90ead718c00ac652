//! A host that cargo runs from its checkout.
//!
//! `cargo run` builds a program and what it depends on; the host depends on no module. So it has cargo build the modules
//! too, beside it, before it looks for them. Anywhere else this does nothing.

use std::env;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail};

/// Builds the modules of the checkout, if cargo has started this program from it.
///
/// # Errors
/// Cargo cannot be started, or fails; it has said why.
pub(crate) fn build_modules() -> anyhow::Result<()> {
    // Cargo tells what it runs who it is, and of which package that is; other programs that it runs may start a host.
    let package = env!("CARGO_MANIFEST_DIR");
    let (Some(cargo), Some(started)) = (env::var_os("CARGO"), env::var_os("CARGO_MANIFEST_DIR")) else {
        return Ok(());
    };
    if started != package {
        return Ok(());
    }
    let program = env::current_exe().context("the path of this program is not known")?;
    let (Some(built), Some(target)) = (program.parent(), program.ancestors().nth(2)) else { return Ok(()) };
    let profile = match built.file_name() {
        Some(name) if name != "debug" => name,
        _ => "dev".as_ref(),
    };
    let mut build = Command::new(cargo);
    // Not the host again, which could come out with other features of what it depends on.
    build.current_dir(Path::new(package).join("..")).args(["build", "--workspace", "--profile"]).arg(profile);
    build.args(["--exclude", env!("CARGO_PKG_NAME"), "--exclude", "remuxd-tests"]);
    let status = build.arg("--target-dir").arg(target).status().context("cargo cannot be started")?;
    if !status.success() {
        bail!("the modules do not build: {status}");
    }
    Ok(())
}
