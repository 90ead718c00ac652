//! The unit that comes out of a remuxer, and where it goes.

use crate::{BlockFlags, Millis, SharedBytes};

/// One piece of a remuxer's output. All viewers of a mount share it.
#[derive(Clone, Debug, Default)]
pub struct Block {
    /// The block's role for joiners.
    pub flags: BlockFlags,
    /// For a [`CONFIG`](BlockFlags::CONFIG) block: which configuration it replaces. 0 to 7, chosen by the module.
    pub track: u8,
    /// Decoding time of the first access unit inside.
    pub dts: Millis,
    /// The bytes, in order. Pass a tag's payload on as a slice of itself; it is sent without a copy.
    pub parts: Vec<SharedBytes>,
}

impl Block {
    /// How many bytes the block has.
    pub fn len(&self) -> usize {
        self.parts.iter().map(|part| part.len()).sum()
    }

    /// Whether the block has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The sink has no room left for this call: the remuxer made more than its budget allows.
///
/// Return it as [`RemuxError::Full`](crate::RemuxError::Full), by `?`. The host ends a remuxer that goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// Takes blocks for the length of one call.
pub trait Sink {
    /// Appends `block` to the output.
    ///
    /// # Errors
    /// [`Full`] when the call's byte budget is used up; the block was not taken.
    fn block(&mut self, block: Block) -> Result<(), Full>;
}

/// Collects all blocks: for tests.
impl Sink for Vec<Block> {
    fn block(&mut self, block: Block) -> Result<(), Full> {
        self.push(block);
        Ok(())
    }
}
