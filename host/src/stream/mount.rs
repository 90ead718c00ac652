//! Live mount: the ring of blocks that viewers of one stream in one format read, and who fills it.
//!
//! A mount is lazy: it starts with its first viewer, from the stream's newest join point (without a GOP cache: the next
//! one), and is stopped some time after the last. One that carries audio alone starts from the stream's ring of audio, as
//! far back as its `fast_cache` says, and keeps as much for later viewers.
//!
//! A mount outlives what fills it. Its remuxer ends with a fault and goes over to another generation of the module; the
//! job that feeds it is abandoned when it hangs. Viewers see the ring alone, and stay.
//!
//! Who comes while a handover is pending joins the mount that runs, gets the rest of the GOP from the old generation, and
//! goes over with everybody else. The new generation could serve this viewer at once, out of the stream's history, but only
//! into a ring of its own. Rings cannot become one at the keyframe: the generations need not write the same bytes, and
//! formats count across blocks (TS continuity counters), so each viewer has to stay on the ring that it began. There would
//! be two remuxers for one mount until the last viewer of either left, not until the keyframe; and a module whose viewers
//! come and go would never be one again under frequent reloads. What the viewer loses is nothing but up to a GOP of the new
//! build; a build that must not be seen for so long is one for `modules.reload = "drain"`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use parking_lot::Mutex;
use tracing::{debug, info, warn};

use crate::media::Millis;
use crate::module::{Module, OutBlock, Pool, Recipe, Task};

use super::remux::Remux;
use super::stream::{Stream, ring_limits};
use super::{Entry, HandoverError, JoinAt, MountError, Reader, Ring, Span};

/// How many variants of one mount may be live on a stream.
const MAX_VARIANTS: usize = 16;

/// What a block keeps alive beside its bytes: an estimate for the ring's limits.
const BLOCK_OVERHEAD: usize = 256;

impl Entry for OutBlock {
    type Batch = Span;

    fn size(&self) -> usize {
        self.parts.iter().map(|part| part.len()).sum::<usize>() + BLOCK_OVERHEAD
    }

    fn dts(&self) -> Millis {
        self.dts
    }

    fn batch<'a>(entries: impl Iterator<Item = &'a Self>) -> Span {
        Span::gather(entries.flat_map(|block| block.parts.iter().cloned()))
    }
}

/// One format of one stream, shared by all its viewers.
#[derive(Debug)]
pub struct LiveMount {
    shared: Arc<Shared>,
    lead: Millis,
    pool: Arc<Pool>,
    /// Keeps its generation until its last viewer leaves; new viewers get another mount.
    draining: AtomicBool,
    /// Who fills the ring. Empty only while the mount is made.
    filler: Mutex<Option<Filler>>,
}

#[derive(Debug)]
struct Filler {
    remux: Arc<Remux>,
    task: Arc<Task>,
}

/// What a mount has in common with the job that fills it.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) stream: Arc<Stream>,
    pub(super) blocks: Arc<Ring<OutBlock>>,
    /// What the next remuxer is made of.
    recipe: Mutex<Arc<Recipe>>,
    /// Whose remuxer there is now.
    running: Mutex<Option<Arc<Module>>>,
    /// It ended because the stream has nothing that the format can carry.
    unsupported: AtomicBool,
}

impl Shared {
    /// What the next remuxer is made of. When the generation is under quarantine, the good one before it takes over;
    /// without one the mount ends, and there is `None`.
    pub(super) fn settle(&self) -> Option<Arc<Recipe>> {
        let mut recipe = self.recipe.lock();
        if !recipe.module().is_quarantined() {
            return Some(recipe.clone());
        }
        let standing = recipe.module().standing();
        let taken_over = (!standing.is_quarantined()).then(|| self.recipe_of(standing, &recipe));
        match taken_over {
            Some(Ok(fallback)) => {
                let (from, to) = (recipe.module().generation(), fallback.module().generation());
                info!(stream = %self.stream.key(), module = %recipe.module().name(), from, to, "mount falls back");
                *recipe = fallback;
                Some(recipe.clone())
            }
            Some(Err(error)) => {
                warn!(stream = %self.stream.key(), module = %recipe.module().name(), %error, "mount cannot fall back");
                self.blocks.end();
                None
            }
            None => {
                self.blocks.end();
                None
            }
        }
    }

    /// What the next remuxer is made of, good or not.
    pub(super) fn recipe(&self) -> Arc<Recipe> {
        self.recipe.lock().clone()
    }

