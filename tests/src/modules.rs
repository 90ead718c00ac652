//! Modules that are written for tests, built on first use.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::scratch::Scratch;
use crate::tool::{root, run, target_dir};

/// The workspace of the Rust modules.
pub const MODULES: &str = "tests/modules";

/// Returns the library of the Rust module `name`, whose panics unwind.
///
/// # Panics
/// When it does not build.
#[must_use]
pub fn test_module(name: &str) -> PathBuf {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    DIR.get_or_init(|| built(&root().join(MODULES), "modules", "dev")).join(format!("libremuxd_{name}.so"))
}

/// Builds the Rust modules of a workspace with its profile `dev` or `abort`, and returns the directory of the libraries.
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

/// Returns the library of the Rust module `name`, whose panics abort the process.
///
/// # Panics
/// When it does not build.
#[must_use]
pub fn with_abort(name: &str) -> Vec<u8> {
    library(&built(&root().join(MODULES), "modules", "abort"), name)
}

/// Returns the library of the module `good`, built with a plugin API in which one type has another layout.
///
/// # Panics
/// As [`with_abort`].
#[must_use]
pub fn with_another_layout() -> Vec<u8> {
    with_another_api("modules-other-layout", |scratch| {
        let tag = "pub struct RawTag {\n";
        let file = scratch.join("plugin-api/src/abi/mod.rs");
        let fields = fs::read_to_string(&file).expect("a copy");
        let (before, after) = fields.split_once(tag).expect("the type of tags");
        let after = after.replacen("pub reserved: [u64; 4]", "pub reserved: [u64; 5]", 1);
        fs::write(file, [before, tag, &after].concat()).expect("a copy");
    })
}

/// Returns the library of the module `good`, built in the directory `target` with a changed copy of the plugin API.
///
/// # Panics
/// As [`with_abort`].
#[must_use]
pub fn with_another_api(target: &str, change: impl FnOnce(&Scratch)) -> Vec<u8> {
    let scratch = Scratch::new();
    for part in ["Cargo.toml", "plugin-api", MODULES] {
        copy(&root().join(part), &scratch.join(part));
    }
    edit(
        &scratch.join("Cargo.toml"),
        r#"members = ["host", "plugin-api", "plugins/*", "tests"]"#,
        "members = []",
    );
    edit(&scratch.join("Cargo.toml"), r#"default-members = ["host", "plugins/*"]"#, "");
    change(&scratch);
    // The same directory each time, so that cargo finds its earlier build.
    let source = target_dir().join(format!("{target}-source"));
    copy(scratch.path(), &source);
    library(&built(&source.join(MODULES), target, "dev"), "good")
}

/// Returns the library of the module `flawed` with this flaw as its default.
///
/// # Panics
/// As [`with_abort`], or when the name of the flaw is too long.
#[must_use]
pub fn flawed(flaw: &str) -> Vec<u8> {
    // `DEFAULT` of the module.
    const DEFAULT: &[u8] = b"no flaw unless it is told ";
    let mut library = fs::read(test_module("flawed")).expect("cargo built it");
    replace(&mut library, DEFAULT, flaw);
    library
}

/// Returns the library of the module `hostile` as build `number`, which fails its self-test while the file `spoil` exists.
///
/// # Panics
/// As [`with_abort`], or when the path is too long.
#[must_use]
pub fn hostile_build(number: char, spoil: Option<&Path>) -> Vec<u8> {
    let mut library = fs::read(test_module("hostile")).expect("cargo built it");
    // `BUILD` and `SPOIL` of the module.
    replace(&mut library, b"build 0 of hostile", &format!("build {number} of hostile"));
    if let Some(spoil) = spoil {
        let default = format!("{:<128}", "nothing spoils this build");
        replace(&mut library, default.as_bytes(), spoil.to_str().expect("a path of ours"));
    }
    library
}

/// Replaces the only occurrence of `old` in a library by a text and spaces.
fn replace(library: &mut [u8], old: &[u8], new: &str) {
    let mut found = library.windows(old.len()).enumerate().filter(|(_, bytes)| *bytes == old);
    let (at, _) = found.next().expect("the text is in the library");
    assert!(found.next().is_none(), "the text is there once");
    let padded = format!("{new:<width$}", width = old.len());
    library[at..at + old.len()].copy_from_slice(padded.as_bytes());
}

fn library(dir: &Path, name: &str) -> Vec<u8> {
    fs::read(dir.join(format!("libremuxd_{name}.so"))).expect("cargo built it")
}

/// Copies a file or a directory. Files that are equal already are not written.
fn copy(from: &Path, to: &Path) {
    if from.is_dir() {
        fs::create_dir_all(to).expect("a directory of the test's own");
        for entry in fs::read_dir(from).expect("a directory") {
            let entry = entry.expect("a directory");
            copy(&entry.path(), &to.join(entry.file_name()));
        }
        return;
    }
    let bytes = fs::read(from).expect("a file");
    if fs::read(to).ok().as_ref() != Some(&bytes) {
        // The rename is atomic: another test may build from the file.
        let fresh = to.with_extension(format!("{}", std::process::id()));
        fs::write(&fresh, bytes).expect("a directory of the test's own");
        fs::rename(fresh, to).expect("a directory of the test's own");
    }
}

/// Replaces the only occurrence of `old` in a file.
///
/// # Panics
/// When there is none, or more than one.
pub fn edit(file: &Path, old: &str, new: &str) {
    let text = fs::read_to_string(file).expect("a text");
    assert_eq!(text.matches(old).count(), 1, "{old} in {}", file.display());
    fs::write(file, text.replace(old, new)).expect("the scratch directory can be written");
}
