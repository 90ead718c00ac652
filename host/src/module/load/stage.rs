//! Stage: private copies of module files.
//!
//! The operator's own file is never mapped: overwriting a mapped file in place, as cargo does, ends the host by SIGSEGV or
//! SIGBUS. The file is read once, checked, and written under a name that was never used before, since the dynamic linker
//! identifies a library by its name.
//!
//! Copies are in `remuxd-PID-RANDOM` in the directory for temporary files (`TMPDIR`, else `/tmp`; it must not be
//! mounted `noexec`), which only this user may enter. A copy stays while the module is mapped, for backtraces. The
//! directory is removed with the host, or by the next host if it was killed. A lock marks a directory in use, also
//! between containers that share it, and to systemd-tmpfiles.

use std::collections::hash_map::{DefaultHasher, RandomState};
use std::env;
use std::fs::{self, DirBuilder, File};
use std::hash::{BuildHasher, Hasher};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use remuxd_plugin_api::abi::PREFLIGHT_SYMBOL;

use super::elf::check_elf;
use crate::module::error::LoadError;

/// Longest module file, in bytes.
const MAX_FILE: u64 = 256 << 20;
/// Prefix of the names of private directories.
const PREFIX: &str = "remuxd-";

/// The private directory for copies. It is created with the first copy, and removed on drop with all remaining ones.
#[derive(Debug)]
pub struct Stage {
    parent: PathBuf,
    /// `None` before the first copy.
    dir: Mutex<Option<Dir>>,
    copies: AtomicU64,
}

/// A private copy that was checked. Removed on drop.
#[derive(Debug)]
pub struct Staged {
    path: PathBuf,
    /// See [`build`](Self::build).
    build: u64,
    /// The original; `None` if another process made the copy.
    origin: Option<Origin>,
}

/// The original of a private copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The operator's file.
    pub file: PathBuf,
    /// Address space that it takes when it is mapped, in bytes.
    pub memory: u64,
}

impl Stage {
    /// Creates a stage in the directory for temporary files, and removes the directories of killed hosts there.
    pub fn new() -> Stage {
        let parent = env::temp_dir();
        remove_abandoned(&parent);
        Stage::in_dir(parent)
    }

    fn in_dir(parent: PathBuf) -> Stage {
        Stage { parent, dir: Mutex::default(), copies: AtomicU64::new(0) }
    }

    /// Checks `file` and copies it for the module `name`.
    ///
    /// # Errors
    /// [`LoadError`]: it cannot be read or copied, or is not a library for this machine. Nothing was mapped.
    pub fn stage(&self, name: &str, file: &Path) -> Result<Staged, LoadError> {
        self.stage_bytes(name, file, &read(file)?)
    }

    fn stage_bytes(&self, name: &str, file: &Path, library: &[u8]) -> Result<Staged, LoadError> {
        let memory = check_elf(library)?;
        let origin = Origin { file: file.to_owned(), memory };
        self.write(name, library, origin).map_err(LoadError::Stage)
    }

    /// As [`stage`](Self::stage), but refuses a file that cannot export a module.
    ///
    /// # Errors
    /// As for [`stage`](Self::stage), or `NotAModule`.
    pub fn stage_module(&self, name: &str, file: &Path) -> Result<Staged, LoadError> {
        let (library, symbol) = (read(file)?, PREFLIGHT_SYMBOL.as_bytes());
        if !library.windows(symbol.len()).any(|window| window == symbol) {
            return Err(LoadError::NotAModule);
        }
        self.stage_bytes(name, file, &library)
    }

    fn write(&self, name: &str, library: &[u8], origin: Origin) -> io::Result<Staged> {
        let number = self.copies.fetch_add(1, Ordering::Relaxed) + 1;
        let path = self.dir()?.join(format!("{name}-{number}.so"));
        let mut file = File::options().write(true).create_new(true).mode(0o600).open(&path)?;
        let mut hasher = DefaultHasher::new();
        hasher.write(library);
        let staged = Staged { path, build: hasher.finish(), origin: Some(origin) };
        file.write_all(library)?;
        Ok(staged)
    }

    fn dir(&self) -> io::Result<PathBuf> {
        let mut dir = self.dir.lock();
        let dir = match &mut *dir {
            Some(dir) if dir.path.is_dir() => dir,
            absent => absent.insert(Dir::new(&self.parent)?),
        };
        Ok(dir.path.clone())
    }
}

impl Default for Stage {
    fn default() -> Stage {
        Stage::new()
    }
}

impl Staged {
    /// Refers to a copy that another process made and removes.
    pub fn lent(path: &Path) -> Staged {
        Staged { path: path.to_owned(), build: 0, origin: None }
    }

    /// Path of the copy.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A number that tells builds of a module apart: equal for equal bytes, 0 for a lent copy.
    pub fn build(&self) -> u64 {
        self.build
    }

    /// Whether both copies have the same bytes.
    pub fn equals(&self, other: &Staged) -> bool {
        let bytes = |staged: &Staged| fs::read(&staged.path).ok();
        bytes(self).is_some_and(|own| bytes(other).is_some_and(|other| own == other))
    }

