//! The tables of clusters.

mod directory;

use std::time::Duration;

use super::access::long_secret;
use crate::conf::cluster::{Cluster, ClusterMode, Forward, Node};
use crate::conf::table::Table;
use crate::conf::value::{
    choice, duration, endpoint, flag, integer, list, network, one_or_list, text, upstream,
};

const HOUR: Duration = Duration::from_secs(3600);
const SECOND: Duration = Duration::from_secs(1);

pub(super) fn node(table: &mut Table) -> Node {
    let name = table.key("node", String::new(), text);
    Node {
        name: (!name.is_empty()).then_some(name),
        allow: table.key("allow", Vec::new(), list(network)),
        secret: long_secret(table),
        directory: table.table("directory", directory::directory),
    }
}

pub(super) fn cluster(table: &mut Table, vhost: &str) -> Cluster {
    // The last two are SRS's.
    let modes = &[
        ("origin", ClusterMode::Origin),
        ("edge", ClusterMode::Edge),
        ("local", ClusterMode::Origin),
        ("remote", ClusterMode::Edge),
    ];
    Cluster {
        mode: table.key("mode", ClusterMode::Origin, choice(modes)),
        origins: table.endpoints("origin", Vec::new(), one_or_list(upstream(vhost))),
        token_traverse: table.key("token_traverse", false, flag),
        connect_timeout: table.key("connect_timeout", 5 * SECOND, duration(SECOND / 10..=60 * SECOND)),
        first_byte_timeout: table.key("first_byte_timeout", 5 * SECOND, duration(SECOND / 10..=60 * SECOND)),
        media_timeout: table.key("media_timeout", SECOND, duration(SECOND / 10..=60 * SECOND)),
        failover_wait: table.key("failover_wait", 15 * SECOND, duration(Duration::ZERO..=HOUR)),
        max_pending_pulls: table.key("max_pending_pulls", 1000, integer(1..=1_000_000)),
        max_pending_pulls_per_address: table.key("max_pending_pulls_per_address", 20, integer(1..=1_000_000)),
    }
}

/// Reads the destinations of a vhost's streams: a list, or a table.
pub(super) fn forward(table: &mut Table, vhost: &str) -> Forward {
    if table.is_list("forward") {
        let destinations = table.endpoints("forward", Vec::new(), list(upstream(vhost)));
        return Forward { destinations, backends: Vec::new() };
    }
    table.table("forward", |table| {
        let enabled = table.key("enabled", false, flag);
        let forward = Forward {
            destinations: table.endpoints("destination", Vec::new(), one_or_list(upstream(vhost))),
            backends: table.endpoints("backend", Vec::new(), one_or_list(endpoint)),
        };
        if enabled { forward } else { Forward::default() }
    })
}
