//! Sequences of the kit: streams that publishers send, and streams that only broken or hostile ones do.
//!
//! Pure functions: the same tags each time. Times are those of the host's timeline, which mends jumps of the publisher's
//! clock and marks them, so a sound sequence never goes back.

use bytes::Bytes;

use crate::media::{Millis, Packet, Tag, TagKind};
use crate::module::self_test::recorded::{self, Recording};
use crate::module::self_test::sequence::{Part, Sequence, frames, gops};

/// All sequences of the kit.
pub fn all() -> Vec<Sequence> {
    [sound(), unsound()].concat()
}

impl Sequence {
    /// Shifts all times by `start`.
    fn at(mut self, start: i64) -> Sequence {
        for tag in &mut self.tags {
            tag.dts.0 += start;
        }
        self
    }

    /// Appends a sequence, marked as after a jump of the publisher's clock.
    fn then(self, mut next: Sequence) -> Sequence {
        if let Some(first) = next.tags.first_mut() {
            first.discontinuity = true;
        }
        self.append(next)
    }

    /// Appends a sequence, whatever its times are.
    fn append(mut self, mut next: Sequence) -> Sequence {
        self.tags.append(&mut next.tags);
        self
    }
}

/// Returns streams as real publishers send them.
fn sound() -> Vec<Sequence> {
    let (h264, large, hevc, av1) =
        (recorded::h264(), recorded::h264_large(), recorded::hevc(), recorded::av1());
    let (aac, opus, mp3) = (recorded::aac(), recorded::opus(), recorded::mp3());
    let legacy = hevc.clone().legacy();
    let slow = large.clone().every(1_000_000);
    let long = 0..gops(10);
    let (half, rest) = (0..gops(5), gops(5)..gops(10));
    let both = |start: i64| Sequence::of("", &[(&h264, 0..gops(4)), (&aac, 0..gops(4))]).at(start);
    let wraps = |name, wrap: i64| Sequence { name, ..both(wrap - gops(2)) };
    let of = |name, parts: &[Part<'_>]| Sequence::of(name, parts);
    vec![
        of("H.264 and AAC", &[(&h264, long.clone()), (&aac, long.clone())]),
        of("H.264 alone", &[(&h264, long.clone())]),
        of("AAC alone", &[(&aac, long.clone())]),
        of("MP3 alone", &[(&mp3, long.clone())]),
        of("Opus alone", &[(&opus, long.clone())]),
        of("HEVC, legacy id 12", &[(&legacy, long.clone()), (&aac, long.clone())]),
        of("HEVC, FourCC hvc1", &[(&hevc, long.clone()), (&aac, long.clone())]),
        of("AV1 and Opus", &[(&av1, long.clone()), (&opus, long.clone())]),
        of("H.264 and MP3", &[(&h264, long.clone()), (&mp3, long.clone())]),
        of("late audio", &[(&h264, long.clone()), (&aac, rest.clone())]),
        of("late video", &[(&aac, long.clone()), (&h264, rest.clone())]),
        of("very late audio", &[(&h264, 0..gops(60)), (&aac, gops(50)..gops(60))]),
        of("video codec change", &[(&h264, half.clone()), (&hevc, rest.clone()), (&aac, long.clone())]),
        of("audio codec change", &[(&h264, long.clone()), (&aac, half.clone()), (&mp3, rest.clone())]),
        of("resolution change", &[(&h264, half.clone()), (&large, rest.clone()), (&aac, long.clone())]),
        of("1 picture a second", &[(&slow, 0..12_000), (&aac, 0..12_000)]),
        wraps("past 24.8 days (2^31 ms)", 1 << 31),
        wraps("past 49.7 days (2^32 ms)", 1 << 32),
        wraps("past 26.5 hours (2^33 at 90 kHz)", (1 << 33) / 90),
        Sequence { name: "jumps, mended", ..both(0).then(both(gops(4) + 40)).then(both(3_600_000)) },
        of("messages without content", &[(&h264, half.clone()), (&aac, half.clone())]).interleave(empty),
        of("unknown messages", &[(&h264, half.clone()), (&aac, half.clone())]).interleave(unknown),
        of("giant pictures", &[(&giant(&large, 3 << 20), 0..gops(2)), (&aac, 0..gops(2))]),
        Sequence::new("nothing at all", Vec::new()),
    ]
}

/// Returns streams that only broken encoders and hostile peers send.
fn unsound() -> Vec<Sequence> {
    let every = [
        recorded::h264(),
        recorded::hevc(),
        recorded::hevc().legacy(),
        recorded::av1(),
        recorded::aac(),
        recorded::opus(),
        recorded::mp3(),
    ];
    let pair = || Sequence::of("", &[(&recorded::h264(), 0..gops(2)), (&recorded::aac(), 0..gops(2))]);
    let mut sequences = vec![
        Sequence { name: "no sequence headers", ..without_headers(pair()) },
        Sequence {
            name: "jumps, not mended",
            ..pair().at(86_400_000).append(pair()).append(pair().at(-5_000))
        },
        Sequence::new("cut-off messages", every.iter().flat_map(cut).collect()),
        Sequence::new("giant nonsense", {
            let body = |first: u8| Bytes::from([&[first][..], &vec![0xff; 5 << 20]].concat());
            let kinds = [(TagKind::VIDEO, 0x17), (TagKind::AUDIO, 0xaf), (TagKind::VIDEO, 0x91)];
            kinds.iter().map(|&(kind, first)| Tag::new(kind, Millis(0), body(first))).collect()
        }),
        Sequence::new("random bytes", noise(2_000)),
        Sequence::new("random damage", every.iter().flat_map(damaged).collect()),
    ];
    for sequence in &mut sequences {
        sequence.sound = false;
    }
    sequences
}

/// Returns what encoders send in pauses: messages and access units without bytes, and ends of sequences.
fn empty(index: usize, tag: &Tag) -> Option<Tag> {
    let bodies: [(TagKind, &'static [u8]); 6] = [
        (TagKind::AUDIO, b""),
        (TagKind::VIDEO, b""),
        (TagKind::SCRIPT, b""),
        (TagKind::AUDIO, b"\xaf\x01"),
        (TagKind::VIDEO, b"\x27\x01\0\0\0"),
        (TagKind::AUDIO, b"\xaf"),
    ];
    let (kind, body) = bodies[index % bodies.len()];
    Some(Tag::new(kind, tag.dts, Bytes::from_static(body)))
}

/// Returns messages of newer or odd encoders.
fn unknown(index: usize, tag: &Tag) -> Option<Tag> {
    let bodies: [(TagKind, &'static [u8]); 8] = [
        (TagKind::SCRIPT, b"\x02\0\x0aonCuePoint\x05"),
        (TagKind::VIDEO, b"\x57\0"),
        (TagKind::VIDEO, b"\x92zzzz"),
        (TagKind::VIDEO, b"\x91zzzz\x01\x02"),
        (TagKind::AUDIO, b"\x92zzzz"),
        (TagKind::AUDIO, b"\x91zzzz\x01\x02"),
        (TagKind::VIDEO, b"\x9f"),
        (TagKind(77), b"what"),
    ];
    let (kind, body) = bodies[index % bodies.len()];
    Some(Tag::new(kind, tag.dts, Bytes::from_static(body)))
}

/// Returns H.264 with filler data (7.3.2.7) before each picture, so that each has `size` bytes and more.
fn giant(recording: &Recording, size: usize) -> Recording {
    const HEADER: usize = 5;
    const FILLER: u8 = 12;
    let mut filler = ((size + 2) as u32).to_be_bytes().to_vec();
    filler.push(FILLER);
    filler.resize(filler.len() + size, 0xff);
    filler.push(0x80);
    let grow = |body: &Bytes| {
        let (header, picture) = body.split_at(HEADER);
        Bytes::from([header, &filler, picture].concat())
    };
    Recording { frames: recording.frames.iter().map(grow).collect(), ..recording.clone() }
}

fn without_headers(mut sequence: Sequence) -> Sequence {
    sequence.tags.retain(|tag| tag.header.packet != Packet::SEQUENCE_HEADER);
    sequence
}

/// Returns the header and frames of a recording, cut at each of the first bytes and at some later ones, with whole frames
/// in between.
fn cut(recording: &Recording) -> Vec<Tag> {
    let whole: Vec<Tag> = frames(recording, 0..80).collect();
    let cuts =
        |tag: &Tag| (0..tag.payload.len()).filter(|&end| end < 40 || end % 29 == 0).collect::<Vec<_>>();
    let mut tags = Vec::new();
    for tag in &whole {
        for end in cuts(tag) {
            tags.push(Tag::new(tag.kind, tag.dts, tag.payload.slice(..end)));
        }
        tags.extend(whole.iter().cloned());
    }
    in_order(tags)
}

/// Returns a recording with random bytes changed.
fn damaged(recording: &Recording) -> Vec<Tag> {
    let mut random = Random(0x0da3_a6ed);
    let mut tags = Vec::new();
    for _ in 0..20 {
        for tag in frames(recording, 0..300) {
            let mut body = tag.payload.to_vec();
            for _ in 0..random.below(3) {
                let at = random.below(body.len());
                body[at] = random.next() as u8;
            }
            tags.push(Tag::new(tag.kind, tag.dts, body.into()));
        }
    }
    in_order(tags)
}

/// Returns random bodies, most of them with a valid start.
fn noise(count: usize) -> Vec<Tag> {
    const STARTS: [(TagKind, &[u8]); 12] = [
        (TagKind::VIDEO, b"\x17\0\0\0\0\x01"),
        (TagKind::VIDEO, b"\x17\x01\0\0\0\0\0"),
        (TagKind::VIDEO, b"\x1c\0\0\0\0\x01"),
        (TagKind::VIDEO, b"\x90hvc1\x01"),
        (TagKind::VIDEO, b"\x91hvc1\0\0\0\0\0"),
        (TagKind::VIDEO, b"\x90av01\x81"),
        (TagKind::VIDEO, b"\x91av01"),
        (TagKind::VIDEO, b"\x96"),
        (TagKind::AUDIO, b"\xaf\0"),
        (TagKind::AUDIO, b"\xaf\x01"),
        (TagKind::AUDIO, b"\x90OpusOpusHead"),
        (TagKind::SCRIPT, b"\x02\0\x0aonMetaData"),
    ];
    let mut random = Random(0x5eed);
    let tags = (0..count).map(|_| {
        let kinds = [TagKind::AUDIO, TagKind::VIDEO, TagKind::SCRIPT];
        let (kind, start) = match random.below(4) {
            0 => (kinds[random.below(3)], &[][..]),
            _ => STARTS[random.below(STARTS.len())],
        };
        let len = random.below(200);
        let rest: Vec<u8> = (0..len).map(|_| random.next() as u8).collect();
        Tag::new(kind, Millis(0), Bytes::from([start, &rest].concat()))
    });
    in_order(tags.collect())
}

/// Sets ascending times.
fn in_order(mut tags: Vec<Tag>) -> Vec<Tag> {
    for (index, tag) in tags.iter_mut().enumerate() {
        tag.dts = Millis(index as i64 * 20);
    }
    tags
}

/// A deterministic pseudo-random generator (xorshift64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 >> 8
    }

    /// Returns a number below `end`, or 0 if `end` is 0.
    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn sound_sequences_are_what_the_host_hands_to_remuxers() {
        for Sequence { name, tags, .. } in sound() {
            assert!(tags.is_sorted_by_key(|tag| tag.dts), "{name}");
            let coded = |tag: &&Tag| {
                tag.kind == TagKind::VIDEO
                    && tag.header.packet == Packet::CODED_FRAME
                    && tag.payload.len() > 20
            };
            assert!(tags.iter().find(coded).is_none_or(|tag| tag.header.keyframe), "{name}");
        }
    }

    #[test]
    fn sequences_are_the_same_each_time_and_of_different_names() {
        let (first, second) = (all(), all());
        let names: HashSet<_> = first.iter().map(|sequence| sequence.name).collect();
        assert_eq!(names.len(), first.len());
        for (one, other) in first.iter().zip(&second) {
            assert!(one.tags.iter().map(|tag| &tag.payload).eq(other.tags.iter().map(|tag| &tag.payload)));
        }
    }
}
