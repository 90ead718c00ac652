//! Source: the tags of one stream, on one timeline, in two rings.
//!
//! The source decides the role of each tag for joiners (see [`State::role`]): keyframes are join points, the latest
//! metadata and sequence headers are replayed. Without video, every audio frame is a join point.
//!
//! Beside the ring of all tags there is one of audio alone, for formats that carry no video: each frame in it is a join
//! point. It holds the longest `fast_cache` of the vhost's mounts, back to the last change of the codec or its sequence
//! header, since a format may be unable to carry what came before. With a `fast_cache`, frames are copied into it: a shared
//! frame would keep the socket buffer that it arrived in alive for that long, with the video in it.
//!
//! Video between the start of a publisher and its first keyframe is dropped, since no viewer could decode it. After a
//! republish, everything up to the first keyframe is dropped if the stream had video, so that viewers who stayed continue
//! at a keyframe. The ring of audio continues at once and therefore has a timeline of its own, without a gap in either.
//!
//! Sequence headers and metadata are copied when they arrive: they live long, and would keep their socket buffer alive.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};

use super::entries::config_slot;
use super::error::PublishError;
use super::key::StreamKey;
use super::ring::{EntryRole, Ring, RingLimits};
use super::tracks::{Codecs, VideoPresence};
use crate::conf::{Mount, Vhost};
use crate::media::{Codec, Millis, Packet, Tag, TagKind, Timeline, Tracks};
use crate::module::StreamFacts;

/// After a republish, audio waits this long for a keyframe.
const KEYFRAME_WAIT: Millis = Millis(3_000);

/// The publishers and the rings of one stream.
#[derive(Debug)]
pub(super) struct Source {
    key: StreamKey,
    vhost: Arc<Vhost>,
    tags: Arc<Ring<Tag>>,
    audio: Arc<Ring<Tag>>,
    /// Length of history that `audio` keeps.
    history: Millis,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Number of publishers so far; only the newest may push.
    publisher: u64,
    live: bool,
    timeline: Timeline,
    /// Timeline of the ring of audio.
    audio_timeline: Timeline,
    /// Time of the first frame.
    started: Option<Millis>,
    codecs: Codecs,
    audio_header: Bytes,
    video_header: Bytes,
    /// Woken when another publisher takes over.
    replaced: Option<Waker>,
    /// The current publisher has sent a keyframe.
    keyframe_seen: bool,
    /// Since when everything waits for a keyframe after a republish, on the caller's clock.
    waiting_since: Option<Millis>,
    video: VideoPresence,
}

impl Source {
    pub(super) fn new(key: StreamKey, vhost: Arc<Vhost>) -> Source {
        let history = vhost.mounts.iter().map(|mount| history_of(mount)).max().unwrap_or(Millis(0));
        Source {
            tags: Ring::new(ring_limits(&vhost, Millis(0))),
            audio: Ring::new(ring_limits(&vhost, history)),
            key,
            vhost,
            history,
            state: Mutex::default(),
        }
    }

    pub(super) fn key(&self) -> &StreamKey {
        &self.key
    }

    pub(super) fn vhost(&self) -> &Arc<Vhost> {
        &self.vhost
    }

    /// The ring of all tags.
    pub(super) fn tags(&self) -> &Arc<Ring<Tag>> {
        &self.tags
    }

    /// The ring of audio tags.
    pub(super) fn audio(&self) -> &Arc<Ring<Tag>> {
        &self.audio
    }

    /// The codecs of the newest tags.
    pub(super) fn codecs(&self) -> Codecs {
        self.state.lock().codecs
    }

    /// Time between the first frame and the newest tag.
    pub(super) fn age(&self) -> Millis {
        self.state.lock().age()
    }

    /// Facts about the newest tags, for a new remuxer.
    pub(super) fn facts(&self) -> StreamFacts {
        let state = self.state.lock();
        let age = state.age().0.clamp(0, i64::from(u32::MAX)) as u32;
        StreamFacts::new(state.codecs.video, state.codecs.audio, age)
    }

    /// Starts a publisher. Returns its number; the first is 1.
    pub(super) fn publish(&self, replace: bool) -> Result<u64, PublishError> {
        let state = self.state.lock();
        if state.live && !replace {
            return Err(PublishError::Busy);
        }
        Ok(self.begin(state))
    }

    /// Starts a publisher, in place of one that is there. Returns its number.
    pub(super) fn take_over(&self) -> u64 {
        self.begin(self.state.lock())
    }

    fn begin(&self, mut state: MutexGuard<'_, State>) -> u64 {
        if state.publisher > 0 {
            state.timeline.end_of_publisher();
            state.audio_timeline.end_of_publisher();
            state.waiting_since = None;
        }
        state.publisher += 1;
        state.live = true;
        state.keyframe_seen = false;
        let publisher = state.publisher;
        let replaced = state.replaced.take();
        drop(state);
        if let Some(replaced) = replaced {
            replaced.wake();
        }
        publisher
    }

