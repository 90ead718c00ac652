//! Targets: the nodes to which viewers and players may be redirected, and the choice among them.
//!
//! A viewer goes to the node that is the least loaded, of all nodes or of the nearest ones. Nodes report their load every few seconds.
//! So that the emptiest one is not flooded in the meantime, it gets most newcomers, and not all: the weight of a node is its capacity
//! times the third power of its free part. The newcomer's address and stream decide within these weights, so that a viewer who comes
//! again goes to the same node.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use super::rendezvous::Seed;
use crate::conf::{NodeOrder, Region};

/// The parameter of a request that was redirected to a node: no node redirects it again.
pub const REDIRECTED: &str = "remuxd_redirected";

/// The bitrate at which a node without `max_bitrate` counts as half loaded, in bit/s. It is never full by its bitrate.
const UNLIMITED: f64 = 1e9;

/// The least free part of a node that is not full, for its weight.
const LEAST_FREE: f64 = 0.01;

/// The nodes to which viewers may be redirected, as they have reported last.
#[derive(Debug, Default)]
pub struct Targets {
    nodes: Vec<(Seed, Target)>,
    regions: Arc<Regions>,
    /// The lag from which a node is full; zero for none.
    max_lag: Duration,
}

/// The regions of viewers, by their networks.
#[derive(Debug, Default)]
pub struct Regions {
    /// Networks of one length of prefix with their region, the longest first. A lookup costs one step for each length.
    networks: Vec<(u8, HashMap<IpNet, String>)>,
}

/// A node to which viewers may be redirected.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// Its name.
    pub name: String,
    /// Whether it is this node, which then serves the viewer itself.
    pub is_own: bool,
    /// The base of the URLs of viewers over HTTP and WebSocket.
    pub play_url: Option<String>,
    /// The base of the URLs of players over RTMP.
    pub rtmp_url: Option<String>,
    /// Its region; empty for none.
    pub region: String,
    /// Its load.
    pub load: NodeLoad,
}

/// The load of a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeLoad {
    /// Media that it sends, in bit/s.
    pub bitrate: u64,
    /// Bitrate that it can send, in bit/s; 0 for no limit.
    pub max_bitrate: u64,
    /// Number of viewers and players.
    pub viewers: u64,
    /// How late it sends.
    pub lag: Duration,
}

/// The place that serves a newcomer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice<'a> {
    /// Nowhere: this node serves it.
    Here,
    /// To the node with this base of URLs.
    There(&'a str),
    /// All nodes are full.
    Full,
}

/// The protocol family of a newcomer, which decides on the base of the URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Base {
    /// HTTP and WebSocket.
    Http,
    /// RTMP.
    Rtmp,
}

impl NodeLoad {
    /// Returns whether the node takes no more viewers.
    pub fn is_full(&self, max_lag: Duration) -> bool {
        (self.max_bitrate > 0 && self.bitrate >= self.max_bitrate)
            || (max_lag > Duration::ZERO && self.lag >= max_lag)
    }

    /// Returns the part of the node that is in use, from 0 to 1.
    pub fn part(&self, max_lag: Duration) -> f64 {
        let bitrate = self.bitrate as f64;
        let by_bitrate = match self.max_bitrate {
            0 => bitrate / (bitrate + UNLIMITED),
            limit => bitrate / limit as f64,
        };
        let by_lag = match max_lag {
            Duration::ZERO => 0.0,
            max_lag => self.lag.as_secs_f64() / max_lag.as_secs_f64(),
        };
        by_bitrate.max(by_lag).min(1.0)
    }

    fn weight(&self, max_lag: Duration) -> f64 {
        let capacity = if self.max_bitrate == 0 { UNLIMITED } else { self.max_bitrate as f64 };
        (1.0 - self.part(max_lag)).max(LEAST_FREE).powi(3) * capacity
    }
}

impl Targets {
    /// Creates the list. Nodes without a URL of a protocol are no targets over it. With a lag of `max_lag` or more a node is full,
    /// unless that is zero.
    pub fn new(nodes: Vec<Target>, regions: Arc<Regions>, max_lag: Duration) -> Targets {
        let nodes = nodes.into_iter().map(|node| (Seed::of(&node.name), node)).collect();
        Targets { nodes, regions, max_lag }
    }

