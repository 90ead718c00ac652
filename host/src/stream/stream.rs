//! Stream: one publisher's tags on one timeline, and the mounts that remux them.
//!
//! The stream decides what a tag means to joiners (see [`Stream::role`]): keyframes are join points, the latest
//! metadata and sequence headers are replayed. Without video, every audio frame is a join point.
//!
//! Beside the ring of all tags there is one of audio alone, for formats that carry no video: each frame in it is a
//! join point, and it holds the longest `fast_cache` of the vhost's mounts, back to where the codec or its sequence header
//! changed: what is before may be more than a format can carry. With one, frames are copied into it: for so
//! long, a shared one would keep the socket buffer that it arrived in alive, with the video in it.
//!
//! Video between the start of a publisher and its first keyframe is dropped: nobody can decode it. So is
//! everything between a republish and the first keyframe, as long as the stream had video: viewers who stayed go
//! on at a keyframe. The ring of audio goes on at once, and so it has a timeline of its own: in either there is no gap.
//!
//! Sequence headers and metadata are copied when they arrive: they live long, and would keep the socket buffer that
//! they arrived in alive.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use parking_lot::Mutex;
use tracing::{debug, info};

use crate::conf::{Mount, Vhost};
use crate::media::{Codec, Millis, Packet, Tag, TagKind, Timeline};
use crate::module::StreamFacts;

use super::mount::LiveMount;
use super::{Entry, JoinAt, Pace, PublishError, Reader, Ring, RingLimits, Role, StreamKey};

/// Without a video frame for this long, a stream counts as audio-only, and every audio frame is a join point. Video
/// that comes back is dropped up to its next keyframe, since nobody who joined meanwhile could decode it.
pub(super) const VIDEO_GONE: Millis = Millis(10_000);

/// After a republish, audio waits this long for a keyframe.
const KEYFRAME_WAIT: Millis = Millis(3_000);

/// What a tag keeps alive beside its payload, in bytes: an estimate for the ring's limits.
const TAG_OVERHEAD: usize = 128;

/// Slots of the configurations that joiners of a stream get, in this order.
const METADATA: Role = Role::Config(0);
const AUDIO_SEQUENCE_HEADER: Role = Role::Config(1);
const VIDEO_SEQUENCE_HEADER: Role = Role::Config(2);
const VIDEO_METADATA: Role = Role::Config(3);

/// The slot of a tag that is a configuration; joiners get them in this order.
pub(super) fn config_slot(tag: &Tag) -> Option<u8> {
    let role = match (tag.kind, tag.header.packet) {
        (TagKind::AUDIO, Packet::SEQUENCE_HEADER) => AUDIO_SEQUENCE_HEADER,
        (TagKind::VIDEO, Packet::SEQUENCE_HEADER) => VIDEO_SEQUENCE_HEADER,
        (TagKind::VIDEO, Packet::METADATA) => VIDEO_METADATA,
        (TagKind::AUDIO, _) => return None,
        (_, Packet::METADATA) => METADATA,
        _ => return None,
    };
    match role {
        Role::Config(slot) => Some(slot),
        _ => None,
    }
}

impl Entry for Tag {
    type Batch = Vec<Tag>;

    fn size(&self) -> usize {
        self.payload.len() + TAG_OVERHEAD
    }

    fn dts(&self) -> Millis {
        self.dts
    }

    fn batch<'a>(entries: impl Iterator<Item = &'a Self>) -> Vec<Tag> {
        entries.cloned().collect()
    }
}

/// One stream.
#[derive(Debug)]
pub struct Stream {
    key: StreamKey,
    vhost: Arc<Vhost>,
    tags: Arc<Ring<Tag>>,
    audio: Arc<Ring<Tag>>,
    /// The lead of `audio`.
    lead: Millis,
    state: Mutex<State>,
    pub(super) mounts: Mutex<Vec<Arc<LiveMount>>>,
}

