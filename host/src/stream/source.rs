//! Source: the tags of one stream, on one timeline, in two rings.
//!
//! The source decides the role of each tag for joiners (see [`State::role`]): keyframes are join points, the latest
//! metadata and sequence headers are replayed. Without video, every audio frame is a join point.
//!
//! Beside the ring of all tags there is one of audio alone, for formats that carry no video: each frame in it is a join
//! point. It holds the longest `fast_cache` of the vhost's mounts, back to the last change of the codec or its sequence
//! header, since a format may be unable to carry what came before.
//!
//! Video between the start of a publisher and its first keyframe is dropped, since no viewer could decode it. After a
//! republish, everything up to the first keyframe is dropped if the stream had video, so that viewers who stayed continue
//! at a keyframe. So is audio that would be heard together with the audio before. The ring of audio continues at once and
//! therefore has a timeline of its own, without a gap in either.
//!
//! Readers that join get nothing of an earlier publisher, and nothing from before a change of a codec.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use bytes::Bytes;

use super::entries::config_slot;
use super::error::PublishError;
use super::faults::Faults;
use super::key::StreamKey;
use super::ring::{EntryRole, Pace, Ring, RingLimits};
use super::tracks::{Codecs, TRACK_WAIT, TrackStates};
use super::traffic::{StreamStats, Traffic};
use super::wakers::set_waker;
use crate::budget::Account;
use crate::conf::Vhost;
use crate::media::{Millis, Packet, Tag, TagKind, Timeline};
use crate::module::StreamFacts;
use crate::sync::{Mutex, MutexGuard};

/// After a republish with video, audio waits this long for the keyframe.
const KEYFRAME_WAIT: Millis = Millis(3_000);

/// The publishers and the rings of one stream.
#[derive(Debug)]
pub(super) struct Source {
    key: StreamKey,
    /// The vhost that it is published on, as the config in force has it.
    vhost: Mutex<Arc<Vhost>>,
    tags: Arc<Ring<Tag>>,
    audio: Arc<Ring<Tag>>,
    faults: Faults,
    /// The account of the newest publisher, for the memory of mounts.
    account: Mutex<Account>,
    state: Mutex<State>,
}

/// The tags with the configurations of a stream's decoders; empty where there is none.
#[derive(Clone, Debug, Default)]
pub struct SequenceHeaders {
    /// The body of the newest one of video.
    pub video: Bytes,
    /// The body of the newest one of audio.
    pub audio: Bytes,
}

#[derive(Debug, Default)]
struct State {
    /// Number of publishers so far; only the newest may push.
    publisher: u64,
    live: bool,
    timeline: Timeline,
    /// Timeline of the ring of audio.
    audio_timeline: Timeline,
    /// Time of the publisher's first frame.
    started: Option<Millis>,
    tracks: TrackStates,
    traffic: Traffic,
    audio_header: Bytes,
    video_header: Bytes,
    /// Woken when another publisher takes over.
    replaced: Option<Waker>,
    /// The current publisher has sent a keyframe.
    keyframe_seen: bool,
    /// Since when everything waits for a keyframe after a republish, on the publisher's clock.
    waiting_since: Option<Millis>,
}

impl Source {
    /// Creates the source of a stream that the owner of `account` will publish.
    pub(super) fn new(key: StreamKey, vhost: Arc<Vhost>, account: Account) -> Source {
        Source {
            tags: Ring::new(ring_limits(&vhost, Millis(0))),
            audio: Ring::new(ring_limits(&vhost, longest_history(&vhost))),
            key,
            vhost: Mutex::new(vhost),
            faults: Faults::default(),
            account: Mutex::new(account),
            state: Mutex::default(),
        }
    }

    pub(super) fn key(&self) -> &StreamKey {
        &self.key
    }

    pub(super) fn vhost(&self) -> Arc<Vhost> {
        self.vhost.lock().clone()
    }

    /// Follows another config of the vhost.
    pub(super) fn set_vhost(&self, vhost: &Arc<Vhost>) {
        *self.vhost.lock() = vhost.clone();
        self.tags.set_limits(ring_limits(vhost, Millis(0)));
        self.audio.set_limits(ring_limits(vhost, longest_history(vhost)));
    }

    /// The ring of all tags.
    pub(super) fn tags(&self) -> &Arc<Ring<Tag>> {
        &self.tags
    }

    /// The ring of audio tags.
    pub(super) fn audio(&self) -> &Arc<Ring<Tag>> {
        &self.audio
    }

