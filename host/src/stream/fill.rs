//! Fill: the ring of a live mount, and the state of the job that fills it.
//!
//! One job at a time may write to the ring: the one whose epoch is current. A module call that hangs cannot be ended, so
//! its job is abandoned: its epoch passes, and nothing that the call returns later reaches the ring or the state. Checking
//! the epoch and pushing to the ring are one step under the lock.
//!
//! The lock is never held during a module call; see the [layer's documentation](super) for its order.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::task::Waker;
use std::time::Instant;

use tracing::{info, warn};

use super::entries::block_role;
use super::error::HandoverError;
use super::faults::FaultRecord;
use super::ring::Ring;
use super::source::{Source, ring_limits};
use crate::log::LineLimit;
use crate::media::{Millis, Tag};
use crate::module::{Module, OutBlock, Recipe};
use crate::sync::{Mutex, MutexGuard};

/// The ring of a mount and what fills it.
#[derive(Debug)]
pub(super) struct Fill {
    source: Arc<Source>,
    blocks: Arc<Ring<OutBlock>>,
    /// The faults of the module on this stream.
    faults: Arc<FaultRecord>,
    /// Time up to which the stream's tags were fed or are not needed; `i64::MIN` before the first job.
    position: AtomicI64,
    /// Limits the lines about skips.
    skips: Mutex<LineLimit>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// The job that may write; earlier ones were abandoned.
    epoch: Epoch,
    phase: Phase,
    /// The recipe of the next remuxer.
    recipe: Arc<Recipe>,
    /// The module that the current job calls, or will call first.
    called: Arc<Module>,
    /// The mount keeps its generation until its last viewer leaves; new viewers get another mount.
    draining: bool,
    /// Schedules the current job.
    job: Option<Waker>,
}

/// Number of a job of a mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Epoch(u64);

#[derive(Debug)]
enum Phase {
    /// The current job waits for a join point, or is starting a remuxer there.
    Starting,
    /// A remuxer of this generation runs.
    Running(Arc<Module>),
    /// A call of the last job hangs, and its successor has not begun.
    Abandoned,
    /// The ring has ended.
    Ended(EndReason),
}

/// Why a mount ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndReason {
    /// The stream ended.
    StreamEnded,
    /// The stream has no track that the format can carry.
    Unsupported,
    /// The stream has changed so that the preamble which its viewers have no longer describes it. The next viewer starts another
    /// mount.
    Outdated,
    /// The module failed too often on this stream.
    Faults,
    /// The module is switched off, and there is no earlier generation to fall back to.
    SwitchedOff,
    /// It had no viewer for the vhost's `idle_timeout`.
    Idle,
    /// It was drained for longer than `modules.drain_timeout`.
    Drained,
}

impl Fill {
    pub(super) fn new(source: Arc<Source>, recipe: Recipe, history: Millis) -> Arc<Fill> {
        let faults = source.faults().record(&recipe);
        let state = State {
            epoch: Epoch(0),
            phase: Phase::Starting,
            called: recipe.module().clone(),
            recipe: Arc::new(recipe),
            draining: false,
            job: None,
        };
        let blocks = Ring::new(ring_limits(&source.vhost(), history));
        let position = AtomicI64::new(i64::MIN);
        Arc::new(Fill { source, blocks, faults, position, skips: Mutex::default(), state: Mutex::new(state) })
    }

    pub(super) fn source(&self) -> &Arc<Source> {
        &self.source
    }

    /// The tags that its jobs read.
    pub(super) fn tags(&self) -> &Arc<Ring<Tag>> {
        if self.called().is_audio_only() { self.source.audio() } else { self.source.tags() }
    }

    /// How far its remuxer is behind the stream.
    pub(super) fn lag(&self) -> Millis {
        let (position, newest) = (self.position.load(Ordering::Relaxed), self.tags().newest());
        let behind = newest.map_or(0, |newest| newest.0.saturating_sub(position).max(0));
        Millis(if position == i64::MIN { 0 } else { behind })
    }

    pub(super) fn blocks(&self) -> &Arc<Ring<OutBlock>> {
        &self.blocks
    }

    /// The faults of the module on this stream.
    pub(super) fn faults(&self) -> &FaultRecord {
        &self.faults
    }

    /// The recipe of the next remuxer, also if its generation is switched off.
    pub(super) fn recipe(&self) -> Arc<Recipe> {
        self.state.lock().recipe.clone()
    }

    /// The generation of the current remuxer.
    pub(super) fn running(&self) -> Option<Arc<Module>> {
        match &self.state.lock().phase {
            Phase::Running(module) => Some(module.clone()),
            Phase::Starting | Phase::Abandoned | Phase::Ended(_) => None,
        }
    }

