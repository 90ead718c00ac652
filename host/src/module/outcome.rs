//! Outcomes of a load or reload for each module, before and after it is mapped.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use remuxd_plugin_api::Transport;

use super::description::Description;
use super::error::LoadError;
use super::loaded::Module;
use super::process::Launch;
use super::step::Step;

/// A module that was not loaded.
#[derive(Debug)]
pub struct LoadFailure {
    /// The module's name, as `modules.load` has it.
    pub name: String,
    /// The file in which it was expected.
    pub file: PathBuf,
    /// The reason.
    pub error: LoadError,
}

impl fmt::Display for LoadFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "module {}: {}: {}", self.name, self.file.display(), self.error)
    }
}

/// The outcome for one name of `modules.load`.
#[derive(Debug)]
pub struct Outcome {
    /// The name.
    pub name: String,
    /// The file in which it was expected.
    pub file: PathBuf,
    /// The change, or the reason for none.
    pub result: Result<Change, LoadError>,
    /// Time that it took.
    pub took: Duration,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "module {}: {}", self.name, self.file.display())?;
        self.result.as_ref().err().map_or(Ok(()), |error| write!(f, ": {error}"))
    }
}

impl Outcome {
    /// Whether the file is missing or cannot be read.
    pub fn is_unreadable(&self) -> bool {
        self.result.as_ref().is_err_and(|error| error.step() == Step::Stage)
    }
}

/// The change that a reload makes to a module.
#[derive(Debug)]
pub enum Change {
    /// The current generation stays in use.
    Unchanged(Arc<Module>),
    /// It passed all checks and is not loaded: another module was refused, or it is a dry run.
    Checked(CheckedModule),
    /// A new generation.
    Loaded(Arc<Module>),
}

impl Change {
    /// Whether there is a new generation.
    pub fn is_new(&self) -> bool {
        !matches!(self, Change::Unchanged(_))
    }

    /// The module's description.
    pub fn description(&self) -> &Arc<Description> {
        match self {
            Change::Unchanged(module)
            | Change::Loaded(module)
            | Change::Checked(CheckedModule(Passed::Started(module))) => module.description(),
            Change::Checked(CheckedModule(Passed::Tried(_, description))) => description,
        }
    }
}

/// A module that passed all checks and has no viewers yet. No code of it is in this process.
#[derive(Debug)]
pub struct CheckedModule(pub(super) Passed);

#[derive(Debug)]
pub(super) enum Passed {
    /// It was tried in a child process that has ended.
    Tried(Launch, Arc<Description>),
    /// It runs in a process of its own already.
    Started(Arc<Module>),
}

/// Treatment of the unchanged file of a generation that is switched off, or in whose calls the last host ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffFile {
    /// It is loaded as the config says, at the operator's request.
    LoadAgain,
    /// It stays switched off, or in a process of its own.
    StaysOff,
}

/// The outcomes of a reload so far.
#[derive(Debug)]
pub struct Prepared {
    pub(super) outcomes: Vec<Outcome>,
    /// Those of `modules.optional` whose files cannot be read.
    pub(super) missing: Vec<Outcome>,
}

impl Prepared {
    /// One outcome for each name, in the order of the config, without [`missing`](Self::missing).
    pub fn outcomes(&self) -> &[Outcome] {
        &self.outcomes
    }

    /// Returns the description of the module that answers `extension`, without the dot, over `transport`.
    pub fn find(&self, extension: &str, transport: Transport) -> Option<&Arc<Description>> {
        claimed(&self.outcomes, extension, transport)
    }

    /// Returns the outcomes of the modules that were refused.
    pub fn failures(&self) -> impl Iterator<Item = &Outcome> {
        self.outcomes.iter().filter(|outcome| outcome.result.is_err())
    }

    /// Returns the outcomes of optional modules whose files cannot be read. They are no failures.
    pub fn missing(&self) -> &[Outcome] {
        &self.missing
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
        self.outcomes.iter().any(|outcome| outcome.result.as_ref().is_ok_and(Change::is_new))
    }
}

/// Checks that a module is named `name` and answers nothing that one of `others` answers.
pub fn claim(name: &str, description: &Description, others: &[Outcome]) -> Result<(), LoadError> {
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

/// Returns the loaded modules, in the order of the config.
pub fn table_of(outcomes: &[Outcome]) -> Vec<Arc<Module>> {
    let loaded = |outcome: &Outcome| match &outcome.result {
        Ok(Change::Unchanged(module) | Change::Loaded(module)) => Some(module.clone()),
        Ok(Change::Checked(_)) | Err(_) => None,
    };
    outcomes.iter().filter_map(loaded).collect()
}
