//! History: the tags of a remuxer that starts in the middle of a stream, and the bytes of a viewer that joins there.

use remuxd_plugin_api::{BlockFlags, Codec, StreamFacts};

use crate::media::{Packet, Tag, TagKind};
use crate::module::OutBlock;

/// Returns the tags at which a remuxer may start: keyframes or, without video, audio frames.
pub fn joins(tags: &[Tag]) -> Vec<usize> {
    let coded = |kind| move |tag: &Tag| tag.kind == kind && tag.header.packet == Packet::CODED_FRAME;
    let places = |is: &dyn Fn(&Tag) -> bool| -> Vec<usize> {
        tags.iter().enumerate().filter(|(_, tag)| is(tag)).map(|(index, _)| index).collect()
    };
    if tags.iter().any(coded(TagKind::VIDEO)) {
        places(&|tag| tag.header.keyframe)
    } else {
        places(&coded(TagKind::AUDIO))
    }
}

/// Returns the tags of a remuxer that starts at tag `from`: the current metadata and headers, then the tags from there on.
pub fn replay(tags: &[Tag], from: usize) -> Vec<Tag> {
    let (before, after) = tags.split_at(from);
    let newest = |kind, packet| {
        before.iter().rfind(|tag| tag.kind == kind && tag.header.packet == packet && !tag.payload.is_empty())
    };
    let in_force = [
        newest(TagKind::SCRIPT, Packet::METADATA),
        newest(TagKind::AUDIO, Packet::SEQUENCE_HEADER),
        newest(TagKind::VIDEO, Packet::SEQUENCE_HEADER),
        newest(TagKind::VIDEO, Packet::METADATA),
        newest(TagKind::AUDIO, Packet::METADATA),
    ];
    in_force.into_iter().flatten().chain(after).cloned().collect()
}

/// Returns the facts of a stream at tag `from`.
pub fn facts(tags: &[Tag], from: usize) -> StreamFacts {
    let before = &tags[..from];
    let codec = |kind| {
        let seen = before.iter().rfind(|tag| tag.kind == kind && tag.header.codec != Codec::NONE);
        seen.map_or(Codec::NONE, |tag| tag.header.codec)
    };
    let age = before.first().zip(before.last()).map_or(0, |(first, last)| last.dts.0 - first.dts.0);
    StreamFacts::new(codec(TagKind::VIDEO), codec(TagKind::AUDIO), age.clamp(0, u32::MAX.into()) as u32)
}

/// Returns the bytes of a viewer that joins at block `from`. The next preamble ends its response.
pub fn viewed(blocks: &[OutBlock], from: usize) -> Vec<u8> {
    let (before, after) = blocks.split_at(from);
    let preamble = before.iter().rfind(|block| is_preamble(block));
    let config = |track| {
        before.iter().rfind(move |block| block.flags.contains(BlockFlags::CONFIG) && block.track == track)
    };
    let after = after.iter().take_while(|block| !is_preamble(block));
    bytes(preamble.into_iter().chain((0..8).filter_map(config)).chain(after))
}

/// Returns the bytes of a viewer that was connected before the stream began. The second preamble ends its response.
pub fn viewed_whole(blocks: &[OutBlock]) -> Vec<u8> {
    let Some(first) = blocks.iter().position(is_preamble) else { return bytes(blocks.iter()) };
    let after = blocks[first + 1..].iter().take_while(|block| !is_preamble(block));
    bytes(std::iter::once(&blocks[first]).chain(&blocks[..first]).chain(after))
}

/// Returns the blocks that carry media.
pub fn media(blocks: &[OutBlock]) -> impl Iterator<Item = &OutBlock> {
    blocks.iter().filter(|block| matches!(block.flags, BlockFlags::NONE | BlockFlags::JOIN))
}

/// Whether a block is a preamble.
pub fn is_preamble(block: &OutBlock) -> bool {
    block.flags.contains(BlockFlags::PREAMBLE)
}

fn bytes<'a>(blocks: impl Iterator<Item = &'a OutBlock>) -> Vec<u8> {
    blocks.flat_map(|block| &block.parts).flat_map(|part| part.iter().copied()).collect()
}

/// Returns the blocks at which viewers may join.
pub fn join_blocks(blocks: &[OutBlock]) -> Vec<usize> {
    let flagged = blocks.iter().enumerate().filter(|(_, block)| block.flags.contains(BlockFlags::JOIN));
    flagged.map(|(index, _)| index).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::Millis;

    const BODIES: [(TagKind, &[u8]); 6] = [
        (TagKind::VIDEO, b"\x17\0\0\0\0avcC"),
        (TagKind::AUDIO, b"\xaf\0ab"),
        (TagKind::VIDEO, b"\x17\x01\0\0\0key"),
        (TagKind::AUDIO, b"\xaf\x01cd"),
        (TagKind::VIDEO, b"\x27\x01\0\0\0inter"),
        (TagKind::VIDEO, b"\x17\x01\0\0\0key"),
    ];

    fn tags() -> Vec<Tag> {
        let tags = BODIES.iter().enumerate();
        tags.map(|(at, (kind, body))| Tag::new(*kind, Millis(at as i64 * 40), body.to_vec().into())).collect()
    }

    #[test]
    fn a_remuxer_starts_with_what_is_in_force() {
        let tags = tags();
        assert_eq!(joins(&tags), [2, 5]);
        assert!(joins(&tags[1..2]).is_empty());
        assert_eq!(joins(&tags[3..4]), [0]);
        let bodies: Vec<_> = replay(&tags, 5).into_iter().map(|tag| tag.payload).collect();
        assert_eq!(bodies, [BODIES[1].1, BODIES[0].1, BODIES[5].1]);
        let facts = facts(&tags, 5);
        assert_eq!((facts.video, facts.audio, facts.age_ms), (Codec::H264, Codec::AAC, 160));
    }

    #[test]
    fn a_viewer_gets_the_newest_preamble_and_configurations_and_ends_at_the_next_preamble() {
        let block = |flags: BlockFlags, track, byte: u8| OutBlock {
            flags,
            track,
            dts: Millis(0),
            parts: std::iter::once(vec![byte].into()).collect(),
            charge: None,
        };
        let blocks = [
            block(BlockFlags::PREAMBLE, 0, 1),
            block(BlockFlags::CONFIG, 3, 2),
            block(BlockFlags::CONFIG, 1, 3),
            block(BlockFlags::JOIN, 0, 4),
            block(BlockFlags::CONFIG, 3, 5),
            block(BlockFlags::PREAMBLE, 0, 6),
            block(BlockFlags::JOIN, 0, 7),
            block(BlockFlags::NONE, 0, 8),
        ];
        assert_eq!(join_blocks(&blocks), [3, 6]);
        assert_eq!(viewed_whole(&blocks), [1, 2, 3, 4, 5]);
        assert_eq!(viewed(&blocks, 3), [1, 3, 2, 4, 5]);
        assert_eq!(viewed(&blocks, 6), [6, 3, 5, 7, 8]);
    }
}
