//! Content of a tag: a unit, a configuration, or neither.

use remuxd_bitstream::flv::{MAX_CONFIGURATION, TagHeader};

use crate::media::{Packet, Tag, TagKind};

/// The largest number of a track whose configuration is kept.
const MAX_TRACK: u8 = 15;

/// The role of a tag in a splice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// A coded frame of audio or video.
    Unit,
    /// A sequence header or metadata, which replaces the one before it in the same slot.
    Config(Slot),
    /// Anything else.
    Other,
}

/// The name of a configuration in a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot {
    kind: TagKind,
    packet: Packet,
    track: u8,
}

impl Content {
    pub(super) fn of(tag: &Tag) -> Content {
        let header = tag.header;
        if tag.kind == TagKind::SCRIPT {
            let is_short = tag.payload.len() <= MAX_CONFIGURATION as usize;
            return if is_short { Content::of_packet(tag.kind, 0, header.packet) } else { Content::Other };
        }
        if header.packet != Packet::OTHER || !header.wrapped {
            return Content::of_packet(tag.kind, 0, header.packet);
        }
        // A body of other tracks than track 0. If there are several, the first one stands for all.
        match TagHeader::tracks(tag.kind, &tag.payload).next() {
            Some((track, header)) => Content::of_packet(tag.kind, track, header.packet),
            None => Content::Other,
        }
    }

    fn of_packet(kind: TagKind, track: u8, packet: Packet) -> Content {
        match packet {
            Packet::CODED_FRAME if kind != TagKind::SCRIPT => Content::Unit,
            Packet::SEQUENCE_HEADER | Packet::METADATA if track <= MAX_TRACK => {
                Content::Config(Slot { kind, packet, track })
            }
            _ => Content::Other,
        }
    }
}

impl Slot {
    pub(super) fn is_sequence_header(self) -> bool {
        self.packet == Packet::SEQUENCE_HEADER
    }
}
