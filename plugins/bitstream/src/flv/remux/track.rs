//! The state of one track of the stream.

use remuxd_plugin_api::{Codec, Packet, SharedBytes, Tag, TagKind};

use crate::flv::TagHeader;

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
    /// Whether the newest file header names the track.
    pub(super) announced: bool,
    /// The sequence header and metadata of a track that no file header names yet, the newest of each.
    pub(super) unannounced: Vec<Tag>,
}

impl Track {
    /// Creates a track of the codec that the host knows, or [`Codec::NONE`], in a stream of this age in milliseconds.
    pub(super) fn new(codec: Codec, age: i64, wait: i64) -> Track {
        // The stream's age counts towards the wait for a track that it has not sent.
        let wait = if codec == Codec::NONE { (wait - age).max(0) } else { wait };
        Track { wait, ..Track::default() }
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

/// Returns whether frames of the codec cannot be decoded without a sequence header.
fn needs_configuration(codec: Codec) -> bool {
    matches!(codec, Codec::H264 | Codec::HEVC | Codec::VVC | Codec::AAC)
}
