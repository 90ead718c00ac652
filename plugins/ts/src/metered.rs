//! A sink that counts what a host counts.

use remuxd_plugin_api::{Block, Full, Sink};

/// Cost of a block with one part beside its bytes, in bytes, as the host counts it.
const BLOCK_COST: usize = 320;

/// Passes blocks on and counts their cost.
pub(crate) struct Metered<'a> {
    sink: &'a mut dyn Sink,
    cost: usize,
}

impl<'a> Metered<'a> {
    /// Returns a sink that passes blocks on to `sink`.
    pub(crate) fn new(sink: &'a mut dyn Sink) -> Metered<'a> {
        Metered { sink, cost: 0 }
    }

    /// Returns the cost of all blocks so far, in bytes.
    pub(crate) fn cost(&self) -> usize {
        self.cost
    }
}

impl Sink for Metered<'_> {
    fn block(&mut self, block: Block) -> Result<(), Full> {
        self.cost += BLOCK_COST + block.len();
        self.sink.block(block)
    }
}
