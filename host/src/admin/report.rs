//! Report: how a reload went, for the log, the API and the command line.

use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::module::{Change, Outcome};

/// How a reload went.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct Report {
    /// What came of it.
    pub verdict: Verdict,
    /// Whether it was to change nothing.
    pub dry_run: bool,
    /// How long it took, in milliseconds.
    pub took_ms: f64,
    /// What became of each module, in the order of the config, and behind these of those that are no longer in it.
    pub modules: Vec<ModuleReport>,
    /// Live mounts that go over to a new generation at their next join point.
    pub handed_over: usize,
    /// Live mounts that stay on an old generation until their viewers leave.
    pub draining: usize,
    /// Keys that changed in the file and count from the next start only.
    pub needs_restart: Vec<String>,
    /// The mistakes in the config file, as a page for a person; empty when there are none.
    pub mistakes: String,
}

/// What came of a reload.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// What is new is in force; of a dry run: would be.
    Applied,
    /// Nothing is new.
    Unchanged,
    /// Something is wrong with what is new. Everything stays as it was.
    Refused,
}

/// What became of one module.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct ModuleReport {
    /// Its name.
    pub name: String,
    /// `loaded`, `unchanged`, `checked` (good, but not loaded: another was refused, or it is a dry run), `refused` or
    /// `removed`.
    pub change: String,
    /// Its version, if it is good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Its generation, once it is loaded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,
    /// The file that it was looked for in; empty of one that is no longer in the config.
    pub file: String,
    /// The step that refused it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    /// Why it was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// How long it took, in milliseconds.
    pub took_ms: f64,
}

impl ModuleReport {
    pub(super) fn of(outcome: &Outcome) -> ModuleReport {
        let module = match &outcome.result {
            Ok(Change::Loaded(module) | Change::Unchanged(module)) => Some(module),
            Ok(Change::Checked(_)) | Err(_) => None,
        };
        let change = match &outcome.result {
            Ok(Change::Loaded(_)) => "loaded",
            Ok(Change::Unchanged(_)) => "unchanged",
            Ok(Change::Checked(_)) => "checked",
            Err(_) => "refused",
        };
        let error = outcome.result.as_ref().err();
        ModuleReport {
            name: outcome.name.clone(),
            change: change.to_owned(),
            version: outcome.result.as_ref().ok().map(|change| change.description().version.clone()),
            generation: module.map(|module| module.generation()),
            file: outcome.file.display().to_string(),
            step: error.map(|error| error.step().to_string()),
            reason: error.map(ToString::to_string),
            took_ms: outcome.took.as_secs_f64() * 1e3,
        }
    }

    pub(super) fn removed(name: &str) -> ModuleReport {
        ModuleReport {
            name: name.to_owned(),
            change: "removed".to_owned(),
            version: None,
            generation: None,
            file: String::new(),
            step: None,
            reason: None,
            took_ms: 0.0,
        }
    }
}

/// A line for one module: `ts  refused  at preflight: not a remuxd module`.
impl fmt::Display for ModuleReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<16} {:<10}", self.name, self.change)?;
        if let (Some(step), Some(reason)) = (&self.step, &self.reason) {
            return write!(f, " at {step}: {}: {reason}", self.file);
        }
        if let Some(version) = &self.version {
            write!(f, " {version:<10}")?;
        }
        if let Some(generation) = self.generation {
            write!(f, " generation {generation}")?;
            if self.change == "loaded" {
                let file = Path::new(&self.file).file_name().unwrap_or_default().to_string_lossy();
                write!(f, ", {file} in {:.0} ms", self.took_ms)?;
            }
        }
        Ok(())
    }
}

/// A page for a person: the mistakes, a line a module, and what it comes to.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.mistakes.is_empty() {
            writeln!(f, "{}", self.mistakes.trim_end())?;
        }
        for module in &self.modules {
            writeln!(f, "{}", module.to_string().trim_end())?;
        }
        for key in &self.needs_restart {
            writeln!(f, "{key} has changed, which counts from the next start")?;
        }
        let took = format_args!("{:.0} ms", self.took_ms);
        match (self.verdict, self.dry_run) {
            (Verdict::Applied, true) => write!(f, "would be reloaded ({took})"),
            (Verdict::Applied, false) => {
                let (handed_over, draining) = (self.handed_over, self.draining);
                write!(f, "reloaded in {took}; live mounts: {handed_over} handed over, {draining} draining")
            }
            (Verdict::Unchanged, _) => write!(f, "nothing has changed ({took})"),
            (Verdict::Refused, _) => write!(f, "refused; everything stays as it was ({took})"),
        }
    }
}