    /// The original, if this process made the copy.
    pub fn origin(&self) -> Option<&Origin> {
        self.origin.as_ref()
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if self.origin.is_some() {
            // If this fails, it is removed with the directory.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// A directory that only this process uses, marked by a lock.
#[derive(Debug)]
struct Dir {
    path: PathBuf,
    _lock: File,
}

impl Dir {
    fn new(parent: &Path) -> io::Result<Dir> {
        loop {
            let random = RandomState::new().build_hasher().finish();
            let path = parent.join(format!("{PREFIX}{}-{random:016x}", process::id()));
            DirBuilder::new().mode(0o700).create(&path)?;
            // Until it is locked, another host may remove it as abandoned.
            let lock = match File::open(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                opened => opened?,
            };
            lock.lock()?;
            if path.is_dir() {
                return Ok(Dir { path, _lock: lock });
            }
        }
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        // The next host removes what remains.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Removes the directories of hosts that were killed. Those of other users cannot be opened and stay.
fn remove_abandoned(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if !is_dir || !is_private_name(&entry.file_name().to_string_lossy()) {
            continue;
        }
        if let Ok(dir) = File::open(entry.path())
            && dir.try_lock().is_ok()
        {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Whether a directory is named `remuxd-PID-RANDOM`.
fn is_private_name(name: &str) -> bool {
    let numbers = name.strip_prefix(PREFIX).and_then(|numbers| numbers.split_once('-'));
    numbers.is_some_and(|(pid, random)| {
        pid.parse::<u32>().is_ok() && random.len() == 16 && u64::from_str_radix(random, 16).is_ok()
    })
}

fn read(path: &Path) -> Result<Vec<u8>, LoadError> {
    // Checked before it is opened: opening a pipe waits for a writer.
    let metadata = fs::metadata(path).map_err(LoadError::Read)?;
    if !metadata.is_file() {
        return Err(LoadError::Read(io::Error::other("not a file")));
    }
    let check = |len: u64| match len {
        0..=MAX_FILE => Ok(()),
        len => Err(LoadError::TooLarge { len, limit: MAX_FILE }),
    };
    check(metadata.size())?;
    let mut library = Vec::with_capacity(metadata.size() as usize);
    let file = File::open(path).map_err(LoadError::Read)?;
    file.take(MAX_FILE + 1).read_to_end(&mut library).map_err(LoadError::Read)?;
    check(library.len() as u64)?;
    Ok(library)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::thread;

    use super::*;

    /// A directory of its own, removed on drop.
    fn scratch() -> Dir {
        Dir::new(&env::temp_dir()).unwrap()
    }

    fn entries(dir: &Path) -> Vec<String> {
        let entries = fs::read_dir(dir).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn copies_live_in_a_private_directory_as_long_as_they_are_held() {
        let scratch = scratch();
        let stage = Stage::in_dir(scratch.path.clone());
        assert!(entries(&scratch.path).is_empty(), "made before it is needed");
        let own = Path::new("/proc/self/exe");
        let (first, second) = (stage.stage("flv", own).unwrap(), stage.stage("flv", own).unwrap());
        assert_ne!(first.path(), second.path());
        assert!(fs::read(first.path()).unwrap() == fs::read(own).unwrap());
        let dir = first.path().parent().unwrap().to_owned();
        assert_eq!(fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700);
        assert!(is_private_name(dir.file_name().unwrap().to_str().unwrap()), "{dir:?}");
        drop(first);
        assert_eq!(entries(&dir), ["flv-2.so"]);
        drop(stage);
        assert!(entries(&scratch.path).is_empty());
        drop(second);
    }

    #[test]
    fn creates_its_directory_again_when_it_was_removed() {
        let scratch = scratch();
        let stage = Stage::in_dir(scratch.path.clone());
        let own = Path::new("/proc/self/exe");
        let first = stage.stage("flv", own).unwrap();
        fs::remove_dir_all(first.path().parent().unwrap()).unwrap();
        assert!(stage.stage("flv", own).unwrap().path().exists());
    }

    #[test]
    fn removes_directories_of_killed_hosts_only() {
        let scratch = scratch();
        let killed = scratch.path.join("remuxd-1-00000000000000aa");
        let alive = Dir::new(&scratch.path).unwrap();
        let others = ["remuxd-1-aa", "remuxd-test-7-1", "remuxd-x-00000000000000aa"];
        for other in others {
            fs::create_dir(scratch.path.join(other)).unwrap();
        }
        fs::write(scratch.path.join("remuxd-1-00000000000000ab"), "").unwrap();
        fs::create_dir(&killed).unwrap();
        fs::write(killed.join("flv-1.so"), "").unwrap();
        remove_abandoned(&scratch.path);
        assert!(!killed.exists());
        assert!(alive.path.exists());
        assert_eq!(entries(&scratch.path).len(), others.len() + 2);
    }

    #[test]
    fn no_host_removes_the_new_directory_of_another() {
        let scratch = scratch();
        thread::scope(|scope| {
            let hosts = [0; 4].map(|_| {
                scope.spawn(|| {
                    for _ in 0..200 {
                        let dir = Dir::new(&scratch.path).unwrap();
                        remove_abandoned(&scratch.path);
                        assert!(dir.path.is_dir());
                    }
                })
            });
            hosts.into_iter().for_each(|host| host.join().unwrap());
        });
        assert!(entries(&scratch.path).is_empty());
    }

    #[test]
    fn refuses_what_cannot_be_a_module_before_it_is_copied() {
        let scratch = scratch();
        let stage = Stage::in_dir(scratch.path.join("absent"));
        let file = |name: &str, len: u64| {
            let path = scratch.path.join(name);
            File::create(&path).unwrap().set_len(len).unwrap();
            path
        };
        let rows = [
            (scratch.path.join("none"), "cannot be read: No such file or directory (os error 2)"),
            (scratch.path.clone(), "cannot be read: not a file"),
            (file("empty", 0), "not a shared library (no ELF header)"),
            (file("large", MAX_FILE + 1), "268435457 bytes long, the limit is 268435456"),
            (
                "/proc/self/exe".into(),
                "cannot be copied to a private directory: No such file or directory (os error 2)",
            ),
        ];
        for (path, line) in rows {
            assert_eq!(stage.stage("flv", &path).unwrap_err().to_string(), line);
        }
    }
}
