//! Entries of a ring, its limits, and how readers join and are woken.

use crate::media::Millis;

/// An entry of a ring.
pub trait Entry: Clone + Send + 'static {
    /// A batch of entries, shared by the readers at the same position.
    type Batch: std::fmt::Debug + Send + Sync + 'static;

    /// Bytes that the entry keeps alive.
    fn size(&self) -> usize;

    /// Its time on the timeline.
    fn dts(&self) -> Millis;

    /// Joins entries into a batch.
    fn batch<'a>(entries: impl Iterator<Item = &'a Self>) -> Self::Batch;
}

/// Role of an entry for readers that join.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryRole {
    /// Part of a GOP.
    Media,
    /// A reader may start here.
    Join,
    /// A configuration: passed to readers like media, and replayed to joiners. Replaces the last one in the same
    /// slot; joiners get them by ascending slot.
    Config(u8),
    /// Only for joiners who get their first entry; comes before all configurations.
    Preamble,
}

/// Limits of what a ring holds, and how its followers are woken.
#[derive(Clone, Copy, Debug)]
pub struct RingLimits {
    /// The pace of [`Ring::follower`](super::Ring::follower)s.
    pub pace: Pace,
    /// How far behind the newest entry a reader may fall, beyond `history`.
    pub window: Millis,
    /// Length of history kept before the newest join point; the upper bound for [`JoinAt::Before`].
    pub history: Millis,
    /// Bytes in all.
    pub max_bytes: usize,
    /// Entries of a GOP that is kept for joiners.
    pub max_gop_entries: usize,
    /// Bytes of a GOP that is kept for joiners.
    pub max_gop_bytes: usize,
}

/// Start position of a new reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JoinAt {
    /// At the newest join point there is, else the next.
    Newest,
    /// At the oldest join point at most this long before the newest, else the next.
    Before(Millis),
    /// At the next join point to come.
    Next,
}

/// When a reader is woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// By every entry.
    Each,
    /// By [`Ring::flush`](super::Ring::flush).
    Merged,
}
