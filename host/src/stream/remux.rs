//! Remux: the job that feeds a mount's remuxer, on the worker pool, one batch of tags at a time.
//!
//! A remuxer starts at a join point of the stream, after the configurations in force there: the first of a mount, the
//! one after a fault, and the one that takes over from another generation. Only the last goes on from its
//! predecessor's state, and there only is no tag left out between the two.
//!
//! Viewers who are there already have the configurations, and a place on the timeline. So a remuxer that is not the
//! mount's first is fed the configurations as they came, and if what it makes of them is what viewers have, byte for
//! byte, it goes no further. If not, the remuxer is made again and fed them with the time of the join point: viewers get
//! new ones then, and no timestamp goes back.
//!
//! Rings drop what is old by the blocks' own times, so a module that lies about them would keep others from being
//! dropped, or drop its own at once: a block must lie near the tags that it can be made of.
//!
//! A module call that hangs cannot be ended. The job is cut off from the ring then, for good, and another takes its
//! place. A mount whose stream has nothing that its format can carry ends, whether the codecs tell or the module: for its
//! viewers as if the stream had, and who has got nothing yet, or comes after, is told so.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tracing::{info, warn};

use crate::media::{Codec, Millis, Packet, Tag, TagKind};
use crate::module::{
    BlockFlags, CallWatch, Instance, Job, Module, ModuleFault, OutBlock, Recipe, StreamFacts,
};

use super::mount::{LiveMount, Shared};
use super::stream::{VIDEO_GONE, config_slot};
use super::{JoinAt, Pace, Reader, Role};

/// How far a block may lie from the tags that it can be made of, in milliseconds: a frame inside of a tag is later than
/// the tag, and one that was held may be earlier.
const SLACK: i64 = 10_000;

/// The job that feeds a remuxer.
#[derive(Debug)]
pub(super) struct Remux {
    shared: Arc<Shared>,
    mount: Weak<LiveMount>,
    stopped: AtomicBool,
    /// Whether blocks still go to the ring.
    open: Mutex<bool>,
    /// Whose code is called, or will be.
    called: Mutex<Arc<Module>>,
    /// `None` once stopped: a stopped job holds on to no ring.
    state: Mutex<Option<Remuxing>>,
}

#[derive(Debug)]
struct Remuxing {
    tags: Reader<Tag>,
    remuxer: Option<Remuxer>,
    /// The configurations in force, by slot, as they came.
    configs: Vec<(u8, Tag)>,
    /// The last frame of video since the reader joined.
    last_video: Option<Millis>,
    /// The codecs of the tags that came, which lag behind those of the stream.
    video: Codec,
    audio: Codec,
    /// One of them was a codec that the format can carry.
    carried: bool,
}

/// A remuxer and what it was made of.
#[derive(Debug)]
struct Remuxer {
    instance: Instance,
    recipe: Arc<Recipe>,
    /// The oldest tag that it may still hold, and the newest that it got.
    oldest: i64,
    newest: i64,
}

impl Remuxer {
    /// Feeds a tag; what it made is good, also with a fault.
    fn tag(&mut self, tag: &Tag, watch: &CallWatch) -> (Vec<OutBlock>, Result<(), ModuleFault>) {
        self.oldest = self.oldest.min(tag.dts.0);
        self.newest = self.newest.max(tag.dts.0);
        let mut out = Vec::new();
        let result = watch.call(|| self.instance.tag(tag, &mut out));
        let result = check_times(&mut out, self.oldest, self.newest).and(result);
        if out.iter().any(|block| matches!(role(block), Role::Join | Role::Media)) {
            self.oldest = tag.dts.0;
        }
        (out, result)
    }

    /// Asks for what it still holds.
    fn finish(&mut self, watch: &CallWatch) -> (Vec<OutBlock>, Result<(), ModuleFault>) {
        let mut out = Vec::new();
        let result = watch.call(|| self.instance.finish(&mut out));
        let result = check_times(&mut out, self.oldest, self.newest).and(result);
        (out, result)
    }
}