#[derive(Debug, Default)]
struct State {
    /// Counts publishers; the newest is the one that may push.
    publisher: u64,
    live: bool,
    timeline: Timeline,
    /// Of the ring of audio.
    audio_timeline: Timeline,
    started: Option<Millis>,
    audio: Track,
    video: Track,
    /// Told when another publisher takes over.
    replaced: Option<Waker>,
    /// This publisher sent a keyframe.
    keyframe_seen: bool,
    /// Since when everything waits for a keyframe after a republish, on the caller's clock.
    waiting_since: Option<Millis>,
    last_video: Millis,
    /// There was no video for so long that viewers joined at audio: they need a keyframe when it comes back.
    video_gone: bool,
}

/// How a track is coded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Track {
    codec: Codec,
    sequence_header: Bytes,
}

impl Stream {
    pub(super) fn new(key: StreamKey, vhost: Arc<Vhost>) -> Stream {
        let lead = vhost.mounts.iter().map(|mount| lead_of(mount)).max().unwrap_or(Millis(0));
        Stream {
            tags: Ring::new(ring_limits(&vhost, Millis(0))),
            audio: Ring::new(ring_limits(&vhost, lead)),
            key,
            vhost,
            lead,
            state: Mutex::default(),
            mounts: Mutex::default(),
        }
    }

    /// The stream's name.
    pub fn key(&self) -> &StreamKey {
        &self.key
    }

    /// The vhost that it is published on.
    pub fn vhost(&self) -> &Arc<Vhost> {
        &self.vhost
    }

    /// The ring of its tags.
    pub fn tags(&self) -> &Arc<Ring<Tag>> {
        &self.tags
    }

    /// The ring of its audio alone.
    pub fn audio(&self) -> &Arc<Ring<Tag>> {
        &self.audio
    }

    /// What is known of its tracks.
    pub fn facts(&self) -> StreamFacts {
        let state = self.state.lock();
        let age = state.started.map_or(0, |started| state.timeline.head().0 - started.0);
        StreamFacts::new(state.video.codec, state.audio.codec, age.clamp(0, i64::from(u32::MAX)) as u32)
    }

    /// A reader of its tags for an RTMP player.
    pub fn play(&self) -> Reader<Tag> {
        self.tags.reader(self.join_at(), self.pace())
    }

    pub(super) fn join_at(&self) -> JoinAt {
        if self.vhost.play.gop_cache { JoinAt::Newest } else { JoinAt::Next }
    }

    pub(super) fn pace(&self) -> Pace {
        if self.vhost.play.min_latency { Pace::Each } else { Pace::Merged }
    }

    pub(super) fn publish(this: &Arc<Stream>, replace: bool) -> Result<Publisher, PublishError> {
        let mut state = this.state.lock();
        if state.live && !replace {
            return Err(PublishError::Busy);
        }
        if state.publisher > 0 {
            state.timeline.end_of_publisher();
            state.audio_timeline.end_of_publisher();
            state.waiting_since = None;
        }
        state.publisher += 1;
        state.live = true;
        state.keyframe_seen = false;
        let id = state.publisher;
        let replaced = state.replaced.take();
        drop(state);
        if let Some(replaced) = replaced {
            replaced.wake();
        }
        info!(stream = %this.key, publisher = id, "published");
        Ok(Publisher { stream: this.clone(), id })
    }

    /// Places a tag and appends it to the ring. False: another publisher took over.
    fn push(&self, publisher: u64, mut tag: Tag, now: Millis) -> bool {
        let mut state = self.state.lock();
        if state.publisher != publisher || !state.live {
            return false;
        }
        let audio = state.audio.clone();
        let role = state.role(&mut tag, now, self.vhost.play.reduce_sequence_header);
        if state.audio != audio {
            self.audio.turn();
        }
        // Under the lock, so that two publishers in turn cannot mix.
        let is_frame = tag.header.packet == Packet::CODED_FRAME;
        if tag.kind == TagKind::AUDIO && (role.is_some() || is_frame) {
            let mut tag = tag.clone();
            state.audio_timeline.place(&mut tag, now);
            self.push_audio(tag, role);
        }
        let Some(mut role) = role else { return true };
        state.timeline.place(&mut tag, now);
        if is_frame {
            state.started.get_or_insert(tag.dts);
            if tag.kind == TagKind::VIDEO {
                state.last_video = tag.dts;
            } else if role == Role::Media {
                // By the frame's own time, as a module judges that marks its blocks.
                state.video_gone |= tag.dts.0 - state.last_video.0 > VIDEO_GONE.0;
                role = if state.video_gone { Role::Join } else { Role::Media };
            }
        }
        self.tags.push(tag, role);
        true
    }

