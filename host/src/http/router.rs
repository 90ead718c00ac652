//! Router: from Host, path and query to a mount and a stream.
//!
//! The vhost is the one that `?vhost=` or `?domain=` names, else the Host without its port, else the default vhost
//! (as SRS does). Its mounts come first; then mounts of any vhost whose pattern names no host (`/[app]/…`).
//!
//! A path is decoded once, by segments: an encoded slash, `.` and `..` are refused rather than understood.

use std::borrow::Cow;
use std::sync::Arc;

use percent_encoding::percent_decode_str;

use crate::conf::{Config, DEFAULT_VHOST, Mount, Vhost};
use crate::stream::StreamKey;

use super::Refusal;

/// Finds the mount of a request.
#[derive(Debug)]
pub struct Router {
    vhosts: Vec<Arc<Vhost>>,
}

/// Where a request goes.
#[derive(Debug)]
pub struct Route {
    /// The vhost of the mount.
    pub vhost: Arc<Vhost>,
    /// The mount.
    pub mount: Arc<Mount>,
    /// The stream.
    pub key: StreamKey,
}

impl Router {
    /// A router over the enabled vhosts of `config`.
    pub fn new(config: &Config) -> Router {
        Router { vhosts: config.vhosts.iter().filter(|vhost| vhost.enabled).cloned().collect() }
    }

    /// The vhost that publishers and players of `name` belong to.
    pub fn vhost(&self, name: &str) -> Option<&Arc<Vhost>> {
        let named = |name: &str| self.vhosts.iter().find(|vhost| vhost.name.eq_ignore_ascii_case(name));
        named(name).or_else(|| named(DEFAULT_VHOST))
    }

    /// All mounts that a request may mean, the best first.
    ///
    /// # Errors
    /// [`Refusal::Path`] for paths that are not one.
    pub fn routes(&self, host: &str, path: &str, query: &str) -> Result<Vec<Route>, Refusal> {
        let path = decode_path(path)?;
        let named = query_pairs(query).find(|(name, _)| name == "vhost" || name == "domain");
        let host = named.map_or(Cow::Borrowed(without_port(host)), |(_, value)| value);
        let own = self.vhost(&host);
        let is_own = |vhost: &Arc<Vhost>| own.is_some_and(|own| Arc::ptr_eq(own, vhost));
        let others = self.vhosts.iter().filter(|vhost| !is_own(vhost));
        let mut routes = Vec::new();
        for vhost in own.into_iter().chain(others) {
            for mount in &vhost.mounts {
                if mount.pattern.vhost_only && !is_own(vhost) {
                    continue;
                }
                if let Some(found) = mount.pattern.matches(&path) {
                    let key = StreamKey::new(&vhost.name, found.app, found.stream);
                    routes.push(Route { vhost: vhost.clone(), mount: mount.clone(), key });
                }
            }
        }
        Ok(routes)
    }
}

/// The pairs of a query, decoded.
pub(super) fn query_pairs(query: &str) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    let decode = |text| percent_decode_str(text).decode_utf8_lossy();
    query.split('&').filter(|pair| !pair.is_empty()).map(move |pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode(name), decode(value))
    })
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

fn decode_path(path: &str) -> Result<String, Refusal> {
    let mut decoded = String::with_capacity(path.len());
    for segment in path.strip_prefix('/').ok_or(Refusal::Path)?.split('/') {
        if !is_encoded_right(segment) {
            return Err(Refusal::Path);
        }
        let segment = percent_decode_str(segment).decode_utf8().map_err(|_| Refusal::Path)?;
        if segment == "." || segment == ".." || segment.contains(['/', '\\', '\0']) {
            return Err(Refusal::Path);
        }
        decoded.push('/');
        decoded.push_str(&segment);
    }
    Ok(decoded)
}

/// Whether two hexadecimal digits follow every `%` (RFC 3986, 2.1).
fn is_encoded_right(segment: &str) -> bool {
    segment
        .split('%')
        .skip(1)
        .all(|after| after.len() >= 2 && after.bytes().take(2).all(|digit| digit.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decodes_paths_by_segments() {
        for (path, decoded) in [
            ("/live/a.flv", Some("/live/a.flv")),
            ("/live/%e4%bd%a0.flv", Some("/live/你.flv")),
            ("/live/a%20b..c.flv", Some("/live/a b..c.flv")),
            ("/live/../a.flv", None),
            ("/live/%2e%2e/a.flv", None),
            ("/live/./a.flv", None),
            ("/live%2fa.flv", None),
            ("/live/%00.flv", None),
            ("/live/%ff.flv", None),
            ("/live/%zz.flv", None),
            ("/live/a%2", None),
            ("*", None),
        ] {
            assert_eq!(decode_path(path).ok().as_deref(), decoded, "{path}");
        }
    }

    #[test]
    fn drops_the_port_of_a_host() {
        for (host, name) in [
            ("a.example:8080", "a.example"),
            ("a.example", "a.example"),
            ("[::1]:80", "[::1]"),
            ("[::1]", "[::1]"),
        ] {
            assert_eq!(without_port(host), name);
        }
    }

    #[test]
    fn decodes_queries() {
        let pairs: Vec<_> = query_pairs("a=1&&b=x%3dy&c").collect();
        assert_eq!(pairs, [("a".into(), "1".into()), ("b".into(), "x=y".into()), ("c".into(), "".into())]);
    }
}