impl Remux {
    pub(super) fn new(shared: Arc<Shared>, mount: Weak<LiveMount>, at: JoinAt) -> Arc<Remux> {
        let module = shared.recipe().module().clone();
        let stream = &shared.stream;
        let tags = if module.is_audio_only() { stream.audio() } else { stream.tags() };
        let remuxing = Remuxing {
            tags: tags.reader(at, Pace::Each),
            remuxer: None,
            configs: Vec::new(),
            last_video: None,
            video: Codec::NONE,
            audio: Codec::NONE,
            carried: false,
        };
        Arc::new(Remux {
            mount,
            stopped: AtomicBool::new(false),
            open: Mutex::new(true),
            called: Mutex::new(module),
            state: Mutex::new(Some(remuxing)),
            shared,
        })
    }

    /// Lets go of everything at the next run.
    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
    }

    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }
}

impl Job for Remux {
    fn name(&self) -> String {
        format!("{} of {}", self.called.lock().name(), self.shared.stream.key())
    }

    fn run(&self, waker: &Waker, watch: &CallWatch) {
        let mut state = self.state.lock();
        let over = match state.as_mut() {
            Some(remuxing) if !self.is_stopped() => self.turn(remuxing, waker, watch),
            _ => true,
        };
        if over || self.is_stopped() {
            if let Some(remuxer) = state.take().and_then(|remuxing| remuxing.remuxer) {
                self.free(remuxer, Ok(()), watch);
            }
            if *self.open.lock() {
                self.shared.unset_running(&self.called.lock());
            }
        }
    }

    fn on_hang(&self, elapsed: Duration) {
        *self.open.lock() = false;
        self.stop();
        self.on_fault(&self.called.lock().clone(), &ModuleFault::Hung { elapsed });
        if let Some(mount) = self.mount.upgrade() {
            mount.fill_anew();
        }
    }
}

impl Remux {
    /// Feeds what there is. True: the job is over.
    fn turn(&self, remuxing: &mut Remuxing, waker: &Waker, watch: &CallWatch) -> bool {
        let Some(recipe) = self.shared.settle() else { return true };
        let tags = match remuxing.tags.poll_read(&mut Context::from_waker(waker)) {
            Poll::Pending => return false,
            Poll::Ready(Some(tags)) => tags,
            Poll::Ready(None) => {
                self.finish(remuxing, watch);
                return true;
            }
        };
        let facts = self.shared.stream.facts();
        let beyond = tags.iter().position(|tag| remuxing.is_beyond(tag, recipe.module()));
        for tag in &tags[..beyond.unwrap_or(tags.len())] {
            // At each, because a fault may have put the module under quarantine.
            let Some(recipe) = self.shared.settle() else { return true };
            remuxing.note(tag);
            let fed = self.feed(remuxing, tag, &recipe, facts, watch);
            let unsupported = matches!(&fed, Err((_, fault)) if is_unsupported(fault));
            if let Err((module, fault)) = fed {
                self.on_fault(&module, &fault);
                let remuxer = remuxing.remuxer.take();
                watch.call(|| drop(remuxer));
            }
            // While it hung, the job was abandoned.
            if self.is_stopped() {
                return true;
            }
            if unsupported {
                self.finish_unsupported(remuxing, watch);
                return true;
            }
        }
        if beyond.is_some() {
            info!(stream = %self.shared.stream.key(), module = %recipe.module().name(), "no codec left to carry");
            self.finish_unsupported(remuxing, watch);
            return true;
        }
        // One batch a run, so that remuxers take turns.
        waker.wake_by_ref();
        false
    }

