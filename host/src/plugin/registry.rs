//! Registry: the modules that are loaded, by what they answer.
//!
//! The module `NAME` of `modules.load` is the file `libremuxd_NAME.so` in the module directory, as cargo names the
//! library of a package `remuxd-NAME`, else `libNAME.so`; each `-` of the name is a `_` in the file's. Else it is the
//! first `lib*.so` there, in the order of their names, with a module of that name in it. One
//! module that is refused does not keep the others from being loaded.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::RwLock;
use remuxd_plugin_api::Transport;
use tracing::info;

use super::probe::probe_name;
use super::process::{self, Launch};
use super::{Allowance, LoadError, Module, Stage, Terms, load, probe};
use crate::conf::{Isolation, Modules, OwnModule};

/// The loaded modules.
#[derive(Debug)]
pub struct Registry {
    /// Replaced as a whole: who reads it sees one generation of everything.
    table: RwLock<Arc<Vec<Arc<Module>>>>,
    generations: AtomicU64,
    stage: Stage,
}

/// A module that was not loaded.
#[derive(Debug)]
pub struct LoadFailure {
    /// The module's name, as `modules.load` has it.
    pub name: String,
    /// The file that it was looked for in.
    pub file: PathBuf,
    /// Why.
    pub error: LoadError,
}

impl fmt::Display for LoadFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "module {}: {}: {}", self.name, self.file.display(), self.error)
    }
}

impl Registry {
    /// Loads all modules of `modules`, from `default_dir` if the config names no directory. Each is tried in a child
    /// process of `probe_program` before; see [`probe`]. What failed comes beside.
    pub fn load(modules: &Modules, default_dir: &Path, probe_program: &Path) -> (Registry, Vec<LoadFailure>) {
        let registry =
            Registry { table: RwLock::default(), generations: AtomicU64::new(0), stage: Stage::new() };
        let dir = modules.dir.as_deref().unwrap_or(default_dir);
        let mut failures = Vec::new();
        for name in &modules.load {
            let (file, loaded) = registry.load_one(name, dir, modules, probe_program);
            match loaded.and_then(|module| registry.insert(module)) {
                Ok(module) => info!(
                    module = module.name(),
                    version = module.version(),
                    rustc = module.rustc(),
                    file = %file.display(),
                    "module loaded"
                ),
                Err(error) => failures.push(LoadFailure { name: name.clone(), file, error }),
            }
        }
        (registry, failures)
    }

    /// The module that answers `extension`, without the dot, over `transport`.
    pub fn find(&self, extension: &str, transport: Transport) -> Option<Arc<Module>> {
        find(&self.table.read(), extension, transport).cloned()
    }

    /// All modules, in the order of the config.
    pub fn modules(&self) -> Vec<Arc<Module>> {
        self.table.read().to_vec()
    }

    /// Also says which file it was, or should have been.
    fn load_one(
        &self,
        name: &str,
        dir: &Path,
        modules: &Modules,
        probe_program: &Path,
    ) -> (PathBuf, Result<Arc<Module>, LoadError>) {
        let [file, other] = file_names(name);
        let path = dir.join(&file);
        if !is_name(name) {
            return (dir.to_owned(), Err(LoadError::BadName { name: name.to_owned() }));
        }
        let path = match [path.clone(), dir.join(&other)].into_iter().find(|path| path.exists()) {
            Some(path) => path,
            None => match self.file_of(name, dir, probe_program) {
                Some(path) => path,
                None => return (path, Err(LoadError::NotFound { other })),
            },
        };
        let terms = Terms {
            generation: self.generations.fetch_add(1, Ordering::Relaxed) + 1,
            max_output: modules.max_output,
            max_faults: modules.max_faults,
            unload: false,
        };
        let loaded = match modules.own.iter().find(|own| own.name == name) {
            Some(own) if own.isolation == Isolation::Process => {
                self.load_isolated(name, &path, &terms, (modules, own), probe_program)
            }
            _ => self.load_file(name, &path, &terms, probe_program),
        };
        (path, loaded)
    }

    /// Its process is the trial too.
    fn load_isolated(
        &self,
        name: &str,
        path: &Path,
        terms: &Terms,
        (modules, own): (&Modules, &OwnModule),
        program: &Path,
    ) -> Result<Arc<Module>, LoadError> {
        let launch = Launch {
            name: name.to_owned(),
            program: program.to_owned(),
            file: self.stage.stage(name, path)?,
            allowance: Allowance { max_output: modules.max_output, max_memory: own.max_memory },
            call_limit: modules.call_timeout,
        };
        named(name, process::load(launch, terms)?)
    }

    /// The library of another file name that has the module `name` in it. Only files that export what a module exports
    /// are tried, each in a child process; those that are refused there are passed over.
    fn file_of(&self, name: &str, dir: &Path, probe_program: &Path) -> Option<PathBuf> {
        let entries = dir.read_dir().ok()?.filter_map(Result::ok).map(|entry| entry.path());
        let mut files: Vec<_> = entries.filter(|file| is_library(file)).collect();
        files.sort();
        files.into_iter().find(|file| {
            let tried = self.stage.stage_module(name, file).and_then(|file| probe_name(probe_program, &file));
            tried.is_ok_and(|found| found == name)
        })
    }

    fn load_file(
        &self,
        name: &str,
        path: &Path,
        terms: &Terms,
        probe_program: &Path,
    ) -> Result<Arc<Module>, LoadError> {
        let staged = self.stage.stage(name, path)?;
        probe(probe_program, &staged)?;
        named(name, load(staged, terms)?)
    }

    fn insert(&self, module: Arc<Module>) -> Result<Arc<Module>, LoadError> {
        let mut table = self.table.write();
        for extension in module.extensions() {
            if let Some(taken) = find(&table, extension, module.transport()) {
                return Err(LoadError::Taken {
                    extension: extension.clone(),
                    transport: module.transport(),
                    by: taken.name().to_owned(),
                });
            }
        }
        Arc::make_mut(&mut table).push(module.clone());
        Ok(module)
    }
}

/// The module, if it is the one that was asked for.
fn named(name: &str, module: Arc<Module>) -> Result<Arc<Module>, LoadError> {
    if module.name() == name {
        Ok(module)
    } else {
        Err(LoadError::NameMismatch { found: module.name().to_owned() })
    }
}

/// Whether a file is a library by its name.
fn is_library(file: &Path) -> bool {
    let name = file.file_name().and_then(|name| name.to_str());
    name.is_some_and(|name| name.starts_with("lib") && name.ends_with(".so"))
}

fn find<'a>(modules: &'a [Arc<Module>], extension: &str, transport: Transport) -> Option<&'a Arc<Module>> {
    modules.iter().find(|module| {
        module.transport() == transport && module.extensions().iter().any(|own| own == extension)
    })
}

fn file_names(name: &str) -> [String; 2] {
    let name = name.replace('-', "_");
    [format!("libremuxd_{name}.so"), format!("lib{name}.so")]
}

/// The rule of `FormatInfo::name`; it also keeps the name from leading out of the directory.
fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}
