//! Carriers: which node of a region and a tier has a stream already.
//!
//! An edge that pulls a stream enters itself in Redis as the carrier of its region and tier, unless another one is there. Who looks the
//! stream up from the next farther tier of the region asks that node before its equals. A carrier is not signed: it only comes first
//! among the nodes that are asked anyway.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::resp::Value;
use super::scripts::Group;
use crate::conf::{Directory, is_node_name};
use crate::stream::StreamKey;

/// Limit of remembered carriers. With more, all are forgotten.
const MAX_CARRIERS: usize = 10_000;

/// The carriers that the directory has answered with, and when.
#[derive(Debug, Default)]
pub struct Carriers(HashMap<StreamKey, (Option<String>, Instant)>);

impl Carriers {
    /// Returns the node that carries a stream.
    pub fn of(&self, key: &StreamKey) -> Option<&str> {
        self.0.get(key)?.0.as_deref()
    }

    /// Returns whether the directory has answered for a stream within `age`.
    pub fn is_fresh(&self, key: &StreamKey, age: Duration, now: Instant) -> bool {
        self.0.get(key).is_some_and(|(_, answered)| now.saturating_duration_since(*answered) < age)
    }

    /// Takes the answer of the directory about a stream.
    pub fn answer(&mut self, key: &StreamKey, answer: Option<&Value>, now: Instant) {
        let text = answer.and_then(Value::text).and_then(|text| std::str::from_utf8(text).ok());
        let node = text.filter(|node| is_node_name(node)).map(str::to_owned);
        if self.0.len() >= MAX_CARRIERS {
            self.0.clear();
        }
        self.0.insert(key.clone(), (node, now));
    }
}

/// Returns the group of nodes in which this one is a carrier; `None` for an origin, and for an edge from which nobody pulls.
pub fn own_group(directory: &Directory) -> Option<Group<'_>> {
    let can_carry = directory.tier > 0 && directory.pull_url.is_some();
    can_carry.then(|| Group { region: &directory.region, tier: directory.tier })
}

/// Returns the group of nodes that this one asks first, if it has carriers.
pub fn asked_group(directory: &Directory) -> Option<Group<'_>> {
    (directory.tier > 1).then(|| Group { region: &directory.region, tier: directory.tier - 1 })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn answers_replace_each_other_and_memory_is_bounded() {
        let (mut carriers, key) = (Carriers::default(), StreamKey::new("v", "live", "x"));
        let (now, age) = (Instant::now(), Duration::from_millis(500));
        assert!(!carriers.is_fresh(&key, age, now));
        let text = |text: &'static [u8]| Value::Text(Bytes::from_static(text));
        for (answer, expected) in [
            (Some(text(b"edge1")), Some("edge1")),
            (Some(text(b"edge2")), Some("edge2")),
            (Some(text(b"not a name")), None),
            (Some(text(b"edge1")), Some("edge1")),
            (Some(Value::Null), None),
            (Some(text(b"\xff")), None),
            (Some(Value::TooLong(1 << 20)), None),
            (None, None),
        ] {
            carriers.answer(&key, answer.as_ref(), now);
            assert_eq!(carriers.of(&key), expected, "{answer:?}");
        }
        assert!(carriers.is_fresh(&key, age, now) && !carriers.is_fresh(&key, age, now + age));
        for number in 0..MAX_CARRIERS + 1 {
            carriers.answer(&StreamKey::new("v", "live", &number.to_string()), Some(&text(b"edge1")), now);
        }
        assert!(carriers.0.len() <= MAX_CARRIERS);
    }

    #[test]
    fn only_an_edge_that_others_pull_from_carries() {
        for (keys, expected) in [
            ("tier = 1", false),
            ("pull_url = \"rtmp://10.0.0.1\"", false),
            ("tier = 1\npull_url = \"rtmp://10.0.0.1\"", true),
        ] {
            let text = format!(
                "[cluster]\nnode = \"a\"\nsecret = \"a secret of more than 32 bytes, as it must be\"\nallow = [\"10.0.0.0/8\"]\n\
                 [cluster.directory]\nkind = \"redis\"\nurl = \"redis://10.0.0.2\"\n{keys}\n"
            );
            let config = crate::conf::Config::parse(&text, "remuxd.toml").unwrap();
            assert_eq!(own_group(&config.cluster.directory).is_some(), expected, "{keys}");
        }
    }
}
