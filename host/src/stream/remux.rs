//! Remux job: feeds a mount's remuxer on the worker pool, one turn at a time.
//!
//! A turn ends by time, at a tag that is no configuration; the tags that are left of the batch are read again in the next one.
//! A job whose module is too slow falls behind its stream, at most as far as a viewer may. Then its remuxer ends, and the next
//! one starts at the newest keyframe.
//!
//! A remuxer starts at a join point of the stream, after the configurations in force there: the first one of a mount, the
//! one after a fault, and the one that takes over from another generation. Only the last continues from its predecessor's
//! state, since only there no tag is left out between the two.
//!
//! Viewers who are there already have the configurations, and a position on the timeline. A remuxer that is not the mount's
//! first is fed the configurations as they came. If its blocks are those that viewers have, byte for byte, they are not sent
//! again. If not, the remuxer is made anew and fed the configurations with the time of the join point, so that viewers get
//! new ones and no timestamp goes back. Without a state its first frame is a discontinuity: it does not know what viewers have.
//!
//! A module call that hangs cannot be ended. Its job is abandoned (see [`Fill`]), and a new job continues at the next join
//! point. A mount ends when the stream has no track that its format can carry, whether the codecs or the module say so, and
//! when its remuxer writes another preamble: the next request starts another mount.

use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use tracing::{info, warn};

use super::entries::{block_role, config_slot};
use super::faults::{Consequence, PROOF};
use super::fill::{EndReason, Epoch, Fill};
use super::key::StreamKey;
use super::remuxer::{CheckedRemuxer, Start};
use super::ring::{EntryRole, JoinAt, Pace};
use crate::media::Tag;
use crate::module::{CallWatch, FaultNote, Job, Module, ModuleFault, OutBlock, Pool, Recipe, Task};
use crate::sync::Mutex;

mod work;

use self::work::{Work, is_join};

/// The job that feeds a remuxer.
#[derive(Debug)]
pub(super) struct RemuxJob {
    fill: Arc<Fill>,
    epoch: Epoch,
    pool: Weak<Pool>,
    /// `None` during a run, which takes it, so that no lock is held during module calls; and once the job is over, so that it
    /// holds no ring.
    work: Mutex<Option<Work>>,
    /// The text of the crash note of the module that it calls.
    note: Mutex<String>,
}

impl RemuxJob {
    /// Starts a job that fills a mount, from join point `at` of the stream on.
    pub(super) fn spawn(fill: &Arc<Fill>, at: JoinAt, pool: &Arc<Pool>) {
        let Some(epoch) = fill.begin() else { return };
        let tags = fill.tags();
        fill.set_position(tags.newest());
        let work = Work::new(tags.reader(at, Pace::Each));
        let note = fill.called().crash_note(fill.source().key());
        let job = RemuxJob {
            fill: fill.clone(),
            epoch,
            pool: Arc::downgrade(pool),
            work: Mutex::new(Some(work)),
            note: Mutex::new(note),
        };
        let task = Task::new(Arc::new(job), pool);
        fill.attach(epoch, Waker::from(task.clone()));
        task.schedule();
    }
}

impl Job for RemuxJob {
    fn name(&self) -> String {
        format!("{} of {}", self.fill.called().name(), self.fill.source().key())
    }

    fn module(&self) -> String {
        self.fill.called().name().to_owned()
    }

    fn run(&self, waker: &Waker, watch: &CallWatch) {
        let Some(mut work) = self.work.lock().take() else { return };
        watch.note(&self.note.lock());
        if !self.take_turn(&mut work, waker, watch) {
            *self.work.lock() = Some(work);
        } else if let Some(remuxer) = work.remuxer {
            self.free(remuxer, Ok(()), watch);
        }
    }

    fn on_panic(&self) {
        // Its working set is lost. The next request starts another mount.
        self.fill.end_by(self.epoch, EndReason::Outdated);
    }

    fn on_hang(&self, elapsed: Duration) {
        let Some(module) = self.fill.abandon(self.epoch) else { return };
        self.report_fault(&module, &ModuleFault::Hung { elapsed }, 0);
        if self.fill.settle().is_some()
            && let Some(pool) = self.pool.upgrade()
        {
            RemuxJob::spawn(&self.fill, JoinAt::Next, &pool);
        }
    }
}

