//! Registry: the loaded modules, by the extensions and transports that they answer.
//!
//! The module `NAME` of `modules.load` is the file `libremuxd_NAME.so` in the module directory, as cargo names the
//! library of a package `remuxd-NAME`, else `libNAME.so`; each `-` of the name is a `_` in the file's. Else it is the
//! first `lib*.so` there, in the order of their names, with a module of that name in it.
//!
//! A reload is prepared beside the table that is in use: [`Registry::prepare`] takes every module through all checks, in
//! child processes; a [`CheckedModule`] passed, and nothing of it is mapped. [`Registry::load_all`] maps them,
//! and [`Registry::adopt`] swaps the table as a whole. What was prepared and goes no further changes nothing. A module whose
//! file has the bytes of the generation in use stays as it is; one that is switched off is loaded again if an operator asks
//! for the reload.
//!
//! Each generation keeps the good one before it, for the streams on which it fails itself.

use std::collections::BTreeMap;
use std::fs::ReadDir;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use parking_lot::{Mutex, RwLock};
use remuxd_plugin_api::Transport;
use tracing::info;

use super::description::is_name;
use super::error::LoadError;
use super::generation::{Generation, Known, ModuleCounts};
use super::load::loader::load_module;
use super::load::probe::probe;
use super::load::stage::{Stage, Staged};
use super::loaded::Module;
use super::outcome::{
    Change, CheckedModule, LoadFailure, OffFile, Outcome, Passed, Prepared, claim, table_of,
};
use super::process::{self, Allowance, CrashNote, Launch};
use super::terms::Terms;
use crate::conf::{Isolation, Modules, OwnModule};

/// The loaded modules.
#[derive(Debug)]
pub struct Registry {
    /// Replaced as a whole, so that a reader sees one generation of everything. Locked only to read or replace the `Arc`.
    table: RwLock<Arc<Vec<Arc<Module>>>>,
    /// Generations that were loaded and may still be, in their order.
    known: Mutex<Vec<Known>>,
    /// Counters of generations that are no longer loaded, by module. Locked after `known`.
    gone: Mutex<BTreeMap<String, ModuleCounts>>,
    generations: AtomicU64,
    stage: Stage,
    /// Builds in whose calls the last host ended, and which no operator has reloaded since.
    crashed: Mutex<Vec<CrashNote>>,
}

/// Result of [`Registry::adopt`].
#[derive(Debug)]
#[must_use = "superseded generations stay mapped until they are released"]
pub struct Adopted {
    superseded: Vec<Arc<Module>>,
}

impl Adopted {
    /// Releases generations that nobody uses any more, once the live mounts were handed over: until then a mount may still
    /// fall back. One that is switched off keeps its fallback: it is nobody's fallback itself, so it lengthens no chain,
    /// and its mounts need the way out.
    pub fn release(self) {
        for old in self.superseded.iter().filter(|old| !old.is_off()) {
            old.set_fallback(None);
        }
    }
}

impl Registry {
    /// Returns an empty registry.
    pub fn empty() -> Registry {
        Registry {
            table: RwLock::default(),
            known: Mutex::default(),
            gone: Mutex::default(),
            generations: AtomicU64::new(0),
            stage: Stage::new(),
            crashed: Mutex::default(),
        }
    }

    /// Returns a registry of modules that are linked into this program.
    #[cfg(fuzzing)]
    pub fn of(modules: Vec<Arc<Module>>) -> Registry {
        Registry { table: RwLock::new(Arc::new(modules)), ..Registry::empty() }
    }

    /// Returns an empty registry that starts the builds of these notes in processes of their own.
    pub fn after_crash(notes: Vec<CrashNote>) -> Registry {
        Registry { crashed: Mutex::new(notes), ..Registry::empty() }
    }

    fn crash_of(&self, name: &str, build: u64) -> Option<CrashNote> {
        self.crashed.lock().iter().find(|note| note.module == name && note.build == build).cloned()
    }

