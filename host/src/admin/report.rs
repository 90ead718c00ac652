//! The report of a reload, for the log, the API and the command line.

use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::SystemTime;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::change::{ChangeReport, Effect};
use super::faults::time_of;
use crate::module::{Change, Outcome, Step};
use crate::net::ListenerChange;

/// The report of a reload. Made once the reload is over; its texts are for people.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ReloadReport {
    /// The outcome of the whole.
    pub outcome: ReloadOutcome,
    /// Whether it was a dry run, which changes nothing.
    pub dry_run: bool,
    /// Duration in milliseconds.
    pub took_ms: f64,
    /// The changes of the config, and whom each touches.
    pub changes: Vec<ChangeReport>,
    /// The listeners that are opened and closed.
    pub listeners: Vec<ListenerReport>,
    /// One entry for each module in the order of the config, then the removed ones.
    pub modules: Vec<ModuleReport>,
    /// Number of live mounts that go over to a new remuxer at their next join point; after a dry run: would.
    pub handed_over: usize,
    /// Number of live mounts that keep their remuxer until their viewers leave.
    pub draining: usize,
    /// The errors in the config file, rendered; empty when there are none.
    pub errors: String,
}

/// A past reload.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(super) struct ReloadEntry {
    /// Its number since the host was started; the first is 1.
    pub number: u64,
    /// When it was over, in RFC 3339.
    pub time: String,
    pub report: ReloadReport,
}

/// A part of the list of past reloads, the newest first. 20 are kept.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct ReloadList {
    /// The number of reloads that are kept.
    pub total: usize,
    /// The number of those before this part.
    pub start: usize,
    pub reloads: Vec<ReloadEntry>,
}

/// The newest reloads that were no dry runs.
#[derive(Debug, Default)]
pub(super) struct ReloadHistory {
    /// The newest last.
    newest: VecDeque<ReloadEntry>,
    count: u64,
}

/// Number of reports that are kept.
const MAX_REPORTS: usize = 20;

impl ReloadHistory {
    /// Adds a report; the oldest goes if there are too many.
    pub fn add(&mut self, report: ReloadReport) {
        self.count += 1;
        if self.newest.len() == MAX_REPORTS {
            self.newest.pop_front();
        }
        let time = time_of(SystemTime::now());
        self.newest.push_back(ReloadEntry { number: self.count, time, report });
    }

    /// Returns the newest report.
    pub fn last(&self) -> Option<&ReloadReport> {
        self.newest.back().map(|entry| &entry.report)
    }

    /// Returns those after the first `known` ones, the oldest first, and the number of all so far.
    pub fn since(&self, known: u64) -> (u64, Vec<ReloadEntry>) {
        (self.count, self.newest.iter().filter(|entry| entry.number > known).cloned().collect())
    }
}

/// The outcome of a reload.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum ReloadOutcome {
    /// The new config and modules are in use; after a dry run: would be.
    Applied,
    /// The candidate equals what runs.
    Unchanged,
    /// The config or a module was refused. Nothing has changed.
    Refused,
}

/// The report of a listener that is opened or closed.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, PartialEq, Eq)]
pub struct ListenerReport {
    /// Its protocol: `rtmp`, `rtmps`, `http`, `https`, `http_api` or `https_api`.
    pub kind: String,
    /// Its address; in a dry run that of the config, whose port may be 0.
    pub address: SocketAddr,
    /// Whether it is opened, else closed.
    pub opened: bool,
    /// The number of its connections, which stay open.
    pub connections: usize,
}

/// The report of one module.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ModuleReport {
    /// Its name.
    pub name: String,
    /// The outcome for this module.
    pub change: ModuleChange,
    /// Its version, unless it was refused or removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Its generation, if it is loaded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,
    /// The file that it was looked for in; empty if it was removed.
    pub file: PathBuf,
    /// The step that refused it.
    #[schemars(with = "Option<String>")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<Step>,
    /// Why it was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Number of viewers on generations that this one replaces or that are removed.
    pub viewers: usize,
    /// Duration in milliseconds.
    pub took_ms: f64,
}

/// The outcome of a reload for one module.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum ModuleChange {
    /// A new generation is loaded.
    Loaded,
    /// The current generation stays.
    Unchanged,
    /// It passed all checks but was not loaded: another module was refused, or this was a dry run.
    Checked,
    /// It was refused.
    Refused,
    /// It is no longer in the config.
    Removed,
}

impl ReloadReport {
    /// Returns the report of a reload that has been refused before anything was checked.
    pub(super) fn new(dry_run: bool) -> ReloadReport {
        ReloadReport {
            outcome: ReloadOutcome::Refused,
            dry_run,
            took_ms: 0.0,
            changes: Vec::new(),
            listeners: Vec::new(),
            modules: Vec::new(),
            handed_over: 0,
            draining: 0,
            errors: String::new(),
        }
    }

    /// Removes the values of the config.
    pub(super) fn hide_values(&mut self) {
        for change in &mut self.changes {
            (change.old, change.new) = (None, None);
        }
    }

    /// Returns the changes that take effect at the next start only.
    pub(super) fn needs_restart(&self) -> impl Iterator<Item = &ChangeReport> {
        self.changes.iter().filter(|change| change.effect == Effect::NextStart)
    }

