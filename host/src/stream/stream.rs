//! Stream: one publisher's tags, and the live mounts that remux them.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tracing::debug;

use super::demand::{Demand, Haste};
use super::error::{MountError, PublishError};
use super::fill::EndReason;
use super::key::StreamKey;
use super::mount::{LiveMount, Viewer};
use super::pacing::{Clock, StreamPacer, Ticks, dirty_within};
use super::renditions::{RenditionWait, Renditions};
use super::ring::{JoinAt, Reader, Ring};
use super::source::{SequenceHeaders, Source};
use super::tracks::Codecs;
use super::traffic::StreamStats;
use crate::budget::Account;
use crate::conf::Vhost;
use crate::media::{Millis, Tag};
use crate::module::{Module, Pool, Recipe};
use crate::sync::Mutex;

/// Largest number of variants of one format that may be live on a stream, without those of URLs without a query.
const MAX_VARIANTS: usize = 16;

/// Bytes of memory that a mount takes beside its blocks: an estimate.
const MOUNT_MEMORY: usize = 64 << 10;

/// One stream.
#[derive(Debug)]
pub struct Stream {
    /// The source of track 0.
    source: Arc<Source>,
    renditions: Arc<Renditions>,
    pub(super) mounts: Mutex<Vec<Arc<LiveMount>>>,
    /// See [`Stream::hops`].
    hops: Mutex<Box<str>>,
    haste: Haste,
}

impl Stream {
    pub(super) fn new(key: StreamKey, vhost: Arc<Vhost>, account: Account) -> Stream {
        let source = Arc::new(Source::new(key, vhost, account));
        let renditions = Arc::new(Renditions::new(source.clone()));
        Stream {
            renditions,
            source,
            mounts: Mutex::default(),
            hops: Mutex::default(),
            haste: Haste::default(),
        }
    }

    /// The stream's name.
    pub fn key(&self) -> &StreamKey {
        self.source.key()
    }

    /// The vhost that it is published on, as the config in force has it.
    pub fn vhost(&self) -> Arc<Vhost> {
        self.source.vhost()
    }

    /// Follows another config of the vhost, with all its renditions.
    pub(super) fn set_vhost(&self, vhost: &Arc<Vhost>) {
        self.renditions.set_vhost(vhost);
    }

    /// Whether it has a publisher now. Without one its viewers wait for the publisher to return.
    pub fn is_live(&self) -> bool {
        self.source.is_live()
    }

    /// The ring of its tags.
    pub fn tags(&self) -> &Arc<Ring<Tag>> {
        self.source.tags()
    }

    /// The ring of its audio tags.
    pub fn audio(&self) -> &Arc<Ring<Tag>> {
        self.source.audio()
    }

    /// The codecs of the tracks that its newest publisher sends.
    pub fn codecs(&self) -> Codecs {
        self.source.codecs()
    }

    /// The configurations of the decoders, as its newest publisher has sent them.
    pub fn sequence_headers(&self) -> SequenceHeaders {
        self.source.sequence_headers()
    }

    /// The traffic of its publishers.
    pub fn stats(&self) -> StreamStats {
        self.source.stats()
    }

    /// Waits until it is known whether the stream has a track.
    pub fn rendition(&self, track: u8) -> RenditionWait {
        RenditionWait::new(self.renditions.clone(), track)
    }

    /// Creates a reader of its tags for an RTMP player.
    pub fn play(&self) -> Reader<Tag> {
        self.tags().follower(self.join_at())
    }

    /// The nodes that it has passed before this one, as its newest publisher names them; empty if it passed none.
    pub fn hops(&self) -> String {
        self.hops.lock().clone().into()
    }

    pub(super) fn set_hops(&self, hops: &str) {
        *self.hops.lock() = hops.into();
    }

    /// How soon those who read its tags want what is published: players, forwards, the remux jobs of mounts, and who waits to learn what
    /// tracks there are.
    pub fn demand(&self) -> Demand {
        let play = &self.vhost().play;
        if !self.renditions.are_read() {
            Demand::None
        } else if play.min_latency || self.haste.is_shared() {
            Demand::AtOnce
        } else {
            Demand::AtTicks(play.merge_write)
        }
    }

    /// Waits until readers have another demand than `known`. One task at a time may wait. It does not learn of those who leave.
    pub fn poll_demand(&self, known: Demand, cx: &mut Context<'_>) -> Poll<()> {
        self.renditions.watch_readers(cx.waker());
        if self.demand() == known { Poll::Pending } else { Poll::Ready(()) }
    }

    /// Lets a reader that is a node, whose viewers wait for ticks of its own, get each tag at once.
    pub fn hasten(&self) -> Haste {
        let haste = self.haste.clone();
        self.tags().wake_writer();
        haste
    }

