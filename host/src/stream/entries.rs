//! Entries of the rings: tags in those of a stream, blocks in that of a live mount.

use remuxd_bitstream::flv::TagHeader;

use super::ring::{Entry, EntryRole};
use super::span::Span;
use crate::media::{Millis, Packet, Tag, TagKind};
use crate::module::{BlockFlags, OutBlock};

/// The largest number of a track that is served.
pub(super) const MAX_TRACK: u8 = 15;

/// Bytes that a tag keeps alive beside its payload: an estimate for the ring's limits.
const TAG_OVERHEAD: usize = 128;

/// Bytes that a block keeps alive beside its parts: an estimate for the ring's limits and for the budget.
pub(super) const BLOCK_OVERHEAD: usize = 256;

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

impl Entry for OutBlock {
    type Batch = Span;

    fn size(&self) -> usize {
        self.parts.iter().map(|part| part.len()).sum::<usize>() + BLOCK_OVERHEAD
    }

    fn dts(&self) -> Millis {
        self.dts
    }

    fn batch<'a>(entries: impl Iterator<Item = &'a Self>) -> Span {
        let mut charges = Vec::new();
        let parts = entries.flat_map(|block| {
            charges.extend(block.charge.clone());
            block.parts.iter().cloned()
        });
        Span::gather(parts).charged(charges)
    }
}

/// Largest body of another track's configuration that is kept, so that a publisher of many tracks cannot fill the memory.
const MAX_TRACK_CONFIG: usize = 64 * 1024;

/// Number of slots for each track.
const SLOTS: u8 = 8;

/// Returns the slot of a tag that is a configuration. Joiners get configurations by ascending slot. Those of other tracks
/// than the one that the tag's header describes follow; they are for players that read several.
pub(super) fn config_slot(tag: &Tag) -> Option<u8> {
    let header = tag.header;
    if header.packet != Packet::OTHER || !header.wrapped || tag.payload.len() > MAX_TRACK_CONFIG {
        return slot_within(tag.kind, header.packet);
    }
    let mut tracks = TagHeader::tracks(tag.kind, &tag.payload);
    let (track, header) = tracks.next().filter(|(track, _)| *track <= MAX_TRACK)?;
    Some(track * SLOTS + slot_within(tag.kind, header.packet)?)
}

/// Returns the slot of a configuration among those of its track.
fn slot_within(kind: TagKind, packet: Packet) -> Option<u8> {
    match (kind, packet) {
        (TagKind::AUDIO, Packet::SEQUENCE_HEADER) => Some(1),
        (TagKind::VIDEO, Packet::SEQUENCE_HEADER) => Some(2),
        (TagKind::VIDEO, Packet::METADATA) => Some(3),
        (TagKind::AUDIO, Packet::METADATA) => Some(4),
        (_, Packet::METADATA) => Some(0),
        _ => None,
    }
}

/// Returns the role that a module gave a block.
pub(super) fn block_role(block: &OutBlock) -> EntryRole {
    if block.flags.contains(BlockFlags::PREAMBLE) {
        EntryRole::Preamble
    } else if block.flags.contains(BlockFlags::CONFIG) {
        EntryRole::Config(block.track)
    } else if block.flags.contains(BlockFlags::JOIN) {
        EntryRole::Join
    } else {
        EntryRole::Media
    }
}
