//! The program clock: milliseconds of the stream's timeline as 90 kHz ticks, and the clock reference.
//!
//! ISO/IEC 13818-1 2.4.2.2, 2.4.3.5 (PCR), 2.7.2.
//!
//! The only source of time is the tags' DTS. The reference follows the newest DTS of any track, minus
//! - [`DELAY`], a constant, so that a decoder has an access unit before it is due;
//! - the lag: the recent maximum distance of a tag behind the newest DTS, caused by the publisher's interleaving.
//!
//! Invariants:
//! - the reference is before the DTS of every access unit that follows it, and goes back only with a marked discontinuity:
//!   at the start, when a track falls further behind than before, and after a gap of more than [`LONGEST_GAP`];
//! - DTS - PCR is at most [`DELAY`] + [`SLACK`] + [`STEP`] + lag;
//! - successive references are at most [`STEP`] apart. Between access units further apart, the mux adds some.

/// Time from an access unit's arrival to its DTS, in milliseconds. More than [`STEP`], so that an access unit is complete
/// before it is due.
pub(crate) const DELAY: i64 = 100;

/// Maximum distance of two references, in milliseconds (DVB recommends it; ISO/IEC 13818-1 2.7.2 has 100).
pub(crate) const STEP: i64 = 40;

/// Tolerated delay of a reference in milliseconds, so that a stream of 24 frames per second does not need an extra reference for each frame.
pub(crate) const SLACK: i64 = 40;

/// A longer gap between tags, in milliseconds, starts a new time base.
pub(crate) const LONGEST_GAP: i64 = 30_000;

/// Length of a window over which the lag is measured, in milliseconds; the previous window counts too.
const LAG_WINDOW: i64 = 10_000;

/// A time in units of 1/90 000 second, modulo 2^33.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ticks(u64);

impl Ticks {
    /// Offset added to the timeline, in milliseconds, so that a stream's first clock reference is above 0.
    pub(crate) const OFFSET: i64 = 1_000;

    /// Converts a point on the stream's timeline.
    pub(crate) fn from_millis(millis: i64) -> Ticks {
        let ticks = (i128::from(millis) + i128::from(Self::OFFSET)) * 90;
        Ticks(ticks.rem_euclid(1 << 33) as u64)
    }

    /// Returns the 33 bits.
    pub(crate) fn base(self) -> u64 {
        self.0
    }
}

/// The clock's step before an access unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Advance {
    /// The clock starts or has a new base: a reference is due first.
    Set,
    /// The clock continues.
    Steady,
}

/// The program clock of one stream. All times in milliseconds of the timeline.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Clock {
    /// The newest DTS.
    newest: Option<i64>,
    /// The greatest lag in this window and in the one before, and where this one ends.
    lag: [i64; 2],
    window_end: i64,
    /// The last reference.
    reference: Option<i64>,
}

impl Clock {
    /// Returns a clock that continues from [`parts`](Self::parts).
    pub(crate) fn resume([newest, reference, lag]: [i64; 3]) -> Clock {
        let lag = [lag.max(0), 0];
        Clock { newest: Some(newest), lag, window_end: newest + LAG_WINDOW, reference: Some(reference) }
    }

    /// Returns the state for a successor: the newest DTS, the last reference, the lag. `None` before the start.
    pub(crate) fn parts(&self) -> Option<[i64; 3]> {
        Some([self.newest?, self.reference?, self.greatest_lag()])
    }

    fn greatest_lag(&self) -> i64 {
        self.lag[0].max(self.lag[1])
    }

    /// Sets the expected lag of access units behind the newest, before the first one.
    pub(crate) fn expect_lag(&mut self, lag: i64) {
        self.lag[0] = lag;
    }

    fn observe(&mut self, dts: i64) {
        let newest = self.newest.map_or(dts, |newest| newest.max(dts));
        if self.newest.is_none_or(|_| newest >= self.window_end) {
            self.lag = [0, self.lag[0]];
            self.window_end = newest + LAG_WINDOW;
        }
        self.newest = Some(newest);
        self.lag[0] = self.lag[0].max(newest - dts);
    }

    /// Advances to an access unit with this DTS.
    pub(crate) fn advance(&mut self, dts: i64) -> Advance {
        self.observe(dts);
        let target = self.target();
        match self.reference {
            Some(last) if last < dts && target - last <= LONGEST_GAP => Advance::Steady,
            _ => {
                self.reference = Some(target);
                Advance::Set
            }
        }
    }

    /// Returns the latest reference allowed now.
    fn target(&self) -> i64 {
        self.newest.unwrap_or_default() - self.greatest_lag() - DELAY
    }

    /// Returns the last reference.
    pub(crate) fn reference(&self) -> i64 {
        self.reference.unwrap_or_default()
    }