    /// Waits until another publisher has taken over from `publisher`.
    pub(super) fn poll_replaced(&self, publisher: u64, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.state.lock();
        if state.publisher != publisher {
            return Poll::Ready(());
        }
        match &mut state.replaced {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        Poll::Pending
    }

    /// Places a tag on the timeline and appends it to the rings. Returns false if another publisher has taken over.
    pub(super) fn push(&self, publisher: u64, mut tag: Tag, now: Millis) -> bool {
        // Held over both rings, so that the tags of two publishers cannot mix.
        let mut state = self.state.lock();
        if state.publisher != publisher || !state.live {
            return false;
        }
        let (codec, header) = (state.codecs.audio, state.audio_header.clone());
        let mut role = state.role(&mut tag, now, self.vhost.play.reduce_sequence_header);
        if codec != state.codecs.audio || header != state.audio_header {
            self.audio.mark_change();
        }
        let is_frame = tag.header.packet == Packet::CODED_FRAME;
        let audio = (tag.kind == TagKind::AUDIO && (role.is_some() || is_frame)).then(|| tag.clone());
        if let Some(role) = &mut role {
            state.timeline.place(&mut tag, now);
            if is_frame {
                state.started.get_or_insert(tag.dts);
                state.video.add(&tag);
                if tag.kind == TagKind::AUDIO && state.video.is_gone() {
                    *role = EntryRole::Join;
                }
            }
        }
        let tracks = state.tracks();
        if let Some(mut tag) = audio {
            state.audio_timeline.place(&mut tag, now);
            tag.tracks = tracks;
            self.push_audio(tag);
        }
        if let Some(role) = role {
            tag.tracks = tracks;
            self.tags.push(tag, role);
        }
        true
    }

    fn push_audio(&self, mut tag: Tag) {
        let frame = tag.header.packet == Packet::CODED_FRAME;
        if frame && self.history > Millis(0) {
            tag.payload = Bytes::copy_from_slice(&tag.payload);
        }
        // An empty frame, which stands for silence, is no join point.
        let joins = frame && tag.header.data_len > 0;
        let role = match config_slot(&tag) {
            Some(slot) => EntryRole::Config(slot),
            None if joins => EntryRole::Join,
            None => EntryRole::Media,
        };
        self.audio.push(tag, role);
    }

    /// Marks `publisher` as gone, if it is the current one. Returns whether it was.
    pub(super) fn leave(&self, publisher: u64) -> bool {
        let mut state = self.state.lock();
        let left = state.publisher == publisher && state.live;
        state.live &= !left;
        left
    }

    /// Whether `publisher` was the last one and has left.
    pub(super) fn has_left(&self, publisher: u64) -> bool {
        let state = self.state.lock();
        !state.live && state.publisher == publisher
    }

    pub(super) fn end(&self) {
        self.tags.end();
        self.audio.end();
    }
}

impl State {
    fn age(&self) -> Millis {
        Millis(self.started.map_or(0, |started| self.timeline.head().0 - started.0))
    }

    fn tracks(&self) -> Tracks {
        let video = self.codecs.video != Codec::NONE && !self.video.is_gone();
        Tracks::known(self.codecs.audio != Codec::NONE, video)
    }

    /// Returns the role of a tag in the ring of all tags; `None` if it is dropped.
    fn role(&mut self, tag: &mut Tag, now: Millis, reduce_sequence_header: bool) -> Option<EntryRole> {
        self.codecs.add(tag);
        let video = tag.kind == TagKind::VIDEO;
        if tag.header.packet == Packet::CODED_FRAME {
            return self.role_of_frame(video, tag.header.keyframe, now);
        }
        let Some(slot) = config_slot(tag) else { return Some(EntryRole::Media) };
        tag.payload = Bytes::copy_from_slice(&tag.payload);
        if tag.header.packet == Packet::SEQUENCE_HEADER {
            let header = if video { &mut self.video_header } else { &mut self.audio_header };
            if reduce_sequence_header && *header == tag.payload {
                return None;
            }
            *header = tag.payload.clone();
        }
        Some(EntryRole::Config(slot))
    }

    fn role_of_frame(&mut self, video: bool, keyframe: bool, now: Millis) -> Option<EntryRole> {
        if video {
            self.keyframe_seen |= keyframe;
            if keyframe {
                self.video.returns();
                return Some(EntryRole::Join);
            }
            return (self.keyframe_seen && !self.video.is_gone()).then_some(EntryRole::Media);
        }
        if self.codecs.video == Codec::NONE {
            return Some(EntryRole::Join);
        }
        if self.publisher > 1 && !self.keyframe_seen {
            let since = *self.waiting_since.get_or_insert(now);
            if now.0 - since.0 < KEYFRAME_WAIT.0 {
                return None;
            }
        }
        Some(EntryRole::Media)
    }
}

/// Length of audio history that a viewer of `mount` gets at once.
fn history_of(mount: &Mount) -> Millis {
    Millis(mount.fast_cache.as_millis() as i64)
}

/// Limits of the ring of a stream or of a mount.
pub(super) fn ring_limits(vhost: &Vhost, history: Millis) -> RingLimits {
    let play = &vhost.play;
    RingLimits {
        window: Millis(play.queue_length.as_millis() as i64),
        history,
        max_bytes: play.queue_max_bytes,
        max_gop_entries: play.gop_cache_max_frames,
        max_gop_bytes: play.gop_cache_max_bytes,
    }
}

#[cfg(test)]
mod tests;
