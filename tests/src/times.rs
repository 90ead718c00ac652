//! Times of access units in decoding order, as the strictest player reads them.
//!
//! Each part of a stream begins at a keyframe, so the rules hold at seams too: after a republish, a reload or a fault.

use crate::flv::{AUDIO, AccessUnit, VIDEO};

/// Checks the times of each track. No equality is legal:
/// - each DTS is above the one before;
/// - no PTS occurs twice;
/// - from a keyframe on, each PTS is above all PTS before that keyframe.
///
/// # Errors
/// A description of the first fault.
pub fn check_times(units: &[AccessUnit]) -> Result<(), String> {
    [VIDEO, AUDIO].into_iter().try_for_each(|kind| {
        let track = Track::of(units, kind);
        track.check().map_err(|fault| format!("{}: {fault}", if kind == VIDEO { "video" } else { "audio" }))
    })
}

/// Returns the distance between two parts of a stream in milliseconds: over all tracks, the shortest distance from the
/// newest DTS or PTS of the units before `seam` to the oldest of those from `seam` on. `None` if the parts have no track in
/// common.
///
/// A seam with the least gap has one frame duration here; a track that ended earlier than the other has a longer distance.
#[must_use]
pub fn gap(units: &[AccessUnit], seam: usize) -> Option<i64> {
    let (before, after) = units.split_at(seam);
    let distances = [VIDEO, AUDIO].into_iter().filter_map(|kind| {
        let (before, after) = (Track::of(before, kind), Track::of(after, kind));
        let dts = after.dts().min()? - before.dts().max()?;
        let pts = after.pts().min()? - before.pts().max()?;
        Some(dts.min(pts))
    });
    distances.min()
}

/// The access units of one track.
struct Track<'a>(Vec<&'a AccessUnit>);

impl<'a> Track<'a> {
    fn of(units: &'a [AccessUnit], kind: u8) -> Track<'a> {
        Track(units.iter().filter(|unit| unit.kind == kind).collect())
    }

    fn dts(&self) -> impl Iterator<Item = i64> {
        self.0.iter().map(|unit| unit.dts)
    }

    fn pts(&self) -> impl Iterator<Item = i64> {
        self.0.iter().map(|unit| unit.dts + i64::from(unit.cts))
    }

    fn check(&self) -> Result<(), String> {
        if let Some((before, after)) =
            self.dts().zip(self.dts().skip(1)).find(|(before, after)| after <= before)
        {
            return Err(format!("DTS {after} ms follows {before} ms"));
        }
        // The newest PTS, and the newest one before the last keyframe.
        let (mut newest, mut bound) = (i64::MIN, i64::MIN);
        let mut all = std::collections::HashSet::new();
        for (unit, pts) in self.0.iter().zip(self.pts()) {
            if unit.keyframe {
                bound = newest;
            }
            if pts <= bound {
                return Err(format!(
                    "PTS {pts} ms (DTS {} ms) after a keyframe, {bound} ms before",
                    unit.dts
                ));
            }
            if !all.insert(pts) {
                return Err(format!("PTS {pts} ms occurs twice, the second time with DTS {} ms", unit.dts));
            }
            newest = newest.max(pts);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns access units from rows of kind, DTS and composition time; the first of a GOP is marked by `true`.
    fn units(rows: &[(u8, bool, i64, i32)]) -> Vec<AccessUnit> {
        let unit = |&(kind, keyframe, dts, cts)| AccessUnit {
            kind,
            codec: *b"none",
            keyframe,
            dts,
            cts,
            size: 1,
            hash: 0,
        };
        rows.iter().map(unit).collect()
    }

    /// I P B B, then I P; audio between.
    const GOOD: [(u8, bool, i64, i32); 9] = [
        (VIDEO, true, 0, 80),
        (AUDIO, false, 0, 0),
        (VIDEO, false, 40, 160),
        (VIDEO, false, 80, 40),
        (AUDIO, false, 23, 0),
        (VIDEO, false, 120, 40),
        (VIDEO, true, 160, 80),
        (AUDIO, false, 46, 0),
        (VIDEO, false, 200, 80),
    ];

    #[test]
    fn accepts_reordered_pictures() {
        check_times(&units(&GOOD)).unwrap();
    }

    #[test]
    fn detects_each_kind_of_fault() {
        let cases: [(usize, i64, i32, &str); 5] = [
            // (row, DTS, composition time, fault)
            (4, 0, 0, "audio: DTS 0 ms follows 0 ms"),
            (2, -1, 160, "video: DTS -1 ms follows 0 ms"),
            (3, 80, 0, "video: PTS 80 ms occurs twice"),
            (6, 160, 40, "video: PTS 200 ms (DTS 160 ms) after a keyframe, 200 ms before"),
            (8, 200, -1, "video: PTS 199 ms (DTS 200 ms) after a keyframe, 200 ms before"),
        ];
        for (row, dts, cts, fault) in cases {
            let mut rows = GOOD;
            (rows[row].2, rows[row].3) = (dts, cts);
            let found = check_times(&units(&rows)).unwrap_err();
            assert!(found.starts_with(fault), "{found}");
        }
    }

    #[test]
    fn a_gap_is_the_shortest_distance_of_all_tracks() {
        let units = units(&GOOD);
        assert_eq!(gap(&units, 6), Some(23));
        assert_eq!(gap(&units[..6], 3), Some(-80));
        let video: Vec<AccessUnit> = units.iter().filter(|unit| unit.kind == VIDEO).cloned().collect();
        assert_eq!(gap(&video, 4), Some(40));
        assert_eq!(gap(&units[..1], 1), None);
    }
}
