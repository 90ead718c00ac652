//! The tables of HTTP hooks.

use std::time::Duration;

use super::access::long_secret;
use crate::conf::endpoint::Endpoint;
use crate::conf::hooks::{HookRequests, HostHooks, HttpHooks, OnFailure};
use crate::conf::table::Table;
use crate::conf::value::{choice, duration, endpoint, flag, one_or_list};

const HOUR: Duration = Duration::from_secs(3600);
const SECOND: Duration = Duration::from_secs(1);

pub(super) fn http_hooks(table: &mut Table) -> HttpHooks {
    let failure = &[("deny", OnFailure::Deny), ("allow", OnFailure::Allow)];
    HttpHooks {
        enabled: table.key("enabled", false, flag),
        on_connect: urls(table, "on_connect"),
        on_close: urls(table, "on_close"),
        on_publish: urls(table, "on_publish"),
        on_unpublish: urls(table, "on_unpublish"),
        on_play: urls(table, "on_play"),
        on_stop: urls(table, "on_stop"),
        on_stream_wanted: urls(table, "on_stream_wanted"),
        on_stream_idle: urls(table, "on_stream_idle"),
        requests: requests(table),
        on_failure: table.key("on_failure", OnFailure::Deny, choice(failure)),
        cache_ttl: table.key("cache_ttl", Duration::ZERO, duration(Duration::ZERO..=HOUR)),
    }
}

pub(super) fn host_hooks(table: &mut Table) -> HostHooks {
    HostHooks {
        enabled: table.key("enabled", false, flag),
        on_fault: urls(table, "on_fault"),
        on_reload: urls(table, "on_reload"),
        requests: requests(table),
    }
}

fn requests(table: &mut Table) -> HookRequests {
    let range = Duration::from_millis(100)..=10 * SECOND;
    HookRequests { secret: long_secret(table), timeout: table.key("timeout", 3 * SECOND, duration(range)) }
}

/// Reads one URL or a list of URLs.
fn urls(table: &mut Table, key: &'static str) -> Vec<Endpoint> {
    table.endpoints(key, Vec::new(), one_or_list(endpoint))
}
