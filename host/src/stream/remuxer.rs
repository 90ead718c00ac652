//! A remuxer that a job runs: an instance of a module with its recipe, whose blocks are checked before they go further.
//!
//! Rings drop old entries by the entries' own times. A module that reports wrong times would keep other entries from being
//! dropped, or have its own dropped at once, so a block must lie near the tags that it can be made of.
//!
//! A configuration that is replayed comes later than when the stream had it, and reports the tracks of then. The remuxer gets it
//! with the tracks of its own position.
//!
//! The memory of blocks counts on the account of the stream's publisher. Where that has none left, the remuxer ends, and the next
//! one starts at a join point.
//!
//! A second preamble ends the output: the responses that began with the first one cannot continue.

use std::sync::Arc;

use super::entries::{BLOCK_OVERHEAD, block_role, config_slot};
use super::ring::EntryRole;
use super::source::Source;
use crate::budget::Kind;
use crate::media::{Millis, Tag, Tracks};
use crate::module::{CallWatch, ModuleFault, OutBlock, OwnProcess, Recipe, Remuxer, StreamFacts};

/// Largest distance of a block from the tags that it can be made of, in milliseconds: a frame inside a tag is later than the
/// tag, and a frame that was held back is earlier.
const SLACK: i64 = 10_000;

/// The start of a remuxer: its join point, the facts there, and its predecessor's state.
#[derive(Clone, Copy)]
pub(super) struct Start<'a> {
    pub(super) source: &'a Arc<Source>,
    pub(super) join: &'a Tag,
    pub(super) facts: StreamFacts,
    pub(super) state: &'a [u8],
}

/// A remuxer and its recipe.
#[derive(Debug)]
pub(super) struct CheckedRemuxer {
    /// Its publisher is charged for the blocks.
    source: Arc<Source>,
    remuxer: Remuxer,
    recipe: Arc<Recipe>,
    /// Time of the oldest tag that it may still hold.
    oldest: i64,
    /// Time of the newest tag that it got.
    newest: i64,
    /// The tracks that the stream has at its position.
    tracks: Tracks,
    /// It has written a preamble.
    has_preamble: bool,
    /// Responses may have begun with its preamble or its predecessor's.
    has_begun: bool,
    /// It has written another preamble since; its output has ended before that.
    is_outdated: bool,
    /// Number of tags that it got, without the first configurations.
    fed: u64,
}

impl CheckedRemuxer {
    /// Creates a remuxer that gets its first frame at `start`, and feeds it the configurations. `has_begun` is whether there
    /// are viewers whose responses have begun. It runs in `own` if there is one. Also returns the blocks that it made, to be checked.
    pub(super) fn new(
        recipe: &Arc<Recipe>,
        configs: &[Tag],
        Start { source, join, facts, state }: Start<'_>,
        has_begun: bool,
        own: Option<&OwnProcess>,
        watch: &CallWatch,
    ) -> Result<(CheckedRemuxer, Vec<OutBlock>), ModuleFault> {
        let mut out = Vec::new();
        let mut remuxer = watch.call(|| recipe.remuxer(facts, state, own))?;
        for config in configs {
            let config = Tag { tracks: join.tracks, ..config.clone() };
            watch.call(|| remuxer.tag(&config, &mut out))?;
        }
        let mut remuxer = CheckedRemuxer {
            source: source.clone(),
            remuxer,
            recipe: recipe.clone(),
            oldest: join.dts.0,
            newest: join.dts.0,
            tracks: join.tracks,
            has_preamble: false,
            has_begun,
            is_outdated: false,
            fed: 0,
        };
        remuxer.end_at_preamble(&mut out);
        remuxer.charge(&mut out, &[])?;
        Ok((remuxer, out))
    }

    /// Checks the blocks that it made of configurations.
    pub(super) fn check(&self, out: &mut Vec<OutBlock>) -> Result<(), ModuleFault> {
        check_times(out, self.oldest, self.newest)
    }

    pub(super) fn recipe(&self) -> &Arc<Recipe> {
        &self.recipe
    }

