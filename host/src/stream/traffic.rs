//! Traffic: what the publisher of a stream has sent, in total and in the last seconds.

use std::time::{Duration, Instant};

use bytes::Bytes;
use remuxd_bitstream::amf0::{self, Value};

use crate::media::{Packet, Tag, TagKind};

/// Number of seconds over which rates are measured.
const WINDOW: usize = 5;

/// An amount of media.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// Bytes of the tags' payloads.
    pub bytes: u64,
    /// Coded pictures.
    pub pictures: u64,
    /// Keyframes among them.
    pub keyframes: u64,
    /// Coded audio frames.
    pub audio_frames: u64,
}

/// The facts about a stream that an operator sees.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct StreamStats {
    /// How long its publisher has been there; `None` while it is away.
    pub published: Option<Duration>,
    /// The totals of all its publishers.
    pub total: Amount,
    /// Bits per second, over the last 5 s or since the publisher came.
    pub bits_per_second: f64,
    /// Pictures per second, over the same time.
    pub pictures_per_second: f64,
    /// Time since the last tag, or since the publisher came.
    pub idle: Duration,
    /// Width and height in pixels, as the publisher's metadata have them.
    pub size: Option<(u32, u32)>,
}

/// The amounts that a stream's publishers have sent.
#[derive(Debug)]
pub(super) struct Traffic {
    total: Amount,
    /// When the current publisher came.
    began: Instant,
    /// The amounts of this second and of those before, by the number of the second.
    seconds: [Amount; WINDOW + 1],
    /// Number of the current second since `began`.
    second: u64,
    /// When the last tag came, or the publisher.
    last: Instant,
    /// Payload of the newest metadata.
    metadata: Bytes,
}

impl Default for Traffic {
    fn default() -> Traffic {
        let (total, seconds, now) = (Amount::default(), Default::default(), Instant::now());
        Traffic { total, began: now, seconds, second: 0, last: now, metadata: Bytes::new() }
    }
}

impl Traffic {
    /// Starts with another publisher.
    pub(super) fn begin(&mut self, now: Instant) {
        *self = Traffic { total: self.total, began: now, last: now, ..Traffic::default() };
    }

    /// Adds a tag.
    pub(super) fn add(&mut self, tag: &Tag, now: Instant) {
        self.advance(now);
        self.last = now;
        let is_frame = tag.header.packet == Packet::CODED_FRAME;
        if tag.kind == TagKind::SCRIPT {
            self.metadata = tag.payload.clone();
        }
        for amount in [&mut self.total, &mut self.seconds[self.second as usize % (WINDOW + 1)]] {
            amount.bytes += tag.payload.len() as u64;
            amount.pictures += u64::from(is_frame && tag.kind == TagKind::VIDEO);
            amount.keyframes += u64::from(is_frame && tag.kind == TagKind::VIDEO && tag.header.keyframe);
            amount.audio_frames += u64::from(is_frame && tag.kind == TagKind::AUDIO);
        }
    }

    /// Empties the seconds that have passed without a tag.
    fn advance(&mut self, now: Instant) {
        let second = now.saturating_duration_since(self.began).as_secs();
        for passed in (self.second + 1..=second).rev().take(WINDOW + 1) {
            self.seconds[passed as usize % (WINDOW + 1)] = Amount::default();
        }
        self.second = self.second.max(second);
    }

    /// Returns the facts; those of a publisher only while it `is_live`.
    pub(super) fn stats(&mut self, is_live: bool, now: Instant) -> StreamStats {
        self.advance(now);
        let published = now.saturating_duration_since(self.began);
        let (total, idle) = (self.total, now.saturating_duration_since(self.last));
        if !is_live {
            return StreamStats { total, idle, ..StreamStats::default() };
        }
        let current = self.second as usize % (WINDOW + 1);
        // The seconds that are over, and for a new publisher also this one.
        let (past, now_too): (usize, bool) = (self.second.min(WINDOW as u64) as usize, self.second == 0);
        let over = self.seconds.iter().enumerate().filter(|(index, _)| now_too || *index != current);
        let sum = over.fold(Amount::default(), |sum, (_, one)| Amount {
            bytes: sum.bytes + one.bytes,
            pictures: sum.pictures + one.pictures,
            keyframes: sum.keyframes + one.keyframes,
            audio_frames: sum.audio_frames + one.audio_frames,
        });
        let seconds = if now_too { published.as_secs_f64().max(0.1) } else { past as f64 };
        StreamStats {
            published: Some(published),
            total,
            bits_per_second: sum.bytes as f64 * 8.0 / seconds,
            pictures_per_second: sum.pictures as f64 / seconds,
            idle,
            size: size(&self.metadata),
        }
    }
}

