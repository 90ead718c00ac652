//! Checks of HTTP hooks.

use crate::conf::config::{Config, Vhost};
use crate::conf::diagnostics::Diagnostics;
use crate::conf::source::KeyPath;

pub(super) fn check(config: &Config, diagnostics: &mut Diagnostics) {
    config.vhosts.iter().for_each(|vhost| check_vhost(vhost, diagnostics));
    let hooks = &config.http_hooks;
    if hooks.enabled && hooks.on_fault.is_empty() && hooks.on_reload.is_empty() {
        warn_of_none(&KeyPath::of("http_hooks"), diagnostics);
    }
}

fn check_vhost(vhost: &Vhost, diagnostics: &mut Diagnostics) {
    if vhost.http_hooks.enabled && vhost.http_hooks.is_empty() {
        warn_of_none(&vhost.path().key("http_hooks"), diagnostics);
    }
}

fn warn_of_none(table: &KeyPath, diagnostics: &mut Diagnostics) {
    let location = diagnostics.source().value(&table.clone().key("enabled"));
    diagnostics.warning("`http_hooks` without a URL ask nobody", location, "enabled here");
}
