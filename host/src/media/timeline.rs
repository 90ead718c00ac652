//! Conversion of publishers' 32-bit timestamps to one continuous clock for each stream.
//!
//! RTMP timestamps are milliseconds modulo 2^32 (RTMP 1.0, 5.3.1) on the encoder's clock. Encoders restart that clock, make it
//! jump, and return after a disconnect with another one. [`Timeline`] maps timestamps to [`Millis`] that never wrap and,
//! within a track, never decrease. A *seam* is a correction of the mapping: after a jump, or when a publisher takes over.
//!
//! Invariants:
//! - between two seams the mapping is one offset for all tracks, so audio and video stay in sync;
//! - a step is corrected only if it is a true jump: backwards, or further ahead than the time elapsed on the host's clock
//!   explains. A slide show with one frame in 20 seconds has no jumps;
//! - sequence headers and script tags never affect the mapping, since encoders and relays set their timestamps to 0.
//!
//! A track may begin up to [`BEHIND`] before the first tag of its publisher, which belongs to the other track, and stays in
//! sync. To make room for this, a clock that does not start near zero is mapped to start at [`BEHIND`]. A clock that starts
//! near zero is kept; times before zero become 0, and times before a seam become the track's last time before it. This ends
//! once the track's own timestamps catch up; shifting the track instead would lose audio-video sync for good.
//!
//! Pictures are shown after they are decoded if the encoder reorders them, so a seam leaves room for both: neither decoding nor
//! presentation times of a track overlap with those before the seam, and the gap is the least that this allows.
//!
//! Tolerated: audio and video that jump some tags apart (each keeps the old offset until it jumps too), and timestamps that
//! step back by up to [`SMALL_STEP_BACK`] (OBS and phone encoders; they repeat the last value).

use super::{Millis, Packet, Tag, TagKind};

/// Backward steps up to this size repeat the last timestamp instead of causing a seam.
pub const SMALL_STEP_BACK: Millis = Millis(250);

/// Forward steps up to this size, in milliseconds, are never jumps, whatever time has elapsed: unpaced publishers, bursts.
const STEP_AHEAD: i64 = 5_000;

/// Maximum distance of a track behind the stream's newest tag, in milliseconds (bad interleaving). Also the start of the
/// timeline if the publisher's clock does not start near 0.
const BEHIND: i64 = 5_000;

/// Largest composition offset that counts in a seam, in milliseconds. Encoders reorder over less than a second.
const MAX_REORDER: i64 = 5_000;

/// Clocks that start below this, in milliseconds, are kept as they are.
const KEPT_START: i64 = 10_000;

/// Distance of the first tag after a seam if no frame duration is known, in milliseconds.
const DEFAULT_FRAME: i64 = 40;

/// The mapping of timestamps of one stream, over all its publishers.
#[derive(Debug, Default)]
pub struct Timeline {
    /// Last timestamp of any track: as received, and unwrapped.
    last_raw: Option<(u32, i64)>,
    /// The newest offset from unwrapped timestamps to [`Millis`]. A track that has not jumped yet keeps its own.
    offset: Option<i64>,
    /// The newest time assigned.
    head: i64,
    /// The latest presentation time of a picture, once there is one.
    shown: Option<i64>,
    /// Arrival of the last coded frame, on the caller's clock.
    last_arrival: Millis,
    audio: TrackClock,
    video: TrackClock,
    /// Whether a new publisher took over: the next coded frame continues at the head, whatever its timestamp.
    seam: bool,
}

#[derive(Debug, Default)]
struct TrackClock {
    offset: Option<i64>,
    /// Its last mapped time since the last seam; may be before `head`.
    last: Option<i64>,
    /// The newest time assigned, or 0.
    head: i64,
    /// Duration of the last frame.
    frame: Option<i64>,
}

impl Timeline {
    /// Returns the newest time on the timeline.
    pub fn head(&self) -> Millis {
        Millis(self.head)
    }

    /// Ends the current publisher. The next one continues one frame after the last tag and picture, whatever its timestamps.
    pub fn end_of_publisher(&mut self) {
        self.seam = self.offset.is_some();
        self.last_raw = None;
        for track in [&mut self.audio, &mut self.video] {
            (track.offset, track.last) = (None, None);
        }
    }

