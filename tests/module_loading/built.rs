//! The modules of `tests/modules`, built now, and a module directory to load them from.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use remuxd::plugin::Registry;
use remuxd_tests::scratch::Scratch;
use remuxd_tests::tool::{root, run, target_dir};

use crate::host;

/// The program that loads modules in processes of their own.
pub const LOADER: &str = env!("CARGO_BIN_EXE_loader");

/// The directory of the Rust modules, built with a profile of their workspace: `dev` or `abort`.
fn built(profile: &str) -> PathBuf {
    let target = target_dir().join("modules");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build.args(["build", "--quiet", "--locked", "--profile", profile, "--target-dir"]).arg(&target);
    build.current_dir(root().join("tests/modules"));
    run(&mut build).unwrap_or_else(|error| panic!("{error}"));
    target.join(if profile == "dev" { "debug" } else { profile })
}

fn library(dir: &Path, name: &str) -> Vec<u8> {
    fs::read(dir.join(format!("libremuxd_{name}.so"))).expect("cargo built it")
}

/// The library of the Rust module `name`, whose panics unwind.
pub fn bytes(name: &str) -> Vec<u8> {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    library(DIR.get_or_init(|| built("dev")), name)
}

/// The library of the Rust module `name`, whose panics end the process.
pub fn bytes_with_abort(name: &str) -> Vec<u8> {
    library(&built("abort"), name)
}

/// A module directory. The module `good` is in it.
pub struct ModuleDir(Scratch);

impl ModuleDir {
    pub fn new() -> ModuleDir {
        let dir = ModuleDir(Scratch::new());
        dir.put("libremuxd_good.so", &bytes("good"));
        dir
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub fn put(&self, name: &str, bytes: &[u8]) {
        fs::write(self.file(name), bytes).expect("the scratch directory can be written");
    }

    /// Compiles `tests/modules/c/SOURCE` to `name`.
    pub fn put_c(&self, name: &str, source: &str, flags: &[&str]) {
        let mut cc = Command::new("cc");
        cc.args(flags).arg("-o").arg(self.file(name)).arg(root().join("tests/modules/c").join(source));
        run(&mut cc).unwrap_or_else(|error| panic!("{error}"));
    }

    /// Loads modules as the host does when it starts. The lines are its messages, with `DIR` for this directory.
    pub fn load(&self, names: &[&str]) -> (Registry, Vec<String>) {
        host::load(self.path(), names, LOADER)
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }
}
