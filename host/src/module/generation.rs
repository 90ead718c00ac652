//! Generations: the loaded versions of modules, as operators see them.

use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::SystemTime;

use remuxd_plugin_api::Transport;

use super::evidence::OffReason;
use super::loaded::{Counters, Module, WeakCode};

/// A generation that was loaded once, without a hold on it.
#[derive(Debug)]
pub struct Known {
    facts: Generation,
    module: Weak<Module>,
    code: WeakCode,
    counters: Arc<Counters>,
}

/// Counters of the remuxers of a module and of the viewers of their mounts.
#[derive(Clone, Copy, Debug, Default)]
pub struct ModuleCounts {
    /// Faults of remuxers.
    pub faults: u64,
    /// Those of them that are calls over `modules.call_timeout`.
    pub hung_calls: u64,
    /// Times that a viewer fell behind and moved to a newer keyframe.
    pub skips: u64,
    /// Times that a mount was too slow for its stream and moved to a newer keyframe.
    pub lag_skips: u64,
}

impl ModuleCounts {
    /// Adds those of another generation.
    pub fn add(&mut self, other: ModuleCounts) {
        self.faults += other.faults;
        self.hung_calls += other.hung_calls;
        self.skips += other.skips;
        self.lag_skips += other.lag_skips;
    }
}

/// A generation whose code is still loaded.
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
    /// Its number.
    pub number: u64,
    /// The operator's file.
    pub file: PathBuf,
    /// When it was loaded.
    pub since: SystemTime,
    /// Address space of its image in bytes.
    pub memory: u64,
    /// Number of faults of its remuxers so far.
    pub faults: u64,
    /// Number of times that a viewer of its mounts fell behind and moved to a newer keyframe.
    pub skips: u64,
    /// Number of times that a mount was too slow for its stream and moved to a newer keyframe.
    pub lag_skips: u64,
    /// Its standing.
    pub standing: Standing,
    /// Why it is switched off, or runs in another way than the config says.
    pub reason: Option<String>,
}

/// The standing of a generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It serves new viewers.
    Current,
    /// It serves the streams on which the current one fails, and takes over if that is switched off.
    Fallback,
    /// It was worse than the one before it, which took over again.
    RolledBack,
    /// It failed its self-test.
    Off,
    /// It serves its remaining viewers, if any.
    Superseded,
}

impl Known {
    pub fn new(module: &Arc<Module>) -> Known {
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
            skips: 0,
            lag_skips: 0,
            standing: Standing::Superseded,
            reason: None,
        };
        Known {
            facts,
            module: Arc::downgrade(module),
            code: module.downgrade(),
            counters: module.counters().clone(),
        }
    }

    /// The module's name.
    pub fn name(&self) -> &str {
        &self.facts.name
    }

    /// Its counters.
    pub fn counts(&self) -> ModuleCounts {
        let Counters { faults, hung_calls, skips, lag_skips } = &*self.counters;
        let [faults, hung_calls, skips, lag_skips] =
            [faults, hung_calls, skips, lag_skips].map(|count| count.load(Ordering::Relaxed));
        ModuleCounts { faults, hung_calls, skips, lag_skips }
    }

    /// Whether its code is still loaded.
    pub fn is_alive(&self) -> bool {
        self.code.is_alive()
    }

    /// Returns the generation as it is now, beside the modules of `table`.
    pub fn now(&self, table: &[Arc<Module>]) -> Generation {
        let is = |module: &Arc<Module>| std::ptr::eq(Arc::as_ptr(module), self.module.as_ptr());
        let standing = match self.module.upgrade() {
            Some(module) if module.is_off() => match module.off_reason() {
                Some(OffReason::Worse { .. }) => Standing::RolledBack,
                _ => Standing::Off,
            },
            Some(_) if table.iter().any(|module| is(&module.standing())) => Standing::Current,
            Some(_) if table.iter().any(|module| module.fallback().is_some_and(|module| is(&module))) => {
                Standing::Fallback
            }
            _ => Standing::Superseded,
        };
        let ModuleCounts { faults, skips, lag_skips, .. } = self.counts();
        let reason = self.module.upgrade().and_then(|module| module.note());
        Generation { faults, skips, lag_skips, standing, reason, ..self.facts.clone() }
    }
}