impl RemuxJob {
    /// Feeds tags until the turn is over. Returns whether the job is over.
    fn take_turn(&self, work: &mut Work, waker: &Waker, watch: &CallWatch) -> bool {
        if !self.is_current() {
            return true;
        }
        if self.fill.settle().is_none() {
            return true;
        }
        let skipped = work.tags.skipped();
        let tags = match work.tags.poll_read(&mut Context::from_waker(waker)) {
            Poll::Pending => {
                if work.tags.is_joining() {
                    self.fill.set_position(self.fill.tags().newest());
                }
                return false;
            }
            Poll::Ready(Some(tags)) => tags,
            Poll::Ready(None) => {
                self.finish(work, EndReason::StreamEnded, watch);
                return true;
            }
        };
        if work.tags.skipped() > skipped {
            self.on_skip(work, watch);
        }
        for (index, tag) in tags.iter().enumerate() {
            // At each tag, since a fault may have changed the generation.
            let Some(recipe) = self.fill.settle() else { return true };
            if work.is_beyond(tag, recipe.module()) {
                info!(stream = %self.fill.source().key(), module = %recipe.module().name(), "no codec left to carry");
                self.finish(work, EndReason::Unsupported, watch);
                return true;
            }
            work.note_config(tag);
            let fed = self.feed(work, tag, &recipe, watch);
            let unsupported = matches!(&fed, Err((_, fault)) if is_unsupported(fault));
            if let Err((module, fault)) = fed {
                let ended = work.remuxer.take();
                let fed = ended.as_ref().map_or(0, CheckedRemuxer::fed);
                if let Some(remuxer) = ended {
                    remuxer.discard(watch);
                }
                self.fill.stop(self.epoch);
                self.report_fault(&module, &fault, fed);
            }
            if !self.is_current() {
                return true;
            }
            if unsupported {
                self.finish(work, EndReason::Unsupported, watch);
                return true;
            }
            if work.remuxer.as_ref().is_some_and(CheckedRemuxer::is_outdated) {
                info!(stream = %self.fill.source().key(), module = %recipe.module().name(), "responses begin anew");
                self.finish(work, EndReason::Outdated, watch);
                return true;
            }
            if config_slot(tag).is_none() {
                self.fill.set_position(Some(tag.dts));
                // Before the first tag that is none, configurations may be replayed ones.
                if watch.is_turn_over() {
                    work.tags.unread(tags.len() - index - 1);
                    break;
                }
            }
        }
        // At most one batch a turn.
        waker.wake_by_ref();
        false
    }

    /// Ends the remuxer of a job that fell behind: the tags continue at the newest keyframe, with all configurations.
    fn on_skip(&self, work: &mut Work, watch: &CallWatch) {
        self.fill.on_skip();
        work.configs.clear();
        self.end_remuxer(work, watch);
    }

    /// Feeds one tag; at a join point, to a remuxer of `recipe`.
    fn feed(
        &self,
        work: &mut Work,
        tag: &Tag,
        recipe: &Arc<Recipe>,
        watch: &CallWatch,
    ) -> Result<(), (Arc<Module>, ModuleFault)> {
        let is_current = |remuxer: &CheckedRemuxer| remuxer.recipe().equals(recipe);
        let current = work.remuxer.as_ref().is_some_and(is_current);
        let starts = !current && is_join(tag, recipe.module());
        // After a fault there is a pause.
        if starts && (work.remuxer.is_some() || self.fill.faults().may_start(Instant::now())) {
            let source = self.fill.source();
            let start = Start { source, join: tag, facts: source.facts(tag.dts), state: &[] };
            return match work.remuxer.take() {
                Some(old) => self.hand_over(old, work, start, recipe, watch),
                None => self.start(work, start, recipe, true, watch).map(drop),
            };
        }
        // No remuxer can use a tag before a join point.
        let Some(remuxer) = &mut work.remuxer else { return Ok(()) };
        let (out, result) = remuxer.tag(tag, watch);
        self.fill.push(self.epoch, out);
        let module = remuxer.recipe().module();
        result.map_err(|fault| (module.clone(), fault))?;
        if remuxer.fed().is_multiple_of(PROOF) {
            self.fill.faults().on_fed(module, remuxer.fed(), self.fill.source().key());
        }
        Ok(())
    }