    /// Whether one of its rings has a reader.
    pub(super) fn is_read(&self) -> bool {
        self.tags.reader_count() > 0 || self.audio.reader_count() > 0
    }

    /// Wakes a task when one of its rings has another reader.
    pub(super) fn watch_readers(&self, waker: &Waker) {
        self.tags.watch_readers(waker);
        self.audio.watch_readers(waker);
    }

    /// The faults of modules on this stream.
    pub(super) fn faults(&self) -> &Faults {
        &self.faults
    }

    /// Whether the stream has a publisher now.
    pub(super) fn is_live(&self) -> bool {
        self.state.lock().live
    }

    /// The codecs of the tracks that the newest publisher sends.
    pub(super) fn codecs(&self) -> Codecs {
        self.state.lock().tracks.codecs()
    }

    /// The newest publisher's sequence headers.
    pub(super) fn sequence_headers(&self) -> SequenceHeaders {
        let state = self.state.lock();
        SequenceHeaders { video: state.video_header.clone(), audio: state.audio_header.clone() }
    }

    /// The traffic of its publishers.
    pub(super) fn stats(&self) -> StreamStats {
        let mut state = self.state.lock();
        let is_live = state.live;
        state.traffic.stats(is_live, Instant::now())
    }

    /// Time between the newest publisher's first frame and the newest tag.
    pub(super) fn age(&self) -> Millis {
        self.state.lock().age()
    }

    /// Facts for a new remuxer that starts at `at`: the newest codecs, and the stream's age there. The publisher may be far
    /// ahead, and a remuxer counts on from the age.
    pub(super) fn facts(&self, at: Millis) -> StreamFacts {
        let state = self.state.lock();
        let age = state.started.map_or(0, |started| at.0 - started.0);
        let age = age.clamp(0, i64::from(u32::MAX)) as u32;
        let Codecs { video, audio } = state.tracks.decodable();
        StreamFacts::new(video, audio, age)
    }

    /// The account of the newest publisher.
    pub(super) fn account(&self) -> Account {
        self.account.lock().clone()
    }

    /// Starts a publisher. Returns its number; the first is 1.
    pub(super) fn publish(&self, replace: bool, account: Account) -> Result<u64, PublishError> {
        let state = self.state.lock();
        if state.live && !replace {
            return Err(PublishError::Busy);
        }
        Ok(self.begin(state, account))
    }

    /// Starts a publisher, in place of one that is there. Returns its number.
    pub(super) fn take_over(&self, account: Account) -> u64 {
        self.begin(self.state.lock(), account)
    }

    fn begin(&self, mut state: MutexGuard<'_, State>, account: Account) -> u64 {
        *self.account.lock() = account;
        if state.publisher > 0 {
            state.end_of_publisher();
            self.tags.forget();
            self.audio.forget();
        }
        state.publisher += 1;
        state.live = true;
        state.traffic.begin(Instant::now());
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
        set_waker(&mut state.replaced, cx.waker());
        Poll::Pending
    }

    /// Places a tag on the timeline and appends it to the rings. Returns false if another publisher has taken over.
    pub(super) fn push(&self, publisher: u64, mut tag: Tag, now: Millis) -> bool {
        let reduce_sequence_header = self.vhost.lock().play.reduce_sequence_header;
        // Held over both rings, so that the tags of two publishers cannot mix.
        let mut state = self.state.lock();
        if state.publisher != publisher || !state.live {
            return false;
        }
        state.traffic.add(&tag, Instant::now());
        let header = state.audio_header.clone();
        let other_codec = state.tracks.declare(&tag);
        let mut role = state.role(&tag, reduce_sequence_header);
        if other_codec {
            self.tags.mark_change();
        }
        if other_codec && tag.kind == TagKind::AUDIO || header != state.audio_header {
            self.audio.mark_change();
        }
        let is_frame = tag.header.packet == Packet::CODED_FRAME;
        let audio = (tag.kind == TagKind::AUDIO && (role.is_some() || is_frame)).then(|| tag.clone());
        role = role.filter(|_| state.timeline.place(&mut tag, now));
        if let Some(role) = &mut role
            && is_frame
        {
            state.started.get_or_insert(tag.dts);
            let had_audio = state.tracks.has_audio();
            if let Some(last) = state.tracks.add(&tag) {
                // A reader that joined before the last frame would get the track once more.
                self.tags.mark_change_at(last);
            }
            // An empty frame, which stands for silence, is no join point.
            if tag.kind == TagKind::AUDIO && tag.header.data_len > 0 && !state.tracks.has_video() {
                *role = EntryRole::Join;
            }
            if had_audio && !state.tracks.has_audio() {
                self.push_end_of_audio(&state);
            }
        }
        let tracks = state.tracks.tracks();
        if let Some(mut tag) = audio
            && state.audio_timeline.place(&mut tag, now)
        {
            tag.tracks = tracks;
            self.push_audio(tag);
        }
        if let Some(role) = role {
            tag.tracks = tracks;
            self.tags.push(tag, role);
        }
        true
    }

