//! Alignments: all ways in which the units of a new connection fit those of the record.

use super::record::{Record, Unit};

/// The smallest number of consecutive units of a match.
const MIN_MATCH: usize = 3;

/// The largest difference between the offsets of two units of one alignment, in milliseconds: rounding in a relay.
const MAX_DRIFT: u32 = 10;

/// The alignments that fit all units so far.
#[derive(Debug)]
pub(super) struct Alignments {
    candidates: Vec<Alignment>,
    /// Whether a match may begin at any unit, since there is no video.
    audio_only: bool,
    /// Whether the connection's first place for a match has come.
    begun: bool,
    /// The last units of the connection, the newest first.
    before: [Option<Unit>; MIN_MATCH - 1],
    failed: bool,
}

/// One way in which the connection fits the record.
#[derive(Debug)]
struct Alignment {
    /// Position in the record of the unit that must come next. At the end of the record, the alignment is complete.
    next: usize,
    /// Number of consecutive units that agree.
    units: usize,
    /// Whether a keyframe is among them.
    has_keyframe: bool,
    /// Offset from timestamps of the connection to recorded ones.
    offset: u32,
    /// Position in the connection of the tag after the last unit that agrees.
    end: u64,
}

/// The only alignment that fits up to the end of the record.
#[derive(Clone, Copy, Debug)]
pub(super) struct Match {
    pub(super) offset: u32,
    /// Position in the connection of the first tag to deliver.
    pub(super) end: u64,
}

impl Alignments {
    pub(super) fn new(record: &Record) -> Alignments {
        Alignments {
            candidates: Vec::new(),
            audio_only: !record.has_video(),
            begun: false,
            before: [None; MIN_MATCH - 1],
            failed: false,
        }
    }

    /// Compares the next unit of the connection; `end` is the position after its tag.
    pub(super) fn add(&mut self, unit: Unit, end: u64, record: &Record) {
        if self.failed {
            return;
        }
        let is_place = unit.keyframe || self.audio_only;
        self.candidates.retain_mut(|alignment| {
            alignment.is_complete(record) || alignment.extend(unit, is_place, end, record)
        });
        let starts = match (self.begun, is_place) {
            (true, _) => 0..1,
            (false, true) => 0..record.len(),
            (false, false) => 0..0,
        };
        for at in starts {
            if record[at].hash == unit.hash {
                let units = 1 + self.agreeing_before(at, record);
                let offset = record[at].dts.wrapping_sub(unit.dts);
                self.candidates.push(Alignment { next: at + 1, units, has_keyframe: is_place, offset, end });
            }
        }
        self.begun |= is_place;
        self.before.rotate_right(1);
        self.before[0] = Some(unit);
        let mut complete = self.candidates.iter().filter(|alignment| alignment.is_complete(record));
        let is_doubtful = complete.next().is_some_and(|alignment| !alignment.suffices());
        // Others can still fail before the end of the record, but not these.
        if is_doubtful || complete.next().is_some() {
            self.fail();
        }
    }

    /// Number of units directly before this one that agree with those before position `at`.
    fn agreeing_before(&self, at: usize, record: &Record) -> usize {
        let recorded = (0..at).rev().map(|at| record[at].hash);
        self.before.iter().flatten().zip(recorded).take_while(|(unit, hash)| unit.hash == *hash).count()
    }

    /// Gives the match up.
    pub(super) fn fail(&mut self) {
        self.failed = true;
        self.candidates = Vec::new();
    }

    /// Whether a match may come.
    pub(super) fn is_possible(&self) -> bool {
        !self.candidates.is_empty()
    }

    /// Returns the match, once no other alignment is left.
    pub(super) fn only(&self, record: &Record) -> Option<Match> {
        match &self.candidates[..] {
            [only] if only.is_complete(record) => Some(Match { offset: only.offset, end: only.end }),
            _ => None,
        }
    }

    /// Returns the position in the connection from which on tags may be needed for a match.
    pub(super) fn needed_from(&self, record: &Record) -> Option<u64> {
        self.candidates.iter().find(|alignment| alignment.is_complete(record)).map(|complete| complete.end)
    }
}

impl Alignment {
    fn is_complete(&self, record: &Record) -> bool {
        self.next == record.len()
    }

    fn suffices(&self) -> bool {
        self.units >= MIN_MATCH && self.has_keyframe
    }

    /// Adds the next unit of the connection. Returns false if it differs.
    fn extend(&mut self, unit: Unit, is_place: bool, end: u64, record: &Record) -> bool {
        let recorded = record[self.next];
        let drift = recorded.dts.wrapping_sub(unit.dts).wrapping_sub(self.offset) as i32;
        let fits = recorded.hash == unit.hash && drift.unsigned_abs() <= MAX_DRIFT;
        self.next += 1;
        self.units += 1;
        self.has_keyframe |= is_place;
        self.end = end;
        fits
    }
}