    /// Appends a tag to the ring of audio, where `role` is what it is in the ring of all tags, if it goes there.
    fn push_audio(&self, mut tag: Tag, role: Option<Role>) {
        let frame = tag.header.packet == Packet::CODED_FRAME;
        if frame && self.lead > Millis(0) {
            tag.payload = Bytes::copy_from_slice(&tag.payload);
        }
        // An empty frame, which stands for silence, is no place to start.
        let joins = frame && tag.header.data_len > 0;
        let role = match role {
            Some(config @ Role::Config(_)) => config,
            _ if joins => Role::Join,
            _ => Role::Media,
        };
        self.audio.push(tag, role);
    }

    /// Ends the stream when publisher `left` was the last. True: it ended.
    pub(super) fn end_if_left(&self, left: u64) -> bool {
        let ended = {
            let state = self.state.lock();
            !state.live && state.publisher == left
        };
        if ended {
            self.end();
        }
        ended
    }

    pub(super) fn end(&self) {
        info!(stream = %self.key, "ended");
        self.tags.end();
        self.audio.end();
    }
}

impl State {
    /// What the tag means to joiners; `None`: it goes nowhere.
    fn role(&mut self, tag: &mut Tag, now: Millis, reduce_sequence_header: bool) -> Option<Role> {
        let header = tag.header;
        let track = match tag.kind {
            TagKind::AUDIO => &mut self.audio,
            TagKind::VIDEO => &mut self.video,
            _ => {
                if header.packet != Packet::METADATA {
                    return Some(Role::Media);
                }
                tag.payload = Bytes::copy_from_slice(&tag.payload);
                return Some(METADATA);
            }
        };
        let video = tag.kind == TagKind::VIDEO;
        match header.packet {
            Packet::SEQUENCE_HEADER => {
                track.codec = header.codec;
                if reduce_sequence_header && track.sequence_header == tag.payload {
                    return None;
                }
                tag.payload = Bytes::copy_from_slice(&tag.payload);
                track.sequence_header = tag.payload.clone();
                Some(if video { VIDEO_SEQUENCE_HEADER } else { AUDIO_SEQUENCE_HEADER })
            }
            Packet::METADATA if video => {
                tag.payload = Bytes::copy_from_slice(&tag.payload);
                Some(VIDEO_METADATA)
            }
            Packet::CODED_FRAME => {
                track.codec = header.codec;
                self.role_of_frame(video, header.keyframe, now)
            }
            _ => Some(Role::Media),
        }
    }

    fn role_of_frame(&mut self, video: bool, keyframe: bool, now: Millis) -> Option<Role> {
        if video {
            self.keyframe_seen |= keyframe;
            self.video_gone &= !keyframe;
            return match (keyframe, self.keyframe_seen) {
                (true, _) => Some(Role::Join),
                (false, true) if !self.video_gone => Some(Role::Media),
                (false, _) => None,
            };
        }
        if self.video.codec == Codec::NONE {
            return Some(Role::Join);
        }
        if self.publisher > 1 && !self.keyframe_seen {
            let since = *self.waiting_since.get_or_insert(now);
            if now.0 - since.0 < KEYFRAME_WAIT.0 {
                return None;
            }
            debug!("no keyframe after a republish; going on with audio");
        }
        Some(Role::Media)
    }
}

