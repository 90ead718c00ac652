//! Tags of a new connection that may be delivered later.

use std::collections::VecDeque;

use super::content::{Content, Slot};
use super::record::Record;
use crate::media::Tag;

/// The most bytes of payloads that are held.
pub(super) const MAX_HELD_BYTES: usize = 32 << 20;

/// The largest number of tags that are held.
pub(super) const MAX_HELD_TAGS: usize = 8192;

/// The newest tags, and the configurations before them.
#[derive(Debug, Default)]
pub(super) struct Held {
    /// Position of the first of `tags` in the connection.
    first: u64,
    tags: VecDeque<Tag>,
    /// Bytes of `tags`.
    bytes: usize,
    /// The configurations in force before the first of `tags`. Their number and lengths have limits of their own.
    configs: Vec<(Slot, Tag)>,
}

impl Held {
    /// Position of the next tag.
    pub(super) fn next(&self) -> u64 {
        self.first + self.tags.len() as u64
    }

    pub(super) fn push(&mut self, tag: Tag) {
        self.bytes += tag.payload.len();
        self.tags.push_back(tag);
    }

    pub(super) fn is_full(&self) -> bool {
        self.bytes > MAX_HELD_BYTES || self.tags.len() > MAX_HELD_TAGS
    }

    /// Drops the tags before this position, except for the newest configurations.
    pub(super) fn release(&mut self, until: u64) {
        while self.first < until
            && let Some(tag) = self.tags.pop_front()
        {
            self.first += 1;
            self.bytes -= tag.payload.len();
            if let Content::Config(slot) = Content::of(&tag) {
                self.configs.retain(|(known, _)| *known != slot);
                self.configs.push((slot, tag));
            }
        }
    }

    /// Returns the tags from this position on, after changed metadata. Returns `None` and changes nothing if a sequence header
    /// there is not the one in force.
    pub(super) fn resume(&mut self, from: u64, record: &Record) -> Option<Vec<Tag>> {
        let passed = self.tags.iter().take((from - self.first) as usize);
        let mut configs: Vec<(Slot, &Tag)> = self.configs.iter().map(|(slot, tag)| (*slot, tag)).collect();
        for tag in passed {
            if let Content::Config(slot) = Content::of(tag) {
                configs.retain(|(known, _)| *known != slot);
                configs.push((slot, tag));
            }
        }
        configs.retain(|(slot, tag)| !record.is_in_force(*slot, tag));
        if configs.iter().any(|(slot, _)| slot.is_sequence_header()) {
            return None;
        }
        let changed: Vec<Tag> = configs.into_iter().map(|(_, tag)| tag.clone()).collect();
        self.release(from);
        Some(changed.into_iter().chain(self.tags.drain(..)).collect())
    }

    /// Returns the tags from this position on, after the configurations in force there.
    pub(super) fn restart(&mut self, from: u64) -> Vec<Tag> {
        self.release(from);
        self.configs.drain(..).map(|(_, tag)| tag).chain(self.tags.drain(..)).collect()
    }

    /// Bytes and number of the tags.
    #[cfg(test)]
    pub(super) fn size(&self) -> (usize, usize) {
        (self.bytes, self.tags.len())
    }
}
