//! Renditions: the further tracks of a stream that has several (enhanced RTMP multitrack).
//!
//! Rendition N is video track N and audio track N; where the stream has only one of them, the other is that of track 0.
//! Each has a source of its own, in which the header of a tag describes the rendition's track. So the join points,
//! configurations and codecs of a rendition are its own, and what reads a source need not know of tracks.
//!
//! A rendition begins with the first tag of its track. It ends when its video or its audio has not come for [`GONE`], and
//! may begin again with what is left.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use remuxd_bitstream::flv::TagHeader;

use super::carriage::CarriageReader;
use super::entries::MAX_TRACK;
use super::ring::{JoinAt, Pace, Reader};
use super::source::Source;
use super::tracks::{Codecs, GONE, TRACK_WAIT};
use crate::conf::Vhost;
use crate::media::{Millis, Packet, Tag, TagKind};
use crate::sync::Mutex;

/// The renditions of one stream.
#[derive(Debug)]
pub(super) struct Renditions {
    /// The source of track 0.
    base: Arc<Source>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The publisher of track 0, whose tags are taken.
    publisher: u64,
    feeds: Vec<Feed>,
}

/// A rendition, and what it has of its own.
#[derive(Debug)]
struct Feed {
    track: u8,
    source: Arc<Source>,
    /// The publisher's number in `source`.
    publisher: u64,
    /// Age of track 0 at the last tag of the rendition's own audio and video; `None` while it gets those of track 0.
    audio: Option<Millis>,
    video: Option<Millis>,
}

impl Renditions {
    /// The renditions beside `base`, the source of track 0.
    pub(super) fn new(base: Arc<Source>) -> Renditions {
        Renditions { base, state: Mutex::default() }
    }

    /// Returns the source of a track.
    pub(super) fn find(&self, track: u8) -> Option<Arc<Source>> {
        if track == 0 {
            return Some(self.base.clone());
        }
        let state = self.state.lock();
        state.feeds.iter().find(|one| one.track == track).map(|one| one.source.clone())
    }

    /// Whether there is a reader of any track.
    pub(super) fn are_read(&self) -> bool {
        self.base.is_read() || self.state.lock().feeds.iter().any(|one| one.source.is_read())
    }

    /// Wakes a task when any track has another reader.
    pub(super) fn watch_readers(&self, waker: &Waker) {
        self.base.watch_readers(waker);
        self.state.lock().feeds.iter().for_each(|one| one.source.watch_readers(waker));
    }

    /// Starts the publisher that has this number in the source of track 0.
    pub(super) fn publish(&self, publisher: u64) {
        let mut state = self.state.lock();
        state.publisher = publisher;
        for one in &mut state.feeds {
            one.publisher = one.source.take_over(self.base.account());
            // The age of track 0 starts again.
            one.audio = one.audio.and(Some(Millis(0)));
            one.video = one.video.and(Some(Millis(0)));
        }
    }

    /// Takes the other tracks of a tag, and track 0 for renditions that lack its kind. To be called before the tag goes to the
    /// source of track 0.
    pub(super) fn push(&self, publisher: u64, tag: &Tag, now: Millis) {
        let mut state = self.state.lock();
        let is_plain = !tag.header.wrapped;
        if state.publisher != publisher || (state.feeds.is_empty() && is_plain) {
            return;
        }
        let age = self.base.age();
        if !is_plain {
            for (track, header) in TagHeader::tracks(tag.kind, &tag.payload) {
                if (1..=MAX_TRACK).contains(&track) {
                    let feed = state.of_track(track, &self.base, tag, now);
                    *feed.own(tag.kind) = Some(age);
                    feed.push(Tag { header, ..tag.clone() }, now);
                }
            }
        }
        let has_track_0 = is_plain || tag.header.packet != Packet::OTHER;
        for one in state.feeds.iter().filter(|one| has_track_0 && one.lacks(tag.kind)) {
            one.push(tag.clone(), now);
        }
        let is_gone = |seen: Millis| age.0 - seen.0 > GONE.0;
        let is_over = |one: &mut Feed| one.audio.is_some_and(is_gone) || one.video.is_some_and(is_gone);
        let over: Vec<_> = state.feeds.extract_if(.., is_over).collect();
        drop(state);
        over.iter().for_each(|one| one.source.end());
    }

