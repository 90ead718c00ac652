//! A module directory of one test, whose files it may change while the host runs.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use crate::host::executable;
use crate::scratch::Scratch;
use crate::tool::{run, target_dir};

/// A directory with copies of the built modules.
#[derive(Debug)]
pub struct ModuleDir(Scratch);

impl ModuleDir {
    /// Creates a directory with these modules, by the names that operators use.
    ///
    /// # Panics
    /// When one was not built.
    #[must_use]
    pub fn with(names: &[&str]) -> ModuleDir {
        let dir = ModuleDir(Scratch::new());
        for name in names {
            dir.put(name, &bytes(name));
        }
        dir
    }

    /// Returns the directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Returns the path of a module's library.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.0.join(&file_name(name))
    }

    /// Writes the library of a module, in place, as `cp` does.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn put(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.file(name), bytes).expect("the scratch directory is writable");
    }

    /// Puts build `number` of a module: the same library with other bytes after its end, which the linker ignores.
    ///
    /// # Panics
    /// As [`put`](Self::put).
    pub fn put_build(&self, name: &str, number: u32) {
        self.put(name, &[&bytes(name)[..], &number.to_le_bytes()].concat());
    }

    /// Compiles C to the library of a module.
    ///
    /// # Panics
    /// When there is no C compiler, or it fails.
    pub fn put_c(&self, name: &str, source: &Path) {
        let mut cc = Command::new("cc");
        cc.args(["-shared", "-fPIC", "-o"]).arg(self.file(name)).arg(source);
        run(&mut cc).unwrap_or_else(|error| panic!("{error}"));
    }

    /// Returns the table `[modules]` that loads the modules `load` from this directory.
    #[must_use]
    pub fn table(&self, load: &[&str], more: &str) -> String {
        format!("[modules]\ndir = {:?}\nload = {load:?}\n{more}\n", self.path())
    }
}

fn file_name(name: &str) -> String {
    format!("libremuxd_{}.so", name.replace('-', "_"))
}

/// Returns the library of a module that was built with the host, without debug information.
///
/// # Panics
/// When it was not built.
#[must_use]
pub fn bytes(name: &str) -> Vec<u8> {
    let built = executable().with_file_name(file_name(name));
    stripped(&built, &format!("{name}.so"))
}

/// Returns the bytes of a library without its debug information; caches them as `name`.
///
/// # Panics
/// When it is not there.
#[must_use]
pub fn stripped(library: &Path, name: &str) -> Vec<u8> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let dir = target_dir().join("stripped");
    std::fs::create_dir_all(&dir).expect("the target directory is writable");
    let modified = |file: &Path| std::fs::metadata(file).and_then(|metadata| metadata.modified());
    let cached = dir.join(name);
    let source = modified(library).unwrap_or_else(|error| panic!("{}: {error}", library.display()));
    if modified(&cached).map_or(true, |cached| cached < source) {
        // The rename makes it visible as a whole to other processes.
        let fresh = dir.join(format!("{name}-{}", std::process::id()));
        run(Command::new("strip").arg("-o").arg(&fresh).arg(library))
            .unwrap_or_else(|error| panic!("{error}"));
        std::fs::rename(&fresh, &cached).expect("the target directory is writable");
    }
    std::fs::read(&cached).expect("the cached library is readable")
}
