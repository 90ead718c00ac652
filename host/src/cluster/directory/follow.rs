//! The meaning of an entry for those who follow a stream, and for the node that has its publisher.

use super::entry::{State, StreamEntry};
use super::fence::FenceId;

/// The meaning of an entry for a node that follows a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Follow {
    /// It is what the node follows, or the same publisher's newer id.
    Stay,
    /// A newer publisher is elsewhere.
    Move,
    /// It is older than what the node has seen: the node presents that to the directory.
    Present,
    /// A newer publisher has been, and has left.
    Ended,
}

/// Returns the meaning of `offered` for a node that has seen `seen` of the same stream.
pub fn follow(seen: Option<&StreamEntry>, offered: &StreamEntry) -> Follow {
    match seen {
        Some(seen) if offered.id < seen.id => Follow::Present,
        _ if offered.state == State::Ended => Follow::Ended,
        Some(seen) if seen.state == State::Live && seen.is_at(offered) => Follow::Stay,
        _ => Follow::Move,
    }
}

/// The meaning of an entry for the node that has the publisher `own`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// It is no newer.
    Keep,
    /// A newer publisher is at another node: this one ends.
    Lose,
    /// A greater id was used by a publisher that is no more, so that this one takes the id after it.
    Raise,
}

/// Returns the meaning of an entry that is held in the directory for the node that has the publisher `own`.
pub fn hold(own: &FenceId, held: &StreamEntry) -> Hold {
    match held.state {
        _ if held.id <= *own => Hold::Keep,
        State::Live if held.id.node != own.node => Hold::Lose,
        // An earlier run of this node, or a publisher that has left.
        State::Live | State::Ended => Hold::Raise,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::StreamKey;

    fn id(ms: u64, node: &str) -> FenceId {
        FenceId { ms, node: node.to_owned() }
    }

    fn entry(ms: u64, node: &str, state: State) -> StreamEntry {
        StreamEntry {
            key: StreamKey::new("v", "live", "x"),
            id: id(ms, node),
            pull_url: format!("rtmp://{node}"),
            publisher: String::new(),
            state,
        }
    }

    #[test]
    fn a_follower_moves_to_a_newer_publisher_and_never_to_an_older_one() {
        use State::{Ended, Live};
        let seen = |state| Some(entry(5, "b", state));
        for (seen, offered, expected) in [
            (None, entry(1, "a", Live), Follow::Move),
            (None, entry(1, "a", Ended), Follow::Ended),
            (seen(Live), entry(5, "b", Live), Follow::Stay),
            (seen(Live), entry(6, "b", Live), Follow::Stay),
            (seen(Live), entry(6, "a", Live), Follow::Move),
            (seen(Live), entry(5, "c", Live), Follow::Move),
            (seen(Live), entry(5, "a", Live), Follow::Present),
            (seen(Live), entry(4, "c", Live), Follow::Present),
            (seen(Live), entry(4, "c", Ended), Follow::Present),
            (seen(Live), entry(5, "b", Ended), Follow::Ended),
            (seen(Ended), entry(4, "b", Live), Follow::Present),
            (seen(Ended), entry(6, "b", Live), Follow::Move),
        ] {
            assert_eq!(follow(seen.as_ref(), &offered), expected, "{seen:?} {offered:?}");
        }
    }

    #[test]
    fn a_publisher_ends_for_a_newer_one_that_is_live_elsewhere() {
        use State::{Ended, Live};
        for (held, expected) in [
            (entry(4, "c", Live), Hold::Keep),
            (entry(5, "b", Live), Hold::Keep),
            (entry(5, "a", Live), Hold::Keep),
            (entry(5, "c", Live), Hold::Lose),
            (entry(6, "a", Live), Hold::Lose),
            (entry(6, "a", Ended), Hold::Raise),
            (entry(6, "b", Live), Hold::Raise),
        ] {
            assert_eq!(hold(&id(5, "b"), &held), expected, "{held:?}");
        }
    }
}