    /// Prepares, loads and adopts all modules of `modules`, from `default_dir` if the config names no directory. Also
    /// returns the failures.
    pub fn load(modules: &Modules, default_dir: &Path, probe_program: &Path) -> (Registry, Vec<LoadFailure>) {
        let registry = Registry::empty();
        let prepared = registry.prepare(modules, default_dir, probe_program, OffFile::LoadAgain);
        let prepared = registry.load_all(prepared, modules);
        registry.adopt(&prepared).release();
        let failure =
            |Outcome { name, file, result, .. }| Some(LoadFailure { name, file, error: result.err()? });
        (registry, prepared.outcomes.into_iter().filter_map(failure).collect())
    }

    /// Checks all modules of `modules` in child processes. Maps and changes nothing.
    pub fn prepare(
        &self,
        modules: &Modules,
        default_dir: &Path,
        probe_program: &Path,
        off_file: OffFile,
    ) -> Prepared {
        let (mut outcomes, mut missing) = (Vec::new(), Vec::new());
        for name in &modules.load {
            let outcome = self.check(name, &outcomes, modules, default_dir, probe_program, off_file);
            if outcome.is_unreadable() && modules.optional.contains(name) {
                missing.push(outcome);
            } else {
                outcomes.push(outcome);
            }
        }
        Prepared { outcomes, missing }
    }

    /// Maps all checked modules. One that is refused now becomes a failure.
    pub fn load_all(&self, prepared: Prepared, modules: &Modules) -> Prepared {
        let outcomes = prepared.outcomes.into_iter().map(|outcome| self.load_one(outcome, modules));
        Prepared { outcomes: outcomes.collect(), missing: prepared.missing }
    }

    /// Replaces the table in use by what was prepared and loaded. The caller then hands the live mounts over (see
    /// [`Hub::sweep`](crate::stream::Hub::sweep)), and after that calls [`Adopted::release`].
    pub fn adopt(&self, prepared: &Prepared) -> Adopted {
        let (before, table) = (self.table.read().clone(), Arc::new(table_of(&prepared.outcomes)));
        let mut adopted = Adopted { superseded: Vec::new() };
        for old in before.iter() {
            match table.iter().find(|module| module.name() == old.name()) {
                Some(new) if Arc::ptr_eq(old, new) => {}
                Some(new) => {
                    new.set_fallback(Some(old.standing()).filter(|old| !old.is_off()));
                    adopted.superseded.push(old.clone());
                }
                None => {}
            }
        }
        // A build that runs as the config says was loaded by an operator.
        let is_kept = |note: &CrashNote| {
            table.iter().any(|module| module.name() == note.module && module.crashed.get() == Some(note))
        };
        self.crashed.lock().retain(is_kept);
        *self.table.write() = table;
        adopted
    }

    /// Returns the module with this name: its current generation, or the one before it if that is switched off.
    pub fn named(&self, name: &str) -> Option<Arc<Module>> {
        self.table.read().iter().find(|module| module.name() == name).map(Module::standing)
    }

    /// Returns the module that answers `extension`, without the dot, over `transport`: its current generation, or the one
    /// before it if that is switched off.
    pub fn find(&self, extension: &str, transport: Transport) -> Option<Arc<Module>> {
        find(&self.table.read(), extension, transport)
    }

    /// Returns all modules, in the order of the config.
    pub fn modules(&self) -> Vec<Arc<Module>> {
        self.table.read().to_vec()
    }

    /// Returns all generations whose code is still loaded, the oldest first.
    pub fn generations(&self) -> Vec<Generation> {
        let table = self.table.read().clone();
        let mut known = self.known.lock();
        self.forget(&mut known);
        known.iter().map(|known| known.now(&table)).collect()
    }

    /// Returns what all generations of each module have counted so far, also those that are no longer loaded.
    pub fn counts(&self) -> BTreeMap<String, ModuleCounts> {
        let mut known = self.known.lock();
        self.forget(&mut known);
        let mut counts = self.gone.lock().clone();
        known.iter().for_each(|known| counts.entry(known.name().to_owned()).or_default().add(known.counts()));
        counts
    }

