//! The part of the config about other servers: origins of an edge, and destinations of forwards.

use std::time::Duration;

use ipnet::IpNet;

use super::access::Secret;
use super::endpoint::Endpoint;
use super::upstream::Upstream;

/// `[cluster]`: this host as a node among others.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// `node`: its name in the hop lists of pulls and forwards. Default, and for an empty string: random, for each start.
    pub name: Option<String>,
    /// `allow`: the networks in which servers may be that it connects to, also after a redirect. Default: servers of the config may
    /// have any address, and a redirect may lead to their hosts only.
    pub allow: Vec<IpNet>,
    /// `secret`: the key of the credentials with which nodes pull from each other, at least [`MIN_SECRET`](super::MIN_SECRET) bytes.
    /// Default none.
    pub secret: Option<Secret>,
    /// `[cluster.directory]`.
    pub directory: Directory,
}

/// `[cluster.directory]`: the list of the nodes of the cluster, and of the streams that they have.
#[derive(Clone, Debug, PartialEq)]
pub struct Directory {
    /// `kind`, default `none`.
    pub kind: DirectoryKind,
    /// `url`: of the JSON list, or of Redis or its Sentinels. Default none.
    pub urls: Vec<Endpoint>,
    /// `sentinel`: the name of the master that the Sentinels at `url` watch. Default none: `url` is Redis itself.
    pub sentinel: Option<String>,
    /// `user` of Redis's ACL. Default: the default user.
    pub user: Option<String>,
    /// `password` of that user. Default none.
    pub password: Option<Secret>,
    /// `prefix` of all keys and channels. Default `remuxd`.
    pub prefix: String,
    /// `lease`: how long an entry holds that its owner does not renew. Default 10 s.
    pub lease: Duration,
    /// `pull_url`: where other nodes pull streams from this one, and publish to it, as an `origin` of a vhost. Default none: this node
    /// only looks up.
    pub pull_url: Option<String>,
    /// `play_url`: the base of the URLs of viewers who are redirected to this node, `https://edge1.example.com`. Default none: nobody is.
    pub play_url: Option<String>,
    /// `rtmp_url`: the base of the URLs of players over RTMP who are redirected to this node, `rtmp://edge1.example.com`. Default none:
    /// nobody is.
    pub rtmp_url: Option<String>,
    /// `tier`: 0 for origins, 1 for edges that pull from them, 2 for edges that pull from tier 1. Default 0.
    pub tier: u8,
    /// `region` of this node. Default none.
    pub region: String,
    /// `max_bitrate`: what this node can send, in bit/s; above it no viewer is redirected here. Default 0, no limit.
    pub max_bitrate: u64,
    /// `[[cluster.directory.regions]]`: networks of viewers by region.
    pub regions: Vec<Region>,
    /// `[[cluster.directory.node]]`: the list of the kind `static`.
    pub nodes: Vec<StaticNode>,
}

/// The longest name of a node or a region, in bytes.
const MAX_NODE_NAME: usize = 64;

/// Returns whether a node, a region or a prefix of keys can have this name.
pub fn is_node_name(name: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    (1..=MAX_NODE_NAME).contains(&name.len()) && name.bytes().all(is_allowed)
}

/// The kind of a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DirectoryKind {
    /// There is none.
    None,
    /// In the config: nodes alone.
    Static,
    /// In a JSON document over HTTP: nodes alone.
    Http,
    /// In Redis: nodes and streams.
    Redis,
}

/// `[[cluster.directory.regions]]`: the viewers who are nearest to the nodes of a region.
#[derive(Clone, Debug, PartialEq)]
pub struct Region {
    /// `name`.
    pub name: String,
    /// `networks`.
    pub networks: Vec<IpNet>,
}

/// `[[cluster.directory.node]]`: a node of a list.
#[derive(Clone, Debug, PartialEq)]
pub struct StaticNode {
    /// `name`: its `cluster.node`.
    pub name: String,
    /// As [`Directory::pull_url`].
    pub pull_url: Option<String>,
    /// As [`Directory::play_url`].
    pub play_url: Option<String>,
    /// As [`Directory::rtmp_url`].
    pub rtmp_url: Option<String>,
    /// As [`Directory::tier`].
    pub tier: u8,
    /// As [`Directory::region`].
    pub region: String,
}

/// `[vhost."NAME".cluster]`: the origins of a vhost.
#[derive(Clone, Debug, PartialEq)]
pub struct Cluster {
    /// `mode`, default `origin`.
    pub mode: ClusterMode,
    /// `origin`: the servers that an edge pulls from and publishes to, in order of preference. Default none.
    pub origins: Vec<Upstream>,
    /// `token_traverse`: an origin is asked about each viewer, too. Default false (SRS).
    pub token_traverse: bool,
    /// `connect_timeout`: of a connection to an origin, until it accepts the request. Default 5 s.
    pub connect_timeout: Duration,
    /// `first_byte_timeout`: from an accepted request to its first media; and how long an origin may take no byte of a publisher.
    /// Default 5 s.
    pub first_byte_timeout: Duration,
    /// `media_timeout`: an origin that sends no media for this long, and for twice the longest step of the stream's timestamps, has
    /// stalled. Default 1 s.
    pub media_timeout: Duration,
    /// `failover_wait`: how long viewers wait for another origin. Default 15 s.
    pub failover_wait: Duration,
    /// `max_pending_pulls`: streams of the vhost that may wait for their first media. Default 1000.
    pub max_pending_pulls: usize,
    /// `max_pending_pulls_per_address`: those that viewers of one address wait for. Default 20.
    pub max_pending_pulls_per_address: usize,
}

/// The source of a vhost's streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClusterMode {
    /// Publishers of this host.
    Origin,
    /// Its origins.
    Edge,
}

/// `[vhost."NAME".forward]`, or `forward`, a list of destinations: the servers that its streams are sent to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Forward {
    /// `destination`: each gets every stream. Default none.
    pub destinations: Vec<Upstream>,
    /// `backend`: hooks that name further destinations of a stream. Default none.
    pub backends: Vec<Endpoint>,
}

impl Forward {
    /// Returns whether no stream is sent anywhere.
    pub fn is_empty(&self) -> bool {
        self.destinations.is_empty() && self.backends.is_empty()
    }
}

impl Directory {
    /// Returns whether there is one.
    pub fn is_used(&self) -> bool {
        self.kind != DirectoryKind::None
    }
}

impl Cluster {
    /// Returns whether streams are pulled from origins.
    pub fn is_edge(&self) -> bool {
        self.mode == ClusterMode::Edge
    }
}