    /// The next remuxer is made of `recipe` again.
    pub(super) fn keep(&self, recipe: Arc<Recipe>) {
        // Dropped outside of the lock: it may be the last that holds a library.
        let _other = std::mem::replace(&mut *self.recipe.lock(), recipe);
    }

    /// The mount ends, because the stream has nothing that the format can carry.
    pub(super) fn set_unsupported(&self) {
        self.unsupported.store(true, Ordering::Release);
    }

    pub(super) fn set_running(&self, module: &Arc<Module>) {
        // Dropped outside of the lock: it may be the last that holds a library.
        let _before = self.running.lock().replace(module.clone());
    }

    /// No remuxer of `module` runs any more.
    pub(super) fn unset_running(&self, module: &Arc<Module>) {
        let mut running = self.running.lock();
        let _before = running.take_if(|running| Arc::ptr_eq(running, module));
        drop(running);
    }

    /// The recipe for another generation, with the same wishes.
    fn recipe_of(&self, module: Arc<Module>, now: &Recipe) -> Result<Arc<Recipe>, HandoverError> {
        let old = now.module();
        let answers = |extension| module.extensions().contains(extension);
        let facts = self.stream.facts();
        let carries = |module: &Module| module.carries(facts.video, facts.audio);
        if module.transports() != old.transports()
            || module.is_audio_only() != old.is_audio_only()
            || !old.extensions().iter().all(answers)
            || (carries(old) && !carries(&module))
        {
            return Err(HandoverError::OtherFormat);
        }
        Ok(Arc::new(now.of(module)?))
    }
}

impl LiveMount {
    /// The module generation that new remuxers are of; the one at work may be older.
    pub fn module(&self) -> Arc<Module> {
        self.shared.recipe.lock().module().clone()
    }

    /// The module generation at work.
    pub fn running(&self) -> Option<Arc<Module>> {
        self.shared.running.lock().clone()
    }

    /// Whether it has ended, or is about to, because the stream has nothing that the format can carry.
    pub fn is_unsupported(&self) -> bool {
        self.shared.unsupported.load(Ordering::Acquire)
    }

    /// The ring of its blocks.
    pub fn blocks(&self) -> &Arc<Ring<OutBlock>> {
        &self.shared.blocks
    }

    /// Lets `module`, another generation, take over: at the next join point of the stream, on the same ring.
    ///
    /// # Errors
    /// [`HandoverError`]: the generation cannot go on where the one before is. That one stays.
    pub fn hand_over(&self, module: &Arc<Module>) -> Result<(), HandoverError> {
        let mut recipe = self.shared.recipe.lock();
        if !Arc::ptr_eq(recipe.module(), module) {
            *recipe = self.shared.recipe_of(module.clone(), &recipe)?;
        }
        self.draining.store(false, Ordering::Release);
        Ok(())
    }

