//! Timeline: from a publisher's 32-bit timestamps to one continuous clock a stream.
//!
//! RTMP timestamps are milliseconds modulo 2^32 (RTMP 1.0, 5.3.1), set by the encoder's clock. Encoders
//! restart that clock, jump it, and come back after a disconnect with another one. [`Timeline`] maps them to
//! [`Millis`] that never wrap and, within a track, never go backwards.
//!
//! Invariants:
//! - between two seams the mapping is one offset for all tracks, so audio and video keep their distance;
//! - a step is mended only when it is a true jump: backwards, or further ahead than the time that passed on
//!   our own clock explains. A slide show of one frame in 20 seconds is no jump;
//! - sequence headers and script tags never move the clock; encoders and relays stamp them with 0.
//!
//! A track may begin up to [`BEHIND`] before the first tag of its publisher, which was the other track's, and keeps its
//! distance. A clock that starts late starts here at [`BEHIND`], so that there is room for it. One that starts near zero is
//! kept, and what a track has before zero is held at 0; so is what it has before a seam held at its last time there. That is
//! over when the track gets there; a wrong distance would stay.
//!
//! Tolerated: audio and video that jump some tags apart (each keeps the old offset until it jumps too), and
//! timestamps that step back by up to [`SMALL_STEP_BACK`] (they are held at the last value; OBS and phone encoders).

use super::{Millis, Packet, Tag, TagKind};

/// A step back by at most this much is held, not mended.
pub const SMALL_STEP_BACK: Millis = Millis(250);

/// A step ahead by at most this much is never a jump, whatever the clock says: unpaced publishers, bursts.
const STEP_AHEAD: i64 = 5_000;

/// How far a track may lie behind the stream's newest tag: bad interleaving. The timeline starts here when the
/// publisher's does not start near 0.
const BEHIND: i64 = 5_000;

/// Timestamps that start below this are kept as they are.
const KEPT_START: i64 = 10_000;

/// The distance of the first tag after a seam when no frame duration is known.
const DEFAULT_FRAME: i64 = 40;

/// Maps the timestamps of one stream, over all its publishers.
#[derive(Debug, Default)]
pub struct Timeline {
    /// Last raw timestamp of any track: 32-bit as received, and unwrapped.
    last_raw: Option<(u32, i64)>,
    /// What turns an unwrapped timestamp into [`Millis`]: the newest offset. A track that has not jumped yet
    /// keeps its own.
    offset: Option<i64>,
    /// The newest time handed out.
    head: i64,
    /// When the last coded frame arrived, on the caller's clock.
    last_arrival: Millis,
    audio: Track,
    video: Track,
    /// A new publisher took over: the next coded frame continues at the head, whatever it says.
    seam: bool,
}

#[derive(Debug, Default)]
struct Track {
    offset: Option<i64>,
    /// Where it is since the last seam; may be before what it handed out.
    last: Option<i64>,
    /// The newest time handed out, or 0.
    head: i64,
    frame: Option<i64>,
}

impl Timeline {
    /// A timeline that has not started.
    pub fn new() -> Timeline {
        Timeline::default()
    }

    /// The newest time on the timeline.
    pub fn head(&self) -> Millis {
        Millis(self.head)
    }

    /// A publisher left. The next one continues one frame after the last tag, whatever its clock says.
    pub fn end_of_publisher(&mut self) {
        self.seam = self.offset.is_some();
        self.last_raw = None;
        for track in [&mut self.audio, &mut self.video] {
            (track.offset, track.last) = (None, None);
        }
    }

