//! Remux job: feeds a mount's remuxer on the worker pool, one batch of tags at a time.
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

use parking_lot::Mutex;
use tracing::{info, warn};

use super::entries::{block_role, config_slot};
use super::faults::{Consequence, PROOF};
use super::fill::{EndReason, Epoch, Fill};
use super::remuxer::{CheckedRemuxer, Start};
use super::ring::{EntryRole, JoinAt, Pace, Reader};
use super::tracks::Codecs;
use crate::media::{Packet, Tag, TagKind, Tracks};
use crate::module::{CallWatch, Job, Module, ModuleFault, OutBlock, Pool, Recipe, Task};

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

/// The working set of a job.
#[derive(Debug)]
struct Work {
    tags: Reader<Tag>,
    remuxer: Option<CheckedRemuxer>,
    /// The configurations in force, by slot, as they came.
    configs: Vec<(u8, Tag)>,
    /// Codecs at the position of `tags`, which lag behind those of the stream.
    codecs: Codecs,
    /// Tracks at the position of `tags`, as its newest frame reports them.
    tracks: Tracks,
    /// The format could carry a track at an earlier position.
    carried: bool,
}

impl RemuxJob {
    /// Starts a job that fills a mount, from join point `at` of the stream on.
    pub(super) fn spawn(fill: &Arc<Fill>, at: JoinAt, pool: &Arc<Pool>) {
        let Some(epoch) = fill.begin() else { return };
        let source = fill.source();
        let tags = if fill.called().is_audio_only() { source.audio() } else { source.tags() };
        let work = Work {
            tags: tags.reader(at, Pace::Each),
            remuxer: None,
            configs: Vec::new(),
            codecs: Codecs::default(),
            tracks: Tracks::UNKNOWN,
            carried: false,
        };
        let note = fill.called().crash_note(source.key());
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

    fn run(&self, waker: &Waker, watch: &CallWatch) {
        let Some(mut work) = self.work.lock().take() else { return };
        watch.note(&self.note.lock());
        if !self.feed_batch(&mut work, waker, watch) {
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
    /// Feeds the next batch. Returns whether the job is over.
    fn feed_batch(&self, work: &mut Work, waker: &Waker, watch: &CallWatch) -> bool {
        if !self.is_current() {
            return true;
        }
        let Some(recipe) = self.fill.settle() else { return true };
        let tags = match work.tags.poll_read(&mut Context::from_waker(waker)) {
            Poll::Pending => return false,
            Poll::Ready(Some(tags)) => tags,
            Poll::Ready(None) => {
                self.finish(work, EndReason::StreamEnded, watch);
                return true;
            }
        };
        let beyond = tags.iter().position(|tag| work.is_beyond(tag, recipe.module()));
        for tag in &tags[..beyond.unwrap_or(tags.len())] {
            // At each tag, since a fault may have changed the generation.
            let Some(recipe) = self.fill.settle() else { return true };
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
        }
        if beyond.is_some() {
            info!(stream = %self.fill.source().key(), module = %recipe.module().name(), "no codec left to carry");
            self.finish(work, EndReason::Unsupported, watch);
            return true;
        }
        // One batch a run, so that jobs share the workers fairly.
        waker.wake_by_ref();
        false
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
                None => self.start(work, start, recipe, watch),
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
        let Err((module, fault)) = self.start(work, start, recipe, watch) else {
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
        self.start(work, start, &before, watch)
    }

    /// Starts a remuxer at a join point.
    fn start(
        &self,
        work: &mut Work,
        start: Start<'_>,
        recipe: &Arc<Recipe>,
        watch: &CallWatch,
    ) -> Result<(), (Arc<Module>, ModuleFault)> {
        if !self.is_current() {
            return Ok(());
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
        // Kept even if the job must end, so that it is freed in the end.
        work.remuxer = Some(remuxer);
        self.fill.start(self.epoch, recipe.module(), renewed, out);
        Ok(())
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

    /// Sends what the remuxer still holds and ends the mount.
    fn finish(&self, work: &mut Work, reason: EndReason, watch: &CallWatch) {
        if let Some(mut remuxer) = work.remuxer.take() {
            let (out, result) = remuxer.finish(watch);
            self.fill.push(self.epoch, out);
            self.free(remuxer, result, watch);
        }
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

impl Work {
    /// Records a configuration for later remuxers.
    fn note_config(&mut self, tag: &Tag) {
        if let Some(slot) = config_slot(tag) {
            match self.configs.binary_search_by_key(&slot, |(slot, _)| *slot) {
                Ok(at) => self.configs[at].1 = tag.clone(),
                Err(at) => self.configs.insert(at, (slot, tag.clone())),
            }
        }
    }

    /// Whether from `tag` on the stream has no codec that the format can carry, after having had one.
    fn is_beyond(&mut self, tag: &Tag, module: &Module) -> bool {
        self.codecs.add(tag);
        // A configuration that is replayed reports the tracks of an earlier position.
        if config_slot(tag).is_none() {
            let before = std::mem::replace(&mut self.tracks, tag.tracks);
            self.codecs.remove_ended(before, tag.tracks);
        }
        let carries = self.codecs.are_carried_by(module);
        self.carried |= carries;
        self.carried && !carries
    }
}

/// Whether a remuxer of `module` can start at `tag`.
fn is_join(tag: &Tag, module: &Module) -> bool {
    if tag.header.packet != Packet::CODED_FRAME {
        return false;
    }
    match tag.kind {
        TagKind::VIDEO => tag.header.keyframe,
        // An empty frame stands for silence.
        _ if tag.header.data_len == 0 => false,
        _ => module.video_codecs().is_empty() || tag.tracks.video() != Some(true),
    }
}

fn is_unsupported(fault: &ModuleFault) -> bool {
    matches!(fault, ModuleFault::Unsupported { .. })
}

#[cfg(test)]
mod tests;
