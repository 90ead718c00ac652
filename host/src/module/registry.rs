//! Registry: the modules that are loaded, by what they answer.
//!
//! The module `NAME` of `modules.load` is the file `libremuxd_NAME.so` in the module directory, as cargo names the
//! library of a package `remuxd-NAME`, else `libNAME.so`; each `-` of the name is a `_` in the file's. Else it is the
//! first `lib*.so` there, in the order of their names, with a module of that name in it.
//!
//! A reload is prepared beside the table that is in use: [`Registry::prepare`] takes every module through all checks, in
//! child processes; what passed is a [`Candidate`], of which nothing is mapped. [`Registry::load_all`] maps the candidates,
//! and [`Registry::adopt`] swaps the table as a whole. What was prepared and goes no further changes nothing. A module whose
//! file has the bytes of the generation in use stays as it is; one under quarantine is loaded again, which is how an
//! operator lifts a quarantine.
//!
//! Each generation keeps the good one before it, for the day that it is quarantined itself.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant, SystemTime};

use parking_lot::{Mutex, RwLock};
use remuxd_plugin_api::Transport;
use tracing::info;

use super::loaded::WeakCode;
use super::process::{self, Launch};
use super::{Allowance, Description, LoadError, Module, Stage, Staged, Terms, load_module, probe};
use crate::conf::{Isolation, Modules, OwnModule};

/// Modules, each of which answers what no other does.
type Table = Vec<Arc<Module>>;

/// The loaded modules.
#[derive(Debug)]
pub struct Registry {
    /// Replaced as a whole, so that a reader sees one generation of everything. Locked only to read or replace the `Arc`.
    table: RwLock<Arc<Table>>,
    /// Every generation that was loaded and may still be mapped, in their order.
    known: Mutex<Vec<Known>>,
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

/// What became of one name of `modules.load`.
#[derive(Debug)]
pub struct Outcome {
    /// The name.
    pub name: String,
    /// The file that it was looked for in.
    pub file: PathBuf,
    /// What changes, or why nothing does.
    pub result: Result<Change, LoadError>,
    /// How long it took.
    pub took: Duration,
}

/// What a reload does to a module.
#[derive(Debug)]
pub enum Change {
    /// The generation in use goes on.
    Unchanged(Arc<Module>),
    /// It passed all checks, and is not loaded: another module was refused, or it is a dry run.
    Checked(Candidate),
    /// A new generation.
    Loaded(Arc<Module>),
}

impl Change {
    /// What the module declares.
    pub fn description(&self) -> &Arc<Description> {
        match self {
            Change::Unchanged(module)
            | Change::Loaded(module)
            | Change::Checked(Candidate(Passed::Started(module))) => module.description(),
            Change::Checked(Candidate(Passed::Tried(_, description))) => description,
        }
    }
}

/// A module that passed all checks and serves nobody yet. Nothing of it is in this process.
#[derive(Debug)]
pub struct Candidate(Passed);

#[derive(Debug)]
enum Passed {
    /// It was tried in a child process that has ended.
    Tried(Staged, Arc<Description>),
    /// It runs in a process of its own already.
    Started(Arc<Module>),
}

/// What a reload does with a generation under quarantine whose file has not changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quarantined {
    /// It is loaded again: the operator says so.
    TryAgain,
    /// It stays under quarantine.
    Stays,
}

/// What a reload would do, and has done so far.
#[derive(Debug)]
pub struct Prepared {
    outcomes: Vec<Outcome>,
}

impl Prepared {
    /// One outcome for each name, in the order of the config.
    pub fn outcomes(&self) -> &[Outcome] {
        &self.outcomes
    }

    /// What the module declares that answers `extension`, without the dot, over `transport`.
    pub fn find(&self, extension: &str, transport: Transport) -> Option<&Arc<Description>> {
        claimed(&self.outcomes, extension, transport)
    }

    /// Whether a module was refused.
    pub fn has_failures(&self) -> bool {
        self.outcomes.iter().any(|outcome| outcome.result.is_err())
    }

    /// Whether every module that was refused may be one whose file is still being written.
    pub fn is_unfinished(&self) -> bool {
        let errors = self.outcomes.iter().filter_map(|outcome| outcome.result.as_ref().err());
        self.has_failures() && errors.into_iter().all(LoadError::may_be_unfinished)
    }

    /// Whether there is a new generation among the modules.
    pub fn has_new(&self) -> bool {
        self.outcomes
            .iter()
            .any(|outcome| matches!(outcome.result, Ok(Change::Checked(_) | Change::Loaded(_))))
    }
}

