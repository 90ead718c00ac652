//! Router: from Host, path and query to a mount and a stream.
//!
//! The vhost is the one that `?vhost=` or `?domain=` names, else the Host without its port, else the default vhost
//! (as SRS does); a vhost that is disabled has its name all the same, and answers nothing under it. Its mounts and
//! redirect rules come first; then those of any vhost whose pattern names no host (`/[app]/…`).
//!
//! A path is decoded once, by segments: an encoded slash, `.` and `..` are refused rather than understood.

use std::borrow::Cow;
use std::sync::Arc;

use percent_encoding::percent_decode_str;

use crate::conf::{Config, DEFAULT_VHOST, Match, Mount, MountPattern, Vhost};
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
    /// A router over the vhosts of `config`.
    pub fn new(config: &Config) -> Router {
        Router { vhosts: config.vhosts.clone() }
    }

    /// The vhost that publishers and players of `name` belong to, unless it is disabled.
    pub fn vhost(&self, name: &str) -> Option<&Arc<Vhost>> {
        let same = |one: &str, other: &str| bare(one).eq_ignore_ascii_case(bare(other));
        let named = |name: &str| self.vhosts.iter().find(|vhost| same(&vhost.name, name));
        named(name).or_else(|| named(DEFAULT_VHOST)).filter(|vhost| vhost.enabled)
    }

    /// All mounts that a request may mean, the best first.
    ///
    /// # Errors
    /// [`Refusal::Path`] for paths that are not one.
    pub fn routes(&self, host: &str, path: &str, query: &str) -> Result<Vec<Route>, Refusal> {
        let path = decode_path(path)?;
        let mut routes = Vec::new();
        for (vhost, is_own) in self.asked(host, query) {
            for mount in &vhost.mounts {
                if let Some(found) = matches(&mount.pattern, is_own, &path) {
                    let key = StreamKey::new(&vhost.name, found.app, found.stream);
                    routes.push(Route { vhost: vhost.clone(), mount: mount.clone(), key });
                }
            }
        }
        Ok(routes)
    }

    /// The status and the URL by which a redirect rule answers a request, unless a mount comes before it.
    ///
    /// # Errors
    /// As [`routes`](Self::routes).
    pub fn redirect(&self, host: &str, path: &str, query: &str) -> Result<Option<(u16, String)>, Refusal> {
        let path = decode_path(path)?;
        for (vhost, is_own) in self.asked(host, query) {
            for rule in &vhost.redirects {
                if let Some(found) = matches(&rule.pattern, is_own, &path) {
                    return Ok(Some((rule.status, rule.target.url(&vhost.name, found, query))));
                }
            }
            if vhost.mounts.iter().any(|mount| matches(&mount.pattern, is_own, &path).is_some()) {
                return Ok(None);
            }
        }
        Ok(None)
    }

    /// The enabled vhosts, the one that a request is for first, and whether each is it.
    fn asked(&self, host: &str, query: &str) -> impl Iterator<Item = (&Arc<Vhost>, bool)> {
        let own = self.vhost(&asked_vhost(host, query));
        let is_own = move |vhost: &Arc<Vhost>| own.is_some_and(|own| Arc::ptr_eq(own, vhost));
        let others = self.vhosts.iter().filter(move |vhost| vhost.enabled && !is_own(vhost));
        own.into_iter().map(|own| (own, true)).chain(others.map(|other| (other, false)))
    }
}

/// The name that a request asks for, by the rules of RTMP: the name of the default vhost, or none, asks for nothing.
fn asked_vhost<'a>(host: &'a str, query: &'a str) -> Cow<'a, str> {
    let value = |wanted: &str| {
        let mut pairs = query_pairs(query).filter(|(name, value)| name == wanted && !value.is_empty());
        pairs.next().map(|(_, value)| value)
    };
    let named = value("vhost").or_else(|| value("domain")).filter(|name| name != DEFAULT_VHOST);
    named.unwrap_or_else(|| without_port(host).into())
}

fn matches<'a>(pattern: &MountPattern, is_own: bool, path: &'a str) -> Option<Match<'a>> {
    pattern.matches(path).filter(|_| is_own || !pattern.vhost_only)
}

/// The pairs of a query, decoded.
pub(super) fn query_pairs(query: &str) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    let decode = |text| percent_decode_str(text).decode_utf8_lossy();
    query.split('&').filter(|pair| !pair.is_empty()).map(move |pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode(name), decode(value))
    })
}

/// A host name without the dot that makes it absolute, an IPv6 address without the brackets that RTMP's URLs lose.
fn bare(name: &str) -> &str {
    let name = name.strip_suffix('.').unwrap_or(name);
    name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(name)
}

/// A Host without its port, and without the dot that makes a name absolute.
pub(super) fn without_port(host: &str) -> &str {
    let host = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    host.strip_suffix('.').unwrap_or(host)
}