    /// Returns where a newcomer at `client` goes for `stream`. Nodes that are full are left out. If no node is a target, it is
    /// served here.
    pub fn choose(&self, order: NodeOrder, base: Base, client: IpAddr, stream: &str) -> Choice<'_> {
        let targets: Vec<_> = self.nodes.iter().filter(|(_, node)| node.base(base).is_some()).collect();
        if targets.is_empty() {
            return Choice::Here;
        }
        let is_free = |(_, node): &&(Seed, Target)| !node.load.is_full(self.max_lag);
        let free: Vec<_> = targets.into_iter().filter(is_free).collect();
        let newcomer = Seed::of(&format!("{} {stream}", client.to_canonical()));
        let region = (order == NodeOrder::Nearest).then(|| self.regions.of(client)).flatten();
        let is_near = |(_, node): &&(Seed, Target)| region == Some(node.region.as_str());
        let nearest = self.heaviest(newcomer, free.iter().copied().filter(is_near));
        match nearest.or_else(|| self.heaviest(newcomer, free.iter().copied())) {
            Some(node) if node.is_own => Choice::Here,
            Some(node) => node.base(base).map_or(Choice::Here, Choice::There),
            None => Choice::Full,
        }
    }

    /// Returns the node that a newcomer gets by weighted rendezvous: each with a probability in proportion to its weight.
    fn heaviest<'a>(
        &self,
        newcomer: Seed,
        nodes: impl Iterator<Item = &'a (Seed, Target)>,
    ) -> Option<&'a Target> {
        let score = |seed: Seed, node: &Target| -node.load.weight(self.max_lag) / newcomer.part(seed).ln();
        let scored = nodes.map(|(seed, node)| (score(*seed, node), node));
        scored.max_by(|(one, _), (other, _)| one.total_cmp(other)).map(|(_, node)| node)
    }
}

impl Regions {
    /// Reads the regions of the config. Of two with the same network the first has it.
    pub fn new(regions: &[Region]) -> Regions {
        let mut by_length = BTreeMap::<_, HashMap<_, _>>::new();
        for region in regions {
            for network in &region.networks {
                let networks = by_length.entry(network.prefix_len()).or_default();
                networks.entry(network.trunc()).or_insert_with(|| region.name.clone());
            }
        }
        Regions { networks: by_length.into_iter().rev().collect() }
    }

    /// Returns the region of a client, by the longest prefix; `None` if no network has its address.
    pub fn of(&self, client: IpAddr) -> Option<&str> {
        let client = client.to_canonical();
        self.networks.iter().find_map(|(length, networks)| {
            let network = IpNet::new(client, *length).ok()?;
            networks.get(&network.trunc()).map(String::as_str)
        })
    }
}

