//! The tables of redirect rules.

use toml::Spanned;

use super::pattern::pattern;
use crate::conf::error::ValueError;
use crate::conf::redirect::{NodeOrder, Players, Redirect, RedirectTo};
use crate::conf::table::Table;
use crate::conf::target::RedirectTarget;
use crate::conf::value::{choice, flag, redirect_status, text};

/// Reads a redirect rule; `None` if it is not enabled, or its pattern or target is bad.
pub(super) fn redirect(table: &mut Table, vhost: &str) -> Option<Redirect> {
    const PLAYERS: &[(&str, Players)] = &[("serve", Players::Serve), ("redirect", Players::Redirect)];
    let enabled = table.key("enabled", false, flag);
    let pattern = pattern(table, "path", vhost);
    let to = table.key("to", String::new(), text);
    let status = table.key("status", 302, redirect_status);
    let rtmp = table.key("rtmp", Players::Serve, choice(PLAYERS));
    let websocket = table.key("websocket", Players::Serve, choice(PLAYERS));
    let order = match &*to {
        "least-loaded" => Some(NodeOrder::LeastLoaded),
        "nearest" => Some(NodeOrder::Nearest),
        _ => None,
    };
    if let (Some(order), Some(pattern)) = (order, &pattern) {
        let to = RedirectTo::Node { order, rtmp, websocket };
        return enabled.then(|| Redirect { pattern: pattern.clone(), to, status });
    }
    let span = table.span("to");
    let error = |error| vec![Spanned::new(span, error)];
    let target = match (to.is_empty(), enabled) {
        (true, true) => table.checked("to", Err(error(ValueError::Missing { key: "to" }))),
        (true, false) => None,
        (false, _) => table.checked("to", RedirectTarget::parse(&to, vhost).map_err(|bad| error(bad.into()))),
    };
    enabled.then_some(Redirect { pattern: pattern?, to: RedirectTo::Url(target?), status })
}