/// How much audio a viewer of `mount` gets at once.
fn lead_of(mount: &Mount) -> Millis {
    Millis(mount.fast_cache.as_millis() as i64)
}

/// How much a stream's ring, or a mount's, holds.
pub(super) fn ring_limits(vhost: &Vhost, lead: Millis) -> RingLimits {
    let play = &vhost.play;
    RingLimits {
        window: Millis(play.queue_length.as_millis() as i64),
        lead,
        max_bytes: play.queue_max_bytes,
        max_gop_entries: play.gop_cache_max_frames,
        max_gop_bytes: play.gop_cache_max_bytes,
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

    /// Whether it is the first publisher of this stream: then somebody must call [`Ring::flush`] on the tags.
    pub fn is_first(&self) -> bool {
        self.id == 1
    }

    /// Appends a tag with the publisher's own timestamp. `now` is when it was received, on one steady clock for
    /// the whole process. False: another publisher took over, and this one shall close.
    #[must_use]
    pub fn push(&self, tag: Tag, now: Millis) -> bool {
        self.stream.push(self.id, tag, now)
    }

    /// Waits until another publisher takes over.
    pub fn poll_replaced(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.stream.state.lock();
        if state.publisher != self.id {
            return Poll::Ready(());
        }
        match &mut state.replaced {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        Poll::Pending
    }

    /// Stops publishing; returns what [`Hub::expire`](super::Hub::expire) takes.
    pub fn leave(&self) -> u64 {
        let mut state = self.stream.state.lock();
        if state.publisher == self.id && state.live {
            state.live = false;
            info!(stream = %self.stream.key, publisher = self.id, "publisher left");
        }
        self.id
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.leave();
    }
}

#[cfg(test)]
mod tests {
    use super::super::Hub;
    use super::*;
    use crate::conf::Config;

    const A: (TagKind, &[u8]) = (TagKind::AUDIO, b"\xaf\x01a");
    const KEY: (TagKind, &[u8]) = (TagKind::VIDEO, b"\x17\x01\0\0\0k");
    const INTER: (TagKind, &[u8]) = (TagKind::VIDEO, b"\x27\x01\0\0\0i");

    /// The publisher of a new stream, on a vhost with these settings.
    fn published(vhost: &str) -> Publisher {
        let config = Config::parse(&format!("[vhost.a]\n{vhost}"), "remuxd.toml").unwrap();
        let key = StreamKey::new("a", "live", "x");
        Hub::new().publish(key, &config.vhosts[0]).unwrap()
    }

    fn push(publisher: &Publisher, (kind, body): (TagKind, &'static [u8]), dts: i64) {
        let tag = Tag::new(kind, Millis(dts), Bytes::from_static(body));
        assert!(publisher.push(tag, Millis(dts)));
    }

    /// The last bytes and the times of all tags that a reader can have now.
    fn read(reader: &mut Reader<Tag>) -> Vec<(char, i64)> {
        let mut cx = Context::from_waker(Waker::noop());
        let mut read = Vec::new();
        while let Poll::Ready(Some(tags)) = reader.poll_read(&mut cx) {
            read.extend(tags.iter().map(|tag| (char::from(*tag.payload.last().unwrap()), tag.dts.0)));
        }
        read
    }

    #[test]
    fn video_that_comes_back_starts_at_a_keyframe() {
        let publisher = published("");
        let push = |tag, dts| push(&publisher, tag, dts);
        let join = || publisher.stream().tags().reader(JoinAt::Newest, Pace::Each);
        push(KEY, 0);
        (0..=10_100).step_by(100).for_each(|dts| push(A, dts));
        let mut joined = join();
        assert_eq!(read(&mut joined), [('a', 10_100)], "audio goes on alone");
        push(INTER, 10_150);
        push(A, 10_300);
        let mut later = join();
        push(KEY, 10_350);
        push(INTER, 10_400);
        let rest = [('k', 10_350), ('i', 10_400)];
        assert_eq!(read(&mut joined), [&[('a', 10_300)], &rest[..]].concat());
        assert_eq!(read(&mut later), [&[('a', 10_300)], &rest[..]].concat());
        assert_eq!(read(&mut join()), rest);
    }

    #[test]
    fn audio_alone_goes_on_at_once_after_a_republish_and_video_at_a_keyframe() {
        let first = published("");
        let reader = |ring: &Arc<Ring<Tag>>| ring.reader(JoinAt::Newest, Pace::Each);
        let [mut all, mut audio] = [first.stream().tags(), first.stream().audio()].map(reader);
        push(&first, KEY, 0);
        push(&first, A, 20);
        first.leave();
        let again = Stream::publish(first.stream(), false).unwrap();
        for (tag, dts) in [(A, 5_000), (INTER, 5_010), (A, 5_020), (KEY, 6_000), (A, 6_020)] {
            push(&again, tag, dts);
        }
        // A frame after the seam, each by what it holds.
        assert_eq!(read(&mut all), [('k', 0), ('a', 20), ('k', 60), ('a', 80)]);
        assert_eq!(read(&mut audio), [('a', 20), ('a', 60), ('a', 80), ('a', 1_080)]);
    }

    #[test]
    fn keeps_the_longest_fast_cache_of_audio_apart_from_video() {
        let mount = |cache, n| {
            format!(
                "[[vhost.a.http_remux]]\nenabled=true\nfast_cache={cache}\nmount=\"/{n}/[app]/[stream].x\"\n"
            )
        };
        let publisher = published(&(mount(1, 1) + &mount(2, 2)));
        let push = |tag, dts| push(&publisher, tag, dts);
        push((TagKind::VIDEO, b"\x17\0\0\0\0c"), 0);
        let audio =
            |lead| read(&mut publisher.stream().audio().reader(JoinAt::Before(Millis(lead)), Pace::Each));
        for dts in (0..10_000).step_by(100) {
            push(A, dts);
            push(INTER, dts);
            push((TagKind::AUDIO, b"\xaf\x01"), dts + 1);
            let frames = audio(60_000).into_iter().filter(|(kind, _)| *kind == 'a').map(|(_, dts)| dts);
            let expected: Vec<_> = (0..=dts).step_by(100).filter(|time| dts - time <= 2_000).collect();
            assert_eq!(frames.collect::<Vec<_>>(), expected);
        }
        assert_eq!(audio(0)[0], ('a', 9_900));
        assert_eq!(publisher.stream().tags().held(), (0, 0), "no keyframe came");
    }

    #[test]
    fn audio_of_another_codec_or_setup_is_no_place_to_start() {
        let publisher =
            published("[[vhost.a.http_remux]]\nenabled=true\nfast_cache=30\nmount=\"/[app]/[stream].x\"");
        let push = |body, dts| push(&publisher, (TagKind::AUDIO, body), dts);
        let start = |lead| {
            let mut reader = publisher.stream().audio().reader(JoinAt::Before(Millis(lead)), Pace::Each);
            read(&mut reader).iter().map(|(letter, _)| *letter).collect::<String>()
        };
        push(b"\xaf\0x", 0);
        push(b"\xaf\x01a", 0);
        push(b"\xaf\x01b", 20);
        assert_eq!((start(30_000), start(0)), ("xab".into(), "xb".into()));
        push(b"\xaf\0x", 30);
        push(b"\xaf\x01c", 40);
        assert_eq!(start(30_000), "xabc", "the same again");
        push(b"\xaf\0y", 50);
        assert_eq!((start(30_000), start(0)), (String::new(), String::new()), "nothing yet");
        push(b"\xaf\x01d", 60);
        push(b"\xaf\x01e", 80);
        assert_eq!((start(30_000), start(0)), ("yde".into(), "ye".into()));
        push(b"\x2ff", 100);
        push(b"\x2fg", 120);
        assert_eq!((start(30_000), start(0)), ("yfg".into(), "yg".into()));
        push(b"\xaf\x01h", 140);
        assert_eq!((start(30_000), start(0)), ("yh".into(), "yh".into()));
    }
}