    /// Marks it as draining: it keeps its generation, and new viewers get another mount.
    pub(super) fn drain(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// Whether a viewer who asks for `recipe` can share it. Its generation is an older one while a reload has not reached
    /// this stream.
    fn serves(&self, recipe: &Recipe) -> bool {
        let own = self.shared.recipe();
        let is_same = || {
            let same = own.module().name() == recipe.module().name();
            same && recipe.of(own.module().clone()).is_ok_and(|recipe| recipe.equals(&own))
        };
        !self.draining.load(Ordering::Acquire) && (own.equals(recipe) || is_same())
    }

    /// Ends it for its viewers, cleanly.
    pub fn end(&self) {
        self.shared.blocks.end();
        if let Some(filler) = &*self.filler.lock() {
            filler.stop();
        }
    }

    /// Starts a job that fills the ring, from where `at` says in the stream.
    fn fill(self: &Arc<Self>, at: JoinAt) {
        let remux = Remux::new(self.shared.clone(), Arc::downgrade(self), at);
        let filler = Filler { task: Task::new(remux.clone(), &self.pool), remux };
        filler.task.schedule();
        *self.filler.lock() = Some(filler);
    }

    /// Abandons the job that fills the ring, which hangs and was cut off from it, for one that starts at the next join
    /// point.
    pub(super) fn fill_anew(self: &Arc<Self>) {
        if self.shared.settle().is_some() && !self.shared.blocks.is_ended() {
            self.fill(JoinAt::Next);
        }
    }
}

impl Filler {
    fn stop(&self) {
        self.remux.stop();
        // Its last run lets go of the stream's ring.
        self.task.schedule();
    }
}

impl Drop for LiveMount {
    fn drop(&mut self) {
        self.shared.blocks.end();
        if let Some(filler) = self.filler.get_mut() {
            filler.stop();
        }
    }
}

impl Stream {
    /// Attaches a viewer to the mount of `recipe`, which starts if it is the first. `recipe` is called under the lock on
    /// the stream's mounts, so that a reload reaches the mount either before or after this; it must look the module up.
    /// The viewer gets `fast_cache` of audio at once where the module carries audio alone. The flag is true when the
    /// mount was started; then somebody must call [`Ring::flush`] on its blocks, and [`stop_idle`](Self::stop_idle).
    ///
    /// # Errors
    /// Those of `recipe`, and [`MountError`]: too many variants, or a module under quarantine.
    pub fn watch<E: From<MountError>>(
        self: &Arc<Self>,
        recipe: impl FnOnce() -> Result<Recipe, E>,
        fast_cache: Duration,
        pool: &Arc<Pool>,
    ) -> Result<(Viewer, bool), E> {
        let mut mounts = self.mounts.lock();
        let recipe = &recipe()?;
        let module = recipe.module();
        if module.is_quarantined() {
            return Err(MountError::Quarantined.into());
        }
        // What a vhost says of its GOP cache does not hold where there is no GOP.
        let (lead, join_at) = if module.is_audio_only() {
            let lead = Millis(fast_cache.as_millis() as i64);
            (lead, JoinAt::Before(lead))
        } else {
            (Millis(0), self.join_at())
        };
        for mount in mounts.iter() {
            mount.shared.settle();
        }
        mounts.retain(|mount| !mount.blocks().is_ended());
        let same = |mount: &&Arc<LiveMount>| mount.lead == lead && mount.serves(recipe);
        if let Some(mount) = mounts.iter().find(same) {
            let reader = mount.blocks().reader(join_at, self.pace());
            return Ok((Viewer { reader, mount: mount.clone() }, false));
        }
        let variants = mounts.iter().filter(|mount| Arc::ptr_eq(&mount.module(), module)).count();
        if variants >= MAX_VARIANTS {
            return Err(MountError::TooManyVariants { limit: MAX_VARIANTS }.into());
        }
        let mount = self.mount(recipe, lead, pool);
        let reader = mount.blocks().reader(join_at, self.pace());
        // From where this viewer wants to be, who misses nothing of it.
        mount.fill(join_at);
        mounts.push(mount.clone());
        info!(stream = %self.key(), module = %module.name(), "mount started");
        Ok((Viewer { reader, mount }, true))
    }

    /// A live mount whose ring nobody fills yet.
    fn mount(self: &Arc<Self>, recipe: &Recipe, lead: Millis, pool: &Arc<Pool>) -> Arc<LiveMount> {
        let shared = Arc::new(Shared {
            stream: self.clone(),
            blocks: Ring::new(ring_limits(self.vhost(), lead)),
            recipe: Mutex::new(Arc::new(recipe.clone())),
            running: Mutex::default(),
            unsupported: AtomicBool::new(false),
        });
        Arc::new(LiveMount {
            shared,
            lead,
            pool: pool.clone(),
            draining: AtomicBool::new(false),
            filler: Mutex::default(),
        })
    }

    /// Stops `mount` when it has no viewer. True: it is stopped.
    pub fn stop_idle(&self, mount: &Arc<LiveMount>) -> bool {
        let mut mounts = self.mounts.lock();
        if mount.blocks().reader_count() > 0 && !mount.blocks().is_ended() {
            return false;
        }
        mounts.retain(|other| !Arc::ptr_eq(other, mount));
        debug!(stream = %self.key(), module = %mount.module().name(), "mount stopped");
        true
    }

    /// Its live mounts, in no order.
    pub fn live_mounts(&self) -> Vec<Arc<LiveMount>> {
        self.mounts.lock().clone()
    }
}

/// A viewer: a cursor into a live mount's blocks.
#[derive(Debug)]
pub struct Viewer {
    // Before the mount, whose last owner ends the ring.
    reader: Reader<OutBlock>,
    mount: Arc<LiveMount>,
}

impl Viewer {
    /// What to write next; `None` when the stream ended.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Arc<Span>>> {
        self.reader.poll_read(cx)
    }

    /// The mount that it watches.
    pub fn mount(&self) -> &Arc<LiveMount> {
        &self.mount
    }

    /// How many blocks were passed over because it was too slow.
    pub fn skipped(&self) -> u64 {
        self.reader.skipped()
    }
}