    /// Moves `tag` from its publisher's clock to the timeline, and marks it when the timeline was mended.
    ///
    /// `arrival` is when the tag was received, on any steady clock of the caller's.
    pub fn place(&mut self, tag: &mut Tag, arrival: Millis) {
        let raw = tag.dts.0 as u32;
        let coded = tag.header.packet == Packet::CODED_FRAME && tag.kind != TagKind::SCRIPT;
        if !coded {
            // Headers and metadata take the place in which they were sent.
            tag.dts = Millis(self.head);
            return;
        }
        let unwrapped = self.unwrap(raw);
        let elapsed = (arrival.0 - self.last_arrival.0).max(0);
        self.last_arrival = arrival;
        let video = tag.kind == TagKind::VIDEO;
        let (head, seam) = (self.head, std::mem::take(&mut self.seam));
        let track = if video { &mut self.video } else { &mut self.audio };
        let fits = |offset: &i64| {
            let candidate = unwrapped + offset;
            track.last.is_none_or(|last| candidate >= last - SMALL_STEP_BACK.0)
                && candidate >= head - BEHIND - elapsed
                && candidate <= head + STEP_AHEAD + elapsed
        };
        let offset = match self.offset {
            None if (0..KEPT_START).contains(&unwrapped) => 0,
            None => BEHIND - unwrapped,
            Some(newest) => match [track.offset, Some(newest)].into_iter().flatten().find(fits) {
                Some(offset) if !seam => offset,
                _ => {
                    tag.discontinuity = true;
                    head + track.frame.unwrap_or(DEFAULT_FRAME) - unwrapped
                }
            },
        };
        if self.offset.is_none() || tag.discontinuity {
            self.offset = Some(offset);
        }
        track.offset = Some(offset);
        let time = unwrapped + offset;
        let time = track.last.map_or(time, |last| last.max(time));
        if let Some(last) = track.last
            && time > last
            && !tag.discontinuity
        {
            track.frame = Some(time - last);
        }
        track.last = Some(time);
        track.head = track.head.max(time);
        self.head = self.head.max(time);
        tag.dts = Millis(track.head);
    }

