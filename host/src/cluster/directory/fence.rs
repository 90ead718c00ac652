//! Fencing: which publisher of a name is the newest.
//!
//! An id is the time in milliseconds, raised above every id that has been seen of the stream, then the name of the node. So a node
//! whose clock is behind takes the id after the last one, and the newest publisher has the greatest id, whatever the clocks say. Ids
//! never become smaller: a node that follows a stream keeps the greatest id that it has seen, also after the stream has ended, and
//! whoever finds a smaller one in the directory presents the greater one there, so that the publisher takes an id above it.
//!
//! An id far ahead of the own clock is accepted: entries are signed, so that it comes from a node of the cluster, and the next id after
//! it is as good as any. Only one above [`MAX_MILLIS`] is refused, so that numbers stay exact everywhere.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The greatest time in an id: the greatest integer that Lua's numbers and JSON hold exactly.
pub const MAX_MILLIS: u64 = (1 << 53) - 1;

/// The greatest time that a clock is believed: the end of the year 9999, far below [`MAX_MILLIS`], so that a node with a wrong clock
/// does not use up all ids.
const MAX_CLOCK: u64 = 253_402_300_799_999;

/// The id of a publisher of a stream. A greater one is newer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FenceId {
    /// Milliseconds since 1970, or more.
    pub ms: u64,
    /// The node at which the publisher is.
    pub node: String,
}

impl FenceId {
    /// Returns the id of a new publisher at `node`, at the time `wall_ms` of its clock, after the greatest id that has been seen.
    pub fn next(wall_ms: u64, last_seen: Option<&FenceId>, node: &str) -> FenceId {
        let after = last_seen.map_or(0, |last| last.ms.saturating_add(1));
        FenceId { ms: wall_ms.min(MAX_CLOCK).max(after).min(MAX_MILLIS), node: node.to_owned() }
    }
}

impl fmt::Display for FenceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.ms, self.node)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(ms: u64, node: &str) -> FenceId {
        FenceId { ms, node: node.to_owned() }
    }

    #[test]
    fn the_next_id_is_greater_than_all_seen_whatever_the_clock_says() {
        const HOUR: u64 = 3_600_000;
        for (wall, last, expected) in [
            (1000, None, 1000),
            (1000, Some(id(999, "b")), 1000),
            (1000, Some(id(1000, "b")), 1001),
            (1000, Some(id(1000 + HOUR, "b")), 1001 + HOUR),
            (u64::MAX, None, MAX_CLOCK),
            (0, Some(id(MAX_CLOCK, "b")), MAX_CLOCK + 1),
            (0, Some(id(u64::MAX, "b")), MAX_MILLIS),
        ] {
            let next = FenceId::next(wall, last.as_ref(), "a");
            assert_eq!(next, id(expected, "a"), "{wall} {last:?}");
            assert!(last.is_none_or(|last| last.ms > MAX_MILLIS || next > last));
        }
        assert!(id(1, "b") > id(1, "a") && id(2, "a") > id(1, "b"));
    }
}
