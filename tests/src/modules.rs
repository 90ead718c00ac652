//! Modules that are written for tests, built when one is asked for.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::tool::{root, run, target_dir};

/// The workspace of the Rust modules.
pub const MODULES: &str = "tests/modules";

/// The library of the Rust module `name`, whose panics unwind.
///
/// # Panics
/// When it does not build.
#[must_use]
pub fn test_module(name: &str) -> PathBuf {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    DIR.get_or_init(|| built(&root().join(MODULES), "modules", "dev")).join(format!("libremuxd_{name}.so"))
}

/// The directory of the Rust modules of a workspace, built with a profile of it: `dev` or `abort`.
///
/// # Panics
/// When they do not build.
#[must_use]
pub fn built(workspace: &Path, target: &str, profile: &str) -> PathBuf {
    let target = target_dir().join(target);
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build.args(["build", "--quiet", "--locked", "--profile", profile, "--target-dir"]).arg(&target);
    build.current_dir(workspace);
    run(&mut build).unwrap_or_else(|error| panic!("{error}"));
    target.join(if profile == "dev" { "debug" } else { profile })
}