    pub(super) fn end_reason(&self) -> Option<EndReason> {
        match self.state.lock().phase {
            Phase::Ended(reason) => Some(reason),
            Phase::Starting | Phase::Running(_) | Phase::Abandoned => None,
        }
    }

    pub(super) fn is_draining(&self) -> bool {
        self.state.lock().draining
    }

    /// Keeps the generation until the last viewer leaves.
    pub(super) fn drain(&self) {
        self.state.lock().draining = true;
    }

    /// Makes the next remuxer, which starts at the next join point, one of `module` with these options of the mount. Returns whether
    /// that is another one.
    pub(super) fn hand_over(
        &self,
        module: &Arc<Module>,
        options: &[(String, String)],
    ) -> Result<bool, HandoverError> {
        let now = self.recipe();
        let is_same = Arc::ptr_eq(now.module(), module) && now.set() == options;
        let next = if is_same { now } else { self.recipe_of(module, &now, options)? };
        let mut state = self.state.lock();
        state.draining = false;
        // Dropped after the lock: it may be the last owner of a library.
        let _before = std::mem::replace(&mut state.recipe, next);
        drop(state);
        Ok(!is_same)
    }

    /// Returns the recipe of the next remuxer. If its generation fails on this stream or is switched off, the good one before it
    /// takes over; without one the mount of a generation that is switched off ends, and the result is `None`.
    pub(super) fn settle(&self) -> Option<Arc<Recipe>> {
        let recipe = self.recipe();
        let chosen = self.faults.choose(recipe.module());
        if Arc::ptr_eq(&chosen, recipe.module()) && !chosen.is_off() {
            return Some(recipe);
        }
        let (stream, module) = (self.source.key(), recipe.module().name());
        if !chosen.is_off() {
            match self.recipe_of(&chosen, &recipe, recipe.set()) {
                Ok(next) => {
                    if self.replace(&recipe, &next) {
                        let (from, to) = (recipe.module().generation(), chosen.generation());
                        info!(%stream, module, from, to, "mount falls back");
                    }
                    return Some(self.recipe());
                }
                Err(error) => {
                    warn!(%stream, module, %error, "mount cannot fall back");
                    self.faults.on_no_fallback();
                }
            }
        }
        if recipe.module().is_off() {
            self.end(EndReason::SwitchedOff);
            return None;
        }
        Some(recipe)
    }

    /// Replaces the recipe of the next remuxer, unless it is no longer `old`.
    pub(super) fn replace(&self, old: &Arc<Recipe>, new: &Arc<Recipe>) -> bool {
        let mut state = self.state.lock();
        let is_old = Arc::ptr_eq(&state.recipe, old);
        if is_old {
            // `old` is still owned by the caller, so that no library is unmapped under the lock.
            state.recipe = new.clone();
        }
        is_old
    }

    /// Returns the recipe for another generation, with these options of the mount.
    fn recipe_of(
        &self,
        module: &Arc<Module>,
        now: &Recipe,
        options: &[(String, String)],
    ) -> Result<Arc<Recipe>, HandoverError> {
        let old = now.module();
        let answers = |extension| module.extensions().contains(extension);
        let codecs = self.source.codecs();
        if module.transports() != old.transports()
            || module.is_audio_only() != old.is_audio_only()
            || !old.extensions().iter().all(answers)
            || (codecs.are_carried_by(old) && !codecs.are_carried_by(module))
        {
            return Err(HandoverError::OtherFormat);
        }
        let next = now.with(module.clone(), options)?;
        match next.track() {
            track if track == now.track() => Ok(Arc::new(next)),
            track => Err(HandoverError::OtherTrack { track }),
        }
    }

    /// Ends the mount for its viewers, cleanly, and lets its job end. The first reason counts.
    pub(super) fn end(&self, reason: EndReason) {
        self.finish(self.state.lock(), reason);
    }

    fn finish(&self, mut state: MutexGuard<'_, State>, reason: EndReason) {
        let before = match state.phase {
            Phase::Ended(_) => None,
            _ => Some(std::mem::replace(&mut state.phase, Phase::Ended(reason))),
        };
        let job = state.job.take();
        drop(state);
        // Dropped after the lock: it may be the last owner of a library.
        drop(before);
        self.blocks.end();
        if let Some(job) = job {
            job.wake();
        }
    }
}

/// Used by the job of an epoch.
impl Fill {
    /// Begins the epoch of a new job. Returns `None` if the mount has ended.
    pub(super) fn begin(&self) -> Option<Epoch> {
        let mut state = self.state.lock();
        if matches!(state.phase, Phase::Ended(_)) {
            return None;
        }
        state.epoch.0 += 1;
        let before = std::mem::replace(&mut state.phase, Phase::Starting);
        let called = state.recipe.module().clone();
        let called = std::mem::replace(&mut state.called, called);
        let epoch = state.epoch;
        drop(state);
        drop((before, called));
        Some(epoch)
    }

