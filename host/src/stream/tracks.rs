//! Tracks: which tracks a stream has, and how they are coded.
//!
//! [`Codecs`] is a fold over tags: every reader of a ring keeps one for its own position, since the stream may have moved
//! on to other codecs. [`VideoPresence`] is the one rule of when video counts as gone. The stream applies it to each tag
//! before the tag enters a ring and reports the result in [`Tag::tracks`], for remux jobs and modules alike.

use crate::media::{Codec, Millis, Packet, Tag, TagKind};
use crate::module::Module;

/// Without a video frame for this long, a stream counts as audio-only, and every audio frame is a join point. Video that
/// returns is dropped up to its next keyframe, since readers that joined meanwhile could not decode it.
const VIDEO_GONE: Millis = Millis(10_000);

/// The codecs in use at one position in a sequence of tags; [`Codec::NONE`] for a track that has not come.
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
        let header = tag.header;
        let declares = matches!(header.packet, Packet::SEQUENCE_HEADER | Packet::CODED_FRAME);
        if !declares || header.codec == Codec::NONE {
            return;
        }
        match tag.kind {
            TagKind::VIDEO => self.video = header.codec,
            TagKind::AUDIO => self.audio = header.codec,
            _ => {}
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

/// Whether the video track of a stream is still present.
#[derive(Debug, Default)]
pub(super) struct VideoPresence {
    /// Time of the last video frame; before the first one, of the first audio frame.
    since: Option<Millis>,
    gone: bool,
}

impl VideoPresence {
    /// Adds a frame that enters the ring.
    pub(super) fn add(&mut self, frame: &Tag) {
        if frame.kind == TagKind::VIDEO {
            self.since = Some(frame.dts);
        } else {
            let since = *self.since.get_or_insert(frame.dts);
            self.gone |= frame.dts.0 - since.0 > VIDEO_GONE.0;
        }
    }

    /// Marks video as present again, at a keyframe.
    pub(super) fn returns(&mut self) {
        self.gone = false;
    }

    pub(super) fn is_gone(&self) -> bool {
        self.gone
    }
}
