//! Tracks: which tracks a stream has, and how they are coded.
//!
//! [`Codecs`] is a fold over tags: every reader of a ring keeps one for its own position, since the stream may have moved
//! on to other codecs. [`TrackStates`] is the one rule of when a track counts as present. The stream applies it to each tag
//! before the tag enters a ring and reports the result in [`Tag::tracks`], for remux jobs and modules alike.

use remuxd_bitstream::flv::needs_configuration;

use crate::media::{Codec, Millis, Packet, Tag, TagKind, Tracks};
use crate::module::Module;

/// A track without a frame for this long, while the other one continues, counts as gone. Video that returns is dropped up to
/// its next keyframe, since readers that joined meanwhile could not decode it.
pub(super) const GONE: Millis = Millis(10_000);

/// Time after a publisher's first frame in which its second track begins. Then a track of the previous publisher that this
/// one has not sent counts as gone.
pub(super) const TRACK_WAIT: Millis = Millis(1_000);

/// The codecs in use at one position in a sequence of tags; [`Codec::NONE`] for a track that has not come or has gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Codecs {
    /// The video codec.
    pub video: Codec,
    /// The audio codec.
    pub audio: Codec,
}

impl Codecs {
    /// Adds the next tag. A tag whose codec FLV has no name for changes nothing.
    pub(super) fn add(&mut self, tag: &Tag) {
        match (tag.kind, declared(tag)) {
            (TagKind::VIDEO, Some(codec)) => self.video = codec,
            (TagKind::AUDIO, Some(codec)) => self.audio = codec,
            _ => {}
        }
    }

    /// Removes the tracks that are present in `before` and no longer in `now`.
    pub(super) fn remove_ended(&mut self, before: Tracks, now: Tracks) {
        if (before.video(), now.video()) == (Some(true), Some(false)) {
            self.video = Codec::NONE;
        }
        if (before.audio(), now.audio()) == (Some(true), Some(false)) {
            self.audio = Codec::NONE;
        }
    }

    /// Whether `module` can carry one of the tracks.
    pub(super) fn are_carried_by(self, module: &Module) -> bool {
        module.carries(self.video, self.audio)
    }

    pub(super) fn are_complete(self) -> bool {
        self.video != Codec::NONE && self.audio != Codec::NONE
    }
}

/// Returns the codec that a tag states for its track.
fn declared(tag: &Tag) -> Option<Codec> {
    let header = tag.header;
    let declares = matches!(header.packet, Packet::SEQUENCE_HEADER | Packet::CODED_FRAME);
    (declares && header.codec != Codec::NONE).then_some(header.codec)
}

/// The tracks of a stream, over all its publishers.
///
/// A track is present from its first frame on until it counts as gone. With a new publisher the tracks of the last one stay
/// present until [`TRACK_WAIT`] has shown that they do not come.
#[derive(Debug, Default)]
pub(super) struct TrackStates {
    audio: Track,
    video: Track,
    /// Time of the publisher's first frame.
    began: Option<Millis>,
}

#[derive(Debug, Default)]
struct Track {
    present: bool,
    /// Codec of the publisher's newest tag.
    codec: Codec,
    /// Codec of the publisher's newest sequence header.
    configured: Codec,
    /// Time of the publisher's last frame.
    last: Option<Millis>,
}

impl Track {
    /// The codec, once the publisher has sent a frame.
    fn codec(&self) -> Codec {
        if self.present && self.last.is_some() { self.codec } else { Codec::NONE }
    }

    /// The codec, once the publisher has sent a frame that can be decoded.
    fn decodable(&self) -> Codec {
        let decodes = self.configured == self.codec || !needs_configuration(self.codec);
        if decodes { self.codec() } else { Codec::NONE }
    }
}

impl TrackStates {
    /// Records the codec of the publisher's next tag. Returns whether its track had another one before.
    pub(super) fn declare(&mut self, tag: &Tag) -> bool {
        let Some(codec) = declared(tag) else { return false };
        let Some(track) = self.track(tag.kind) else { return false };
        if tag.header.packet == Packet::SEQUENCE_HEADER {
            track.configured = codec;
        }
        let before = std::mem::replace(&mut track.codec, codec);
        before != Codec::NONE && before != codec
    }

    /// Adds a frame that enters the ring. Returns the time of the last frame of the other track if that counts as gone from
    /// now on.
    pub(super) fn add(&mut self, frame: &Tag) -> Option<Millis> {
        let began = *self.began.get_or_insert(frame.dts);
        let track = self.track(frame.kind)?;
        // An empty frame stands for silence, which does not begin a track.
        if frame.header.data_len > 0 || track.present {
            (track.present, track.last) = (true, Some(frame.dts));
        }
        let other = if frame.kind == TagKind::VIDEO { &mut self.audio } else { &mut self.video };
        let limit = if other.last.is_some() { GONE } else { TRACK_WAIT };
        let since = other.last.unwrap_or(began);
        let gone = other.present && frame.dts.0 - since.0 > limit.0;
        other.present &= !gone;
        gone.then_some(since)
    }

    /// Records a video frame that does not enter the ring, since its keyframe has not come, at time `now`.
    pub(super) fn expect_keyframe(&mut self, now: Millis) {
        self.video.last = Some(now);
    }

    /// Whether the publisher has sent video, decodable or not.
    pub(super) fn has_video_frames(&self) -> bool {
        self.video.last.is_some()
    }

    /// Removes the video of the previous publisher.
    pub(super) fn end_video(&mut self) {
        self.video.present = false;
    }

    /// Begins another publisher.
    pub(super) fn republish(&mut self) {
        let present = [self.audio.present, self.video.present];
        *self = TrackStates::default();
        [self.audio.present, self.video.present] = present;
    }

    pub(super) fn has_audio(&self) -> bool {
        self.audio.present
    }

    pub(super) fn has_video(&self) -> bool {
        self.video.present
    }

    /// The tracks as tags report them.
    pub(super) fn tracks(&self) -> Tracks {
        Tracks::known(self.audio.present, self.video.present)
    }

    /// The codecs of the tracks that the publisher has sent.
    pub(super) fn codecs(&self) -> Codecs {
        Codecs { video: self.video.codec(), audio: self.audio.codec() }
    }

    /// The same without tracks that no decoder can decode yet.
    pub(super) fn decodable(&self) -> Codecs {
        Codecs { video: self.video.decodable(), audio: self.audio.decodable() }
    }

    fn track(&mut self, kind: TagKind) -> Option<&mut Track> {
        match kind {
            TagKind::AUDIO => Some(&mut self.audio),
            TagKind::VIDEO => Some(&mut self.video),
            _ => None,
        }
    }
}
