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

impl Cluster {
    /// Returns whether streams are pulled from origins.
    pub fn is_edge(&self) -> bool {
        self.mode == ClusterMode::Edge
    }
}