    fn push_audio(&self, tag: Tag) {
        let frame = tag.header.packet == Packet::CODED_FRAME;
        // An empty frame, which stands for silence, is no join point.
        let joins = frame && tag.header.data_len > 0;
        let role = match config_slot(&tag) {
            Some(slot) => EntryRole::Config(slot),
            None if joins => EntryRole::Join,
            None => EntryRole::Media,
        };
        self.audio.push(tag, role);
    }

    /// Appends a tag without content to the ring of audio: it reports that the stream has no audio, which no frame can.
    fn push_end_of_audio(&self, state: &State) {
        let mut tag = Tag::new(TagKind::AUDIO, state.audio_timeline.head(), Bytes::new());
        tag.tracks = state.tracks.tracks();
        self.audio.push(tag, EntryRole::Media);
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

    /// Prepares for another publisher, which continues on the timeline.
    fn end_of_publisher(&mut self) {
        self.timeline.end_of_publisher();
        self.audio_timeline.end_of_publisher();
        self.tracks.republish();
        self.started = None;
        self.keyframe_seen = false;
        self.waiting_since = None;
        (self.audio_header, self.video_header) = (Bytes::new(), Bytes::new());
    }

    /// Returns the role of a tag in the ring of all tags; `None` if it is dropped.
    fn role(&mut self, tag: &Tag, reduce_sequence_header: bool) -> Option<EntryRole> {
        let video = tag.kind == TagKind::VIDEO;
        if tag.header.packet == Packet::CODED_FRAME {
            return if video { self.role_of_video(tag) } else { self.role_of_audio(tag) };
        }
        let Some(slot) = config_slot(tag) else { return Some(EntryRole::Media) };
        if tag.header.packet == Packet::SEQUENCE_HEADER {
            let header = if video { &mut self.video_header } else { &mut self.audio_header };
            if reduce_sequence_header && *header == tag.payload {
                return None;
            }
            *header = tag.payload.clone();
        }
        Some(EntryRole::Config(slot))
    }

    fn role_of_video(&mut self, frame: &Tag) -> Option<EntryRole> {
        if frame.header.keyframe {
            self.keyframe_seen = true;
            return Some(EntryRole::Join);
        }
        if self.keyframe_seen && self.tracks.has_video() {
            return Some(EntryRole::Media);
        }
        self.tracks.expect_keyframe(self.timeline.head());
        None
    }

    fn role_of_audio(&mut self, frame: &Tag) -> Option<EntryRole> {
        if self.publisher > 1 && !self.keyframe_seen && self.tracks.has_video() {
            let since = *self.waiting_since.get_or_insert(frame.dts);
            let limit = if self.tracks.has_video_frames() { KEYFRAME_WAIT } else { TRACK_WAIT };
            if (frame.dts.0 - since.0).abs() < limit.0 {
                return None;
            }
            if !self.tracks.has_video_frames() {
                self.tracks.end_video();
            }
        }
        Some(EntryRole::Media)
    }
}

/// Length of audio history that a viewer of one of the vhost's mounts gets at once, at most.
fn longest_history(vhost: &Vhost) -> Millis {
    let longest = vhost.mounts.iter().map(|mount| mount.fast_cache).max();
    Millis(longest.unwrap_or_default().as_millis() as i64)
}

/// Limits of the ring of a stream or of a mount.
pub(super) fn ring_limits(vhost: &Vhost, history: Millis) -> RingLimits {
    let play = &vhost.play;
    RingLimits {
        pace: if play.min_latency { Pace::Each } else { Pace::Merged },
        window: Millis(play.queue_length.as_millis() as i64),
        history,
        max_bytes: play.queue_max_bytes,
        max_gop_entries: play.gop_cache_max_frames,
        max_gop_bytes: play.gop_cache_max_bytes,
    }
}

#[cfg(test)]
mod tests;