/// Returns `width` and `height` of metadata.
fn size(metadata: &[u8]) -> Option<(u32, u32)> {
    let values = amf0::read_all(metadata, &mut amf0::Budget::default()).ok()?;
    let number = |name| {
        let property = values.iter().find_map(|value| value.property(name));
        let pixels = property.and_then(Value::as_number).filter(|pixels| (1.0..=65_535.0).contains(pixels));
        pixels.map(|pixels| pixels as u32)
    };
    number("width").zip(number("height"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::Millis;

    const MILLIS: Duration = Duration::from_millis(1);

    fn tag(kind: TagKind, body: &'static [u8]) -> Tag {
        Tag::new(kind, Millis(0), Bytes::from_static(body))
    }

    fn picture() -> Tag {
        tag(TagKind::VIDEO, b"\x17\x01\0\0\0 125 bytes of media")
    }

    #[test]
    fn rates_are_those_of_the_last_five_whole_seconds() {
        let mut traffic = Traffic::default();
        let start = traffic.began;
        let length = picture().payload.len() as f64;
        // 25 pictures in a second for 12 s, then 50.
        let times = (0..12 * 25).map(|n| 40 * n).chain((0..3 * 50).map(|n| 12_000 + 20 * n));
        for time in times {
            traffic.add(&picture(), start + time * MILLIS);
            let stats = traffic.stats(true, start + time * MILLIS);
            match time {
                // A new publisher is measured since it came.
                999..12_000 => assert_eq!(stats.pictures_per_second, 25.0, "{time}"),
                13_500 => assert_eq!(stats.pictures_per_second, 30.0),
                _ => {}
            }
        }
        let stats = traffic.stats(true, start + 15_000 * MILLIS);
        assert_eq!((stats.pictures_per_second, stats.bits_per_second), (40.0, 40.0 * length * 8.0));
        assert_eq!((stats.total.pictures, stats.published), (450, Some(15_000 * MILLIS)));
        assert_eq!(stats.idle, 20 * MILLIS, "since the last tag");
        // Silence shows within the window.
        assert_eq!(traffic.stats(true, start + 19_000 * MILLIS).pictures_per_second, 10.0);
        assert_eq!(traffic.stats(true, start + 3_600_000 * MILLIS).pictures_per_second, 0.0);
    }

    #[test]
    fn another_publisher_starts_the_rates_and_not_the_totals() {
        let mut traffic = Traffic::default();
        let start = traffic.began;
        (0..100).for_each(|_| traffic.add(&picture(), start));
        assert_eq!(traffic.stats(false, start).published, None);
        traffic.begin(start + 9_000 * MILLIS);
        traffic.add(&tag(TagKind::AUDIO, b"\xaf\x01a"), start + 9_500 * MILLIS);
        let stats = traffic.stats(true, start + 9_500 * MILLIS);
        assert_eq!(
            (stats.total.pictures, stats.total.audio_frames, stats.pictures_per_second),
            (100, 1, 0.0)
        );
        assert_eq!(stats.published, Some(500 * MILLIS));
        assert_eq!(stats.bits_per_second, 3.0 * 8.0 / 0.5);
    }

    #[test]
    fn the_size_is_that_of_the_metadata() {
        let rows: [(&'static [u8], _); 4] = [
            (
                b"\x02\0\x0aonMetaData\x03\0\x05width\0\x40\x9e\0\0\0\0\0\0\0\x06height\0\x40\x90\xe0\0\0\0\0\0\0\0\x09",
                Some((1920, 1080)),
            ),
            (b"\x02\0\x0aonMetaData\x03\0\x05width\0\x40\x9e\0\0\0\0\0\0\0\0\x09", None),
            (b"\x02\0\x0aonMeta", None),
            (b"", None),
        ];
        for (metadata, size) in rows {
            let mut traffic = Traffic::default();
            traffic.add(&tag(TagKind::SCRIPT, metadata), traffic.began);
            let now = traffic.began;
            assert_eq!(traffic.stats(true, now).size, size, "{metadata:?}");
        }
    }
}