/// A generation that was loaded once. Holds nothing of it.
#[derive(Debug)]
struct Known {
    facts: Generation,
    module: Weak<Module>,
    code: WeakCode,
    faults: Arc<AtomicU64>,
}

/// A generation whose library is mapped.
#[derive(Clone, Debug)]
pub struct Generation {
    /// The module's name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The version of the interface that it was built for.
    pub abi: (u16, u16),
    /// The mount extensions that it answers.
    pub extensions: Vec<String>,
    /// The transports over which it answers them, the primary one first.
    pub transports: Vec<Transport>,
    /// The number of the generation.
    pub number: u64,
    /// The operator's file.
    pub file: PathBuf,
    /// When it was loaded.
    pub since: SystemTime,
    /// Bytes of address space that its image takes.
    pub memory: u64,
    /// Faults of its remuxers so far.
    pub faults: u64,
    /// What it is good for.
    pub standing: Standing,
}

/// What a generation is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// New viewers get it.
    Current,
    /// It takes over when the current one is quarantined.
    Fallback,
    /// It had too many faults.
    Quarantined,
    /// It serves those who have it already, or nobody.
    Superseded,
}

impl Registry {
    /// Loads all modules of `modules`, from `default_dir` if the config names no directory. Each is tried in a child
    /// process of `probe_program` before; see [`probe`]. One module that is refused does not keep the others from
    /// being loaded; what failed comes beside.
    pub fn load(modules: &Modules, default_dir: &Path, probe_program: &Path) -> (Registry, Vec<LoadFailure>) {
        let registry = Registry {
            table: RwLock::default(),
            known: Mutex::default(),
            generations: AtomicU64::new(0),
            stage: Stage::new(),
        };
        let mut outcomes = Vec::new();
        for name in &modules.load {
            let checked =
                registry.check(name, &outcomes, modules, default_dir, probe_program, Quarantined::TryAgain);
            outcomes.push(registry.load_one(checked, modules));
        }
        *registry.table.write() = Arc::new(table_of(&outcomes));
        let failure =
            |Outcome { name, file, result, .. }| Some(LoadFailure { name, file, error: result.err()? });
        (registry, outcomes.into_iter().filter_map(failure).collect())
    }

    /// Takes all modules of `modules` through all checks, in child processes. Nothing is mapped, and nothing changes.
    pub fn prepare(
        &self,
        modules: &Modules,
        default_dir: &Path,
        probe_program: &Path,
        quarantined: Quarantined,
    ) -> Prepared {
        let mut outcomes = Vec::new();
        for name in &modules.load {
            outcomes.push(self.check(name, &outcomes, modules, default_dir, probe_program, quarantined));
        }
        Prepared { outcomes }
    }

    /// Maps all candidates. One that is refused now is a failure of `prepared`.
    pub fn load_all(&self, prepared: Prepared, modules: &Modules) -> Prepared {
        let outcomes = prepared.outcomes.into_iter().map(|outcome| self.load_one(outcome, modules));
        Prepared { outcomes: outcomes.collect() }
    }

    /// Replaces the table in use by what was prepared and loaded. Returns the names that are no longer answered. The
    /// caller then hands the live mounts over; see [`Hub::sweep`](crate::stream::Hub::sweep).
    pub fn adopt(&self, prepared: &Prepared) -> Vec<String> {
        let (before, table) = (self.table.read().clone(), Arc::new(table_of(&prepared.outcomes)));
        let named = |name: &str| table.iter().find(|module| module.name() == name);
        let replaced = || {
            let pairs = before.iter().filter_map(|old| Some((old, named(old.name())?)));
            pairs.filter(|(old, new)| !Arc::ptr_eq(old, new))
        };
        for (old, new) in replaced() {
            new.set_fallback(Some(old.standing()).filter(|old| !old.is_quarantined()));
        }
        *self.table.write() = table.clone();
        // Releases generations that nobody uses any more. A quarantined generation keeps its fallback: it is nobody's
        // fallback itself, so it lengthens no chain, and its mounts need the way out.
        for (old, _) in replaced().filter(|(old, _)| !old.is_quarantined()) {
            old.set_fallback(None);
        }
        before.iter().map(|old| old.name()).filter(|name| named(name).is_none()).map(str::to_owned).collect()
    }

