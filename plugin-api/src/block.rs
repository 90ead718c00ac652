//! A remuxer's output: blocks and the sink that takes them.

use crate::{BlockFlags, Millis, SharedBytes};

/// One piece of a remuxer's output, shared by all viewers of a mount.
#[derive(Clone, Debug, Default)]
pub struct Block {
    /// The block's role for viewers that join.
    pub flags: BlockFlags,
    /// For a [`CONFIG`](BlockFlags::CONFIG) block: the configuration that it replaces, 0 to 7, chosen by the module.
    pub track: u8,
    /// Decoding time of the first access unit inside.
    pub dts: Millis,
    /// The bytes, in order. Pass on a tag's payload as a slice, which is sent without a copy.
    pub parts: Vec<SharedBytes>,
}

impl Block {
    /// Returns the length of all parts, in bytes.
    pub fn len(&self) -> usize {
        self.parts.iter().map(|part| part.len()).sum()
    }

    /// Returns whether the block has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The error of a sink when the call has exceeded its byte budget.
///
/// Return it as [`RemuxError::Full`](crate::RemuxError::Full), by `?`. The host aborts a call that keeps pushing blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// Takes the blocks of one call.
pub trait Sink {
    /// Appends `block` to the output.
    ///
    /// # Errors
    /// [`Full`] if the call's byte budget is used up; the block was dropped.
    fn block(&mut self, block: Block) -> Result<(), Full>;
}

/// Collects all blocks, for tests.
impl Sink for Vec<Block> {
    fn block(&mut self, block: Block) -> Result<(), Full> {
        self.push(block);
        Ok(())
    }
}
