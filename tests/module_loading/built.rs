//! The modules of `tests/modules`, and a module directory to load them from.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use remuxd::testing::module::{HOST_ABI, Registry};
use remuxd_tests::modules::{edit, test_module, with_another_api};
use remuxd_tests::scratch::Scratch;
use remuxd_tests::tool::{root, run};

use crate::host;

/// The program that loads modules in a child process.
pub const LOADER: &str = env!("CARGO_BIN_EXE_loader");

/// Returns the library of the Rust module `name`, whose panics unwind.
pub fn bytes(name: &str) -> Vec<u8> {
    fs::read(test_module(name)).expect("cargo built it")
}

/// Returns the library of the module `good`, built with a plugin API that has one function more than the host's.
pub fn bytes_with_a_newer_minor() -> Vec<u8> {
    let changed = |scratch: &Scratch| {
        let file = |name: &str| scratch.join("plugin-api/src/abi").join(name);
        let (_, minor) = HOST_ABI;
        let version = |minor| format!("pub const ABI_MINOR: u16 = {minor};");
        edit(&file("preflight.rs"), &version(minor), &version(minor + 7));
        let last = "    pub resume: extern \"C\" fn(&RawSetup<'_>, RSlice<'_, u8>) -> RResult<RawRemuxer, RawFault>,\n";
        let appended =
            "    /// Of a later version.\n    pub later: extern \"C\" fn(RawBlock) -> RVec<RawTag>,\n";
        edit(&file("mod.rs"), last, &format!("{last}{appended}"));
        let last = "        resume: resume::<F>,\n";
        edit(&file("export.rs"), last, &format!("{last}        later,\n"));
        let logger = "extern \"C\" fn set_logger(";
        let later = "extern \"C\" fn later(_: RawBlock) -> RVec<RawTag> {\n    RVec::new()\n}\n\n";
        edit(&file("export.rs"), logger, &format!("{later}{logger}"));
    };
    with_another_api("modules-newer-minor", changed)
}

/// A module directory with the module `good`.
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

    /// Loads modules as the host does at start. Returns the lines of its messages, with `DIR` for this directory.
    pub fn load(&self, names: &[&str]) -> (Registry, Vec<String>) {
        host::load(self.path(), names, LOADER)
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }
}
