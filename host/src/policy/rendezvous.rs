//! Rendezvous hashing: who chooses among the same nodes for the same name chooses the same node, and when a node comes or goes, only
//! the names that it had move.
//!
//! A name and a node are hashed once each, and then combined for each pair. The numbers are the same on every machine and in every
//! version: the nodes of a cluster may run different ones.

use sha2::{Digest, Sha256};

/// The hash of a name or of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seed(u64);

impl Seed {
    /// Returns the seed of a text.
    pub fn of(text: &str) -> Seed {
        let digest = Sha256::digest(text);
        Seed(digest.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    /// Returns the rank of `node` for this name, among all nodes: the highest has the name.
    pub fn rank(self, node: Seed) -> u64 {
        mix(self.0 ^ mix(node.0))
    }

    /// Returns the rank as a part of all ranks, above 0 and below 1.
    pub fn part(self, node: Seed) -> f64 {
        // The highest 52 bits: each number is exact, and its half step keeps it off both ends.
        ((self.rank(node) >> 12) as f64 + 0.5) / (1_u64 << 52) as f64
    }
}

/// Mixes the bits of a number so that each depends on all (the finalizer of SplitMix64).
fn mix(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(name: Seed, nodes: &[Seed]) -> usize {
        (0..nodes.len()).max_by_key(|index| name.rank(nodes[*index])).unwrap()
    }

    #[test]
    fn names_are_shared_evenly_and_only_those_of_a_node_that_leaves_move() {
        let nodes: Vec<_> = (0..10).map(|number| Seed::of(&format!("edge{number}"))).collect();
        let mut counts = [0; 10];
        for number in 0..2000 {
            let name = Seed::of(&format!("live/{number}"));
            let before = owner(name, &nodes);
            counts[before] += 1;
            if before != 9 {
                assert_eq!(owner(name, &nodes[..9]), before, "{number}");
            }
        }
        assert!(counts.iter().all(|count| (140..260).contains(count)), "{counts:?}");
    }

    #[test]
    fn numbers_are_the_same_in_every_version() {
        assert_eq!(Seed::of("live/film").0, 0xcc83_9482_e2e8_cb9e);
        assert_eq!(Seed::of("live/film").rank(Seed::of("edge1")), 0xfc78_6afd_e41b_ecd9);
        let part = Seed::of("live/film").part(Seed::of("edge1"));
        assert!(part > 0.0 && part < 1.0);
    }
}
