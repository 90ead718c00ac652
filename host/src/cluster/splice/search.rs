//! Search for the unit at which a new connection continues the stream.

use super::alignment::Alignments;
use super::content::Content;
use super::held::Held;
use super::pace::Pace;
use super::record::{Record, Unit};
use crate::media::{Millis, Tag, TagKind};

/// The time from the first unit for which a match is awaited.
pub(super) const MAX_SEARCH: Millis = Millis(10_000);

/// The time without a video unit after which audio restarts the stream alone.
pub(super) const VIDEO_WAIT: Millis = Millis(5_000);

/// A connection since the switch to it.
#[derive(Debug)]
pub(super) struct Search {
    alignments: Alignments,
    pace: Pace,
    held: Held,
    /// Arrival of the first unit.
    started: Option<Millis>,
    /// Whether the stream has video, here or in the record.
    has_video: bool,
    /// Arrival of the last video unit.
    last_video: Option<Millis>,
}

/// How the stream continues.
pub(super) enum Decision {
    /// Not decided yet.
    Wait,
    /// With these tags, after the last unit of the record.
    Resume {
        /// Offset to add to timestamps, modulo 2^32.
        offset: u32,
        tags: Vec<Tag>,
    },
    /// With these tags, as another publisher.
    Restart { tags: Vec<Tag> },
}

impl Search {
    pub(super) fn new(switched: Millis, record: &Record) -> Search {
        Search {
            alignments: Alignments::new(record),
            pace: Pace::new(switched),
            held: Held::default(),
            started: None,
            has_video: record.has_video(),
            last_video: None,
        }
    }

    pub(super) fn push(&mut self, tag: Tag, now: Millis, record: &Record) -> Decision {
        self.has_video |= tag.kind == TagKind::VIDEO;
        if Content::of(&tag) == Content::Unit {
            self.add_unit(record.unit(&tag), now, record);
        }
        self.held.push(tag);
        self.decide(now, record)
    }

    pub(super) fn elapse(&mut self, now: Millis, record: &Record) -> Decision {
        self.decide(now, record)
    }

    pub(super) fn deadline(&self) -> Option<Millis> {
        self.pace.deadline().filter(|_| !self.alignments.is_possible())
    }

    /// Adds a unit whose tag is about to be held.
    fn add_unit(&mut self, unit: Unit, now: Millis, record: &Record) {
        let at = self.held.next();
        let started = *self.started.get_or_insert(now);
        if unit.video {
            self.last_video = Some(now);
        }
        let lacks_video = self.has_video && now.0 - self.last_video.unwrap_or(started).0 >= VIDEO_WAIT.0;
        if lacks_video || now.0 - started.0 >= MAX_SEARCH.0 {
            self.alignments.fail();
        }
        self.alignments.add(unit, at + 1, record);
        let audio_leads = lacks_video || !self.has_video;
        if unit.video || audio_leads {
            let is_entry = unit.keyframe || !unit.video;
            self.pace.add(now, unit.dts, is_entry.then_some(at));
        }
    }

    fn decide(&mut self, now: Millis, record: &Record) -> Decision {
        if let Some(only) = self.alignments.only(record) {
            if let Some(tags) = self.held.resume(only.end, record) {
                return Decision::Resume { offset: only.offset, tags };
            }
            self.alignments.fail();
        }
        self.release(record);
        if self.held.is_full() {
            self.alignments.fail();
            self.release(record);
        }
        let entry = self.pace.entry(now).filter(|_| !self.alignments.is_possible());
        if let Some(from) = entry {
            return Decision::Restart { tags: self.held.restart(from) };
        }
        if self.held.is_full() {
            // So much in so short a time is no live content.
            self.pace.skip();
            self.release(record);
        }
        Decision::Wait
    }

    /// Drops the tags that no decision needs.
    fn release(&mut self, record: &Record) {
        let needed = [self.alignments.needed_from(record), self.pace.needed_from()];
        self.held.release(needed.into_iter().flatten().min().unwrap_or(self.held.next()));
    }

    #[cfg(test)]
    pub(super) fn held(&self) -> (usize, usize) {
        self.held.size()
    }
}