    /// Feeds one tag; at a join point, to the remuxer of `recipe`.
    fn feed(
        &self,
        remuxing: &mut Remuxing,
        tag: &Tag,
        recipe: &Arc<Recipe>,
        facts: StreamFacts,
        watch: &CallWatch,
    ) -> Result<(), (Arc<Module>, ModuleFault)> {
        let is_current =
            |remuxer: &Remuxer| Arc::ptr_eq(&remuxer.recipe, recipe) || remuxer.recipe.equals(recipe);
        let current = remuxing.remuxer.as_ref().is_some_and(is_current);
        if !current && remuxing.is_join(tag, recipe.module(), facts) {
            return match remuxing.remuxer.take() {
                Some(old) => self.hand_over(old, remuxing, tag, recipe, facts, watch),
                None => self.start(remuxing, tag, recipe, facts, &[], watch),
            };
        }
        // Before a join point there is nothing to make of a tag.
        let Some(remuxer) = &mut remuxing.remuxer else { return Ok(()) };
        let (out, result) = remuxer.tag(tag, watch);
        self.deliver(out);
        result.map_err(|fault| (remuxer.recipe.module().clone(), fault))
    }

    /// From one generation to another at `join`, which only the new one gets. If that one fails, the old one goes on.
    fn hand_over(
        &self,
        old: Remuxer,
        remuxing: &mut Remuxing,
        join: &Tag,
        recipe: &Arc<Recipe>,
        facts: StreamFacts,
        watch: &CallWatch,
    ) -> Result<(), (Arc<Module>, ModuleFault)> {
        let began = Instant::now();
        let before = old.recipe.clone();
        // One under quarantine is not called again, except to free it.
        let state = if before.module().is_quarantined() { Vec::new() } else { self.last_words(old, watch) };
        let Err((module, fault)) = self.start(remuxing, join, recipe, facts, &state, watch) else {
            info!(
                stream = %self.shared.stream.key(),
                module = %recipe.module().name(),
                from = before.module().generation(),
                to = recipe.module().generation(),
                took = ?began.elapsed(),
                "mount handed over"
            );
            return Ok(());
        };
        if before.module().is_quarantined() || self.is_stopped() {
            return Err((module, fault));
        }
        self.on_fault(&module, &fault);
        if is_unsupported(&fault) {
            // What the one before can carry, it goes on with.
            self.shared.keep(before.clone());
        }
        self.start(remuxing, join, &before, facts, &state, watch)
    }

    /// Starts a remuxer at `join`.
    fn start(
        &self,
        remuxing: &mut Remuxing,
        join: &Tag,
        recipe: &Arc<Recipe>,
        facts: StreamFacts,
        state: &[u8],
        watch: &CallWatch,
    ) -> Result<(), (Arc<Module>, ModuleFault)> {
        if self.is_stopped() {
            return Ok(());
        }
        self.call_from_now(recipe.module());
        let fail = |fault| (recipe.module().clone(), fault);
        let configs: Vec<Tag> = remuxing.configs.iter().map(|(_, config)| config.clone()).collect();
        let make = |configs: &[Tag]| prepared(recipe, configs, facts, state, watch);
        let (mut instance, mut out) = make(&configs).map_err(fail)?;
        let mut known = Vec::new();
        if !self.shared.blocks.is_untouched() {
            if self.viewers_have(&out) {
                (out, known) = out.into_iter().partition(|block| role(block) == Role::Preamble);
            } else {
                let now: Vec<Tag> =
                    configs.into_iter().map(|config| Tag { dts: join.dts, ..config }).collect();
                watch.call(|| instance.free()).map_err(fail)?;
                (instance, out) = make(&now).map_err(fail)?;
                // Viewers get them at this time, so that is how the next remuxer has to write them.
                remuxing.configs.iter_mut().for_each(|(_, config)| config.dts = join.dts);
            }
        }
        let (oldest, newest) = (join.dts.0, join.dts.0);
        check_times(&mut out, oldest, newest).map_err(fail)?;
        let mut remuxer = Remuxer { instance, recipe: recipe.clone(), oldest, newest };
        let (more, result) = remuxer.tag(join, watch);
        result.map_err(fail)?;
        out.extend(more);
        self.renew(known);
        self.deliver(out);
        remuxing.remuxer = Some(remuxer);
        self.shared.set_running(recipe.module());
        Ok(())
    }

