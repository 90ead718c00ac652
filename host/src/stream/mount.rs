//! Live mount: the ring of blocks that the viewers of one stream in one format read.
//!
//! A mount is lazy. It starts with its first viewer, from the stream's newest join point (without a GOP cache: the next one),
//! and stops some time after the last. An audio-only mount starts in the stream's ring of audio, as far back as its
//! `fast_cache`, and keeps as much for later viewers.
//!
//! A mount outlives what fills it. Its remuxer may end with a fault or be replaced by one of another generation, and the job
//! that feeds it is abandoned when it hangs. Viewers read the ring alone, and stay. A viewer who joins while a handover is
//! pending joins the running mount too; `docs/decisions/new-viewers-join-the-running-mount.md` has the reasons.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Instant;

use super::demand::Haste;
use super::error::HandoverError;
use super::fill::{EndReason, Fill};
use super::remux::RemuxJob;
use super::ring::{JoinAt, Reader, Ring};
use super::source::{Source, ring_limits};
use super::span::Span;
use crate::budget::Charge;
use crate::conf::Vhost;
use crate::media::Millis;
use crate::module::{Module, OutBlock, Pool, Recipe};
use crate::sync::Mutex;

/// One format of one stream, shared by all its viewers.
#[derive(Debug)]
pub struct LiveMount {
    fill: Arc<Fill>,
    /// Length of history that a new viewer gets at once, in milliseconds.
    history: AtomicI64,
    viewers: AtomicUsize,
    /// When a viewer left last, or when the mount was created.
    left: Mutex<Instant>,
    /// The memory of the mount itself.
    _room: Charge,
}

impl LiveMount {
    /// Creates a mount that nothing fills yet.
    pub(super) fn new(source: Arc<Source>, recipe: Recipe, history: Millis, room: Charge) -> Arc<LiveMount> {
        let (fill, left) = (Fill::new(source, recipe, history), Mutex::new(Instant::now()));
        let (history, viewers) = (AtomicI64::new(history.0), AtomicUsize::new(0));
        Arc::new(LiveMount { fill, history, viewers, left, _room: room })
    }

    /// Starts to fill the ring, from join point `at` of the stream on.
    pub(super) fn start(&self, at: JoinAt, pool: &Arc<Pool>) {
        RemuxJob::spawn(&self.fill, at, pool);
    }

    /// The generation of the next remuxer; the running one may be older.
    pub fn module(&self) -> Arc<Module> {
        self.fill.recipe().module().clone()
    }

    /// The pattern of the mount for which it was made.
    pub fn pattern(&self) -> String {
        self.fill.recipe().mount().to_owned()
    }

    /// The generation of the current remuxer.
    pub fn running(&self) -> Option<Arc<Module>> {
        self.fill.running()
    }

    /// How far its remuxer is behind the stream.
    pub fn lag(&self) -> Millis {
        self.fill.lag()
    }

    /// Whether a URL without a query gets it.
    pub(super) fn is_default(&self) -> bool {
        self.fill.recipe().is_default()
    }

    /// Number of viewers.
    pub fn viewers(&self) -> usize {
        self.viewers.load(Ordering::Relaxed)
    }

    /// Since when it has no viewer; `None` while it has one.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        (self.viewers() == 0).then(|| *self.left.lock())
    }

    /// Why it ended; `None` while it is live.
    pub fn end_reason(&self) -> Option<EndReason> {
        self.fill.end_reason()
    }

    /// The ring of its blocks.
    pub fn blocks(&self) -> &Arc<Ring<OutBlock>> {
        self.fill.blocks()
    }

    /// Lets `module` take over with these options of the mount: at the next join point of the stream, on the same ring. Returns whether
    /// that changes anything.
    ///
    /// # Errors
    /// [`HandoverError`]: the generation cannot continue the mount. The old one stays.
    pub fn hand_over(
        &self,
        module: &Arc<Module>,
        options: &[(String, String)],
    ) -> Result<bool, HandoverError> {
        self.fill.hand_over(module, options)
    }

    /// The options that the mount in the config set when its recipe was made.
    pub(super) fn options(&self) -> Vec<(String, String)> {
        self.fill.recipe().set().to_vec()
    }

    /// Follows another config of its vhost, in which new viewers get `history` at once.
    pub(super) fn follow(&self, vhost: &Vhost, history: Millis) {
        let history = if self.module().is_audio_only() { history } else { Millis(0) };
        self.history.store(history.0, Ordering::Relaxed);
        self.blocks().set_limits(ring_limits(vhost, history));
    }

    /// Whether new viewers get another mount.
    pub fn is_draining(&self) -> bool {
        self.fill.is_draining()
    }

    /// Marks it as draining: it keeps its generation, and new viewers get another mount.
    pub(super) fn drain(&self) {
        self.fill.drain();
    }

    /// Replaces a generation that is switched off by the one before; ends the mount if there is none.
    pub(super) fn settle(&self) {
        self.fill.settle();
    }

    /// Whether a viewer who asks for `recipe` and `history` can share it. Its generation is an older one while a reload has
    /// not reached this stream.
    pub(super) fn serves(&self, recipe: &Recipe, history: Millis) -> bool {
        let own = self.fill.recipe();
        let is_older_one = || {
            let same_module = own.module().name() == recipe.module().name();
            same_module && recipe.of(own.module().clone()).is_ok_and(|recipe| recipe.equals(&own))
        };
        self.history.load(Ordering::Relaxed) == history.0
            && !self.fill.is_draining()
            && (own.equals(recipe) || is_older_one())
    }

    /// Ends it for its viewers, cleanly.
    pub fn end(&self, reason: EndReason) {
        self.fill.end(reason);
    }
}