    fn join_at(&self) -> JoinAt {
        if self.vhost().play.gop_cache && self.is_live() { JoinAt::Newest } else { JoinAt::Next }
    }

    /// Attaches a viewer to the mount of a recipe, which starts if it is the first. `recipe` is called under the lock on
    /// the stream's mounts, so that a reload reaches the mount either before or after this; it must look up the module, and the
    /// mount in the vhost. Beside the recipe it returns the length of audio that the viewer gets at once where the module carries
    /// audio alone. The caller spawns the pacer of a mount that started.
    ///
    /// # Errors
    /// Those of `recipe`, and [`MountError`]: too many variants, too many faults, no memory, or a module that is switched
    /// off.
    pub fn watch<E: From<MountError>>(
        self: &Arc<Self>,
        recipe: impl FnOnce(&Vhost) -> Result<(Recipe, Duration), E>,
        pool: &Arc<Pool>,
    ) -> Result<(Viewer, Option<MountPacer>), E> {
        // Before the lock, since it writes to the log.
        self.live_mounts().iter().for_each(|mount| mount.settle());
        let Attached { viewer, started, evicted } = {
            let mut mounts = self.mounts.lock();
            let (recipe, fast_cache) = recipe(&self.vhost())?;
            self.attach(&mut mounts, recipe, fast_cache, pool)?
        };
        if let Some(mount) = evicted {
            mount.end(EndReason::Idle);
            debug!(stream = %self.key(), module = %mount.module().name(), "variant stopped, to make room");
        }
        let pacer = started.then(|| MountPacer { stream: self.clone(), mount: viewer.mount().clone() });
        Ok((viewer, pacer))
    }

    /// Attaches a viewer.
    fn attach(
        &self,
        mounts: &mut Vec<Arc<LiveMount>>,
        recipe: Recipe,
        fast_cache: Duration,
        pool: &Arc<Pool>,
    ) -> Result<Attached, MountError> {
        let module = recipe.module();
        if module.is_off() {
            return Err(MountError::SwitchedOff);
        }
        let track = recipe.track();
        let source = self.renditions.find(track).ok_or(MountError::NoTrack { track })?;
        if let Some(retry_after) = source.faults().closed_for(&recipe, Instant::now()) {
            return Err(MountError::Faults { retry_after });
        }
        // The vhost's GOP cache has no meaning where there is no GOP.
        let (history, join_at) = if module.is_audio_only() {
            let history = Millis(fast_cache.as_millis() as i64);
            (history, JoinAt::Before(history))
        } else {
            (Millis(0), self.join_at())
        };
        mounts.retain(|mount| !mount.blocks().is_ended());
        if let Some(mount) = mounts.iter().find(|mount| mount.serves(&recipe, history)) {
            let viewer = Viewer::new(mount.clone(), join_at);
            return Ok(Attached { viewer, started: false, evicted: None });
        }
        let room = source.account().admit(MOUNT_MEMORY)?;
        let evicted = if recipe.is_default() { None } else { make_room(mounts, module)? };
        let mount = LiveMount::new(source, recipe, history, room);
        let viewer = Viewer::new(mount.clone(), join_at);
        // At the viewer's own join point, so that it misses nothing of it.
        mount.start(join_at, pool);
        mounts.push(mount);
        Ok(Attached { viewer, started: true, evicted })
    }

    /// Removes `mount` if it has no viewer or has ended. Returns whether it was removed.
    fn stop_idle(&self, mount: &Arc<LiveMount>) -> bool {
        {
            let mut mounts = self.mounts.lock();
            if mount.viewers() > 0 && !mount.blocks().is_ended() {
                return false;
            }
            mounts.retain(|other| !Arc::ptr_eq(other, mount));
        }
        mount.end(EndReason::Idle);
        debug!(stream = %self.key(), module = %mount.module().name(), "mount stopped");
        true
    }

    /// Its live mounts, in no order.
    pub fn live_mounts(&self) -> Vec<Arc<LiveMount>> {
        self.mounts.lock().clone()
    }

    pub(super) fn publish(
        this: &Arc<Stream>,
        replace: bool,
        account: Account,
    ) -> Result<Publisher, PublishError> {
        let id = this.source.publish(replace, account)?;
        Ok(Stream::publisher(this, id))
    }

    /// Starts the first publisher of a stream that nobody else can find.
    pub(super) fn begin(this: &Arc<Stream>, account: Account) -> Publisher {
        let id = this.source.take_over(account);
        Stream::publisher(this, id)
    }