    /// Forgets generations that are no longer loaded, but for their counts.
    fn forget(&self, known: &mut Vec<Known>) {
        let mut gone = self.gone.lock();
        for known in known.extract_if(.., |known| !known.is_alive()) {
            gone.entry(known.name().to_owned()).or_default().add(known.counts());
        }
    }

    /// Performs all checks before a module is mapped, including those against the modules of `others`.
    fn check(
        &self,
        name: &str,
        others: &[Outcome],
        modules: &Modules,
        default_dir: &Path,
        probe_program: &Path,
        off_file: OffFile,
    ) -> Outcome {
        let began = Instant::now();
        let dir = modules.dir.as_deref().unwrap_or(default_dir);
        let (file, result) = match self.locate(name, dir, modules, probe_program) {
            Ok(file) => {
                let checked = self.check_file(name, &file, modules, probe_program, off_file);
                let claimed = checked.and_then(|change| {
                    claim(name, change.description(), others)?;
                    Ok(change)
                });
                (file, claimed)
            }
            Err((file, error)) => (file, Err(error)),
        };
        Outcome { name: name.to_owned(), file, result, took: began.elapsed() }
    }

    /// Returns the file of a module; an error comes with the expected path.
    fn locate(
        &self,
        name: &str,
        dir: &Path,
        modules: &Modules,
        probe_program: &Path,
    ) -> Result<PathBuf, (PathBuf, LoadError)> {
        if !is_name(name) {
            return Err((dir.to_owned(), LoadError::BadName { name: name.to_owned() }));
        }
        let [file, other] = file_names(name);
        let path = dir.join(&file);
        if let Some(path) = [&path, &dir.join(&other)].into_iter().find(|path| path.exists()) {
            return Ok(path.clone());
        }
        let entries = dir.read_dir().map_err(|error| (dir.to_owned(), LoadError::Directory(error)))?;
        self.file_of(name, entries, modules, probe_program).ok_or((path, LoadError::NotFound { other }))
    }

    fn check_file(
        &self,
        name: &str,
        path: &Path,
        modules: &Modules,
        probe_program: &Path,
        off_file: OffFile,
    ) -> Result<Change, LoadError> {
        let staged = self.stage.stage(name, path)?;
        let isolated = |own: &OwnModule| own.name == name && own.isolation == Isolation::Process;
        let launch = launch(name, Arc::new(staged), modules, probe_program);
        let crashed = self.crash_of(name, launch.file.build()).filter(|_| off_file == OffFile::StaysOff);
        let is_isolated = crashed.is_some() || modules.own.iter().any(isolated);
        let same = |module: &&Arc<Module>| {
            let same_build = || module.staged().is_some_and(|running| running.equals(&launch.file));
            let same_rules = module.terms().same_rules(&terms(modules));
            let same_home = module.allowance() == is_isolated.then_some(&launch.allowance);
            module.name() == name && same_rules && same_home && same_build()
        };
        let table = self.table.read().clone();
        let stays = |module: &&Arc<Module>| !module.is_off() || off_file == OffFile::StaysOff;
        if let Some(module) = table.iter().find(same).filter(stays) {
            return Ok(Change::Unchanged(module.clone()));
        }
        if !is_isolated {
            let description = Arc::new(probe(probe_program, &launch.file)?);
            return Ok(Change::Checked(CheckedModule(Passed::Tried(launch, description))));
        }
        // Starting its process is also its trial.
        let terms = Terms { generation: self.next_generation(), ..terms(modules) };
        let module = process::start(launch, &terms)?;
        if let Some(crashed) = crashed {
            // Set once, since it has just started.
            let _ = module.crashed.set(crashed);
        }
        Ok(Change::Checked(CheckedModule(Passed::Started(module))))
    }

