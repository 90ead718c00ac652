//! The order of the nodes that a pull asks for a stream.
//!
//! A node pulls from nodes of nearer tiers alone, so that no circle is possible: first from the next nearer tier in its own region,
//! then from that tier elsewhere, then from tiers nearer still, at last from the stream's origin. Among equals, one that carries the
//! stream costs its origin nothing. Otherwise rendezvous hashing decides, which is the same at all siblings: they share one pull.

use std::cmp::Reverse;

use crate::policy::Seed;

/// Number of nodes of one tier between this node and the origins that a pull asks: a name that nobody publishes must not cost a
/// request for each node of a large cluster.
const MAX_PARENTS: usize = 3;

/// The place of a node in the cluster.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The node's name.
    pub name: &'a str,
    /// 0 for origins.
    pub tier: u8,
    /// Its region; empty for none.
    pub region: &'a str,
}

/// The nodes that may have a stream of tier 0.
#[derive(Clone, Copy, Debug)]
pub enum Origins<'a> {
    /// The one with this name.
    Node(&'a str),
    /// Any of them: the directory does not know streams.
    Any,
}

/// Returns the indices of the nodes that `own` asks for `stream`, in order. `carries` tells whether a node has the stream already.
pub fn order(
    own: Place<'_>,
    stream: &str,
    nodes: &[Place<'_>],
    origins: Origins<'_>,
    carries: impl Fn(&str) -> bool,
) -> Vec<usize> {
    let name = Seed::of(stream);
    let has_stream = |node: &Place<'_>| match origins {
        Origins::Node(origin) => node.tier > 0 || node.name == origin,
        Origins::Any => true,
    };
    let candidates = nodes.iter().enumerate();
    let candidates =
        candidates.filter(|(_, node)| node.tier < own.tier && node.name != own.name && has_stream(node));
    let mut ordered: Vec<_> = candidates
        .map(|(index, node)| {
            let is_elsewhere = node.tier > 0 && node.region != own.region;
            let rank = name.rank(Seed::of(node.name));
            ((Reverse(node.tier), is_elsewhere, !carries(node.name), Reverse(rank)), index)
        })
        .collect();
    ordered.sort_unstable();
    let (mut tier, mut asked) = (0, 0);
    ordered.retain(|((Reverse(of), ..), _)| {
        asked = if *of == tier { asked + 1 } else { 1 };
        tier = *of;
        tier == 0 || asked <= MAX_PARENTS
    });
    ordered.into_iter().map(|(_, index)| index).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nodes of two regions, e and w, in three tiers.
    const NODES: [(&str, u8, &str); 9] = [
        ("e-origin", 0, "e"),
        ("w-origin", 0, "w"),
        ("e-mid1", 1, "e"),
        ("e-mid2", 1, "e"),
        ("w-mid1", 1, "w"),
        ("w-mid2", 1, "w"),
        ("w-mid3", 1, "w"),
        ("e-leaf", 2, "e"),
        ("w-leaf", 2, "w"),
    ];

    fn nodes() -> Vec<Place<'static>> {
        NODES.map(|(name, tier, region)| Place { name, tier, region }).to_vec()
    }

    fn asked(own: &str, stream: &str, origins: Origins<'_>, carrier: &str) -> Vec<&'static str> {
        let nodes = nodes();
        let own = *nodes.iter().find(|node| node.name == own).unwrap();
        let order = order(own, stream, &nodes, origins, |name| name == carrier);
        order.into_iter().map(|index| nodes[index].name).collect()
    }

    #[test]
    fn the_next_nearer_tier_of_the_own_region_comes_first_and_the_origin_last() {
        let origins = Origins::Node("e-origin");
        let rows: [(&str, &[&str], &[&str]); 4] = [
            ("e-leaf", &["e-mid1", "e-mid2"], &["e-origin"]),
            ("w-leaf", &["w-mid1", "w-mid2", "w-mid3"], &["e-origin"]),
            ("w-mid1", &[], &["e-origin"]),
            ("e-origin", &[], &[]),
        ];
        for (own, near, last) in rows {
            for stream in ["live/a", "live/b", "live/c"] {
                let found = asked(own, stream, origins, "");
                let (first, rest) = found.split_at(near.len());
                let mut first = first.to_vec();
                first.sort_unstable();
                assert_eq!(first, near, "{own} {stream}: {found:?}");
                assert!(rest.ends_with(last) && rest.len() <= 1 + MAX_PARENTS, "{own} {stream}: {found:?}");
                assert!(!found.contains(&own), "{found:?}");
            }
        }
        assert_eq!(
            asked("e-leaf", "live/a", origins, "").len(),
            MAX_PARENTS + 1,
            "two near, one far, the origin"
        );
    }

    #[test]
    fn siblings_choose_the_same_parent_and_streams_are_spread() {
        let any = nodes();
        let leaf = |name| Place { name, tier: 2, region: "w" };
        let first = |own, stream: &str| any[order(own, stream, &any, Origins::Any, |_| false)[0]].name;
        let mut parents = std::collections::HashMap::new();
        for number in 0..300 {
            let stream = format!("live/{number}");
            let parent = first(leaf("w-leaf"), &stream);
            assert_eq!(first(leaf("w-leaf2"), &stream), parent, "{stream}");
            *parents.entry(parent).or_insert(0) += 1;
        }
        assert!(parents.len() == 3 && parents.values().all(|count| *count > 60), "{parents:?}");
    }

    #[test]
    fn a_carrier_comes_before_its_equals_only() {
        let origins = Origins::Node("e-origin");
        for stream in ["live/a", "live/b", "live/c", "live/d"] {
            for carrier in ["w-mid1", "w-mid2", "w-mid3"] {
                assert_eq!(asked("w-leaf", stream, origins, carrier)[0], carrier, "{stream}");
            }
            assert!(
                asked("w-leaf", stream, origins, "e-mid1")[0].starts_with("w-"),
                "{stream}: of another region"
            );
            assert!(asked("w-mid2", stream, origins, "w-mid1") == ["e-origin"], "{stream}: of the own tier");
        }
    }

    #[test]
    fn without_known_streams_every_origin_is_asked() {
        let mut found = asked("w-mid1", "live/a", Origins::Any, "");
        found.sort_unstable();
        assert_eq!(found, ["e-origin", "w-origin"]);
        assert!(asked("w-mid1", "live/a", Origins::Node("gone"), "").is_empty());
    }
}
