//! The table of the directory.

use std::time::Duration;

use toml::Spanned;
use toml::de::DeValue;

use crate::conf::access::Secret;
use crate::conf::cluster::{Directory, DirectoryKind, Region, StaticNode, is_node_name};
use crate::conf::endpoint::Endpoint;
use crate::conf::error::ValueError;
use crate::conf::pattern::DEFAULT_VHOST;
use crate::conf::schema::access::{fault as report, required};
use crate::conf::secrets::secret;
use crate::conf::table::Table;
use crate::conf::upstream::{Upstream, is_rtmp_base};
use crate::conf::value::{bitrate, choice, duration, fault, integer, list, network, one_or_list, text};

const MINUTE: Duration = Duration::from_secs(60);
const SECOND: Duration = Duration::from_secs(1);

/// The farthest tier.
const MAX_TIER: u16 = 9;

const KINDS: &[(&str, DirectoryKind)] = &[
    ("none", DirectoryKind::None),
    ("static", DirectoryKind::Static),
    ("http", DirectoryKind::Http),
    ("redis", DirectoryKind::Redis),
];

pub(super) fn directory(table: &mut Table) -> Directory {
    Directory {
        kind: table.key("kind", DirectoryKind::None, choice(KINDS)),
        urls: table.endpoints("url", Vec::new(), one_or_list(directory_url)),
        sentinel: table.key("sentinel", None, optional(text)),
        user: table.key("user", None, optional(text)),
        password: password(table),
        prefix: table.key("prefix", "remuxd".to_owned(), node_name),
        lease: table.key("lease", 10 * SECOND, duration(SECOND..=10 * MINUTE)),
        pull_url: table.key("pull_url", None, optional(pull_url)),
        play_url: table.key("play_url", None, optional(play_url)),
        rtmp_url: table.key("rtmp_url", None, optional(rtmp_url)),
        tier: tier(table),
        region: table.key("region", String::new(), region_name),
        max_bitrate: table.key("max_bitrate", 0, bitrate),
        regions: table.tables("regions", "name", region),
        nodes: table.tables("node", "name", node),
    }
}

/// Reads a region; `None` if nothing in it is set, as in conf/remuxd.toml, or it is bad.
fn region(table: &mut Table) -> Option<Region> {
    let name = table.key("name", String::new(), region_name);
    let networks = table.key("networks", Vec::new(), list(network));
    if table.is_unset("name") && networks.is_empty() {
        return None;
    }
    let name = required(table, "name", Some(name).filter(|name| !name.is_empty()))?;
    if networks.is_empty() {
        report(table, "networks", ValueError::Empty);
        return None;
    }
    Some(Region { name, networks })
}

/// Reads a node of the static list; `None` if nothing in it is set, as in conf/remuxd.toml, or it is bad.
fn node(table: &mut Table) -> Option<StaticNode> {
    let name = table.key("name", None, optional(node_name));
    let node = StaticNode {
        name: String::new(),
        pull_url: table.key("pull_url", None, optional(pull_url)),
        play_url: table.key("play_url", None, optional(play_url)),
        rtmp_url: table.key("rtmp_url", None, optional(rtmp_url)),
        tier: tier(table),
        region: table.key("region", String::new(), region_name),
    };
    if ["name", "pull_url", "play_url", "rtmp_url"].iter().all(|key| table.is_unset(key)) {
        return None;
    }
    Some(StaticNode { name: required(table, "name", name)?, ..node })
}

fn tier(table: &mut Table) -> u8 {
    // Lists of bytes are shown as keys are, so that a byte itself cannot be.
    table.key("tier", 0, integer(0..=MAX_TIER)) as u8
}

fn password(table: &mut Table) -> Option<Secret> {
    let password = table.secret("password", secret);
    (!password.bytes().is_empty()).then_some(password)
}

/// Reads a value; an empty string is none.
fn optional<T>(
    kind: impl Fn(&Spanned<DeValue>) -> Result<T, Vec<Spanned<ValueError>>>,
) -> impl Fn(&Spanned<DeValue>) -> Result<Option<T>, Vec<Spanned<ValueError>>> {
    move |value| if text(value)?.is_empty() { Ok(None) } else { kind(value).map(Some) }
}

fn directory_url(value: &Spanned<DeValue>) -> Result<Endpoint, Vec<Spanned<ValueError>>> {
    Endpoint::parse_directory(&text(value)?).or_else(|error| fault(value, error.into()))
}

/// Reads a name that can be a part of a key in Redis.
fn node_name(value: &Spanned<DeValue>) -> Result<String, Vec<Spanned<ValueError>>> {
    let name = text(value)?;
    if is_node_name(&name) { Ok(name) } else { fault(value, ValueError::NotANodeName) }
}

fn region_name(value: &Spanned<DeValue>) -> Result<String, Vec<Spanned<ValueError>>> {
    optional(node_name)(value).map(Option::unwrap_or_default)
}

/// Reads the URL that other nodes pull from. It is shown to all nodes, so that it has no query.
fn pull_url(value: &Spanned<DeValue>) -> Result<String, Vec<Spanned<ValueError>>> {
    let url = text(value)?;
    if url.contains('?') {
        return fault(value, ValueError::SharedQuery);
    }
    Upstream::parse(&url, DEFAULT_VHOST).or_else(|error| fault(value, error.into()))?;
    Ok(url)
}

/// Reads the base of the URLs of redirected viewers, without the slash at its end.
fn play_url(value: &Spanned<DeValue>) -> Result<String, Vec<Spanned<ValueError>>> {
    let url = text(value)?;
    if url.contains(['?', '#']) {
        return fault(value, ValueError::SharedQuery);
    }
    Endpoint::parse(&url).or_else(|error| fault(value, error.into()))?;
    Ok(url.trim_end_matches('/').to_owned())
}

/// Reads the base of the URLs of redirected players.
fn rtmp_url(value: &Spanned<DeValue>) -> Result<String, Vec<Spanned<ValueError>>> {
    let url = text(value)?;
    if is_rtmp_base(&url) { Ok(url) } else { fault(value, ValueError::NotAnRtmpBase) }
}
