//! Checks of clusters and forwards.

use crate::conf::config::{Config, Vhost};
use crate::conf::diagnostics::Diagnostics;
use crate::conf::source::KeyPath;

pub(super) fn check(config: &Config, diagnostics: &mut Diagnostics) {
    for vhost in &config.vhosts {
        check_edge(vhost, diagnostics);
        check_forward(vhost, diagnostics);
    }
}

/// An edge needs an origin; others need none.
fn check_edge(vhost: &Vhost, diagnostics: &mut Diagnostics) {
    let path = vhost.path().key("cluster");
    let (is_edge, has_origin) = (vhost.cluster.is_edge(), !vhost.cluster.origins.is_empty());
    if is_edge && !has_origin {
        let location = diagnostics.source().value(&path.key("mode"));
        diagnostics
            .error("an edge without an origin", location, "")
            .help("name the servers that it pulls from: origin = [\"origin1.example.com\"]");
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