    /// Feeds a tag. The blocks are good even if there is a fault.
    pub(super) fn tag(&mut self, tag: &Tag, watch: &CallWatch) -> (Vec<OutBlock>, Result<(), ModuleFault>) {
        self.fed += 1;
        self.oldest = self.oldest.min(tag.dts.0);
        self.newest = self.newest.max(tag.dts.0);
        let mut out = Vec::new();
        let config = config_slot(tag).map(|_| Tag { tracks: self.tracks, ..tag.clone() });
        let tag = config.as_ref().unwrap_or(tag);
        self.tracks = tag.tracks;
        let result = watch.call(|| self.remuxer.tag(tag, &mut out));
        self.end_at_preamble(&mut out);
        let result = check_times(&mut out, self.oldest, self.newest).and(result);
        if out.iter().any(|block| matches!(block_role(block), EntryRole::Join | EntryRole::Media)) {
            self.oldest = tag.dts.0;
        }
        let charged = self.charge(&mut out, &tag.payload);
        (out, result.and(charged))
    }

    /// Number of tags that it got, the faulty one included.
    pub(super) fn fed(&self) -> u64 {
        self.fed
    }

    /// Asks for the blocks that it still holds. They are good even if there is a fault.
    pub(super) fn finish(&mut self, watch: &CallWatch) -> (Vec<OutBlock>, Result<(), ModuleFault>) {
        let mut out = Vec::new();
        let result = watch.call(|| self.remuxer.finish(&mut out));
        self.end_at_preamble(&mut out);
        let result = check_times(&mut out, self.oldest, self.newest).and(result);
        let charged = self.charge(&mut out, &[]);
        (out, result.and(charged))
    }

    /// Charges the memory of the blocks of a call, except slices of the tag's `payload`. Without that memory, there are no
    /// blocks.
    fn charge(&self, out: &mut Vec<OutBlock>, payload: &[u8]) -> Result<(), ModuleFault> {
        if out.is_empty() {
            return Ok(());
        }
        let bytes = out.iter().map(|block| block.bytes_beside(payload) + BLOCK_OVERHEAD).sum();
        match self.source.account().charge(Kind::Output, bytes) {
            Ok(charge) => {
                let charge = Arc::new(charge);
                out.iter_mut().for_each(|block| block.charge = Some(charge.clone()));
                Ok(())
            }
            Err(over) => {
                out.clear();
                Err(over.into())
            }
        }
    }

    /// Whether the responses that began with its preamble cannot continue.
    pub(super) fn is_outdated(&self) -> bool {
        self.is_outdated
    }

    /// Drops the blocks of a call from a second preamble on.
    fn end_at_preamble(&mut self, out: &mut Vec<OutBlock>) {
        let mut kept = 0;
        while !self.is_outdated && kept < out.len() {
            match block_role(&out[kept]) {
                EntryRole::Preamble => {
                    self.is_outdated =
                        self.has_preamble && self.has_begun && self.recipe.module().ends_by_preamble();
                    self.has_preamble = true;
                }
                EntryRole::Join => self.has_begun = true,
                EntryRole::Config(_) | EntryRole::Media => {}
            }
            kept += usize::from(!self.is_outdated);
        }
        out.truncate(kept);
    }

    /// Asks for the state that a successor continues from.
    pub(super) fn state(&mut self, watch: &CallWatch) -> Result<Vec<u8>, ModuleFault> {
        watch.call(|| self.remuxer.state())
    }

    /// Frees it.
    pub(super) fn free(self, watch: &CallWatch) -> Result<(), ModuleFault> {
        watch.call(|| self.remuxer.free())
    }

    /// Frees it after a fault, ignoring further ones.
    pub(super) fn discard(self, watch: &CallWatch) {
        watch.call(|| drop(self.remuxer));
    }
}

/// Keeps the blocks up to the first whose time no tag from `oldest` to `newest` can have caused. A configuration may be as
/// old as the stream; its time is clamped.
fn check_times(out: &mut Vec<OutBlock>, oldest: i64, newest: i64) -> Result<(), ModuleFault> {
    let (first, last) = (oldest.saturating_sub(SLACK), newest.saturating_add(SLACK));
    for index in 0..out.len() {
        let block = &mut out[index];
        match block_role(block) {
            EntryRole::Preamble | EntryRole::Config(_) => {
                block.dts = block.dts.clamp(Millis(first), Millis(last));
            }
            EntryRole::Join | EntryRole::Media if (first..=last).contains(&block.dts.0) => {}
            EntryRole::Join | EntryRole::Media => {
                let dts = block.dts.0;
                out.truncate(index);
                return Err(ModuleFault::BadTime { dts, oldest, newest });
            }
        }
    }
    Ok(())
}