    /// Returns the reference to write with an access unit.
    pub(crate) fn with_unit(&mut self) -> i64 {
        let last = self.reference();
        let reference = self.target().clamp(last, last + STEP);
        self.reference = Some(reference);
        reference
    }

    /// Returns the next reference that is due between access units, if any.
    pub(crate) fn in_between(&mut self) -> Option<i64> {
        let last = self.reference();
        (self.target() - last > STEP + SLACK).then(|| {
            self.reference = Some(last + STEP);
            last + STEP
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_wrap_at_33_bits() {
        let wrap = (1i64 << 33) / 90 - Ticks::OFFSET;
        assert_eq!(Ticks::from_millis(-Ticks::OFFSET).base(), 0);
        assert_eq!(Ticks::from_millis(wrap).base(), (1 << 33) - 62);
        assert_eq!(Ticks::from_millis(wrap + 1).base(), 28);
        for extreme in [i64::MIN, i64::MAX] {
            assert!(Ticks::from_millis(extreme).base() < 1 << 33);
        }
    }

    /// Runs access units of (DTS, on the clock's PID); returns the references before each.
    fn run(clock: &mut Clock, units: &[(i64, bool)]) -> Vec<Vec<i64>> {
        let step = |&(dts, carries): &(i64, bool)| {
            let mut references = match clock.advance(dts) {
                Advance::Set => vec![clock.reference()],
                Advance::Steady => vec![],
            };
            references.extend(std::iter::from_fn(|| clock.in_between()));
            if carries {
                references.push(clock.with_unit());
            }
            references
        };
        units.iter().map(step).collect()
    }

    #[test]
    fn follows_25_frames_a_second_without_references_in_between() {
        let references = run(&mut Clock::default(), &[(0, true), (40, true), (63, false), (80, true)]);
        assert_eq!(references, [vec![-100, -100], vec![-60], vec![], vec![-20]]);
    }

    #[test]
    fn adds_references_between_slow_frames() {
        let references = run(&mut Clock::default(), &[(0, true), (1_000, true)]);
        let all: Vec<i64> = references.concat();
        assert!(all.windows(2).all(|pair| (0..=STEP).contains(&(pair[1] - pair[0]))), "{all:?}");
        assert!(*all.last().unwrap() >= 900 - SLACK, "{all:?}");
        let units: Vec<_> = (0..240).map(|n| (n * 1_000 / 24, true)).collect();
        let references = run(&mut Clock::default(), &units);
        let in_between = references.iter().filter(|before| before.len() > 1).count();
        assert!((2..15).contains(&in_between), "{in_between}");
    }

    #[test]
    fn adapts_to_the_lag_of_a_track() {
        let mut clock = Clock::default();
        clock.expect_lag(2_000);
        let mut units = Vec::new();
        for n in 0..100 {
            units.extend([(2_000 + n * 40, true), (n * 40, false)]);
        }
        let references = run(&mut clock, &units);
        let mut last = i64::MIN;
        for ((dts, _), before) in units.iter().zip(&references) {
            for &reference in before {
                assert!(reference >= last && reference <= *dts);
                last = reference;
            }
            assert!(last <= *dts && dts - last <= 2_000 + DELAY + SLACK + STEP, "{dts}: {last}");
        }
    }

    #[test]
    fn a_track_that_falls_behind_causes_a_discontinuity_and_a_temporary_lag() {
        let mut clock = Clock::default();
        run(&mut clock, &[(0, true), (40, true)]);
        assert_eq!(clock.advance(3_000), Advance::Steady);
        run(&mut clock, &[(3_000, true)]);
        assert_eq!(clock.advance(1_000), Advance::Set);
        assert_eq!(clock.reference(), 900);
        run(&mut clock, &[(13_001, true), (23_002, true), (33_003, true)]);
        assert!(33_003 - clock.reference() <= DELAY + SLACK + STEP, "{clock:?}");
    }

    #[test]
    fn a_long_gap_starts_a_new_time_base() {
        let mut clock = Clock::default();
        run(&mut clock, &[(0, true)]);
        assert_eq!(clock.advance(LONGEST_GAP - 1), Advance::Steady);
        assert_eq!(run(&mut clock, &[(LONGEST_GAP - 1, true)])[0].len() as i64, LONGEST_GAP / STEP - 1);
        assert_eq!(clock.advance(3 * LONGEST_GAP), Advance::Set);
        assert_eq!(clock.reference(), 3 * LONGEST_GAP - DELAY);
    }

    #[test]
    fn continues_in_a_successor() {
        let mut clock = Clock::default();
        run(&mut clock, &[(0, true), (400, true), (100, false)]);
        let mut successor = Clock::resume(clock.parts().unwrap());
        let units = [(440, true), (500, false), (480, true)];
        assert_eq!(run(&mut successor, &units), run(&mut clock, &units));
    }
}