    /// Whether `blocks` are configurations and preambles alone, and the configurations those that viewers have.
    fn viewers_have(&self, blocks: &[OutBlock]) -> bool {
        let in_force = self.shared.blocks.configs();
        let equals =
            |one: &OutBlock, other: &OutBlock| one.parts.iter().flatten().eq(other.parts.iter().flatten());
        let known = |block: &OutBlock| match role(block) {
            Role::Preamble => true,
            Role::Config(track) => {
                in_force.iter().any(|(slot, config)| *slot == track && equals(block, config))
            }
            Role::Join | Role::Media => false,
        };
        let made = |track| blocks.iter().any(|block| role(block) == Role::Config(track));
        blocks.iter().all(known) && in_force.iter().all(|&(track, _)| made(track))
    }

    /// What a remuxer still held goes to the ring; what its successor must know is returned.
    fn last_words(&self, mut old: Remuxer, watch: &CallWatch) -> Vec<u8> {
        self.call_from_now(old.recipe.module());
        let (out, finished) = old.finish(watch);
        self.deliver(out);
        let (state, last) = match finished.and_then(|()| watch.call(|| old.instance.state())) {
            Ok(state) => (state, Ok(())),
            Err(fault) => (Vec::new(), Err(fault)),
        };
        self.free(old, last, watch);
        state
    }

    /// Frees a remuxer whose last call ended with `last`. A fault counts, then or now; not a second one of the same
    /// remuxer.
    fn free(&self, remuxer: Remuxer, last: Result<(), ModuleFault>, watch: &CallWatch) {
        let Remuxer { instance, recipe, .. } = remuxer;
        self.call_from_now(recipe.module());
        let freed = match last {
            Ok(()) => watch.call(|| instance.free()),
            Err(fault) => {
                self.on_fault(recipe.module(), &fault);
                watch.call(|| drop(instance));
                return;
            }
        };
        if let Err(fault) = freed {
            self.on_fault(recipe.module(), &fault);
        }
    }

    /// The stream ended.
    fn finish(&self, remuxing: &mut Remuxing, watch: &CallWatch) {
        if let Some(mut remuxer) = remuxing.remuxer.take() {
            let (out, result) = remuxer.finish(watch);
            self.deliver(out);
            self.free(remuxer, result, watch);
        }
        if !self.is_stopped() {
            self.shared.blocks.end();
        }
    }

    /// The stream has nothing left for the format.
    fn finish_unsupported(&self, remuxing: &mut Remuxing, watch: &CallWatch) {
        self.shared.set_unsupported();
        self.finish(remuxing, watch);
    }

    /// Counts a fault against the module, unless the job was abandoned: then that was counted.
    fn on_fault(&self, module: &Arc<Module>, fault: &ModuleFault) {
        if is_unsupported(fault) {
            info!(stream = %self.shared.stream.key(), module = %module.name(), %fault, "nothing to carry");
            return;
        }
        let hung = matches!(fault, ModuleFault::Hung { .. });
        let abandoned = !*self.open.lock();
        if hung || !abandoned {
            let generation = module.generation();
            warn!(stream = %self.shared.stream.key(), module = %module.name(), generation, %fault, "remuxer ended");
            module.on_fault(fault);
        }
    }

    fn call_from_now(&self, module: &Arc<Module>) {
        *self.called.lock() = module.clone();
    }

    /// Lets the ring have configurations that viewers have from another generation, so that it can go.
    fn renew(&self, configs: Vec<OutBlock>) {
        let open = self.open.lock();
        if *open {
            for block in configs {
                self.shared.blocks.renew_config(block.track, block);
            }
        }
    }