    /// Returns whether a reload makes a change of the config.
    pub(super) fn has_changes(&self) -> bool {
        self.changes.iter().any(|change| change.effect != Effect::NextStart)
    }
}

impl ListenerReport {
    pub(super) fn of(change: &ListenerChange) -> ListenerReport {
        let ListenerChange { kind, address, opens, connections } = *change;
        ListenerReport { kind: kind.to_string(), address, opened: opens, connections }
    }
}

/// Formats one line: `http 127.0.0.1:8080: closed; 2 connections stay`.
impl fmt::Display for ListenerReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ListenerReport { kind, address, opened, connections } = self;
        match (opened, connections) {
            (true, _) => write!(f, "{kind} {address}: opened"),
            (false, 0) => write!(f, "{kind} {address}: closed"),
            (false, 1) => write!(f, "{kind} {address}: closed; 1 connection stays"),
            (false, _) => write!(f, "{kind} {address}: closed; {connections} connections stay"),
        }
    }
}

impl ModuleReport {
    /// Returns the report of an outcome; `viewers` is the number of those whom the module serves now.
    pub(super) fn of(outcome: &Outcome, viewers: usize) -> ModuleReport {
        let (change, generation) = match &outcome.result {
            Ok(Change::Loaded(module)) => (ModuleChange::Loaded, Some(module.generation())),
            Ok(Change::Unchanged(module)) => (ModuleChange::Unchanged, Some(module.generation())),
            Ok(Change::Checked(_)) => (ModuleChange::Checked, None),
            Err(_) => (ModuleChange::Refused, None),
        };
        let error = outcome.result.as_ref().err();
        ModuleReport {
            name: outcome.name.clone(),
            change,
            version: outcome.result.as_ref().ok().map(|change| change.description().version.clone()),
            generation,
            file: outcome.file.clone(),
            step: error.map(|error| error.step()),
            reason: error.map(ToString::to_string),
            viewers: if change == ModuleChange::Unchanged { 0 } else { viewers },
            took_ms: outcome.took.as_secs_f64() * 1e3,
        }
    }

    pub(super) fn removed(name: &str, viewers: usize) -> ModuleReport {
        ModuleReport {
            name: name.to_owned(),
            change: ModuleChange::Removed,
            version: None,
            generation: None,
            file: PathBuf::new(),
            step: None,
            reason: None,
            viewers,
            took_ms: 0.0,
        }
    }
}

impl ReloadOutcome {
    /// All outcomes.
    pub(super) const ALL: [ReloadOutcome; 3] =
        [ReloadOutcome::Applied, ReloadOutcome::Unchanged, ReloadOutcome::Refused];
}

impl fmt::Display for ReloadOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ReloadOutcome::Applied => "applied",
            ReloadOutcome::Unchanged => "unchanged",
            ReloadOutcome::Refused => "refused",
        })
    }
}

impl fmt::Display for ModuleChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            ModuleChange::Loaded => "loaded",
            ModuleChange::Unchanged => "unchanged",
            ModuleChange::Checked => "checked",
            ModuleChange::Refused => "refused",
            ModuleChange::Removed => "removed",
        })
    }
}

/// Formats one line for the module: `ts  refused  at preflight: not a remuxd module`.
impl fmt::Display for ModuleReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<16} {:<10}", self.name, self.change)?;
        if let (Some(step), Some(reason)) = (&self.step, &self.reason) {
            return write!(f, " at {step}: {}: {reason}", self.file.display());
        }
        if let Some(version) = &self.version {
            write!(f, " {version:<10}")?;
        }
        if let Some(generation) = self.generation {
            write!(f, " generation {generation}")?;
            if self.change == ModuleChange::Loaded {
                let file = self.file.file_name().unwrap_or_default().to_string_lossy();
                write!(f, ", {file} in {:.0} ms", self.took_ms)?;
            }
        }
        match self.viewers {
            0 => Ok(()),
            1 => f.write_str(", 1 viewer"),
            viewers => write!(f, ", {viewers} viewers"),
        }
    }
}

/// Formats the errors, a line for each change and module, and the outcome.
impl fmt::Display for ReloadReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.errors.is_empty() {
            writeln!(f, "{}", self.errors.trim_end())?;
        }
        for change in &self.changes {
            writeln!(f, "{change}")?;
        }
        for listener in &self.listeners {
            writeln!(f, "{listener}")?;
        }
        for module in &self.modules {
            writeln!(f, "{}", module.to_string().trim_end())?;
        }
        let took = format_args!("{:.0} ms", self.took_ms);
        match (self.outcome, self.dry_run) {
            (ReloadOutcome::Applied, true) => {
                let (handed_over, draining) = (self.handed_over, self.draining);
                write!(
                    f,
                    "would be reloaded ({took}); live mounts: {handed_over} handed over, {draining} draining"
                )
            }
            (ReloadOutcome::Applied, false) => {
                let (handed_over, draining) = (self.handed_over, self.draining);
                write!(f, "reloaded in {took}; live mounts: {handed_over} handed over, {draining} draining")
            }
            (ReloadOutcome::Unchanged, _) if self.changes.is_empty() => {
                write!(f, "nothing has changed ({took})")
            }
            (ReloadOutcome::Unchanged, _) => write!(f, "nothing else has changed ({took})"),
            (ReloadOutcome::Refused, _) => write!(f, "refused; nothing has changed ({took})"),
        }
    }
}
