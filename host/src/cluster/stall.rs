//! Stalls: how long an origin may be silent before another one is asked, and before it is left.
//!
//! Streams differ: audio comes every 20 ms, the pictures of a slide show every 20 s. So the limit follows the longest step between
//! the timestamps of the stream, and doubles while no origin has anything newer.

use std::time::Duration;

use crate::media::{Packet, Tag};

/// The longest limit.
const LONGEST: Duration = Duration::from_secs(60);

/// The limit of silence of one stream, over all its origins.
#[derive(Debug, Default)]
pub(super) struct StallLimit {
    /// Timestamp of the last media of the connection.
    last: Option<u32>,
    /// The longest step so far.
    step: Duration,
    /// Number of stalls since an origin has sent anything newer.
    stalls: u32,
}

impl StallLimit {
    /// Returns the limit, which is at least `media_timeout`.
    pub fn limit(&self, media_timeout: Duration) -> Duration {
        self.grown(media_timeout.max(2 * self.step)).min(LONGEST.max(media_timeout))
    }

    /// Returns the time after which the stream is late: at least half of the limit, and longer than any of its steps.
    pub fn late(&self, media_timeout: Duration) -> Duration {
        self.grown((media_timeout / 2).max(self.step + self.step / 2))
    }

    fn grown(&self, time: Duration) -> Duration {
        time.saturating_mul(1 << self.stalls.min(8))
    }

    /// Notes media. Sequence headers have any timestamp.
    pub fn add(&mut self, tag: &Tag) {
        if !matches!(tag.header.packet, Packet::CODED_FRAME | Packet::OTHER) {
            return;
        }
        let dts = tag.dts.0 as u32;
        let step = self.last.replace(dts).map_or(0, |last| dts.wrapping_sub(last) as i32);
        let step = Duration::from_millis(u64::try_from(step).unwrap_or(0));
        if step <= LONGEST {
            self.step = self.step.max(step);
        }
    }

    /// Notes that another connection begins.
    pub fn begin(&mut self) {
        self.last = None;
    }

    /// Notes a stall.
    pub fn stall(&mut self) {
        self.stalls += 1;
    }

    /// Notes that an origin sends media as they come.
    pub fn recover(&mut self) {
        self.stalls = 0;
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::media::{Millis, TagKind};

    #[test]
    fn the_limits_follow_the_stream() {
        let second = Duration::from_secs(1);
        let limits = |times: &[u32], stalls: u32| {
            let mut stall = StallLimit::default();
            stall.begin();
            for time in times {
                let mut tag = Tag::new(TagKind::VIDEO, Millis(i64::from(*time)), Bytes::new());
                tag.header.packet = Packet::CODED_FRAME;
                stall.add(&tag);
                tag.header.packet = Packet::SEQUENCE_HEADER;
                tag.dts = Millis(0);
                stall.add(&tag);
            }
            (0..stalls).for_each(|_| stall.stall());
            (stall.late(second).as_millis(), stall.limit(second).as_millis())
        };
        let rows: [(&[u32], u32, (u128, u128)); 9] = [
            (&[], 0, (500, 1_000)),
            (&[0, 40, 80], 0, (500, 1_000)),
            (&[0, 480], 0, (720, 1_000)),
            (&[0, 20_000], 0, (30_000, 40_000)),
            (&[u32::MAX - 999, 1_000], 0, (3_000, 4_000)),
            // Neither a step back nor a jump is a pause.
            (&[5_000, 0], 0, (500, 1_000)),
            (&[0, 3_600_000], 0, (500, 1_000)),
            (&[0, 40], 3, (4_000, 8_000)),
            (&[0, 40], 30, (128_000, 60_000)),
        ];
        for (times, stalls, expected) in rows {
            assert_eq!(limits(times, stalls), expected, "{times:?} {stalls}");
        }
    }
}
