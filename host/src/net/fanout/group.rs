//! Groups: the viewers of one mount, or the players of one stream, with one framing on one thread.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use super::batch::{Batch, Framing};
use super::inbox::{GroupWaker, Inbox};
use super::position::{Part, Position};

/// Number of batches that a group keeps for the next viewer at the same position.
const CACHED: usize = 4;

/// A group.
pub(super) struct Group {
    pub(super) key: GroupKey,
    /// The position of all viewers that are level; `None` if there are none.
    lead: Option<Position>,
    /// Viewers that are level, by key. At most the last batch waits to be sent to them.
    pub(super) level: Vec<usize>,
    /// Viewers with positions of their own.
    pub(super) behind: Vec<usize>,
    waker: Waker,
    woken: Arc<GroupWaker>,
    /// The newest batches of viewers that are behind.
    cached: Vec<(Part, Arc<Batch>)>,
}

/// The key of a group: the address of its viewers' ring, which lives as long as they do, and their framing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct GroupKey {
    ring: usize,
    pub(super) framing: Framing,
}

/// How a viewer has become level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Joined {
    /// Its position is that of the group now, which must be read.
    First,
    /// The group was there already.
    Level,
}

impl GroupKey {
    pub(super) fn new(position: &Position, framing: Framing) -> GroupKey {
        GroupKey { ring: position.ring_address(), framing }
    }
}

impl Group {
    /// Creates a group without viewers, at `index` of its thread's groups.
    pub(super) fn new(key: GroupKey, inbox: Arc<Inbox>, index: usize) -> Group {
        let (woken, waker) = GroupWaker::new(inbox, index);
        Group { key, lead: None, level: Vec::new(), behind: Vec::new(), waker, woken, cached: Vec::new() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.level.is_empty() && self.behind.is_empty()
    }

    /// Lets the next wake-up through.
    pub(super) fn rearm(&self) {
        self.woken.rearm();
    }

    /// Reads the next part for the viewers that are level. Also returns how often they have skipped since the last one.
    pub(super) fn poll_next(&mut self) -> Poll<(Option<Part>, u64)> {
        let Some(lead) = &mut self.lead else { return Poll::Pending };
        let before = lead.skipped();
        let next = lead.poll_next(&mut Context::from_waker(&self.waker));
        next.map(|part| (part, lead.skipped() - before))
    }

    /// Gives up the position of those who are level: there are none.
    pub(super) fn scatter(&mut self) {
        self.lead = None;
    }

    /// Counts skips of those who are level.
    pub(super) fn count_skips(&self, skips: u64) {
        if let Some(lead) = &self.lead {
            lead.count_skips(skips);
        }
    }

    /// How far those who are level are behind the newest media, in milliseconds.
    pub(super) fn lag(&self) -> i64 {
        self.lead.as_ref().map_or(0, Position::lag)
    }

    /// Gives up a position that is that of all, or becomes it.
    ///
    /// # Errors
    /// The position, if it differs.
    pub(super) fn join(&mut self, position: Position) -> Result<Joined, Position> {
        match &self.lead {
            None => {
                self.lead = Some(position);
                Ok(Joined::First)
            }
            Some(lead) if lead.is_level(&position) => Ok(Joined::Level),
            Some(_) => Err(position),
        }
    }

    /// Returns another position of those who are level.
    pub(super) fn fork(&self) -> Option<Position> {
        self.lead.as_ref().map(Position::fork)
    }

    /// Returns the batch of a part that a viewer reads who is behind.
    pub(super) fn batch(&mut self, part: &Part) -> Arc<Batch> {
        if let Some((_, batch)) = self.cached.iter().find(|(cached, _)| cached.is_same(part)) {
            return batch.clone();
        }
        let batch = Arc::new(Batch::of(self.key.framing, part));
        if self.cached.len() == CACHED {
            self.cached.remove(0);
        }
        self.cached.push((part.clone(), batch.clone()));
        batch
    }

    /// Drops the batches of earlier ticks.
    pub(super) fn forget_batches(&mut self) {
        self.cached.clear();
    }
}
