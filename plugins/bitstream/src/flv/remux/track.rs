//! The state of one track of the stream.

use remuxd_plugin_api::{Codec, Packet, SharedBytes, Tag, TagKind};

use crate::flv::{TagHeader, needs_configuration};

/// Number of pictures that a player may keep back.
const HELD_BACK: u32 = 2;

/// The audio or the video of the stream.
#[derive(Debug, Default)]
pub(super) struct Track {
    /// Time that the file header waits for the track's first frame, in milliseconds.
    pub(super) wait: i64,
    pub(super) codec: Codec,
    /// Whether the track's newest tag was an enhanced one.
    pub(super) enhanced: bool,
    /// The data of the newest sequence header of this codec.
    configuration: Option<SharedBytes>,
    /// Whether a decoder that has the configuration can decode the next frame.
    pub(super) decodes: bool,
    /// Whether a decodable frame has arrived.
    pub(super) seen: bool,
    /// Whether the host or the metadata name the track, so that the file header does not wait for its first frame.
    pub(super) expected: bool,
    /// Whether the host's last report had the track.
    reported: bool,
    /// The codec that the newest metadata name.
    pub(super) named: Codec,
    /// The codec of the newest tag that was written.
    pub(super) written: Codec,
    /// The data of the newest sequence header that was written.
    written_configuration: Option<SharedBytes>,
    /// Number of pictures that were written after the newest keyframe.
    since_keyframe: Option<u32>,
    /// Whether the newest file header names the track.
    pub(super) announced: bool,
    /// The sequence header and metadata of a track that no file header names yet, the newest of each.
    pub(super) unannounced: Vec<Tag>,
}

impl Track {
    /// Creates a track of the codec that the host knows, or [`Codec::NONE`], in a stream of this age in milliseconds.
    pub(super) fn new(codec: Codec, age: i64, wait: i64) -> Track {
        // The stream's age counts towards the wait for a track that it has not sent.
        Track { wait: (wait - age).max(0), codec, expected: codec != Codec::NONE, ..Track::default() }
    }

    /// Updates the track by the host's report whether the stream has it, `None` if there is none. `overdue` is whether
    /// its first frame is. Returns whether an announced track has ended.
    pub(super) fn ends(&mut self, reported: Option<bool>, overdue: bool) -> bool {
        let gone = self.reported && reported == Some(false);
        self.reported = reported == Some(true);
        let ends = gone || overdue && self.expected && !self.seen && !self.reported;
        if ends {
            (self.seen, self.expected) = (false, false);
        }
        ends && self.announced
    }

    /// Returns whether the tag is of another codec than those before, or another sequence header.
    pub(super) fn begins_anew(&self, tag: &Tag) -> bool {
        let has_other_header = || self.configuration.as_deref().is_some_and(|known| *known != *tag.data());
        states_codec(tag) && ![Codec::NONE, tag.codec].contains(&self.codec)
            || tag.packet == Packet::SEQUENCE_HEADER && has_other_header()
    }

    /// Returns whether the tag is of another codec than those written so far.
    pub(super) fn changes_codec(&self, tag: &Tag) -> bool {
        states_codec(tag) && self.announced && ![Codec::NONE, tag.codec].contains(&self.written)
    }

    /// Returns whether the tag is another sequence header just after a keyframe, which players would decode with it:
    /// mpegts.js 1.8 and flv.js keep the last one or two pictures back until the next ones arrive.
    pub(super) fn strands_keyframe(&self, tag: &Tag) -> bool {
        tag.packet == Packet::SEQUENCE_HEADER
            && self.since_keyframe.is_some_and(|pictures| pictures < HELD_BACK)
            && self.written_configuration.as_deref().is_some_and(|written| *written != *tag.data())
    }

    /// Returns whether the metadata announce the track with another codec, or none since it was not known.
    pub(super) fn is_unnamed(&self) -> bool {
        self.announced && self.named != self.codec
    }

    /// Records a tag that is written.
    pub(super) fn on_written(&mut self, tag: &Tag) {
        if states_codec(tag) {
            self.written = tag.codec;
        }
        match tag.packet {
            Packet::SEQUENCE_HEADER => self.written_configuration = Some(tag.data()),
            Packet::CODED_FRAME if tag.keyframe => self.since_keyframe = Some(0),
            Packet::CODED_FRAME => self.since_keyframe = self.since_keyframe.map(|pictures| pictures + 1),
            _ => {}
        }
    }

    /// Updates the track and returns whether a decoder has a use for the tag.
    pub(super) fn takes(&mut self, tag: &Tag) -> bool {
        let changes_codec = tag.codec != self.codec;
        self.enhanced = TagHeader::parse(tag.kind, &tag.payload).enhanced;
        match tag.packet {
            Packet::SEQUENCE_HEADER => {
                let data = tag.data();
                if changes_codec || self.configuration.as_deref() != Some(&*data) {
                    self.decodes = false;
                }
                (self.codec, self.configuration) = (tag.codec, Some(data));
                true
            }
            Packet::CODED_FRAME => {
                if tag.data_len == 0 {
                    return false;
                }
                if changes_codec {
                    (self.codec, self.configuration, self.decodes) = (tag.codec, None, false);
                }
                let configured = self.configuration.is_some() || !needs_configuration(tag.codec);
                self.decodes |= configured && (tag.keyframe || tag.kind == TagKind::AUDIO);
                self.seen |= self.decodes;
                self.decodes
            }
            // Metadata that the host replays may be of the previous codec.
            Packet::METADATA => self.codec == Codec::NONE || !changes_codec,
            Packet::SEQUENCE_END => true,
            // Tracks other than the first, and packets without a meaning in FLV.
            _ => false,
        }
    }
}

fn states_codec(tag: &Tag) -> bool {
    matches!(tag.packet, Packet::SEQUENCE_HEADER | Packet::CODED_FRAME)
}
