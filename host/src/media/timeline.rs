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
//! near zero is kept; times before zero become 0, and times before a jump become the track's last time before it. This ends
//! once the track's own timestamps catch up; shifting the track instead would lose audio-video sync for good.
//!
//! Neither decoding nor presentation times of a track overlap with those before a seam. After a jump the next tag follows the
//! newest tag and picture by one frame. The first picture of another publisher follows the last picture, whatever its encoder
//! reorders and however far audio was ahead: some players lose two pictures before another sequence header, and stop at a
//! hole of more. What would overlap then is changed:
//! - decoding times follow those before the seam by 1 ms each, with a smaller composition offset, so that the presentation
//!   times stay true;
//! - audio is dropped.
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

/// The most by which another publisher's first decoding time may be before the newest tag, in milliseconds: usual reordering,
/// and the usual lead of audio. With more, the clocks of players are beyond that time already.
const MAX_OVERLAP: i64 = 250;

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
    /// The newest time assigned, once there is one.
    head: Option<i64>,
    /// Duration of the last frame.
    frame: Option<i64>,
    /// Whether pictures since the seam keep their presentation times while their decoding times would overlap.
    squeezed: bool,
}

impl TrackClock {
    /// The time from which on a frame does not overlap with the newest one, but for the rounding to milliseconds.
    fn end(&self) -> Option<i64> {
        self.head.map(|head| head + self.frame.map_or(1, |frame| (frame - 1).max(1)))
    }
}

impl Timeline {
    /// Returns the newest time on the timeline.
    pub fn head(&self) -> Millis {
        Millis(self.head)
    }

    /// Ends the current publisher. The next one continues one frame after the last picture, or after the last tag if it has no
    /// picture, whatever its timestamps.
    pub fn end_of_publisher(&mut self) {
        self.seam = self.offset.is_some();
        self.last_raw = None;
        for track in [&mut self.audio, &mut self.video] {
            (track.offset, track.last) = (None, None);
        }
    }

