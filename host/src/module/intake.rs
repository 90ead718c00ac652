//! Intake: what a call of a remuxer may make.
//!
//! The rules are the same whether the call runs in this process or in another: flags and tracks that exist, and bytes up
//! to the call's budget.

use bytes::Bytes;
use remuxd_plugin_api::BlockFlags;
use smallvec::SmallVec;

use super::{ModuleFault, OutBlock};
use crate::media::Millis;

/// What a block and a part count for beside their bytes, so that empty ones are not free.
const BLOCK_COST: usize = 256;
const PART_COST: usize = 64;
/// Tracks of configuration blocks.
const MAX_TRACKS: u8 = 8;
const ALL_FLAGS: u8 = BlockFlags::PREAMBLE.with(BlockFlags::CONFIG).with(BlockFlags::JOIN).0;

/// What a block is, beside its bytes. Nothing was checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BlockHead {
    pub flags: u8,
    pub track: u8,
    pub dts: i64,
}

/// Takes the blocks of one call.
pub(super) struct Intake<'a> {
    out: &'a mut Vec<OutBlock>,
    limit: usize,
    left: usize,
    fault: Option<ModuleFault>,
}

impl<'a> Intake<'a> {
    /// Appends to `out`; the blocks of the call may cost `limit` bytes.
    pub fn new(out: &'a mut Vec<OutBlock>, limit: usize) -> Intake<'a> {
        Intake { out, limit, left: limit, fault: None }
    }

    /// The budget of the call, in bytes.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Whether a block was taken.
    pub fn has_taken(&self) -> bool {
        self.left < self.limit
    }

    /// Why it takes no more.
    pub fn fault(&self) -> Option<&ModuleFault> {
        self.fault.as_ref()
    }

    /// Whether a block of `count` parts may be within the budget.
    pub fn has_room(&self, count: usize) -> bool {
        count.saturating_mul(PART_COST) <= self.left
    }

    /// Takes a block of `count` parts with `bytes` bytes together; `parts` is asked for them only when it is taken.
    /// False: the block breaks a rule, and no other is taken in this call.
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
                self.out.push(OutBlock { flags, track, dts, parts: parts() });
                return true;
            }
        };
        self.fault = Some(fault);
        false
    }
}