    /// Returns the module with this name: its current generation, or the one that takes over from a quarantined one.
    pub fn named(&self, name: &str) -> Option<Arc<Module>> {
        self.table.read().iter().find(|module| module.name() == name).map(Module::standing)
    }

    /// The module that answers `extension`, without the dot, over `transport`: its current generation, or the one
    /// that takes over from a generation under quarantine.
    pub fn find(&self, extension: &str, transport: Transport) -> Option<Arc<Module>> {
        find(&self.table.read(), extension, transport)
    }

    /// All modules, in the order of the config.
    pub fn modules(&self) -> Vec<Arc<Module>> {
        self.table.read().to_vec()
    }

    /// All generations whose libraries are mapped, the oldest first.
    pub fn generations(&self) -> Vec<Generation> {
        let table = self.table.read().clone();
        let mut known = self.known.lock();
        known.retain(|known| known.code.is_alive());
        known.iter().map(|known| known.now(&table)).collect()
    }

    /// Everything before it is mapped, its place beside the modules of `others` included.
    fn check(
        &self,
        name: &str,
        others: &[Outcome],
        modules: &Modules,
        default_dir: &Path,
        probe_program: &Path,
        quarantined: Quarantined,
    ) -> Outcome {
        let began = Instant::now();
        let dir = modules.dir.as_deref().unwrap_or(default_dir);
        let (file, result) = match self.locate(name, dir, modules, probe_program) {
            Ok(file) => {
                let checked = self.check_file(name, &file, modules, probe_program, quarantined);
                let placed = checked.and_then(|change| {
                    claim(name, change.description(), others)?;
                    Ok(change)
                });
                (file, placed)
            }
            Err((file, error)) => (file, Err(error)),
        };
        Outcome { name: name.to_owned(), file, result, took: began.elapsed() }
    }

