//! Live mount: one remuxer of one stream, and the ring of blocks that its viewers read.
//!
//! A mount is lazy: it starts with its first viewer, from the stream's newest join point, and is stopped some time
//! after the last. One that carries audio alone starts from the stream's ring of audio, as far back as its `fast_cache`
//! says, and keeps as much for later viewers. The remuxer runs on the worker pool, one batch of tags at a time; a fault ends the remuxer, not
//! the mount: a new one starts at the next join point of the stream, and viewers stay. A mount whose stream turns to
//! codecs that its format cannot carry ends: for its viewers as if the stream had, and who comes after is told so.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use parking_lot::Mutex;
use tracing::{debug, info, warn};

use crate::media::{Codec, Millis, Tag};
use crate::plugin::{
    BlockFlags, CallWatch, Instance, Job, Module, ModuleFault, Options, OutBlock, Pool, Setup, Task,
};

use super::stream::{Stream, ring_limits};
use super::{Entry, JoinAt, MountError, Pace, Reader, Ring, Role, Span};

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

/// One remuxer of one stream, shared by all its viewers.
#[derive(Debug)]
pub struct LiveMount {
    module: Arc<Module>,
    options: Options,
    lead: Millis,
    blocks: Arc<Ring<OutBlock>>,
    remux: Arc<Remux>,
    task: Arc<Task>,
}

impl LiveMount {
    /// The module generation that remuxes.
    pub fn module(&self) -> &Arc<Module> {
        &self.module
    }

    /// The ring of its blocks.
    pub fn blocks(&self) -> &Arc<Ring<OutBlock>> {
        &self.blocks
    }
}

impl Drop for LiveMount {
    fn drop(&mut self) {
        self.remux.stopped.store(true, Ordering::Release);
        self.blocks.end();
        // Its last run lets go of the stream's ring.
        self.task.schedule();
    }
}

impl Stream {
    /// A new viewer of this stream through `module` with `options`, who gets `fast_cache` of audio at once where the
    /// module carries audio alone. The flag is true when the mount was started
    /// for it; then somebody must call [`Ring::flush`] on its blocks, and [`stop_idle`](Self::stop_idle).
    ///
    /// # Errors
    /// [`MountError`]: too many variants, or a module under quarantine.
    pub fn watch(
        self: &Arc<Self>,
        module: &Arc<Module>,
        options: &Options,
        fast_cache: Duration,
        pool: &Arc<Pool>,
    ) -> Result<(Viewer, bool), MountError> {
        if module.is_quarantined() {
            return Err(MountError::Quarantined);
        }
        let mut mounts = self.mounts.lock();
        mounts.retain(|mount| !mount.blocks.is_ended());
        let lead = if module.is_audio_only() { Millis(fast_cache.as_millis() as i64) } else { Millis(0) };
        let same = |mount: &&Arc<LiveMount>| {
            Arc::ptr_eq(&mount.module, module) && (&mount.options, mount.lead) == (options, lead)
        };
        let (mount, started) = match mounts.iter().find(same) {
            Some(mount) => (mount.clone(), false),
            None => {
                let variants = mounts.iter().filter(|mount| Arc::ptr_eq(&mount.module, module)).count();
                if variants >= MAX_VARIANTS {
                    return Err(MountError::TooManyVariants { limit: MAX_VARIANTS });
                }
                let mount = self.start(module, options, lead, pool);
                mounts.push(mount.clone());
                (mount, true)
            }
        };
        // What a vhost says of its GOP cache does not hold where there is no GOP.
        let join_at = if module.is_audio_only() { JoinAt::Before(lead) } else { self.join_at() };
        let reader = mount.blocks.reader(join_at, self.pace());
        Ok((Viewer { reader, mount }, started))
    }

    fn start(
        self: &Arc<Self>,
        module: &Arc<Module>,
        options: &Options,
        lead: Millis,
        pool: &Arc<Pool>,
    ) -> Arc<LiveMount> {
        info!(stream = %self.key(), module = %module.name(), "mount started");
        let blocks = Ring::new(ring_limits(self.vhost(), lead));
        let tags = if module.is_audio_only() { self.audio() } else { self.tags() };
        let remux = Arc::new(Remux {
            stream: self.clone(),
            module: module.clone(),
            options: options.clone(),
            blocks: blocks.clone(),
            stopped: AtomicBool::new(false),
            state: Mutex::new(Some(Remuxing {
                tags: tags.reader(JoinAt::Before(lead), Pace::Each),
                instance: None,
                carried: false,
                out: Vec::new(),
            })),
        });
        let task = Task::new(remux.clone(), pool);
        task.schedule();
        Arc::new(LiveMount { module: module.clone(), options: options.clone(), lead, blocks, remux, task })
    }