/// Decodes a path by its segments.
pub(super) fn decode_path(path: &str) -> Result<String, Refusal> {
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
            ("a.example.:80", "a.example"),
            ("", ""),
        ] {
            assert_eq!(without_port(host), name);
        }
    }

    #[test]
    fn the_query_names_the_vhost_as_over_rtmp() {
        for (query, name) in [
            ("", "host"),
            ("vhost=a", "a"),
            ("domain=a", "a"),
            ("domain=a&vhost=b", "b"),
            ("vhost=&domain=a", "a"),
            ("k=v&vhost=a%2eb", "a.b"),
            ("vhost=", "host"),
            ("vhost=__defaultVhost__", "host"),
        ] {
            assert_eq!(asked_vhost("host:80", query), name, "{query}");
        }
    }

    const TWO: &str = r#"
        [[vhost."__defaultVhost__".http_remux]]
        enabled = true
        [[vhost."a.example".http_remux]]
        enabled = true
        [[vhost."a.example".http_remux]]
        enabled = true
        mount = "/tv/[app]/[stream].flv"
        [[vhost."a.example".redirect]]
        enabled = true
        path = "/go/[app]/[stream].flv"
        to = "http://b.example/[vhost]/[app]/[stream]"
        status = 307
        [[vhost."b.example".redirect]]
        enabled = true
        to = "//c.example/"
        [[vhost."b.example".http_remux]]
        enabled = true
        mount = "[vhost]/go/[app]/[stream].flv"
        [vhost."off.example"]
        enabled = false
        [[vhost."off.example".http_remux]]
        enabled = true
        mount = "/off/[app]/[stream].flv"
    "#;

    fn two() -> Router {
        Router::new(&Config::parse(TWO, "two.toml").unwrap())
    }

    #[test]
    fn a_vhost_has_its_name_however_it_is_written() {
        let router =
            Router::new(&Config::parse("[vhost.\"a.example\"]\n[vhost.\"[::1]\"]", "a.toml").unwrap());
        for (asked, expected) in [
            ("a.example", Some("a.example")),
            ("A.EXAMPLE.", Some("a.example")),
            ("[::1]", Some("[::1]")),
            ("::1", Some("[::1]")),
            ("::2", None),
            ("b.a.example", None),
            ("", None),
        ] {
            assert_eq!(router.vhost(asked).map(|vhost| vhost.name.as_str()), expected, "{asked}");
        }
    }

    #[test]
    fn finds_mounts_by_host_and_pattern() {
        let router = two();
        for (host, path, query, expected) in [
            ("other", "/live/x.flv", "", "__defaultVhost__"),
            ("127.0.0.1:80", "/live/x.flv", "", "__defaultVhost__"),
            ("A.Example.:80", "/live/x.flv", "", "a.example"),
            ("other", "/live/x.flv", "vhost=a.example", "a.example"),
            ("other", "/live/x.flv", "domain=a.example", "a.example"),
            ("a.example", "/live/x.flv", "vhost=other", "__defaultVhost__"),
            ("a.example", "/tv/live/x.flv", "", "a.example"),
            ("other", "/tv/live/x.flv", "", "a.example"),
            ("off.example", "/tv/live/x.flv", "", "a.example"),
            ("off.example", "/live/x.flv", "", ""),
            ("off.example", "/off/live/x.flv", "", ""),
            ("other", "/off/live/x.flv", "", ""),
            ("other", "/live/x.ts", "", ""),
            ("b.example", "/live/x.flv", "", ""),
        ] {
            let routes = router.routes(host, path, query).unwrap();
            let vhost = routes.first().map_or("", |route| &route.vhost.name);
            assert_eq!(vhost, expected, "{host} {path}?{query}");
        }
    }

    #[test]
    fn redirects_unless_a_mount_of_the_own_vhost_is_there() {
        let router = two();
        for (host, path, query, expected) in [
            ("a.example", "/go/live/x.flv", "", Some((307, "http://b.example/a.example/live/x"))),
            ("other", "/go/live/x.flv", "k=v", Some((307, "http://b.example/a.example/live/x?k=v"))),
            ("b.example", "/live/x.flv", "", Some((302, "//c.example/"))),
            ("b.example", "/go/live/x.flv", "", None),
            ("other", "/live/x.flv", "", None),
            ("other", "/live/x.flv", "vhost=b.example", Some((302, "//c.example/?vhost=b.example"))),
        ] {
            let found = router.redirect(host, path, query).unwrap();
            let expected = expected.map(|(status, url)| (status, url.to_owned()));
            assert_eq!(found, expected, "{host} {path}?{query}");
        }
    }

    #[test]
    fn decodes_queries() {
        let pairs: Vec<_> = query_pairs("a=1&&b=x%3dy&c").collect();
        assert_eq!(pairs, [("a".into(), "1".into()), ("b".into(), "x=y".into()), ("c".into(), "".into())]);
    }
}