    /// Undoes the 32-bit wrap: the shortest way from the last timestamp.
    fn unwrap(&mut self, raw: u32) -> i64 {
        let unwrapped = match self.last_raw {
            None => i64::from(raw),
            Some((last, unwrapped)) => unwrapped + i64::from(raw.wrapping_sub(last) as i32),
        };
        self.last_raw = Some((raw, unwrapped));
        unwrapped
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn tag(kind: TagKind, raw: u32) -> Tag {
        let mut tag = Tag::new(kind, Millis(i64::from(raw)), Bytes::new());
        tag.header.packet = Packet::CODED_FRAME;
        tag
    }

    /// Places (kind, raw timestamp, arrival) rows and returns times and marks.
    fn place(timeline: &mut Timeline, rows: &[(TagKind, u32, i64)]) -> Vec<(i64, bool)> {
        rows.iter()
            .map(|&(kind, raw, arrival)| {
                let mut tag = tag(kind, raw);
                timeline.place(&mut tag, Millis(arrival));
                (tag.dts.0, tag.discontinuity)
            })
            .collect()
    }

    const A: TagKind = TagKind::AUDIO;
    const V: TagKind = TagKind::VIDEO;

    #[test]
    fn keeps_a_clock_that_starts_near_zero() {
        let times = place(&mut Timeline::new(), &[(V, 80, 0), (A, 0, 0), (A, 23, 20), (V, 120, 40)]);
        assert_eq!(times, [(80, false), (0, false), (23, false), (120, false)]);
    }

    #[test]
    fn moves_a_clock_that_starts_late_near_zero() {
        let times = place(&mut Timeline::new(), &[(V, 9_000_000, 0), (A, 8_999_900, 0), (V, 9_000_040, 40)]);
        assert_eq!(times, [(5_000, false), (4_900, false), (5_040, false)]);
    }

    #[test]
    fn a_track_that_begins_before_the_first_tag_keeps_its_distance() {
        let late = [(V, 9_000_000, 0), (A, 8_998_500, 0), (A, 8_998_523, 0), (V, 9_000_040, 40)];
        let times = place(&mut Timeline::new(), &late);
        assert_eq!(times, [(5_000, false), (3_500, false), (3_523, false), (5_040, false)]);
        let late = [(V, 9_000_000, 0), (A, 8_995_000, 0)];
        assert_eq!(place(&mut Timeline::new(), &late), [(5_000, false), (0, false)]);
    }

    #[test]
    fn a_track_that_begins_before_zero_is_held_there_until_it_gets_there() {
        let before = |millis: u32| 0u32.wrapping_sub(millis);
        let rows = [
            (V, 3, 0),
            (A, before(1_500), 0),
            (A, before(1_000), 0),
            (A, before(20), 0),
            (V, 43, 40),
            (A, 3, 40),
            (A, 26, 40),
        ];
        let times = place(&mut Timeline::new(), &rows);
        assert_eq!(times.iter().map(|(time, _)| *time).collect::<Vec<_>>(), [3, 0, 0, 0, 43, 3, 26]);
        assert!(times.iter().all(|(_, mended)| !mended));
    }

    #[test]
    fn a_track_that_begins_before_a_seam_is_held_at_its_last_frame() {
        let mut timeline = Timeline::new();
        place(&mut timeline, &[(V, 0, 0), (A, 20, 20), (V, 40, 40)]);
        timeline.end_of_publisher();
        let rows =
            [(V, 7_000, 2_000), (A, 6_000, 2_000), (A, 6_940, 2_000), (A, 6_960, 2_020), (V, 7_040, 2_040)];
        let times = place(&mut timeline, &rows);
        assert_eq!(times, [(80, true), (20, false), (20, false), (40, false), (120, false)]);
    }

    #[test]
    fn crosses_the_32_bit_wrap_and_the_31_bit_one() {
        for edge in [0u32, 1 << 31] {
            let at = |step: u32| edge.wrapping_sub(60).wrapping_add(step);
            let rows = [(V, at(0), 0), (A, at(10), 10), (V, at(40), 40), (A, at(33), 40), (V, at(80), 80)];
            let times = place(&mut Timeline::new(), &rows);
            assert_eq!(
                times,
                [(5_000, false), (5_010, false), (5_040, false), (5_033, false), (5_080, false)]
            );
        }
    }

    #[test]
    fn leaves_low_frame_rates_alone() {
        let second = [(V, 0, 0), (V, 1_000, 1_000), (V, 2_000, 2_000)];
        assert_eq!(place(&mut Timeline::new(), &second), [(0, false), (1_000, false), (2_000, false)]);
        let slides = [(V, 0, 0), (V, 20_000, 20_000), (V, 40_000, 40_010)];
        assert_eq!(place(&mut Timeline::new(), &slides), [(0, false), (20_000, false), (40_000, false)]);
    }

    #[test]
    fn lets_an_unpaced_publisher_run_ahead_of_the_clock() {
        let rows: Vec<_> = (0..1_000).map(|frame| (V, frame * 1_000, 0)).collect();
        let times = place(&mut Timeline::new(), &rows);
        assert!(times.iter().enumerate().all(|(frame, &time)| time == (frame as i64 * 1_000, false)));
    }

    #[test]
    fn mends_a_jump_ahead_and_one_back_by_one_frame() {
        let rows =
            [(V, 0, 0), (V, 40, 40), (V, 3_600_040, 80), (V, 3_600_080, 120), (V, 500, 160), (V, 540, 200)];
        let times = place(&mut Timeline::new(), &rows);
        assert_eq!(times, [(0, false), (40, false), (80, true), (120, false), (160, true), (200, false)]);
    }

    #[test]
    fn keeps_audio_on_the_old_clock_until_it_jumps_too() {
        let rows = [
            (V, 0, 0),
            (A, 0, 0),
            (V, 40, 40),
            (A, 23, 23),
            (V, 900_080, 80),
            (A, 46, 80),
            (A, 900_069, 90),
            (V, 900_120, 120),
        ];
        let times = place(&mut Timeline::new(), &rows);
        assert_eq!(times[4], (80, true));
        assert_eq!(times[5], (46, false), "audio that has not jumped stays where it was");
        assert_eq!(times[6], (69, false), "and keeps its distance to video when it has");
        assert_eq!(times[7], (120, false));
    }

    #[test]
    fn holds_a_small_step_back() {
        let times = place(&mut Timeline::new(), &[(A, 100, 0), (A, 90, 10), (A, 123, 20)]);
        assert_eq!(times, [(100, false), (100, false), (123, false)]);
    }

    #[test]
    fn continues_one_frame_after_the_last_publisher() {
        let mut timeline = Timeline::new();
        place(&mut timeline, &[(V, 0, 0), (V, 40, 40), (A, 60, 60)]);
        timeline.end_of_publisher();
        let times = place(&mut timeline, &[(V, 0, 2_000), (A, 0, 2_000), (V, 40, 2_040)]);
        assert_eq!(times, [(100, true), (100, false), (140, false)]);
    }

    #[test]
    fn puts_headers_and_metadata_where_they_were_sent() {
        let mut timeline = Timeline::new();
        place(&mut timeline, &[(V, 5_000, 0)]);
        for kind in [A, V, TagKind::SCRIPT] {
            let mut header = tag(kind, 0);
            header.header.packet = Packet::SEQUENCE_HEADER;
            timeline.place(&mut header, Millis(1));
            assert_eq!((header.dts.0, header.discontinuity), (5_000, false));
        }
        assert_eq!(place(&mut timeline, &[(V, 5_040, 40)]), [(5_040, false)]);
    }
}