impl Target {
    fn base(&self, base: Base) -> Option<&str> {
        match base {
            Base::Http => self.play_url.as_deref(),
            Base::Rtmp => self.rtmp_url.as_deref(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX_LAG: Duration = Duration::from_millis(500);

    fn load(bitrate: u64, max_bitrate: u64, lag_ms: u64) -> NodeLoad {
        NodeLoad { bitrate, max_bitrate, viewers: 0, lag: Duration::from_millis(lag_ms) }
    }

    fn node(name: &str, region: &str, load: NodeLoad) -> Target {
        Target {
            name: name.to_owned(),
            is_own: name == "own",
            play_url: Some(format!("http://{name}")),
            rtmp_url: None,
            region: region.to_owned(),
            load,
        }
    }

    fn listed(nodes: Vec<Target>) -> Targets {
        Targets::new(nodes, Arc::default(), MAX_LAG)
    }

    fn region(name: &str, networks: &[&str]) -> Region {
        Region {
            name: name.to_owned(),
            networks: networks.iter().map(|text| text.parse().unwrap()).collect(),
        }
    }

    /// Returns how many of 1000 viewers of the network 10.`second` get each node, by the first letter of its name; `!` if all are
    /// full.
    fn spread(targets: &Targets, order: NodeOrder, second: u8) -> std::collections::BTreeMap<char, usize> {
        let mut counts = std::collections::BTreeMap::new();
        for number in 0..1000_u16 {
            let [high, low] = number.to_be_bytes();
            let client = IpAddr::from([10, second, high, low]);
            let letter = match targets.choose(order, Base::Http, client, "live/film") {
                Choice::Here => 'o',
                Choice::There(url) => url.as_bytes()[7].into(),
                Choice::Full => '!',
            };
            *counts.entry(letter).or_default() += 1;
        }
        counts
    }

    #[test]
    fn the_least_loaded_gets_most_and_equals_share() {
        let by_load = |nodes: Vec<Target>| spread(&listed(nodes), NodeOrder::LeastLoaded, 0);
        let near = |count: usize, expected: usize| count.abs_diff(expected) < 60;
        let equals = by_load(vec![node("a", "", load(5, 10, 0)), node("b", "", load(5, 10, 0))]);
        assert!(near(equals[&'a'], 500), "{equals:?}");
        let larger = by_load(vec![node("a", "", load(10, 40, 0)), node("b", "", load(5, 20, 0))]);
        assert!(near(larger[&'a'], 667), "by capacity: {larger:?}");
        let emptier = by_load(vec![node("a", "", load(90, 100, 0)), node("b", "", load(10, 100, 0))]);
        assert!(emptier[&'b'] >= 990, "{emptier:?}");
        let late = by_load(vec![node("a", "", load(0, 100, 450)), node("b", "", load(50, 100, 0))]);
        assert!(late[&'b'] >= 970, "by lag: {late:?}");
        let unlimited = by_load(vec![node("a", "", load(3_000_000_000, 0, 0)), node("b", "", load(0, 0, 0))]);
        assert!(unlimited[&'b'] >= 970, "{unlimited:?}");
    }

    #[test]
    fn full_nodes_are_left_out_and_this_node_serves_its_share() {
        let rows = [
            (vec![node("a", "", load(10, 10, 0)), node("b", "", load(9, 10, 0))], "b"),
            (vec![node("a", "", load(0, 10, 500)), node("b", "", load(9, 10, 0))], "b"),
            (vec![node("a", "", load(10, 10, 0)), node("b", "", load(0, 10, 900))], "!"),
            (vec![node("own", "", load(0, 0, 0)), node("b", "", load(10, 10, 0))], "o"),
            (vec![node("own", "", load(10, 10, 0)), node("b", "", load(0, 10, 0))], "b"),
            (vec![node("own", "", load(10, 10, 0))], "!"),
            (vec![Target { play_url: None, ..node("a", "", load(0, 0, 0)) }], "o"),
            (vec![], "o"),
        ];
        for (nodes, expected) in rows {
            let found = spread(&listed(nodes.clone()), NodeOrder::LeastLoaded, 0);
            assert_eq!(found.into_keys().collect::<String>(), expected, "{nodes:?}");
        }
        let late = Targets::new(vec![node("a", "", load(0, 0, 900))], Arc::default(), Duration::ZERO);
        assert_eq!(spread(&late, NodeOrder::LeastLoaded, 0)[&'a'], 1000, "a lag without a limit");
        let nodes = vec![node("own", "", load(0, 0, 0)), node("b", "", load(0, 0, 0))];
        let shared = spread(&listed(nodes), NodeOrder::LeastLoaded, 0);
        assert_eq!(shared.into_keys().collect::<String>(), "bo");
    }

    #[test]
    fn the_nearest_is_of_the_region_with_the_longest_prefix_unless_that_is_full() {
        let regions = [region("west", &["10.0.0.0/8", "2001:db8::/32"]), region("east", &["10.7.0.0/16"])];
        let regions = Arc::new(Regions::new(&regions));
        let empty = load(0, 10, 0);
        let nodes = [node("w", "west", load(9, 10, 0)), node("e", "east", empty), node("x", "", empty)];
        let nearest = |nodes: &[Target], second| {
            let targets = Targets::new(nodes.to_vec(), regions.clone(), MAX_LAG);
            spread(&targets, NodeOrder::Nearest, second).into_keys().collect::<String>()
        };
        assert_eq!([nearest(&nodes, 1), nearest(&nodes, 7)], ["w", "e"]);
        let full = [node("w", "west", load(10, 10, 0)), nodes[1].clone(), nodes[2].clone()];
        assert_eq!(nearest(&full, 1), "ex", "the others take over");
        for (client, expected) in [
            ("10.7.1.1", Some("east")),
            ("::ffff:10.7.1.1", Some("east")),
            ("10.8.1.1", Some("west")),
            ("2001:db8::1", Some("west")),
            ("192.0.2.1", None),
        ] {
            assert_eq!(regions.of(client.parse().unwrap()), expected, "{client}");
        }
        let targets = Targets::new(nodes.to_vec(), regions, MAX_LAG);
        let unknown = targets.choose(NodeOrder::Nearest, Base::Http, [192, 0, 2, 1].into(), "live/film");
        assert!(matches!(unknown, Choice::There(_)), "{unknown:?}");
    }

    #[test]
    fn a_node_is_a_target_over_the_protocols_that_it_has_a_url_of() {
        let rtmp =
            Target { play_url: None, rtmp_url: Some("rtmp://a".to_owned()), ..node("a", "", load(0, 0, 0)) };
        let targets = listed(vec![rtmp]);
        let client = IpAddr::from([10, 0, 0, 1]);
        let choose = |base| targets.choose(NodeOrder::LeastLoaded, base, client, "live/film");
        assert_eq!([choose(Base::Http), choose(Base::Rtmp)], [Choice::Here, Choice::There("rtmp://a")]);
    }
}
