//! The nodes to which viewers are redirected, as the directory has them, with the own load as it is now.

use std::time::{Duration, Instant};

use super::entry::{Load, NodeEntry};
use crate::conf::{Directory, DirectoryKind, Endpoint};
use crate::policy::{NodeLoad, Target, Traffic};

/// The bitrate that this node sends, from the bytes that it has sent.
#[derive(Debug)]
pub struct Meter {
    /// The last measurement.
    last: Option<(Instant, u64)>,
}

impl Meter {
    /// Creates it before the first measurement.
    pub fn new() -> Meter {
        Meter { last: None }
    }

    /// Returns the load since the last measurement; without a bitrate at the first one. `lag` is how late the node sends.
    pub fn measure(&mut self, traffic: Traffic, lag: Duration, max_bitrate: u64, now: Instant) -> Load {
        let Traffic { sent, viewers } = traffic;
        let bitrate = self.last.map_or(0, |(at, before)| {
            let millis = now.saturating_duration_since(at).as_millis().max(1);
            (u128::from(sent.saturating_sub(before)) * 8 * 1000 / millis) as u64
        });
        self.last = Some((now, sent));
        Load { bitrate, max_bitrate, viewers, lag_ms: lag.as_millis() as u64 }
    }
}

/// Returns the targets: the nodes of the directory, and this one as `own` if it takes viewers.
pub fn targets(nodes: &[NodeEntry], own: Option<&NodeEntry>, name: &str) -> Vec<Target> {
    let others = nodes.iter().filter(|node| node.name != name).map(|node| target(node, false));
    own.into_iter().map(|own| target(own, true)).chain(others).collect()
}

/// Returns the entry of this node: that of a list that names it, so that all nodes can have the same list, with the URLs of its own
/// config; else that of its config.
pub fn own_entry(directory: &Directory, name: &str, listed: &[NodeEntry], load: Load) -> NodeEntry {
    let Directory { kind, pull_url, play_url, rtmp_url, tier, region, .. } = directory.clone();
    let is_list = matches!(kind, DirectoryKind::Static | DirectoryKind::Http);
    let listed = listed.iter().find(|node| is_list && node.name == name).cloned();
    let by_config = NodeEntry {
        name: name.to_owned(),
        at: 0,
        pull_url: None,
        play_url: None,
        rtmp_url: None,
        tier,
        region,
        load,
    };
    let entry = listed.unwrap_or(by_config);
    NodeEntry {
        pull_url: pull_url.or(entry.pull_url),
        play_url: play_url.or(entry.play_url),
        rtmp_url: rtmp_url.or(entry.rtmp_url),
        load,
        ..entry
    }
}

/// Returns nodes in the order of their load, those that are full at last. With a lag of `max_lag` or more a node is full, unless that is
/// zero.
pub fn free_first<'a>(nodes: impl Iterator<Item = &'a NodeEntry>, max_lag: Duration) -> Vec<&'a NodeEntry> {
    let mut nodes: Vec<_> = nodes.map(|node| (node_load(&node.load), node)).collect();
    nodes.sort_by(|(one, _), (other, _)| {
        let by_full = one.is_full(max_lag).cmp(&other.is_full(max_lag));
        by_full.then(one.part(max_lag).total_cmp(&other.part(max_lag)))
    });
    nodes.into_iter().map(|(_, node)| node).collect()
}

fn node_load(load: &Load) -> NodeLoad {
    let Load { bitrate, max_bitrate, viewers, lag_ms } = *load;
    NodeLoad { bitrate, max_bitrate, viewers, lag: Duration::from_millis(lag_ms) }
}

fn target(node: &NodeEntry, is_own: bool) -> Target {
    // As the parser writes it: a host name may have other characters than a header can hold.
    let play_url = node.play_url.as_deref().and_then(|url| Endpoint::parse(url).ok());
    Target {
        name: node.name.clone(),
        is_own,
        play_url: play_url.map(|url| url.url().as_str().trim_end_matches('/').to_owned()),
        rtmp_url: node.rtmp_url.clone(),
        region: node.region.clone(),
        load: node_load(&node.load),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::directory::list;
    use crate::conf::Config;

    #[test]
    fn the_bitrate_is_that_of_the_bytes_since_the_last_measurement() {
        let (mut meter, start) = (Meter::new(), Instant::now());
        let mut measure = |sent, millis| {
            let now = start + Duration::from_millis(millis);
            let load = meter.measure(Traffic { sent, viewers: 3 }, Duration::from_millis(7), 9, now);
            assert_eq!((load.viewers, load.lag_ms, load.max_bitrate), (3, 7, 9));
            load.bitrate
        };
        assert_eq!(measure(1_000_000, 0), 0, "what was sent before says nothing");
        assert_eq!(measure(1_250_000, 1000), 2_000_000);
        assert_eq!(measure(1_250_000, 2000), 0);
        assert_eq!(measure(1_250_500, 2000), 4_000_000, "no division by zero");
        assert_eq!(measure(0, 3000), 0, "bytes never become fewer");
    }

    #[test]
    fn this_node_is_as_the_list_has_it_with_its_own_urls() {
        let config = |kind: &str| {
            let text = format!(
                "[cluster]\nnode = \"own\"\nallow = [\"10.0.0.0/8\"]\nsecret = \"{}\"\n[cluster.directory]\nkind = \"{kind}\"\n\
                 url = \"redis://h\"\nplay_url = \"http://p\"\ntier = 1\n[[cluster.directory.node]]\nname = \"own\"\n\
                 play_url = \"http://q\"\npull_url = \"rtmp://10.0.0.1\"\ntier = 2\nregion = \"eu\"\n",
                "s".repeat(32)
            );
            Config::parse(&text, "remuxd.toml").unwrap().cluster.directory
        };
        let load = Load { viewers: 7, ..Load::default() };
        for (kind, name, expected) in [
            ("static", "own", (Some("http://p"), Some("rtmp://10.0.0.1"), 2, "eu")),
            ("static", "other", (Some("http://p"), None, 1, "")),
            ("redis", "own", (Some("http://p"), None, 1, "")),
        ] {
            let directory = config(kind);
            let own = own_entry(&directory, name, &list::of_config(&directory), load);
            let found = (own.play_url.as_deref(), own.pull_url.as_deref(), own.tier, &*own.region);
            assert_eq!((&*own.name, found, own.load), (name, expected, load), "{kind}");
        }
    }

    #[test]
    fn this_node_is_a_target_once_and_hosts_are_written_in_ascii() {
        let entry = |name: &str| NodeEntry {
            name: name.to_owned(),
            at: 0,
            pull_url: None,
            play_url: Some("https://ü.example:444/".to_owned()),
            rtmp_url: None,
            tier: 1,
            region: "eu".to_owned(),
            load: Load { bitrate: 5, ..Load::default() },
        };
        let own = NodeEntry { load: Load::default(), ..entry("own") };
        let nodes = [entry("a"), entry("own")];
        let found = targets(&nodes, Some(&own), "own");
        let found: Vec<_> = found.iter().map(|one| (&*one.name, one.is_own, one.load.bitrate)).collect();
        assert_eq!(found, [("own", true, 0), ("a", false, 5)]);
        let without = targets(&nodes, None, "own");
        let url = without[0].play_url.as_deref();
        assert_eq!((without.len(), url), (1, Some("https://xn--tda.example:444")));
    }
}