    /// Replaces a remuxer by one of another generation at a join point, which only the new one gets. If the new one fails,
    /// a remuxer of the old generation continues.
    fn hand_over(
        &self,
        old: CheckedRemuxer,
        work: &mut Work,
        start: Start<'_>,
        recipe: &Arc<Recipe>,
        watch: &CallWatch,
    ) -> Result<(), (Arc<Module>, ModuleFault)> {
        let began = Instant::now();
        let before = old.recipe().clone();
        // A module that is switched off is not called again, except to free its remuxer.
        let state = if before.module().is_off() {
            self.free(old, Ok(()), watch);
            Vec::new()
        } else {
            self.retire(old, watch)
        };
        let start = Start { state: &state, ..start };
        let continues = before.options() == recipe.options();
        let started = self.start(work, start, recipe, continues, watch);
        if let Ok(false) = started {
            info!(
                stream = %self.fill.source().key(),
                module = %before.module().name(),
                "mount keeps its options for the viewers who are there"
            );
            self.fill.replace(recipe, &before);
            self.fill.drain();
            return self.start(work, start, &before, true, watch).map(drop);
        }
        let Err((module, fault)) = started else {
            if self.is_current() {
                info!(
                    stream = %self.fill.source().key(),
                    module = %recipe.module().name(),
                    from = before.module().generation(),
                    to = recipe.module().generation(),
                    took = ?began.elapsed(),
                    "mount handed over"
                );
            }
            return Ok(());
        };
        if before.module().is_off() || !self.is_current() {
            return Err((module, fault));
        }
        self.report_fault(&module, &fault, 0);
        if is_unsupported(&fault) {
            // The old generation keeps what it can carry.
            self.fill.replace(recipe, &before);
        }
        self.start(work, start, &before, true, watch).map(drop)
    }

    /// Starts a remuxer at a join point. Unless it `continues` with the options of the one before, it must begin with the same
    /// preamble: otherwise nothing is sent of it, and the result is false.
    fn start(
        &self,
        work: &mut Work,
        start: Start<'_>,
        recipe: &Arc<Recipe>,
        continues: bool,
        watch: &CallWatch,
    ) -> Result<bool, (Arc<Module>, ModuleFault)> {
        if !self.is_current() {
            return Ok(true);
        }
        self.set_called(recipe.module(), watch);
        let join = start.join;
        let fail = |fault| (recipe.module().clone(), fault);
        let configs: Vec<Tag> = work.configs.iter().map(|(_, config)| config.clone()).collect();
        let has_begun = !self.fill.blocks().is_untouched();
        let own = self.fill.faults().own_process(recipe.module());
        let make =
            |configs: &[Tag]| CheckedRemuxer::new(recipe, configs, start, has_begun, own.as_ref(), watch);
        let (mut remuxer, mut out) = make(&configs).map_err(fail)?;
        let mut renewed = Vec::new();
        if remuxer.is_outdated() {
            out.clear();
        } else if has_begun {
            if self.viewers_have(&out) {
                (out, renewed) = out.into_iter().partition(|block| block_role(block) == EntryRole::Preamble);
            } else {
                let now: Vec<Tag> =
                    configs.into_iter().map(|config| Tag { dts: join.dts, ..config }).collect();
                remuxer.free(watch).map_err(fail)?;
                (remuxer, out) = make(&now).map_err(fail)?;
                // Viewers get them at this time, so the next remuxer must write them so.
                work.configs.iter_mut().for_each(|(_, config)| config.dts = join.dts);
            }
        }
        remuxer.check(&mut out).map_err(fail)?;
        let mut join = join.clone();
        join.discontinuity |= has_begun && start.state.is_empty();
        let (more, result) = remuxer.tag(&join, watch);
        result.map_err(fail)?;
        out.extend(more);
        if !continues && has_begun && self.has_other_preamble(&out) {
            remuxer.free(watch).map_err(fail)?;
            return Ok(false);
        }
        // Kept even if the job must end, so that it is freed in the end.
        work.remuxer = Some(remuxer);
        self.fill.start(self.epoch, recipe.module(), renewed, out);
        Ok(true)
    }

    /// Whether `blocks` have a preamble that is not the one with which responses begin.
    fn has_other_preamble(&self, blocks: &[OutBlock]) -> bool {
        let now = self.fill.blocks().preamble();
        let bytes = |block: &OutBlock| block.parts.iter().flatten().copied().collect::<Vec<_>>();
        let mut preambles = blocks.iter().filter(|block| block_role(block) == EntryRole::Preamble);
        preambles.any(|block| now.as_ref().is_none_or(|now| bytes(now) != bytes(block)))
    }

