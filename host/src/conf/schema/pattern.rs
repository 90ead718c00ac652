//! The patterns of mounts and redirect rules.

use toml::Spanned;

use crate::conf::pattern::MountPattern;
use crate::conf::table::Table;
use crate::conf::value::text;

/// The mount of SRS.
const DEFAULT_MOUNT: &str = "[vhost]/[app]/[stream].flv";

/// Reads a mount pattern; `None` if it is bad.
pub(super) fn pattern(table: &mut Table, key: &'static str, vhost: &str) -> Option<MountPattern> {
    let pattern = table.key(key, DEFAULT_MOUNT.to_owned(), text);
    let span = table.span(key);
    let pattern =
        MountPattern::parse(&pattern, vhost).map_err(|error| vec![Spanned::new(span, error.into())]);
    table.checked(key, pattern)
}