    /// Stops `mount` when it has no viewer. True: it is stopped.
    pub fn stop_idle(&self, mount: &Arc<LiveMount>) -> bool {
        let mut mounts = self.mounts.lock();
        if mount.blocks.reader_count() > 0 && !mount.blocks.is_ended() {
            return false;
        }
        mounts.retain(|other| !Arc::ptr_eq(other, mount));
        debug!(stream = %self.key(), module = %mount.module.name(), "mount stopped");
        true
    }
}

/// The job that feeds a remuxer.
#[derive(Debug)]
struct Remux {
    stream: Arc<Stream>,
    module: Arc<Module>,
    options: Options,
    blocks: Arc<Ring<OutBlock>>,
    stopped: AtomicBool,
    /// `None` once stopped: a stopped job holds on to no ring.
    state: Mutex<Option<Remuxing>>,
}

#[derive(Debug)]
struct Remuxing {
    tags: Reader<Tag>,
    instance: Option<Instance>,
    /// A tag of a codec that the format can carry has come.
    carried: bool,
    out: Vec<OutBlock>,
}

impl Job for Remux {
    fn name(&self) -> String {
        format!("{} of {}", self.module.name(), self.stream.key())
    }

    fn run(&self, waker: &Waker, watch: &CallWatch) {
        let mut state = self.state.lock();
        if self.stopped.load(Ordering::Acquire) {
            *state = None;
            return;
        }
        let Some(remuxing) = state.as_mut() else { return };
        match remuxing.tags.poll_read(&mut Context::from_waker(waker)) {
            Poll::Pending => {}
            Poll::Ready(Some(tags)) => {
                let beyond = tags.iter().position(|tag| self.is_beyond(tag, &mut remuxing.carried));
                self.feed(remuxing, &tags[..beyond.unwrap_or(tags.len())], watch);
                if beyond.is_some() {
                    info!(stream = %self.stream.key(), module = %self.module.name(), "no codec left to carry");
                    self.finish(remuxing, watch);
                    *state = None;
                    return;
                }
                // One batch a run, so that remuxers take turns.
                waker.wake_by_ref();
            }
            Poll::Ready(None) => {
                self.finish(remuxing, watch);
                *state = None;
            }
        }
    }

    fn on_hang(&self, elapsed: Duration) {
        // The call cannot be ended; its viewers can.
        self.on_fault(&ModuleFault::Hung { elapsed });
        self.blocks.end();
    }
}

impl Remux {
    /// Counts a fault against the module; the mount ends when that puts the module under quarantine.
    fn on_fault(&self, fault: &ModuleFault) {
        warn!(stream = %self.stream.key(), module = %self.module.name(), %fault, "remuxer ended");
        if self.module.on_fault(fault) {
            self.blocks.end();
        }
    }

    /// Whether with `tag` the stream has turned to codecs that the format cannot carry, after some that it could.
    fn is_beyond(&self, tag: &Tag, carried: &mut bool) -> bool {
        let codec = tag.header.codec;
        let carries = codec == Codec::NONE || self.module.carries(codec, codec);
        *carried |= carries && codec != Codec::NONE;
        let facts = || self.stream.facts();
        *carried && !carries && !self.module.carries(facts().video, facts().audio)
    }

    fn finish(&self, remuxing: &mut Remuxing, watch: &CallWatch) {
        if let Some(mut instance) = remuxing.instance.take() {
            let result = watch.call(|| instance.finish(&mut remuxing.out));
            self.deliver(&mut remuxing.out);
            if let Err(fault) = result {
                self.on_fault(&fault);
            }
        }
        self.blocks.end();
    }

    fn feed(&self, remuxing: &mut Remuxing, tags: &[Tag], watch: &CallWatch) {
        for tag in tags {
            let result = match &mut remuxing.instance {
                Some(instance) => watch.call(|| instance.tag(tag, &mut remuxing.out)),
                None => {
                    let setup = Setup::new(self.options.clone(), self.stream.facts());
                    watch.call(|| {
                        let mut instance = self.module.remuxer(&setup)?;
                        instance.tag(tag, &mut remuxing.out)?;
                        remuxing.instance = Some(instance);
                        Ok(())
                    })
                }
            };
            self.deliver(&mut remuxing.out);
            let Err(fault) = result else { continue };
            self.on_fault(&fault);
            remuxing.instance = None;
            remuxing.tags.rejoin_next();
            return;
        }
    }

    fn deliver(&self, out: &mut Vec<OutBlock>) {
        for block in out.drain(..) {
            let role = if block.flags.contains(BlockFlags::PREAMBLE) {
                Role::Preamble
            } else if block.flags.contains(BlockFlags::CONFIG) {
                Role::Config(block.track)
            } else if block.flags.contains(BlockFlags::JOIN) {
                Role::Join
            } else {
                Role::Media
            };
            self.blocks.push(block, role);
        }
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
