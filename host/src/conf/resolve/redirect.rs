//! Checks of redirect rules.

use crate::conf::config::{Config, Vhost};
use crate::conf::diagnostics::Diagnostics;
use crate::conf::redirect::{NodeOrder, RedirectTo};

pub(super) fn check(config: &Config, diagnostics: &mut Diagnostics) {
    for vhost in &config.vhosts {
        check_nodes(vhost, config, diagnostics);
    }
}

/// A rule that leads to a node needs a directory, and an answer that no cache keeps. Protocols are chosen for such rules alone.
fn check_nodes(vhost: &Vhost, config: &Config, diagnostics: &mut Diagnostics) {
    let directory = &config.cluster.directory;
    for (index, rule) in vhost.redirects.iter().enumerate() {
        let at = |key| vhost.redirect_path(index).key(key);
        let RedirectTo::Node { order, .. } = rule.to else {
            for key in ["rtmp", "websocket"] {
                if let Some(location) = diagnostics.source().value(&at(key)) {
                    diagnostics
                        .error(format!("`{key}` in a rule that leads to one URL"), Some(location), "")
                        .help("it is for `to = \"least-loaded\"` and `to = \"nearest\"`");
                }
            }
            continue;
        };
        let location = diagnostics.source().value(&at("to"));
        if !directory.is_used() {
            diagnostics
                .error("a redirect to a node without a directory", location, "")
                .help("the directory has the nodes: [cluster.directory] kind = \"static\"");
        } else if order == NodeOrder::Nearest && directory.regions.is_empty() {
            diagnostics
                .warning("no region has networks of viewers", location, "the least loaded node is taken")
                .help("add [[cluster.directory.regions]] with `name` and `networks`");
        }
        if matches!(rule.status, 301 | 308) {
            let location = diagnostics.source().value(&at("status"));
            diagnostics
                .error("a permanent redirect to a node", location, "clients would keep it")
                .help("302 or 307 is asked again each time");
        }
    }
}
