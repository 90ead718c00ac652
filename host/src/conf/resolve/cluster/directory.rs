//! Checks of the directory.

use crate::conf::cluster::{Directory, DirectoryKind, Node, is_node_name};
use crate::conf::diagnostics::Diagnostics;
use crate::conf::source::{KeyPath, Location};

pub(super) fn check(node: &Node, diagnostics: &mut Diagnostics) {
    let directory = &node.directory;
    check_names(directory, diagnostics);
    if directory.is_used() {
        check_node(node, diagnostics);
        check_source(directory, diagnostics);
    }
}

fn path() -> KeyPath {
    KeyPath::of("cluster").key("directory")
}

/// Returns the location of `kind`.
fn kind(diagnostics: &Diagnostics) -> Option<Location> {
    diagnostics.source().value(&path().key("kind"))
}

/// A node of a directory has a name, proves its entries, and connects only where the operator allows.
fn check_node(node: &Node, diagnostics: &mut Diagnostics) {
    match &node.name {
        None => {
            let location = kind(diagnostics);
            diagnostics
                .error("a directory without the name of this node", location, "`cluster.node` is not set")
                .help("name it: [cluster] node = \"edge1\"");
        }
        Some(name) if !is_node_name(name) => {
            let location = diagnostics.source().value(&KeyPath::of("cluster").key("node"));
            diagnostics
                .error("no directory can have this name", location, "")
                .help("a name has 1 to 64 letters, digits, ., - and _");
        }
        Some(_) => {}
    }
    if node.secret.is_none() {
        let location = kind(diagnostics);
        diagnostics
            .error("a directory without a secret", location, "`cluster.secret` signs its entries")
            .help("give all nodes the same: [cluster] secret = { file = \"/etc/remuxd/cluster.key\" }");
    }
    if node.allow.is_empty() {
        let location = kind(diagnostics);
        diagnostics
            .error("a directory without networks of its nodes", location, "`cluster.allow` is empty")
            .help("name the networks to which it may lead: [cluster] allow = [\"10.0.0.0/8\"]");
    }
}

/// Each kind has what it is read from.
fn check_source(directory: &Directory, diagnostics: &mut Diagnostics) {
    let Directory { kind: of, urls, sentinel, nodes, .. } = directory;
    if *of == DirectoryKind::Static {
        if nodes.is_empty() {
            let location = kind(diagnostics);
            diagnostics
                .error("a static directory without nodes", location, "")
                .help("list them: [[cluster.directory.node]]");
        }
        return;
    }
    let location = diagnostics.source().value(&path().key("url"));
    let is_redis = *of == DirectoryKind::Redis;
    let help =
        if is_redis { "url = \"redis://10.0.0.5:6379\"" } else { "url = \"https://example.com/nodes.json\"" };
    if urls.is_empty() {
        let location = kind(diagnostics);
        diagnostics.error("a directory without `url`", location, "").help(help);
    } else if urls.iter().any(|url| url.is_redis() != is_redis) {
        diagnostics.error("`url` is of another kind of directory", location, "").help(help);
    } else if urls.len() > 1 && (sentinel.is_none() || !is_redis) {
        diagnostics
            .error("a directory with several URLs", location, "only Sentinels are several")
            .help("name the master that they watch: sentinel = \"mymaster\"");
    }
}

/// Each region and each node has a name of its own.
fn check_names(directory: &Directory, diagnostics: &mut Diagnostics) {
    let regions = directory.regions.iter().map(|region| &region.name).collect::<Vec<_>>();
    let nodes = directory.nodes.iter().map(|node| &node.name).collect::<Vec<_>>();
    for (key, kind, names) in [("regions", "regions", regions), ("node", "nodes", nodes)] {
        for (index, name) in names.iter().enumerate() {
            let Some(first) = names[..index].iter().position(|other| other == name) else { continue };
            let at = |index| diagnostics.source().value_or_table(&path().key(key).index(index).key("name"));
            let (here, first) = (at(index), at(first));
            diagnostics
                .error(format!("two {kind} have the name `{name}`"), here, "the second")
                .and(first, "the first");
        }
    }
}