    /// Follows another config of the vhost, track 0 included.
    pub(super) fn set_vhost(&self, vhost: &Arc<Vhost>) {
        let state = self.state.lock();
        self.base.set_vhost(vhost);
        state.feeds.iter().for_each(|one| one.source.set_vhost(vhost));
    }

    pub(super) fn leave(&self, publisher: u64) {
        let state = self.state.lock();
        if state.publisher == publisher {
            state.feeds.iter().for_each(|one| {
                one.source.leave(one.publisher);
            });
        }
    }

    pub(super) fn end(&self) {
        let feeds = std::mem::take(&mut self.state.lock().feeds);
        feeds.iter().for_each(|one| one.source.end());
    }
}

impl State {
    /// Returns the rendition of a track, which begins at `tag` if it is new.
    fn of_track(&mut self, track: u8, base: &Source, tag: &Tag, now: Millis) -> &mut Feed {
        let at = self.feeds.iter().position(|one| one.track == track).unwrap_or_else(|| {
            self.feeds.push(Feed::new(track, base, tag, now));
            self.feeds.len() - 1
        });
        &mut self.feeds[at]
    }
}

impl Feed {
    /// Creates the rendition of a track whose first tag is `tag`, with the configurations of the kinds that it may lack.
    fn new(track: u8, base: &Source, tag: &Tag, now: Millis) -> Feed {
        let source = Arc::new(Source::new(base.key().clone(), base.vhost(), base.account()));
        let publisher = source.take_over(base.account());
        let mut feed = Feed { track, source, publisher, audio: None, video: None };
        *feed.own(tag.kind) = Some(base.age());
        for (_, config) in base.tags().configs() {
            if feed.lacks(config.kind) && config.header.packet != Packet::OTHER {
                feed.push(Tag { dts: tag.dts, ..config }, now);
            }
        }
        feed
    }

    fn own(&mut self, kind: TagKind) -> &mut Option<Millis> {
        if kind == TagKind::AUDIO { &mut self.audio } else { &mut self.video }
    }

    /// Whether it gets tags of this kind from track 0.
    fn lacks(&self, kind: TagKind) -> bool {
        match kind {
            TagKind::AUDIO => self.audio.is_none(),
            TagKind::VIDEO => self.video.is_none(),
            _ => true,
        }
    }

    fn push(&self, tag: Tag, now: Millis) {
        // Refused only when another publisher has taken over.
        let _ = self.source.push(self.publisher, tag, now);
    }
}

/// A rendition, or the stream's track 0.
#[derive(Clone, Debug)]
pub struct Rendition {
    source: Arc<Source>,
}

impl Rendition {
    /// Creates a reader that judges whether a format can carry it.
    pub fn carriage(&self) -> CarriageReader {
        CarriageReader::new(self.source.clone())
    }

    /// The codecs of its newest tags.
    pub fn codecs(&self) -> Codecs {
        self.source.codecs()
    }

    /// Whether it has ended.
    pub fn is_ended(&self) -> bool {
        self.source.tags().is_ended()
    }
}

/// Resolves when it is known whether a stream has a track: to `None` if the track has not come within the time of a late
/// track.
#[derive(Debug)]
pub struct RenditionWait {
    renditions: Arc<Renditions>,
    track: u8,
    tags: Reader<Tag>,
}

impl RenditionWait {
    pub(super) fn new(renditions: Arc<Renditions>, track: u8) -> RenditionWait {
        let tags = renditions.base.tags().reader(JoinAt::Newest, Pace::Each);
        RenditionWait { renditions, track, tags }
    }
}

impl Future for RenditionWait {
    type Output = Option<Rendition>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Rendition>> {
        // The tags wake the task: a rendition begins before its first tag enters the ring of track 0.
        let ended = loop {
            match self.tags.poll_read(cx) {
                Poll::Ready(Some(_)) => {}
                Poll::Ready(None) => break true,
                Poll::Pending => break false,
            }
        };
        match self.renditions.find(self.track) {
            Some(source) => Poll::Ready(Some(Rendition { source })),
            None if ended || self.renditions.base.age() >= TRACK_WAIT => Poll::Ready(None),
            None => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests;
