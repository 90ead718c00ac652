//! Sequences of tags that are played to a module: recordings, interleaved as a publisher does.
//!
//! Pure functions: the same tags each time. Times are those of the host's timeline, which mends jumps of the publisher's
//! clock and marks the place, so a sound sequence never goes back.

use std::ops::Range;

use bytes::Bytes;
use remuxd_plugin_api::Codec;

use super::recorded::{self, GOP, Recording};
use crate::media::{Millis, Tag, TagKind};

/// A sequence of tags to play to a module.
#[derive(Clone, Debug)]
pub struct Sequence {
    /// A short name.
    pub name: &'static str,
    /// Whether it obeys the rules of its codecs, so that no module may fail with it.
    pub sound: bool,
    /// The tags, in order.
    pub tags: Vec<Tag>,
}

/// A recording and the period in which it is played, in milliseconds.
pub type Part<'a> = (&'a Recording, Range<i64>);

impl Sequence {
    pub fn new(name: &'static str, tags: Vec<Tag>) -> Sequence {
        Sequence { name, sound: true, tags }
    }

    /// Plays recordings at their times, interleaved as a publisher does: each begins with its sequence header, the
    /// first ones with metadata.
    pub fn of(name: &'static str, parts: &[Part<'_>]) -> Sequence {
        let start = parts.iter().map(|(_, span)| span.start).min().unwrap_or(0);
        let mut tags = Vec::new();
        if let Some((first, _)) = parts.first() {
            tags.push(Tag::new(TagKind::SCRIPT, Millis(start), first.metadata.clone()));
        }
        tags.extend(parts.iter().flat_map(|(recording, span)| frames(recording, span.clone())));
        // Stable: a sequence header stays before its first frame.
        tags.sort_by_key(|tag| tag.dts);
        Sequence::new(name, tags)
    }

    /// Inserts a tag after each tag for which `extra` returns one.
    pub fn interleave(mut self, mut extra: impl FnMut(usize, &Tag) -> Option<Tag>) -> Sequence {
        let mut tags = Vec::new();
        for (index, tag) in self.tags.into_iter().enumerate() {
            let more = extra(index, &tag);
            tags.push(tag);
            tags.extend(more);
        }
        self.tags = tags;
        self
    }
}

/// Returns the sequence header and the frames of a recording, repeated to fill the span.
pub fn frames(recording: &Recording, span: Range<i64>) -> impl Iterator<Item = Tag> {
    let start = span.start;
    let at = move |frame: usize| Millis(start + frame as i64 * recording.interval / 1000);
    let header = recording.header.iter().map(move |body| (Millis(start), body));
    let bodies = recording.frames.iter().cycle().enumerate();
    let bodies = bodies.map(move |(index, body)| (at(index), body));
    let frames = bodies.take_while(move |(dts, _)| dts.0 < span.end);
    header.chain(frames).map(|(dts, body)| Tag::new(recording.kind, dts, body.clone()))
}

/// Returns about a second of codecs that a module declares, with empty messages in between.
pub fn self_test(video: &[Codec], audio: &[Codec]) -> Sequence {
    let video = choose([recorded::h264(), recorded::hevc(), recorded::av1()], video);
    let audio = choose([recorded::aac(), recorded::mp3(), recorded::opus()], audio);
    let span = 0..gops(5);
    Sequence::of("self-test", &[(&video, span.clone()), (&audio, span)]).interleave(|index, tag| {
        let kind = if index % 40 == 9 { TagKind::AUDIO } else { TagKind::VIDEO };
        (index % 20 == 9).then(|| Tag::new(kind, tag.dts, Bytes::new()))
    })
}

/// Returns the first recording of a declared codec, else the first.
fn choose(recordings: [Recording; 3], declared: &[Codec]) -> Recording {
    let index = recordings.iter().position(|recording| declared.contains(&recording.codec));
    let [first, second, third] = recordings;
    match index {
        Some(2) => third,
        Some(1) => second,
        _ => first,
    }
}

/// Duration of this many GOPs, in milliseconds.
pub const fn gops(count: i64) -> i64 {
    count * GOP as i64 * 40
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn the_self_test_has_codecs_that_the_module_declares() {
        let codecs = |video: &[Codec], audio: &[Codec]| {
            let found = self_test(video, audio).tags.into_iter().map(|tag| tag.header.codec);
            found.filter(|codec| *codec != Codec::NONE).collect::<HashSet<_>>()
        };
        assert_eq!(codecs(&[Codec::AV1, Codec::HEVC], &[Codec::OPUS]), [Codec::HEVC, Codec::OPUS].into());
        assert_eq!(codecs(&[Codec::VP8], &[]), [Codec::H264, Codec::AAC].into());
    }
}