    /// The file of a module; with an error, where it should have been.
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
        self.file_of(name, dir, modules, probe_program).ok_or((path, LoadError::NotFound { other }))
    }

    fn check_file(
        &self,
        name: &str,
        path: &Path,
        modules: &Modules,
        probe_program: &Path,
        quarantined: Quarantined,
    ) -> Result<Change, LoadError> {
        let staged = self.stage.stage(name, path)?;
        let isolated = |own: &&OwnModule| own.name == name && own.isolation == Isolation::Process;
        let allowance = modules
            .own
            .iter()
            .find(isolated)
            .map(|own| Allowance { max_output: modules.max_output, max_memory: own.max_memory });
        let same = |module: &&Arc<Module>| {
            let same_build = || module.staged().is_some_and(|running| running.equals(&staged));
            let same_rules = module.terms().same_rules(&terms(modules));
            let same_home = module.allowance() == allowance.as_ref();
            module.name() == name && same_rules && same_home && same_build()
        };
        let table = self.table.read().clone();
        let stays = |module: &&Arc<Module>| !module.is_quarantined() || quarantined == Quarantined::Stays;
        if let Some(module) = table.iter().find(same).filter(stays) {
            return Ok(Change::Unchanged(module.clone()));
        }
        let Some(allowance) = allowance else {
            let description = probe(probe_program, &staged)?;
            return Ok(Change::Checked(Candidate(Passed::Tried(staged, Arc::new(description)))));
        };
        // Its process is the trial too.
        let launch = Launch {
            name: name.to_owned(),
            program: probe_program.to_owned(),
            file: staged,
            allowance,
            call_limit: modules.call_timeout,
            log: Arc::default(),
        };
        let terms = Terms { generation: self.next_generation(), ..terms(modules) };
        Ok(Change::Checked(Candidate(Passed::Started(process::start(launch, &terms)?))))
    }

    /// The library of another file name that has the module `name` in it. Only files that export what a module exports
    /// are tried, each in a child process; those that are refused there are passed over. None for a module with a
    /// process of its own: the trial is not as strict as that.
    fn file_of(&self, name: &str, dir: &Path, modules: &Modules, probe_program: &Path) -> Option<PathBuf> {
        let isolated: Vec<&str> = modules
            .own
            .iter()
            .filter(|own| own.isolation == Isolation::Process)
            .map(|own| &*own.name)
            .collect();
        if isolated.contains(&name) {
            return None;
        }
        let entries = dir.read_dir().ok()?.filter_map(Result::ok).map(|entry| entry.path());
        let of_isolated =
            |file: &Path| isolated.iter().flat_map(|name| file_names(name)).any(|name| file.ends_with(name));
        let mut files: Vec<_> = entries.filter(|file| is_library(file) && !of_isolated(file)).collect();
        files.sort();
        files.into_iter().find(|file| {
            let tried = self.stage.stage_module(name, file).and_then(|file| probe(probe_program, &file));
            tried.is_ok_and(|found| found.name == name)
        })
    }

    /// Maps a candidate; leaves every other outcome as it is.
    fn load_one(&self, outcome: Outcome, modules: &Modules) -> Outcome {
        let Outcome { name, file, result: Ok(Change::Checked(candidate)), took } = outcome else {
            return outcome;
        };
        let began = Instant::now();
        let loaded = self.load_candidate(candidate, modules);
        Outcome { name, file, result: loaded.map(Change::Loaded), took: took + began.elapsed() }
    }

    fn load_candidate(&self, candidate: Candidate, modules: &Modules) -> Result<Arc<Module>, LoadError> {
        let module = match candidate.0 {
            Passed::Tried(staged, description) => {
                let terms = Terms { generation: self.next_generation(), ..terms(modules) };
                let module = load_module(staged, &terms)?;
                if *module.description() != description {
                    return Err(LoadError::Unsteady);
                }
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

impl Known {
    fn new(module: &Arc<Module>) -> Known {
        let facts = Generation {
            name: module.name().to_owned(),
            version: module.version().to_owned(),
            abi: module.abi(),
            extensions: module.extensions().to_vec(),
            transports: module.transports().to_vec(),
            number: module.generation(),
            file: module.origin().map(|origin| origin.file.clone()).unwrap_or_default(),
            since: module.since(),
            memory: module.origin().map_or(0, |origin| origin.memory),
            faults: 0,
            standing: Standing::Superseded,
        };
        Known {
            facts,
            module: Arc::downgrade(module),
            code: module.downgrade(),
            faults: module.fault_counter().clone(),
        }
    }

    fn now(&self, table: &Table) -> Generation {
        let is = |module: &Arc<Module>| std::ptr::eq(Arc::as_ptr(module), self.module.as_ptr());
        let standing = match self.module.upgrade() {
            Some(module) if module.is_quarantined() => Standing::Quarantined,
            Some(_) if table.iter().any(|module| is(&module.standing())) => Standing::Current,
            Some(_) if table.iter().any(|module| module.fallback().is_some_and(|module| is(&module))) => {
                Standing::Fallback
            }
            _ => Standing::Superseded,
        };
        Generation { faults: self.faults.load(Ordering::Relaxed), standing, ..self.facts.clone() }
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

/// Whether a file is a library by its name.
fn is_library(file: &Path) -> bool {
    let name = file.file_name().and_then(|name| name.to_str());
    name.is_some_and(|name| name.starts_with("lib") && name.ends_with(".so"))
}

/// Whether a module may be called `name`, and answers what none of `others` does.
fn claim(name: &str, description: &Description, others: &[Outcome]) -> Result<(), LoadError> {
    if description.name != name {
        return Err(LoadError::NameMismatch { found: description.name.clone() });
    }
    for extension in &description.extensions {
        for &transport in &description.transports {
            if let Some(taken) = claimed(others, extension, transport) {
                return Err(LoadError::Taken {
                    extension: extension.clone(),
                    transport,
                    by: taken.name.clone(),
                });
            }
        }
    }
    Ok(())
}

fn claimed<'a>(
    outcomes: &'a [Outcome],
    extension: &str,
    transport: Transport,
) -> Option<&'a Arc<Description>> {
    let good = outcomes.iter().filter_map(|outcome| outcome.result.as_ref().ok());
    good.map(Change::description).find(|description| description.answers(extension, transport))
}

fn find(table: &Table, extension: &str, transport: Transport) -> Option<Arc<Module>> {
    table.iter().find(|module| module.description().answers(extension, transport)).map(Module::standing)
}

/// What is loaded, in the order of the config.
fn table_of(outcomes: &[Outcome]) -> Table {
    let loaded = |outcome: &Outcome| match &outcome.result {
        Ok(Change::Unchanged(module) | Change::Loaded(module)) => Some(module.clone()),
        Ok(Change::Checked(_)) | Err(_) => None,
    };
    outcomes.iter().filter_map(loaded).collect()
}

fn file_names(name: &str) -> [String; 2] {
    let name = name.replace('-', "_");
    [format!("libremuxd_{name}.so"), format!("lib{name}.so")]
}

/// The rule of `FormatInfo::name`; it also keeps the name from leading out of the directory.
fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}
