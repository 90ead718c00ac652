//! Steps of loading a module, in their order.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Time limit for loading and self-test in a child process.
pub const PROBE_LIMIT: Duration = Duration::from_millis(1500);

/// A step of loading a module. Each is safe only after the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Step {
    /// Finds the file and reads it, once.
    Stage,
    /// Checks its headers and everything that the dynamic linker follows.
    Elf,
    /// Loads it in a child process.
    Probe,
    /// Maps it and reads how it was built.
    Preflight,
    /// Compares the types of the interface.
    Layout,
    /// Reads its description.
    Description,
    /// Remuxes a built-in sequence of tags in the child process.
    SelfTest,
    /// Compares its name and extensions with those of the other modules.
    Registry,
}

impl Step {
    /// All steps in their order.
    pub const ALL: [Step; 8] = [
        Step::Stage,
        Step::Elf,
        Step::Probe,
        Step::Preflight,
        Step::Layout,
        Step::Description,
        Step::SelfTest,
        Step::Registry,
    ];

    /// Its name in messages.
    pub fn name(self) -> &'static str {
        match self {
            Step::Stage => "stage",
            Step::Elf => "elf",
            Step::Probe => "probe",
            Step::Preflight => "preflight",
            Step::Layout => "layout",
            Step::Description => "description",
            Step::SelfTest => "self-test",
            Step::Registry => "registry",
        }
    }

    /// Returns the step with this name.
    pub fn by_name(name: &str) -> Option<Step> {
        Step::ALL.into_iter().find(|step| step.name() == name)
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A step of loading, in which a child process can end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trial {
    /// It was loading the module.
    Loading,
    /// It was playing the self-test to the module.
    SelfTest,
}

impl fmt::Display for Trial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Trial::Loading => "loading it",
            Trial::SelfTest => "playing the self-test to it",
        })
    }
}
