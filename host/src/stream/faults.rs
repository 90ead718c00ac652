//! Faults of a module on one stream, and what follows for that stream.
//!
//! A fault ends its remuxer, and the next one starts at a join point after a pause that grows. A mount with too many faults in
//! a minute closes; after a pause a viewer may start it again, and the next fault closes it for twice as long. No other stream
//! is affected.
//!
//! Where the module has an earlier generation, the first fault starts a trial: that generation gets the stream. If it fails
//! too, the data are to blame, and the stream returns to the newer one. If it works, the stream stays with it, and the
//! newer generation is told so: several such streams [switch it off](Module::on_worse).
//!
//! Records are kept for the stream, not for the mount, so that a mount which ends and starts again has no new record. A viewer
//! can ask for variants, so each variant has its own.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use crate::module::{Module, ModuleFault, Options, OwnProcess, Recipe};
use crate::sync::Mutex;

/// Period over which faults are counted.
const PERIOD: Duration = Duration::from_secs(60);
/// Pause before a remuxer starts again after the third fault in the period. It doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// How long a mount is closed the first time. It doubles with each further time.
const FIRST_CLOSED: Duration = Duration::from_secs(5);
const LONGEST_CLOSED: Duration = Duration::from_secs(320);
/// Number of tags after which a generation works on a stream, unless the other one got more before its fault.
pub(super) const PROOF: u64 = 250;
/// Largest number of tags that a generation must get.
const LONGEST_PROOF: u64 = 20 * PROOF;
/// Number of records of a stream; the oldest goes first.
const MAX_RECORDS: usize = 64;

/// The records of a stream.
#[derive(Debug, Default)]
pub(super) struct Faults {
    records: Mutex<VecDeque<(Variant, Arc<FaultRecord>)>>,
}

/// A module and the values of its options.
type Variant = (String, Options);

fn find(records: &VecDeque<(Variant, Arc<FaultRecord>)>, recipe: &Recipe) -> Option<Arc<FaultRecord>> {
    let is = |(name, options): &Variant| name == recipe.module().name() && options == recipe.options();
    records.iter().find(|(variant, _)| is(variant)).map(|(_, record)| record.clone())
}

impl Faults {
    /// Returns the record of the module and options of `recipe`, for a mount that starts.
    pub(super) fn record(&self, recipe: &Recipe) -> Arc<FaultRecord> {
        let mut records = self.records.lock();
        if let Some(record) = find(&records, recipe) {
            return record;
        }
        let variant = (recipe.module().name().to_owned(), recipe.options().clone());
        if records.len() >= MAX_RECORDS {
            records.pop_front();
        }
        let record = Arc::<FaultRecord>::default();
        records.push_back((variant, record.clone()));
        record
    }

    /// For how much longer the mount of `recipe` is closed, if it is. Keeps no record of a recipe that nobody has watched.
    pub(super) fn closed_for(&self, recipe: &Recipe, now: Instant) -> Option<Duration> {
        let record = find(&self.records.lock(), recipe)?;
        record.closed_for(now)
    }
}

/// The faults of one module on one stream.
#[derive(Debug, Default)]
pub(super) struct FaultRecord {
    /// There was a fault: read before each tag, without the lock.
    is_touched: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Times of the faults within the last period.
    recent: VecDeque<Instant>,
    /// When the next remuxer may start.
    starts: Option<Instant>,
    closed: Option<Closed>,
    trial: Option<Trial>,
    /// The stream's own process, and the generation that it belongs to.
    own: Option<(u64, OwnProcess)>,
}

/// A mount that is closed, or was.
#[derive(Clone, Copy, Debug)]
struct Closed {
    until: Instant,
    pause: Duration,
}

/// The comparison of two generations.
#[derive(Debug)]
struct Trial {
    suspect: Weak<Module>,
    before: Weak<Module>,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// `before` gets the stream, and works once it has got this number of tags.
    Running { proof: u64 },
    /// `before` works.
    Worse,
    /// `before` had a fault too, or cannot take over.
    Alike,
}

/// The consequence of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Consequence {
    /// Another remuxer starts at a join point.
    Restart,
    /// The mount closes.
    Close,
}

impl FaultRecord {
    /// Records a fault of `module`, whose remuxer had got `fed` tags.
    pub(super) fn on_fault(
        &self,
        module: &Arc<Module>,
        fault: &ModuleFault,
        fed: u64,
        now: Instant,
    ) -> Consequence {
        // The remuxer that ended their common process reports its own fault.
        if *fault == ModuleFault::Bystander {
            return Consequence::Restart;
        }
        let mut state = self.state.lock();
        self.is_touched.store(true, Ordering::Release);
        if fault.ends_process() && !state.has_own(module) {
            match module.own_process() {
                Some(own) => state.own = Some((module.generation(), own)),
                // It must not end the process of others again.
                None if module.has_process() => return state.close(now),
                None => {}
            }
        }
        if state.starts_trial(module, fed) {
            return Consequence::Restart;
        }
        state.count(module.terms().max_faults as usize, now)
    }

    /// Returns the generation that fills the mount for which `module` is intended. It fills the mount too if it is intended itself.
    pub(super) fn choose(&self, module: &Arc<Module>) -> Arc<Module> {
        // First, since the trial may concern the generation that stands in for one that is switched off.
        let module = module.standing();
        if !self.is_touched.load(Ordering::Acquire) {
            return module;
        }
        let state = self.state.lock();
        let chosen = state.trial.as_ref().filter(|trial| trial.concerns(&module)).and_then(Trial::chosen);
        chosen.filter(|chosen| !chosen.is_off()).unwrap_or(module)
    }