    /// Converts the time of `tag` from its publisher's clock to the timeline, and marks the tag if it follows a seam. Returns
    /// false if the tag is to be dropped, since it would be heard at the same time as what came before the seam.
    ///
    /// `arrival` is the time at which the tag was received, on any monotonic clock of the caller.
    #[must_use]
    pub fn place(&mut self, tag: &mut Tag, arrival: Millis) -> bool {
        let raw = tag.dts.0 as u32;
        let coded = tag.header.packet == Packet::CODED_FRAME && tag.kind != TagKind::SCRIPT;
        if !coded {
            // Headers and metadata get the time of the tag before them.
            tag.dts = Millis(self.head);
            return true;
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
        // The decoding time at which this picture is shown one frame after all before it.
        let after_shown = self.shown.map(|shown| shown + frame - reorder);
        let earliest = if video && seam { head + frame - MAX_OVERLAP } else { head + frame };
        let offset = match self.offset {
            None if (0..KEPT_START).contains(&unwrapped) => 0,
            None => BEHIND - unwrapped,
            Some(newest) => match [track.offset, Some(newest)].into_iter().flatten().find(fits) {
                Some(offset) if !seam => offset,
                _ => {
                    tag.discontinuity = true;
                    after_shown.map_or(head + frame, |after| after.max(earliest)) - unwrapped
                }
            },
        };
        let begins = track.offset != Some(offset);
        if !video && track.offset.is_none() && track.end().is_some_and(|end| unwrapped + offset < end) {
            return false;
        }
        if self.offset.is_none() || tag.discontinuity {
            self.offset = Some(offset);
        }
        track.offset = Some(offset);
        let time = unwrapped + offset;
        let last = track.last.filter(|_| !begins);
        let time = last.map_or(time, |last| last.max(time));
        if video && begins {
            track.squeezed = after_shown.is_none_or(|after| time >= after);
            if let Some(after) = after_shown.filter(|_| !track.squeezed) {
                // Audio began the new part, and video begins further back.
                track.head = track.head.max(Some(after));
            }
        }
        if let Some(last) = last.filter(|last| time > *last) {
            track.frame = Some(time - last);
        }
        track.last = Some(time);
        self.head = self.head.max(time);
        tag.dts = Millis(match track.head {
            Some(head) if time <= head && track.squeezed => head + 1,
            Some(head) => head.max(time),
            None => time.max(0),
        });
        track.squeezed &= tag.dts.0 > time;
        track.head = Some(tag.dts.0);
        if video {
            if track.squeezed {
                let offset = tag.header.composition_offset.0 - (tag.dts.0 - time);
                tag.set_composition_offset(Millis(offset.max(0)));
            }
            let reorder = tag.header.composition_offset.0.clamp(0, MAX_REORDER);
            self.shown = self.shown.max(Some(tag.dts.0 + reorder));
        }
        true
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

    /// Places rows of (kind, raw timestamp, arrival) and returns times and marks of those that are kept.
    fn place(timeline: &mut Timeline, rows: &[(TagKind, u32, i64)]) -> Vec<(i64, bool)> {
        rows.iter()
            .filter_map(|&(kind, raw, arrival)| {
                let mut tag = tag(kind, raw);
                timeline.place(&mut tag, Millis(arrival)).then_some((tag.dts.0, tag.discontinuity))
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
    fn audio_that_overlaps_with_that_of_the_last_publisher_is_dropped() {
        let mut timeline = Timeline::default();
        place(&mut timeline, &[(V, 0, 0), (A, 20, 20), (V, 40, 40), (A, 43, 40)]);
        timeline.end_of_publisher();
        let rows = [
            (V, 7_000, 2_000),
            (A, 6_000, 2_000),
            (A, 6_962, 2_000),
            // 43 + 23 ms, but for the rounding.
            (A, 6_985, 2_020),
            (A, 7_008, 2_040),
            (V, 7_040, 2_040),
        ];
        let times = place(&mut timeline, &rows);
        assert_eq!(times, [(80, true), (65, false), (88, false), (120, false)]);
        // After a jump of one publisher it repeats the last time.
        let rows = [(V, 9_000_000, 2_080), (A, 8_999_900, 2_080), (A, 9_000_000, 2_090)];
        assert_eq!(place(&mut timeline, &rows), [(160, true), (88, false), (160, false)]);
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
        assert_eq!(times, [(80, true), (80, false), (120, false)], "audio may be ahead of the picture");
        timeline.end_of_publisher();
        place(&mut timeline, &[(A, 0, 4_000), (A, 1_000, 4_000)]);
        timeline.end_of_publisher();
        assert_eq!(place(&mut timeline, &[(V, 0, 6_000)]), [(950, true)], "but not far");
    }

    /// Places video frames of (raw timestamp, composition offset, arrival) and returns DTS and PTS.
    fn place_pictures(timeline: &mut Timeline, rows: &[(u32, i64, i64)]) -> Vec<(i64, i64)> {
        rows.iter()
            .map(|&(raw, offset, arrival)| {
                let payload = [&b"\x27\x01"[..], &(offset as i32).to_be_bytes()[1..], b"nal"].concat();
                let mut tag = Tag::new(V, Millis(i64::from(raw)), payload.into());
                assert!(timeline.place(&mut tag, Millis(arrival)));
                (tag.dts.0, tag.dts.0 + tag.header.composition_offset.0)
            })
            .collect()
    }

    #[test]
    fn the_first_picture_after_a_seam_is_shown_one_frame_after_the_last_one_before_it() {
        // I P B B: the P is shown at 200, three frames after its DTS.
        let reordered = [(0, 80, 0), (40, 160, 40), (80, 40, 80), (120, 40, 120)];
        let plain = [(0, 0, 0), (40, 0, 40), (80, 0, 80), (120, 0, 120)];
        // I P B B: composition offsets, then DTS and PTS after the seam.
        type Rows<'a> = (&'a str, [(u32, i64, i64); 4], [i64; 4], [(i64, i64); 4]);
        let rows: [Rows<'_>; 5] = [
            (
                "reordered again",
                reordered,
                [80, 160, 40, 40],
                [(160, 240), (200, 360), (240, 280), (280, 320)],
            ),
            ("not reordered any more", reordered, [0; 4], [(240, 240), (280, 280), (320, 320), (360, 360)]),
            (
                "reordered from now on",
                plain,
                [80, 160, 40, 40],
                [(121, 160), (122, 280), (160, 200), (200, 240)],
            ),
            (
                "reordered more deeply",
                reordered,
                [200, 280, 40, 40],
                [(121, 240), (122, 360), (123, 160), (160, 200)],
            ),
            (
                "more than encoders need",
                plain,
                [8_000_000, 0, 0, 0],
                [(121, 7_999_910), (122, 122), (123, 123), (124, 124)],
            ),
        ];
        for (name, before, offsets, expected) in rows {
            let mut timeline = Timeline::default();
            place_pictures(&mut timeline, &before);
            timeline.end_of_publisher();
            let rows: Vec<_> =
                (0..4).map(|row| (7_000 + 40 * row as u32, offsets[row], 2_000 + 40 * row as i64)).collect();
            assert_eq!(place_pictures(&mut timeline, &rows), expected, "{name}");
        }
    }

    #[test]
    fn pictures_keep_in_sync_while_their_decoding_times_are_squeezed() {
        let mut timeline = Timeline::default();
        place_pictures(&mut timeline, &[(0, 0, 0), (40, 0, 40)]);
        place(&mut timeline, &[(A, 0, 40), (A, 23, 40), (A, 46, 40)]);
        timeline.end_of_publisher();
        assert_eq!(place_pictures(&mut timeline, &[(1_000, 80, 2_000)]), [(41, 80)]);
        // 34 ms after the picture's presentation time, as published.
        assert_eq!(place(&mut timeline, &[(A, 1_063, 2_000), (A, 1_114, 2_000)]), [(114, false)]);
        assert_eq!(place_pictures(&mut timeline, &[(1_040, 160, 2_040)]), [(42, 200)]);
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
            assert!(timeline.place(&mut header, Millis(1)));
            assert_eq!((header.dts.0, header.discontinuity), (5_000, false));
        }
        assert_eq!(place(&mut timeline, &[(V, 5_040, 40)]), [(5_040, false)]);
    }
}