    /// Sends blocks to the ring, unless the job was cut off from it.
    fn deliver(&self, out: Vec<OutBlock>) {
        let open = self.open.lock();
        if *open {
            for block in out {
                let role = role(&block);
                self.shared.blocks.push(block, role);
            }
        }
    }
}

impl Remuxing {
    /// Notes what a later remuxer must know.
    fn note(&mut self, tag: &Tag) {
        if let Some(slot) = config_slot(tag) {
            match self.configs.binary_search_by_key(&slot, |(slot, _)| *slot) {
                Ok(at) => self.configs[at].1 = tag.clone(),
                Err(at) => self.configs.insert(at, (slot, tag.clone())),
            }
        }
        if tag.kind == TagKind::VIDEO && tag.header.packet == Packet::CODED_FRAME {
            self.last_video = Some(tag.dts);
        }
    }

    /// Whether with `tag` the stream has turned to codecs that the format cannot carry, after some that it could.
    fn is_beyond(&mut self, tag: &Tag, module: &Module) -> bool {
        let codec = tag.header.codec;
        match tag.kind {
            _ if codec == Codec::NONE => return false,
            TagKind::VIDEO => self.video = codec,
            _ => self.audio = codec,
        }
        let carries = module.carries(self.video, self.audio);
        self.carried |= carries;
        self.carried && !carries
    }

    /// Whether a remuxer of `module` can start at `tag`.
    fn is_join(&self, tag: &Tag, module: &Module, facts: StreamFacts) -> bool {
        if tag.header.packet != Packet::CODED_FRAME {
            return false;
        }
        let without_video = || match self.last_video {
            // The reader joined at audio, so there is no video to wait for.
            None => true,
            Some(last) => tag.dts.0 - last.0 > VIDEO_GONE.0,
        };
        match tag.kind {
            TagKind::VIDEO => tag.header.keyframe,
            // An empty frame stands for silence.
            _ if tag.header.data_len == 0 => false,
            _ => module.video_codecs().is_empty() || facts.video == Codec::NONE || without_video(),
        }
    }
}

/// A new remuxer that got the configurations, and what it made of them.
fn prepared(
    recipe: &Recipe,
    configs: &[Tag],
    facts: StreamFacts,
    state: &[u8],
    watch: &CallWatch,
) -> Result<(Instance, Vec<OutBlock>), ModuleFault> {
    let mut out = Vec::new();
    let mut instance = watch.call(|| recipe.remuxer(facts, state))?;
    for config in configs {
        watch.call(|| instance.tag(config, &mut out))?;
    }
    Ok((instance, out))
}

/// Keeps the blocks up to the first whose time none of the tags from `oldest` to `newest` can have given it. What is a
/// configuration may be as old as the stream; for the ring it is as old as may be.
fn check_times(out: &mut Vec<OutBlock>, oldest: i64, newest: i64) -> Result<(), ModuleFault> {
    let (first, last) = (oldest.saturating_sub(SLACK), newest.saturating_add(SLACK));
    for index in 0..out.len() {
        let block = &mut out[index];
        match role(block) {
            Role::Preamble | Role::Config(_) => block.dts = block.dts.clamp(Millis(first), Millis(last)),
            Role::Join | Role::Media if (first..=last).contains(&block.dts.0) => {}
            Role::Join | Role::Media => {
                let dts = block.dts.0;
                out.truncate(index);
                return Err(ModuleFault::BadTime { dts, oldest, newest });
            }
        }
    }
    Ok(())
}

fn is_unsupported(fault: &ModuleFault) -> bool {
    matches!(fault, ModuleFault::Unsupported { .. })
}

fn role(block: &OutBlock) -> Role {
    if block.flags.contains(BlockFlags::PREAMBLE) {
        Role::Preamble
    } else if block.flags.contains(BlockFlags::CONFIG) {
        Role::Config(block.track)
    } else if block.flags.contains(BlockFlags::JOIN) {
        Role::Join
    } else {
        Role::Media
    }
}

#[cfg(test)]
mod tests;