    /// Ends the trial: the generation before cannot take over.
    pub(super) fn on_no_fallback(&self) {
        if let Some(trial) = &mut self.state.lock().trial {
            trial.stage = Stage::Alike;
        }
    }

    /// Takes note that a remuxer of `module` works after `fed` tags of `stream`. Called each [`PROOF`] tags.
    pub(super) fn on_fed(&self, module: &Arc<Module>, fed: u64, stream: &dyn std::fmt::Display) {
        if !self.is_touched.load(Ordering::Acquire) {
            return;
        }
        let suspect = self.state.lock().trial.as_mut().and_then(|trial| trial.prove(module, fed));
        if let Some(suspect) = suspect {
            suspect.on_worse(&stream.to_string());
        }
    }

    /// Whether a remuxer may start now.
    pub(super) fn may_start(&self, now: Instant) -> bool {
        !self.is_touched.load(Ordering::Acquire)
            || self.state.lock().starts.is_none_or(|starts| now >= starts)
    }

    /// For how much longer the mount is closed, if it is.
    pub(super) fn closed_for(&self, now: Instant) -> Option<Duration> {
        let closed = self.state.lock().closed?;
        Some(closed.until.saturating_duration_since(now)).filter(|left| !left.is_zero())
    }

    /// The process of its own in which remuxers of `module` run, if there is one.
    pub(super) fn own_process(&self, module: &Module) -> Option<OwnProcess> {
        if !self.is_touched.load(Ordering::Acquire) {
            return None;
        }
        let state = self.state.lock();
        state
            .own
            .as_ref()
            .filter(|(generation, _)| *generation == module.generation())
            .map(|(_, own)| own.clone())
    }
}

impl State {
    fn has_own(&self, module: &Module) -> bool {
        self.own.as_ref().is_some_and(|(generation, _)| *generation == module.generation())
    }

    /// Starts or ends a trial after a fault of `module`. Returns true if it starts: the stream now gets another generation.
    /// Faults count anew from the start and the end of a trial on.
    fn starts_trial(&mut self, module: &Arc<Module>, fed: u64) -> bool {
        if let Some(trial) = self.trial.as_mut().filter(|trial| trial.concerns(module)) {
            if matches!(trial.stage, Stage::Running { .. }) && trial.is_before(module) {
                trial.stage = Stage::Alike;
                self.recent.clear();
            }
            return false;
        }
        let Some(before) = module.fallback().filter(|before| !before.is_off()) else { return false };
        let proof = fed.clamp(PROOF, LONGEST_PROOF).next_multiple_of(PROOF);
        self.trial = Some(Trial {
            suspect: Arc::downgrade(module),
            before: Arc::downgrade(&before),
            stage: Stage::Running { proof },
        });
        self.recent.clear();
        self.starts = None;
        true
    }

    fn count(&mut self, max_faults: usize, now: Instant) -> Consequence {
        let is_old = |at: Instant| now.saturating_duration_since(at) > PERIOD;
        if self.closed.is_some_and(|closed| is_old(closed.until)) {
            self.closed = None;
        }
        self.recent.retain(|&at| !is_old(at));
        self.recent.push_back(now);
        // A mount that was closed gets one chance.
        if self.recent.len() > max_faults || self.closed.is_some() {
            return self.close(now);
        }
        self.starts = match self.recent.len() {
            0..3 => None,
            faults => Some(now + (FIRST_PAUSE * 2u32.pow((faults - 3).min(16) as u32)).min(LONGEST_PAUSE)),
        };
        Consequence::Restart
    }

    fn close(&mut self, now: Instant) -> Consequence {
        let pause = match self.closed {
            // Another mount of the stream closes at the same time.
            Some(closed) if now < closed.until => return Consequence::Close,
            Some(closed) => (closed.pause * 2).min(LONGEST_CLOSED),
            None => FIRST_CLOSED,
        };
        self.closed = Some(Closed { until: now + pause, pause });
        self.recent.clear();
        self.starts = None;
        Consequence::Close
    }
}

impl Trial {
    fn is_before(&self, module: &Arc<Module>) -> bool {
        std::ptr::eq(self.before.as_ptr(), Arc::as_ptr(module))
    }

    fn concerns(&self, module: &Arc<Module>) -> bool {
        self.is_before(module) || std::ptr::eq(self.suspect.as_ptr(), Arc::as_ptr(module))
    }

    fn chosen(&self) -> Option<Arc<Module>> {
        match self.stage {
            Stage::Running { .. } | Stage::Worse => self.before.upgrade(),
            Stage::Alike => self.suspect.upgrade(),
        }
    }

    /// Returns the suspect if a remuxer of `module` has now proven that it is worse.
    fn prove(&mut self, module: &Arc<Module>, fed: u64) -> Option<Arc<Module>> {
        let proven = matches!(self.stage, Stage::Running { proof } if fed >= proof) && self.is_before(module);
        if !proven {
            return None;
        }
        self.stage = Stage::Worse;
        self.suspect.upgrade()
    }
}

#[cfg(test)]
mod tests;
