//! Record of the units that were delivered last, and of the configurations in force.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::ops::Index;

use super::content::{Content, Slot};
use crate::media::{Tag, TagKind};

/// The largest number of units that are recorded.
pub(super) const MAX_UNITS: usize = 4096;

/// The largest number of units that are recorded while there is no keyframe: some 20 s of audio.
pub(super) const MAX_AUDIO_UNITS: usize = 1024;

/// Number of GOPs that are recorded; the newest one is not complete.
const MAX_GOPS: usize = 2;

/// One unit as it is compared.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unit {
    /// A keyed hash of kind and body.
    pub(super) hash: u64,
    pub(super) dts: u32,
    pub(super) video: bool,
    pub(super) keyframe: bool,
}

/// The last units and the configurations that were delivered to the current publisher.
#[derive(Debug, Default)]
pub(super) struct Record {
    hasher: RandomState,
    units: VecDeque<Unit>,
    keyframes: usize,
    /// Hashes of the newest configurations.
    configs: Vec<(Slot, u64)>,
}

impl Record {
    /// Records a tag that is delivered.
    pub(super) fn add(&mut self, tag: &Tag) {
        match Content::of(tag) {
            Content::Unit => self.add_unit(self.unit(tag)),
            Content::Config(slot) => {
                let hash = self.hash(tag);
                match self.configs.iter_mut().find(|(known, _)| *known == slot) {
                    Some((_, known)) => *known = hash,
                    None => self.configs.push((slot, hash)),
                }
            }
            Content::Other => {}
        }
    }

    fn add_unit(&mut self, unit: Unit) {
        self.keyframes += usize::from(unit.keyframe);
        self.units.push_back(unit);
        let max_units = if self.keyframes == 0 { MAX_AUDIO_UNITS } else { MAX_UNITS };
        while self.units.len() > max_units
            || self.keyframes > MAX_GOPS
            || (self.keyframes == MAX_GOPS && self.units.front().is_some_and(|oldest| !oldest.keyframe))
        {
            let oldest = self.units.pop_front();
            self.keyframes -= usize::from(oldest.is_some_and(|oldest| oldest.keyframe));
        }
    }

    /// Prepares for another publisher.
    pub(super) fn clear(&mut self) {
        self.units.clear();
        self.keyframes = 0;
        self.configs.clear();
    }

    /// Returns the unit that a tag is, in the terms of this record.
    pub(super) fn unit(&self, tag: &Tag) -> Unit {
        Unit {
            hash: self.hash(tag),
            dts: tag.dts.0 as u32,
            video: tag.kind == TagKind::VIDEO,
            keyframe: tag.header.keyframe,
        }
    }

    /// Whether `tag` equals the configuration in force.
    pub(super) fn is_in_force(&self, slot: Slot, tag: &Tag) -> bool {
        self.configs.contains(&(slot, self.hash(tag)))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.units.is_empty()
    }

    /// Number of units.
    pub(super) fn len(&self) -> usize {
        self.units.len()
    }

    pub(super) fn has_video(&self) -> bool {
        self.units.iter().any(|unit| unit.video)
    }

    fn hash(&self, tag: &Tag) -> u64 {
        self.hasher.hash_one((tag.kind, &tag.payload[..]))
    }
}

/// Units by age, the oldest first.
impl Index<usize> for Record {
    type Output = Unit;

    fn index(&self, at: usize) -> &Unit {
        &self.units[at]
    }
}