impl Drop for LiveMount {
    fn drop(&mut self) {
        self.fill.end(EndReason::Idle);
    }
}

/// A viewer: one of those that a live mount counts, and its position.
#[derive(Debug)]
pub struct Viewer {
    position: ViewerPosition,
    counted: CountedViewer,
}

impl Viewer {
    pub(super) fn new(mount: Arc<LiveMount>, at: JoinAt) -> Viewer {
        mount.viewers.fetch_add(1, Ordering::Relaxed);
        let position = ViewerPosition { reader: mount.blocks().follower(at), mount: mount.clone() };
        Viewer { position, counted: CountedViewer { mount, _haste: None } }
    }

    /// Returns what to write next; `None` when the mount has ended.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Arc<Span>>> {
        let skipped = self.skipped();
        let next = self.position.poll_next(cx);
        self.position.count_skips(self.skipped() - skipped);
        next
    }

    /// Number of times that it fell behind and moved to a newer keyframe.
    pub fn skipped(&self) -> u64 {
        self.position.skipped()
    }

    /// How far the last media that it got were behind the newest of the mount.
    pub fn lag(&self) -> Millis {
        self.position.lag()
    }

    /// The mount that it watches.
    pub fn mount(&self) -> &Arc<LiveMount> {
        &self.counted.mount
    }

    /// Keeps the viewer's demand as long as it watches.
    pub fn hasten(&mut self, haste: Haste) {
        self.counted._haste = Some(haste);
    }

    /// Separates the position, which viewers may share, from what counts this one.
    pub fn into_parts(self) -> (ViewerPosition, CountedViewer) {
        (self.position, self.counted)
    }
}

/// Makes the mount count a viewer, until it is dropped.
#[derive(Debug)]
pub struct CountedViewer {
    mount: Arc<LiveMount>,
    _haste: Option<Haste>,
}

impl Drop for CountedViewer {
    fn drop(&mut self) {
        // Before the count, which says whether it matters.
        *self.mount.left.lock() = Instant::now();
        self.mount.viewers.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A position in a live mount's blocks, of one viewer or of all that are level with it.
#[derive(Debug)]
pub struct ViewerPosition {
    // Before the mount, whose last owner ends the ring.
    reader: Reader<OutBlock>,
    mount: Arc<LiveMount>,
}

impl ViewerPosition {
    /// Returns what to write next; `None` when the mount has ended.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Arc<Span>>> {
        self.reader.poll_read(cx)
    }

    /// Counts viewers that fell behind here and moved to a newer keyframe.
    pub fn count_skips(&self, count: u64) {
        if count > 0 {
            self.mount.running().unwrap_or_else(|| self.mount.module()).on_skips(count);
        }
    }

    /// Creates another position at the same place.
    pub fn fork(&self) -> ViewerPosition {
        ViewerPosition { reader: self.reader.fork(), mount: self.mount.clone() }
    }

    /// Whether both read the same next.
    pub fn is_level(&self, other: &ViewerPosition) -> bool {
        self.reader.is_level(&other.reader)
    }

    /// Number of times that it fell behind and moved to a newer keyframe.
    pub fn skipped(&self) -> u64 {
        self.reader.skipped()
    }

    /// How far the last media were behind the newest of the mount.
    pub fn lag(&self) -> Millis {
        self.reader.lag()
    }

    /// The mount.
    pub fn mount(&self) -> &Arc<LiveMount> {
        &self.mount
    }
}