    /// Converts the time of `tag` from its publisher's clock to the timeline, and marks the tag if it follows a seam.
    ///
    /// `arrival` is the time at which the tag was received, on any monotonic clock of the caller.
    pub fn place(&mut self, tag: &mut Tag, arrival: Millis) {
        let raw = tag.dts.0 as u32;
        let coded = tag.header.packet == Packet::CODED_FRAME && tag.kind != TagKind::SCRIPT;
        if !coded {
            // Headers and metadata get the time of the tag before them.
            tag.dts = Millis(self.head);
            return;
        }
        let unwrapped = self.unwrap(raw);
        let elapsed = (arrival.0 - self.last_arrival.0).max(0);
        self.last_arrival = arrival;
        let video = tag.kind == TagKind::VIDEO;
        let reorder = if video { tag.header.composition_offset.0.clamp(0, MAX_REORDER) } else { 0 };
        let (head, seam) = (self.head, std::mem::take(&mut self.seam));
        let track = if video { &mut self.video } else { &mut self.audio };
        let fits = |offset: &i64| {
            let candidate = unwrapped + offset;
            track.last.is_none_or(|last| candidate >= last - SMALL_STEP_BACK.0)
                && candidate >= head - BEHIND - elapsed
                && candidate <= head + STEP_AHEAD + elapsed
        };
        let frame = track.frame.unwrap_or(DEFAULT_FRAME);
        // The earliest decoding time after a seam at which this picture is shown after all before it.
        let after_shown = self.shown.map(|shown| shown + frame - reorder);
        let offset = match self.offset {
            None if (0..KEPT_START).contains(&unwrapped) => 0,
            None => BEHIND - unwrapped,
            Some(newest) => match [track.offset, Some(newest)].into_iter().flatten().find(fits) {
                Some(offset) if !seam => offset,
                _ => {
                    tag.discontinuity = true;
                    after_shown.unwrap_or(head).max(head + frame) - unwrapped
                }
            },
        };
        if self.offset.is_none() || tag.discontinuity {
            self.offset = Some(offset);
        }
        if video && track.offset != Some(offset) {
            // If audio began the new part, this may be more than video's own clock says.
            track.head = track.head.max(after_shown.unwrap_or(0));
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
        if video {
            self.shown = self.shown.max(Some(track.head + reorder));
        }
    }

    /// Undoes the 32-bit wrap: assumes the shortest step from the last timestamp.
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

    /// Places rows of (kind, raw timestamp, arrival) and returns times and marks.
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
        let times = place(&mut Timeline::default(), &[(V, 80, 0), (A, 0, 0), (A, 23, 20), (V, 120, 40)]);
        assert_eq!(times, [(80, false), (0, false), (23, false), (120, false)]);
    }

    #[test]
    fn moves_a_clock_that_starts_late_near_zero() {
        let times =
            place(&mut Timeline::default(), &[(V, 9_000_000, 0), (A, 8_999_900, 0), (V, 9_000_040, 40)]);
        assert_eq!(times, [(5_000, false), (4_900, false), (5_040, false)]);
    }

    #[test]
    fn a_track_that_begins_before_the_first_tag_stays_in_sync() {
        let late = [(V, 9_000_000, 0), (A, 8_998_500, 0), (A, 8_998_523, 0), (V, 9_000_040, 40)];
        let times = place(&mut Timeline::default(), &late);
        assert_eq!(times, [(5_000, false), (3_500, false), (3_523, false), (5_040, false)]);
        let late = [(V, 9_000_000, 0), (A, 8_995_000, 0)];
        assert_eq!(place(&mut Timeline::default(), &late), [(5_000, false), (0, false)]);
    }

    #[test]
    fn times_before_zero_become_zero() {
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
        let times = place(&mut Timeline::default(), &rows);
        assert_eq!(times.iter().map(|(time, _)| *time).collect::<Vec<_>>(), [3, 0, 0, 0, 43, 3, 26]);
        assert!(times.iter().all(|(_, seam)| !seam));
    }

