//! A remuxer that a job runs: an instance of a module with its recipe, whose blocks are checked before they go further.
//!
//! Rings drop old entries by the entries' own times. A module that reports wrong times would keep other entries from being
//! dropped, or have its own dropped at once, so a block must lie near the tags that it can be made of.

use std::sync::Arc;

use super::entries::block_role;
use super::ring::EntryRole;
use crate::media::{Millis, Tag};
use crate::module::{CallWatch, ModuleFault, OutBlock, Recipe, Remuxer, StreamFacts};

/// Largest distance of a block from the tags that it can be made of, in milliseconds: a frame inside a tag is later than the
/// tag, and a frame that was held back is earlier.
const SLACK: i64 = 10_000;

/// A remuxer and its recipe.
#[derive(Debug)]
pub(super) struct CheckedRemuxer {
    remuxer: Remuxer,
    recipe: Arc<Recipe>,
    /// Time of the oldest tag that it may still hold.
    oldest: i64,
    /// Time of the newest tag that it got.
    newest: i64,
}

impl CheckedRemuxer {
    /// Creates a remuxer that gets its first frame at `join`, and feeds it the configurations. Also returns the
    /// blocks that it made of them, to be checked.
    pub(super) fn new(
        recipe: &Arc<Recipe>,
        configs: &[Tag],
        join: Millis,
        facts: StreamFacts,
        state: &[u8],
        watch: &CallWatch,
    ) -> Result<(CheckedRemuxer, Vec<OutBlock>), ModuleFault> {
        let mut out = Vec::new();
        let mut remuxer = watch.call(|| recipe.remuxer(facts, state))?;
        for config in configs {
            watch.call(|| remuxer.tag(config, &mut out))?;
        }
        Ok((CheckedRemuxer { remuxer, recipe: recipe.clone(), oldest: join.0, newest: join.0 }, out))
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
        self.oldest = self.oldest.min(tag.dts.0);
        self.newest = self.newest.max(tag.dts.0);
        let mut out = Vec::new();
        let result = watch.call(|| self.remuxer.tag(tag, &mut out));
        let result = check_times(&mut out, self.oldest, self.newest).and(result);
        if out.iter().any(|block| matches!(block_role(block), EntryRole::Join | EntryRole::Media)) {
            self.oldest = tag.dts.0;
        }
        (out, result)
    }

    /// Asks for the blocks that it still holds. They are good even if there is a fault.
    pub(super) fn finish(&mut self, watch: &CallWatch) -> (Vec<OutBlock>, Result<(), ModuleFault>) {
        let mut out = Vec::new();
        let result = watch.call(|| self.remuxer.finish(&mut out));
        let result = check_times(&mut out, self.oldest, self.newest).and(result);
        (out, result)
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