    /// Sets the waker that schedules the job once the mount has ended.
    pub(super) fn attach(&self, epoch: Epoch, job: Waker) {
        if let Some(mut state) = self.current(epoch) {
            state.job = Some(job);
        }
    }

    /// Whether the job may go on.
    pub(super) fn is_current(&self, epoch: Epoch) -> bool {
        self.current(epoch).is_some()
    }

    /// Whether the job was abandoned because a call hung.
    pub(super) fn is_abandoned(&self, epoch: Epoch) -> bool {
        self.state.lock().epoch != epoch
    }

    /// The module that the current job calls.
    pub(super) fn called(&self) -> Arc<Module> {
        self.state.lock().called.clone()
    }

    /// Records which module the job calls from now on.
    pub(super) fn set_called(&self, epoch: Epoch, module: &Arc<Module>) {
        let mut state = self.state.lock();
        if state.epoch == epoch {
            let _before = std::mem::replace(&mut state.called, module.clone());
            drop(state);
        }
    }

    /// Abandons the job, whose call hangs. Returns the module that it called; `None` if it was abandoned before.
    pub(super) fn abandon(&self, epoch: Epoch) -> Option<Arc<Module>> {
        let mut state = self.state.lock();
        if state.epoch != epoch {
            return None;
        }
        state.epoch.0 += 1;
        let before = match state.phase {
            Phase::Ended(_) => None,
            _ => Some(std::mem::replace(&mut state.phase, Phase::Abandoned)),
        };
        let called = state.called.clone();
        let job = state.job.take();
        drop(state);
        drop((before, job));
        Some(called)
    }

    /// Records the time up to which the stream's tags were fed or are not needed. Without a time nothing changes.
    pub(super) fn set_position(&self, dts: Option<Millis>) {
        if let Some(dts) = dts {
            self.position.store(dts.0, Ordering::Relaxed);
        }
    }

    /// Counts that a job fell behind by more than its stream's ring holds, and reports it in a line every few seconds.
    pub(super) fn on_skip(&self) {
        let module = self.called();
        module.on_lag();
        let line = self.skips.lock().line(Instant::now());
        if let Some(before) = line {
            let (stream, recipe, lag) = (self.source.key(), self.recipe(), self.lag().0);
            let (mount, module) = (recipe.mount(), module.name());
            warn!(%stream, mount, module, lag_ms = lag, before, "mount is too slow for its stream; it skips to a keyframe");
        }
    }

    /// Appends blocks to the ring, if the job is current.
    pub(super) fn push(&self, epoch: Epoch, blocks: Vec<OutBlock>) {
        if let Some(_state) = self.current(epoch) {
            self.append(blocks);
        }
    }

    /// Enters the running phase with a new remuxer of `module`: replaces `renewed` configurations, which viewers have from
    /// another generation, so that it can be released, and appends the first `blocks`. Returns false if the job must end.
    pub(super) fn start(
        &self,
        epoch: Epoch,
        module: &Arc<Module>,
        renewed: Vec<OutBlock>,
        blocks: Vec<OutBlock>,
    ) -> bool {
        let Some(mut state) = self.current(epoch) else { return false };
        for block in renewed {
            self.blocks.renew_config(block.track, block);
        }
        self.append(blocks);
        let before = std::mem::replace(&mut state.phase, Phase::Running(module.clone()));
        drop(state);
        drop(before);
        true
    }

    /// Leaves the running phase: the job's remuxer has ended.
    pub(super) fn stop(&self, epoch: Epoch) {
        if let Some(mut state) = self.current(epoch) {
            let before = std::mem::replace(&mut state.phase, Phase::Starting);
            drop(state);
            drop(before);
        }
    }

    /// Ends the mount, if the job is current.
    pub(super) fn end_by(&self, epoch: Epoch, reason: EndReason) {
        if let Some(state) = self.current(epoch) {
            self.finish(state, reason);
        }
    }

    /// The locked state, if the job of `epoch` is current and the mount has not ended.
    fn current(&self, epoch: Epoch) -> Option<MutexGuard<'_, State>> {
        let state = self.state.lock();
        let current = state.epoch == epoch && !matches!(state.phase, Phase::Ended(_));
        current.then_some(state)
    }

    fn append(&self, blocks: Vec<OutBlock>) {
        for block in blocks {
            let role = block_role(&block);
            self.blocks.push(block, role);
        }
    }
}
