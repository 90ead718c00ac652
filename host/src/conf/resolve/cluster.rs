//! Checks of clusters and forwards.

mod directory;

use crate::conf::cluster::{DirectoryKind, Node};
use crate::conf::config::{Config, Vhost};
use crate::conf::diagnostics::Diagnostics;
use crate::conf::source::KeyPath;

pub(super) fn check(config: &Config, diagnostics: &mut Diagnostics) {
    directory::check(&config.cluster, diagnostics);
    for vhost in &config.vhosts {
        check_edge(vhost, &config.cluster, diagnostics);
        check_forward(vhost, diagnostics);
    }
}

/// An edge needs an origin, or a directory with nodes of nearer tiers; others need none.
fn check_edge(vhost: &Vhost, node: &Node, diagnostics: &mut Diagnostics) {
    let has_directory = node.directory.is_used();
    let path = vhost.path().key("cluster");
    let (is_edge, has_origin) = (vhost.cluster.is_edge(), !vhost.cluster.origins.is_empty());
    if is_edge && !has_origin && !has_directory {
        let location = diagnostics.source().value(&path.key("mode"));
        diagnostics
            .error("an edge without an origin", location, "")
            .help("name the servers that it pulls from: origin = [\"origin1.example.com\"]");
    } else if is_edge && !has_origin && is_origin(node) {
        let location = diagnostics.source().value(&path.key("mode"));
        diagnostics
            .error("an edge of tier 0", location, "it would pull from nobody")
            .help("edges have a tier above 0: [cluster.directory] tier = 1");
    } else if has_origin && !is_edge {
        let location = diagnostics.source().value(&path.key("origin"));
        diagnostics
            .warning("the origins are not used", location, "`mode` is \"origin\"")
            .help("streams are pulled with mode = \"edge\"");
    }
    if is_edge && !vhost.forward.is_empty() {
        let location = diagnostics.source().value(&vhost.path().key("forward"));
        diagnostics.error("an edge forwards nothing", location, "its streams come from its origins");
    }
}

/// Returns whether a node of a directory is of tier 0. What a list over HTTP says is not known yet.
fn is_origin(node: &Node) -> bool {
    let directory = &node.directory;
    let listed = directory.nodes.iter().find(|listed| Some(&listed.name) == node.name.as_ref());
    match directory.kind {
        DirectoryKind::Static => listed.map_or(directory.tier, |listed| listed.tier) == 0,
        DirectoryKind::Redis => directory.tier == 0,
        DirectoryKind::None | DirectoryKind::Http => false,
    }
}

/// Streams are sent over RTMP.
fn check_forward(vhost: &Vhost, diagnostics: &mut Diagnostics) {
    let path = vhost.path().key("forward");
    let destination = path.clone().key("destination");
    for (index, upstream) in vhost.forward.destinations.iter().enumerate() {
        if !upstream.scheme().is_rtmp() {
            let at = |path: &KeyPath| diagnostics.source().value(&path.clone().index(index));
            let location =
                at(&path).or_else(|| at(&destination)).or_else(|| diagnostics.source().value(&destination));
            let title = format!("streams cannot be sent over {}", upstream.scheme().name());
            diagnostics.error(title, location, "").help("write rtmp:// or rtmps://");
        }
    }
}