    #[test]
    fn times_before_a_seam_repeat_the_last_time_before_it() {
        let mut timeline = Timeline::default();
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
            let times = place(&mut Timeline::default(), &rows);
            assert_eq!(
                times,
                [(5_000, false), (5_010, false), (5_040, false), (5_033, false), (5_080, false)]
            );
        }
    }

    #[test]
    fn leaves_low_frame_rates_alone() {
        let second = [(V, 0, 0), (V, 1_000, 1_000), (V, 2_000, 2_000)];
        assert_eq!(place(&mut Timeline::default(), &second), [(0, false), (1_000, false), (2_000, false)]);
        let slides = [(V, 0, 0), (V, 20_000, 20_000), (V, 40_000, 40_010)];
        assert_eq!(place(&mut Timeline::default(), &slides), [(0, false), (20_000, false), (40_000, false)]);
    }

    #[test]
    fn lets_an_unpaced_publisher_run_ahead_of_the_clock() {
        let rows: Vec<_> = (0..1_000).map(|frame| (V, frame * 1_000, 0)).collect();
        let times = place(&mut Timeline::default(), &rows);
        assert!(times.iter().enumerate().all(|(frame, &time)| time == (frame as i64 * 1_000, false)));
    }

    #[test]
    fn corrects_jumps_ahead_and_back_by_one_frame() {
        let rows =
            [(V, 0, 0), (V, 40, 40), (V, 3_600_040, 80), (V, 3_600_080, 120), (V, 500, 160), (V, 540, 200)];
        let times = place(&mut Timeline::default(), &rows);
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
        let times = place(&mut Timeline::default(), &rows);
        assert_eq!(times[4], (80, true));
        assert_eq!(times[5], (46, false), "audio that has not jumped keeps its offset");
        assert_eq!(times[6], (69, false), "and is in sync with video when it has");
        assert_eq!(times[7], (120, false));
    }

    #[test]
    fn repeats_the_last_time_on_a_small_step_back() {
        let times = place(&mut Timeline::default(), &[(A, 100, 0), (A, 90, 10), (A, 123, 20)]);
        assert_eq!(times, [(100, false), (100, false), (123, false)]);
    }

    #[test]
    fn continues_one_frame_after_the_last_publisher() {
        let mut timeline = Timeline::default();
        place(&mut timeline, &[(V, 0, 0), (V, 40, 40), (A, 60, 60)]);
        timeline.end_of_publisher();
        let times = place(&mut timeline, &[(V, 0, 2_000), (A, 0, 2_000), (V, 40, 2_040)]);
        assert_eq!(times, [(100, true), (100, false), (140, false)]);
    }

    /// Places video frames of (raw timestamp, composition offset, arrival) and returns DTS and PTS.
    fn place_pictures(timeline: &mut Timeline, rows: &[(u32, i64, i64)]) -> Vec<(i64, i64)> {
        rows.iter()
            .map(|&(raw, offset, arrival)| {
                let mut tag = tag(V, raw);
                tag.header.composition_offset = Millis(offset);
                timeline.place(&mut tag, Millis(arrival));
                (tag.dts.0, tag.dts.0 + offset)
            })
            .collect()
    }

    #[test]
    fn the_first_picture_after_a_seam_is_shown_one_frame_after_the_last_one_before_it() {
        // I P B B: the P is shown at 200, three frames after its DTS.
        let before = [(0, 80, 0), (40, 160, 40), (80, 40, 80), (120, 40, 120)];
        // The composition offset of the first picture after the seam, and its DTS and PTS.
        let rows = [
            ("reordered again", 80, (160, 240)),
            ("not reordered any more", 0, (240, 240)),
            ("reordered more deeply: the DTS decides", 200, (160, 360)),
            ("more than encoders need", 8_000_000, (160, 8_000_160)),
        ];
        for (name, offset, first) in rows {
            let mut timeline = Timeline::default();
            assert_eq!(place_pictures(&mut timeline, &before)[3], (120, 160));
            timeline.end_of_publisher();
            assert_eq!(place_pictures(&mut timeline, &[(7_000, offset, 2_000)])[0], first, "{name}");
        }
    }

    #[test]
    fn pictures_do_not_overlap_if_audio_begins_the_new_part() {
        let mut timeline = Timeline::default();
        place_pictures(&mut timeline, &[(0, 80, 0), (40, 160, 40), (80, 40, 80)]);
        timeline.end_of_publisher();
        assert_eq!(place(&mut timeline, &[(A, 500, 2_000)]), [(240, true)]);
        assert_eq!(place_pictures(&mut timeline, &[(500, 0, 2_000)]), [(240, 240)], "in sync with the audio");
        timeline.end_of_publisher();
        assert_eq!(place(&mut timeline, &[(A, 500, 4_000)]), [(280, true)]);
        assert_eq!(
            place_pictures(&mut timeline, &[(300, 0, 4_000)])[0].1,
            280,
            "held until its clock is there"
        );
    }

    #[test]
    fn a_jump_of_one_publisher_leaves_no_overlap_either() {
        let rows = [(0, 80, 0), (40, 160, 40), (80, 40, 80), (3_600_080, 80, 120), (3_600_120, 160, 160)];
        let times = place_pictures(&mut Timeline::default(), &rows);
        assert_eq!(times[3..], [(160, 240), (200, 360)]);
    }

    #[test]
    fn headers_and_metadata_get_the_time_of_the_tag_before_them() {
        let mut timeline = Timeline::default();
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