    /// Finds the module `name` in a library of another file name, among the entries of the directory of modules. Only files with a module's symbol are tried, each in a
    /// child process; refused ones are skipped. Returns `None` for a module with a process of its own, since this trial
    /// is less strict.
    fn file_of(
        &self,
        name: &str,
        entries: ReadDir,
        modules: &Modules,
        probe_program: &Path,
    ) -> Option<PathBuf> {
        let isolated: Vec<&str> = modules
            .own
            .iter()
            .filter(|own| own.isolation == Isolation::Process)
            .map(|own| &*own.name)
            .collect();
        if isolated.contains(&name) {
            return None;
        }
        let entries = entries.filter_map(Result::ok).map(|entry| entry.path());
        let of_isolated =
            |file: &Path| isolated.iter().flat_map(|name| file_names(name)).any(|name| file.ends_with(name));
        let mut files: Vec<_> = entries.filter(|file| is_library(file) && !of_isolated(file)).collect();
        files.sort();
        files.into_iter().find(|file| {
            let tried = self.stage.stage_module(name, file).and_then(|file| probe(probe_program, &file));
            tried.is_ok_and(|found| found.name == name)
        })
    }

    /// Maps a checked module; leaves other outcomes as they are.
    fn load_one(&self, outcome: Outcome, modules: &Modules) -> Outcome {
        let Outcome { name, file, result: Ok(Change::Checked(checked)), took } = outcome else {
            return outcome;
        };
        let began = Instant::now();
        let loaded = self.load_checked(checked, modules);
        Outcome { name, file, result: loaded.map(Change::Loaded), took: took + began.elapsed() }
    }

    fn load_checked(&self, checked: CheckedModule, modules: &Modules) -> Result<Arc<Module>, LoadError> {
        let module = match checked.0 {
            Passed::Tried(launch, description) => {
                let terms = Terms { generation: self.next_generation(), ..terms(modules) };
                let module = load_module(launch.file.clone(), &terms)?;
                if *module.description() != description {
                    return Err(LoadError::Unsteady);
                }
                module.set_launch(launch);
                module
            }
            Passed::Started(module) => module,
        };
        self.note(&module);
        Ok(module)
    }

    fn next_generation(&self) -> u64 {
        self.generations.fetch_add(1, Ordering::Relaxed) + 1
    }

    fn note(&self, module: &Arc<Module>) {
        info!(
            module = module.name(),
            version = module.version(),
            generation = module.generation(),
            rustc = module.rustc(),
            file = %module.origin().map_or(Path::new(""), |origin| &origin.file).display(),
            "module loaded"
        );
        self.known.lock().push(Known::new(module));
    }
}

fn terms(modules: &Modules) -> Terms {
    Terms {
        generation: 0,
        max_output: modules.max_output,
        max_faults: modules.max_faults,
        unload: modules.unload,
    }
}

fn allowance(modules: &Modules, name: &str) -> Allowance {
    let own = modules.own.iter().find(|own| own.name == name);
    let max_memory = own.map_or(OwnModule::MAX_MEMORY, |own| own.max_memory);
    Allowance { max_output: modules.max_output, max_memory }
}

/// Returns how a process of a module is started.
fn launch(name: &str, file: Arc<Staged>, modules: &Modules, program: &Path) -> Launch {
    Launch {
        name: name.to_owned(),
        program: program.to_owned(),
        file,
        allowance: allowance(modules, name),
        call_limit: modules.call_timeout,
        log: Arc::default(),
    }
}

/// Whether a file is named like a library.
fn is_library(file: &Path) -> bool {
    let name = file.file_name().and_then(|name| name.to_str());
    name.is_some_and(|name| name.starts_with("lib") && name.ends_with(".so"))
}

fn find(table: &[Arc<Module>], extension: &str, transport: Transport) -> Option<Arc<Module>> {
    table.iter().find(|module| module.description().answers(extension, transport)).map(Module::standing)
}

fn file_names(name: &str) -> [String; 2] {
    let name = name.replace('-', "_");
    [format!("libremuxd_{name}.so"), format!("lib{name}.so")]
}