    fn publisher(this: &Arc<Stream>, id: u64) -> Publisher {
        this.renditions.publish(id);
        // Viewers that attach from now on start with this publisher.
        this.mounts.lock().iter().for_each(|mount| mount.blocks().mark_change());
        Publisher { stream: this.clone(), id }
    }

    /// Ends the stream if publisher `left` was the last one and has left. Returns whether it ended.
    pub(super) fn end_if_left(&self, left: u64) -> bool {
        let has_left = self.source.has_left(left);
        if has_left {
            self.end();
        }
        has_left
    }

    pub(super) fn end(&self) {
        self.source.end();
        self.renditions.end();
    }
}

/// A viewer that was attached to a mount.
struct Attached {
    viewer: Viewer,
    /// It is the mount's first one.
    started: bool,
    /// The variant that was removed for this mount. To be ended without the lock on the mounts.
    evicted: Option<Arc<LiveMount>>,
}

/// Makes room for one more variant of `module`: at the bound, removes the one that has had no viewer for longest.
fn make_room(
    mounts: &mut Vec<Arc<LiveMount>>,
    module: &Arc<Module>,
) -> Result<Option<Arc<LiveMount>>, MountError> {
    let is_variant = |mount: &&Arc<LiveMount>| !mount.is_default() && Arc::ptr_eq(&mount.module(), module);
    let variants = mounts.iter().filter(is_variant);
    if variants.clone().count() < MAX_VARIANTS {
        return Ok(None);
    }
    let idle = variants.filter_map(|mount| Some((mount.idle_since()?, mount)));
    let longest = idle.min_by_key(|(since, _)| *since).map(|(_, mount)| mount.clone());
    let evicted = longest.ok_or(MountError::TooManyVariants { limit: MAX_VARIANTS })?;
    mounts.retain(|mount| !Arc::ptr_eq(mount, &evicted));
    Ok(Some(evicted))
}

/// The pacer of a live mount, which also stops the mount when it is idle.
#[derive(Debug)]
#[must_use = "viewers wait for ever without it"]
pub struct MountPacer {
    stream: Arc<Stream>,
    mount: Arc<LiveMount>,
}

impl MountPacer {
    /// Flushes the mount's ring at each tick until it ends, or until it has had no viewer for the vhost's `idle_timeout`.
    pub async fn run<C: Clock>(self) {
        let MountPacer { stream, mount } = self;
        let mut ticks = Ticks::<C>::new(stream.key().phase());
        let blocks = mount.blocks();
        let mut idle = false;
        loop {
            // Without viewers a ring is dirty only after a reload, so that the timeout expires.
            match dirty_within::<_, C>(blocks, stream.vhost().play.idle_timeout).await {
                Some(false) => break,
                Some(true) => {
                    let play = &stream.vhost().play;
                    let is_audio_only = mount.module().is_audio_only();
                    ticks.next(if is_audio_only { play.merge_write_audio } else { play.merge_write }).await;
                    blocks.flush();
                    idle = false;
                }
                None if idle && stream.stop_idle(&mount) => return,
                None => idle = mount.viewers() == 0,
            }
        }
        stream.stop_idle(&mount);
    }
}

/// The right to push tags into a stream.
///
/// When it is dropped the stream is no longer live; its viewers stay until [`Hub::expire`](super::Hub::expire).
#[derive(Debug)]
pub struct Publisher {
    stream: Arc<Stream>,
    id: u64,
}

impl Publisher {
    /// The stream that it publishes.
    pub fn stream(&self) -> &Arc<Stream> {
        &self.stream
    }

    /// Its number among the publishers of the stream; the first is 1.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Returns the pacer of the stream's ring for its first publisher.
    pub(super) fn pacer(&self) -> Option<StreamPacer> {
        (self.id == 1).then(|| StreamPacer::new(self.stream.source.clone()))
    }

    /// Appends a tag with the publisher's own timestamp. `now` is when it was received, on one steady clock for the whole
    /// process. Returns false if another publisher has taken over; this one must close.
    #[must_use]
    pub fn push(&self, tag: Tag, now: Millis) -> bool {
        self.stream.renditions.push(self.id, &tag, now);
        self.stream.source.push(self.id, tag, now)
    }

    /// Waits until another publisher takes over.
    pub fn poll_replaced(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.stream.source.poll_replaced(self.id, cx)
    }

    /// Stops publishing. Returns the argument for [`Hub::expire`](super::Hub::expire); `None` if another publisher has taken
    /// over, or this one has left before.
    pub fn leave(&self) -> Option<u64> {
        self.stream.renditions.leave(self.id);
        self.stream.source.leave(self.id).then_some(self.id)
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.leave();
    }
}