    /// Whether `blocks` are configurations and preambles alone, and the configurations are those that viewers have.
    fn viewers_have(&self, blocks: &[OutBlock]) -> bool {
        let in_force = self.fill.blocks().configs();
        let equals =
            |one: &OutBlock, other: &OutBlock| one.parts.iter().flatten().eq(other.parts.iter().flatten());
        let known = |block: &OutBlock| match block_role(block) {
            EntryRole::Preamble => true,
            EntryRole::Config(track) => {
                in_force.iter().any(|(slot, config)| *slot == track && equals(block, config))
            }
            EntryRole::Join | EntryRole::Media => false,
        };
        let made = |track| blocks.iter().any(|block| block_role(block) == EntryRole::Config(track));
        blocks.iter().all(known) && in_force.iter().all(|&(track, _)| made(track))
    }

    /// Ends a remuxer that has a successor. Returns the state for the successor.
    fn retire(&self, mut old: CheckedRemuxer, watch: &CallWatch) -> Vec<u8> {
        self.set_called(old.recipe().module(), watch);
        let (out, finished) = old.finish(watch);
        self.fill.push(self.epoch, out);
        let (state, result) = match finished.and_then(|()| old.state(watch)) {
            Ok(state) => (state, Ok(())),
            Err(fault) => (Vec::new(), Err(fault)),
        };
        self.free(old, result, watch);
        state
    }

    /// Frees a remuxer whose last call returned `last`. At most one fault of the two is reported.
    fn free(&self, remuxer: CheckedRemuxer, last: Result<(), ModuleFault>, watch: &CallWatch) {
        let (module, fed) = (remuxer.recipe().module().clone(), remuxer.fed());
        self.set_called(&module, watch);
        let freed = match last {
            Ok(()) => remuxer.free(watch),
            Err(fault) => {
                remuxer.discard(watch);
                Err(fault)
            }
        };
        self.fill.stop(self.epoch);
        if let Err(fault) = freed {
            self.report_fault(&module, &fault, fed);
        }
    }

    /// Ends the remuxer, and sends what it still holds.
    fn end_remuxer(&self, work: &mut Work, watch: &CallWatch) {
        if let Some(mut remuxer) = work.remuxer.take() {
            let (out, result) = remuxer.finish(watch);
            self.fill.push(self.epoch, out);
            self.free(remuxer, result, watch);
        }
    }

    /// Ends the remuxer and the mount.
    fn finish(&self, work: &mut Work, reason: EndReason, watch: &CallWatch) {
        self.end_remuxer(work, watch);
        self.fill.end_by(self.epoch, reason);
    }

    /// Records a fault of a remuxer that has got `fed` tags, and closes the mount if there were too many. After a hang, which was
    /// recorded, those of an abandoned job are ignored.
    fn report_fault(&self, module: &Arc<Module>, fault: &ModuleFault, fed: u64) {
        let stream = self.fill.source().key();
        if is_unsupported(fault) {
            info!(%stream, module = %module.name(), %fault, "nothing to carry");
            return;
        }
        if let ModuleFault::OverBudget(over) = fault {
            info!(%stream, module = %module.name(), %over, "remuxer ended");
            return;
        }
        if matches!(fault, ModuleFault::Hung { .. }) || !self.fill.is_abandoned(self.epoch) {
            let generation = module.generation();
            warn!(%stream, module = %module.name(), generation, %fault, "remuxer ended");
            module.on_fault(&stream.to_string(), fault);
            if let Some(pool) = self.pool.upgrade() {
                let StreamKey { vhost, app, stream } = stream;
                pool.faults().tell(&FaultNote {
                    vhost,
                    app,
                    stream,
                    module: module.name(),
                    generation,
                    fault,
                });
            }
            let now = Instant::now();
            if self.fill.faults().on_fault(module, fault, fed, now) == Consequence::Close {
                let closed_for = self.fill.faults().closed_for(now);
                warn!(%stream, module = %module.name(), generation, ?closed_for, "mount closed after too many faults");
                self.fill.end(EndReason::Faults);
            }
        }
    }

    /// Records which module it calls from now on.
    fn set_called(&self, module: &Arc<Module>, watch: &CallWatch) {
        self.fill.set_called(self.epoch, module);
        let note = module.crash_note(self.fill.source().key());
        watch.note(&note);
        *self.note.lock() = note;
    }

    fn is_current(&self) -> bool {
        self.fill.is_current(self.epoch)
    }
}

fn is_unsupported(fault: &ModuleFault) -> bool {
    matches!(fault, ModuleFault::Unsupported { .. })
}

#[cfg(test)]
mod tests;
