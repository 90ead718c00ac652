//! Output: the blocks of one call into a remuxer, checked and within the call's byte budget.
//!
//! The same rules hold for calls in this process and in another: known flags and tracks, and bytes up to the budget.

use std::sync::Arc;

use bytes::Bytes;
use remuxd_plugin_api::BlockFlags;
use smallvec::SmallVec;

use super::fault::ModuleFault;
use crate::budget::Charge;
use crate::media::Millis;

/// Cost of a block and of a part in addition to their bytes, so that empty ones are not free.
const BLOCK_COST: usize = 256;
const PART_COST: usize = 64;
/// Number of tracks for configuration blocks.
const MAX_TRACKS: u8 = 8;
const ALL_FLAGS: u8 = BlockFlags::PREAMBLE.with(BlockFlags::CONFIG).with(BlockFlags::JOIN).0;

/// Largest state that a remuxer may leave to its successor, in bytes.
pub const MAX_STATE: usize = 64 << 10;

/// A block that a remuxer made, in the host's memory.
#[derive(Clone, Debug)]
pub struct OutBlock {
    /// The block's role for readers that join.
    pub flags: BlockFlags,
    /// For a configuration: the track whose configuration it replaces, 0 to 7.
    pub track: u8,
    /// Decoding time of the first access unit inside.
    pub dts: Millis,
    /// The bytes, in order, without empty parts.
    pub parts: SmallVec<[Bytes; 4]>,
    /// Memory of the call that made it, which counts until none of its blocks is left. Set by the owner of the remuxer.
    pub charge: Option<Arc<Charge>>,
}

impl OutBlock {
    /// Returns the number of bytes that are no slices of `payload`.
    pub fn bytes_beside(&self, payload: &[u8]) -> usize {
        let payload = payload.as_ptr_range();
        let is_slice = |part: &&Bytes| payload.contains(&part.as_ptr());
        self.parts.iter().filter(|part| !is_slice(part)).map(Bytes::len).sum()
    }
}

/// The fields of a block beside its bytes, not checked yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockHead {
    pub flags: u8,
    pub track: u8,
    pub dts: i64,
}

/// The output of one call: checks blocks and appends them to the caller's list.
pub struct CallOutput<'a> {
    out: &'a mut Vec<OutBlock>,
    limit: usize,
    left: usize,
    fault: Option<ModuleFault>,
}

impl<'a> CallOutput<'a> {
    /// Appends to `out`; the blocks of the call may cost up to `limit` bytes.
    pub fn new(out: &'a mut Vec<OutBlock>, limit: usize) -> CallOutput<'a> {
        CallOutput { out, limit, left: limit, fault: None }
    }

    /// The budget of the call, in bytes.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Whether a block was accepted.
    pub fn has_taken(&self) -> bool {
        self.left < self.limit
    }

    /// The rule that a block broke, after which no more are accepted.
    pub fn fault(&self) -> Option<&ModuleFault> {
        self.fault.as_ref()
    }

    /// Whether a block of `count` parts can be within the budget.
    pub fn has_room(&self, count: usize) -> bool {
        count.saturating_mul(PART_COST) <= self.left
    }

    /// Accepts a block of `count` parts with `bytes` bytes in total; calls `parts` only if the block is accepted. Returns
    /// false if the block, or an earlier one of this call, breaks a rule.
    pub fn take(
        &mut self,
        head: BlockHead,
        count: usize,
        bytes: usize,
        parts: impl FnOnce() -> SmallVec<[Bytes; 4]>,
    ) -> bool {
        if self.fault.is_some() {
            return false;
        }
        let cost = count.saturating_mul(PART_COST).saturating_add(BLOCK_COST).saturating_add(bytes);
        let fault = match head {
            BlockHead { flags, .. } if flags & !ALL_FLAGS != 0 => ModuleFault::BadFlags { flags },
            BlockHead { track, .. } if track >= MAX_TRACKS => ModuleFault::BadTrack { track },
            _ if cost > self.left => ModuleFault::Flooded { limit: self.limit },
            BlockHead { flags, track, dts } => {
                self.left -= cost;
                let (flags, dts) = (BlockFlags(flags), Millis(dts));
                self.out.push(OutBlock { flags, track, dts, parts: parts(), charge: None });
                return true;
            }
        };
        self.fault = Some(fault);
        false
    }
}
