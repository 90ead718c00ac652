//! The router: from host, path and query to a redirect, mounts, streams and a file.
//!
//! A request's own vhost is the one that `?vhost=` or `?domain=` names, else the one of its Host, else the default vhost
//! (as SRS does). A disabled vhost keeps its name, and answers nothing under it. The mounts and redirect rules of the
//! own vhost come first, then those of other vhosts whose pattern names no host (`/[app]/…`).
//!
//! Over RTMP a name may end in the extension of one of the vhost's mounts: an edge of SRS whose first viewer comes over
//! HTTP asks for `film.flv`, and SRS takes any extension off the names of publishers and players.

use std::sync::Arc;

use crate::conf::{DEFAULT_VHOST, Match, MountPattern, RedirectTo, SessionLimits, Vhost};
use crate::policy::Policy;
use crate::stream::StreamKey;

use super::answer::{Named, Redirection, Resolved, Route};
use super::balance::Newcomer;
use super::path::{InvalidPath, decode_path, file_path};
use super::query::asked_vhost;

/// The vhosts of a config, as requests see them.
#[derive(Debug)]
pub struct Router {
    sites: Vec<Site>,
}

/// A vhost with its policy.
#[derive(Debug)]
struct Site {
    vhost: Arc<Vhost>,
    policy: Arc<Policy>,
}

impl Router {
    /// Creates a router over `vhosts`, each with the policy of its config. `limits` are those of the whole host.
    pub fn new(vhosts: Vec<Arc<Vhost>>, limits: &SessionLimits) -> Router {
        let site = |vhost: Arc<Vhost>| Site { policy: Arc::new(Policy::new(&vhost, limits)), vhost };
        Router { sites: vhosts.into_iter().map(site).collect() }
    }

    /// Returns its vhosts.
    pub fn vhosts(&self) -> Vec<Arc<Vhost>> {
        self.sites.iter().map(|site| site.vhost.clone()).collect()
    }

    /// Resolves a request's URL: its host, with or without port, its path, and its query without the `?`. Without a newcomer no rule
    /// leads to nodes of the directory.
    ///
    /// # Errors
    /// [`InvalidPath`], whatever the vhost.
    pub fn resolve(
        &self,
        host: &str,
        path: &str,
        query: &str,
        newcomer: Option<&Newcomer<'_>>,
    ) -> Result<Resolved, InvalidPath> {
        let (sent, path) = (path, decode_path(path)?);
        let mut routes = Vec::new();
        let mut redirect = None;
        for (Site { vhost, policy }, is_own) in self.asked(host, query) {
            // A mount of a better vhost comes before the rule, and the rule before mounts of its own vhost.
            if routes.is_empty() {
                let mut rules = vhost.redirects.iter();
                redirect = rules.find_map(|rule| {
                    let found = match_path(&rule.pattern, is_own, &path)?;
                    match &rule.to {
                        RedirectTo::Url(target) => Some(Redirection::To {
                            status: rule.status,
                            url: target.url(&vhost.name, found, query),
                        }),
                        RedirectTo::Node { .. } => newcomer?.over_http(rule, &vhost.name, sent, query),
                    }
                });
                if redirect.is_some() {
                    break;
                }
            }
            for mount in &vhost.mounts {
                if let Some(found) = match_path(&mount.pattern, is_own, &path) {
                    let key = StreamKey::new(&vhost.name, found.app, found.stream);
                    let (vhost, policy) = (vhost.clone(), policy.clone());
                    routes.push(Route { vhost, policy, mount: mount.clone(), key });
                }
            }
        }
        let file = file_path(&path);
        Ok(Resolved { path, query: query.to_owned(), redirect, routes, file })
    }

    /// Returns the stream that a publisher or player names; `None` if the vhost is disabled. If a mount of the vhost has the extension of `stream`, the name without it is meant, unless the stream of the full name `is_live`.
    pub fn stream(
        &self,
        vhost: &str,
        app: &str,
        stream: &str,
        is_live: impl FnOnce(&StreamKey) -> bool,
    ) -> Option<Named> {
        let Site { vhost, policy } = self.site(vhost)?;
        let full = StreamKey::new(&vhost.name, app, stream);
        let has = |extension: &str| vhost.mounts.iter().any(|mount| mount.pattern.extension == extension);
        let split = stream.rsplit_once('.').filter(|(stem, extension)| !stem.is_empty() && has(extension));
        let key = match split {
            Some((stem, _)) if !is_live(&full) => StreamKey::new(&vhost.name, app, stem),
            _ => full,
        };
        Some(Named { vhost: vhost.clone(), policy: policy.clone(), key })
    }

    /// Returns a path that names no stream as the log may show it: with public names in place of secret ones. If a vhost has secret
    /// names, `#` stands for the last name of the path, which may be a mistyped one.
    pub fn shown(&self, path: &str) -> String {
        let path = self.sites.iter().fold(path.to_owned(), |path, site| site.policy.without_secrets(&path));
        if !self.sites.iter().any(|site| site.policy.has_secret_names()) {
            return path;
        }
        let (parents, name) = path.rsplit_once('/').unwrap_or(("", &path));
        let extension = name.rsplit_once('.').map(|(_, extension)| format!(".{extension}"));
        format!("{parents}/#{}", extension.unwrap_or_default())
    }

    /// Returns the vhost of a name; `None` if it is disabled.
    fn site(&self, name: &str) -> Option<&Site> {
        let is_same = |one: &str, other: &str| bare(one).eq_ignore_ascii_case(bare(other));
        let named = |name: &str| self.sites.iter().find(|site| is_same(&site.vhost.name, name));
        named(name).or_else(|| named(DEFAULT_VHOST)).filter(|site| site.vhost.enabled)
    }

    /// Returns the enabled vhosts, the request's own first, each with whether it is that one.
    fn asked(&self, host: &str, query: &str) -> impl Iterator<Item = (&Site, bool)> {
        let own = self.site(&asked_vhost(host, query));
        let is_own = move |site: &Site| own.is_some_and(|own| std::ptr::eq(own, site));
        let others = self.sites.iter().filter(move |site| site.vhost.enabled && !is_own(site));
        own.into_iter().map(|own| (own, true)).chain(others.map(|other| (other, false)))
    }
}

fn match_path<'a>(pattern: &MountPattern, is_own: bool, path: &'a str) -> Option<Match<'a>> {
    pattern.matches(path).filter(|_| is_own || !pattern.vhost_only)
}

/// Returns a host name without its final dot; an IPv6 address without brackets, which RTMP's URLs do not keep.
fn bare(name: &str) -> &str {
    let name = name.strip_suffix('.').unwrap_or(name);
    name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conf::Config;

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
        Router::new(Config::parse(TWO, "two.toml").unwrap().vhosts, &SessionLimits::default())
    }

    #[test]
    fn a_vhost_has_its_name_however_it_is_written() {
        let config = Config::parse("[vhost.\"a.example\"]\n[vhost.\"[::1]\"]", "a.toml").unwrap();
        let router = Router::new(config.vhosts, &SessionLimits::default());
        for (asked, expected) in [
            ("a.example", Some("a.example")),
            ("A.EXAMPLE.", Some("a.example")),
            ("[::1]", Some("[::1]")),
            ("::1", Some("[::1]")),
            ("::2", None),
            ("b.a.example", None),
            ("", None),
        ] {
            assert_eq!(router.site(asked).map(|site| site.vhost.name.as_str()), expected, "{asked}");
        }
    }

    #[test]
    fn a_name_may_end_in_the_extension_of_a_mount_of_its_vhost() {
        let router = two();
        for (vhost, name, is_live, expected) in [
            ("other", "x", false, "live/x"),
            ("other", "x.flv", false, "live/x"),
            ("other", "x.flv", true, "live/x.flv"),
            ("other", "x.y.flv", false, "live/x.y"),
            ("other", "x.flv.flv", false, "live/x.flv"),
            ("other", "x.ts", false, "live/x.ts"),
            ("other", "x.FLV", false, "live/x.FLV"),
            ("other", "flv", false, "live/flv"),
            ("other", ".flv", false, "live/.flv"),
            ("A.example", "x.flv", false, "a.example/live/x"),
            ("off.example", "x.flv", false, ""),
        ] {
            let stream = router.stream(vhost, "live", name, |_| is_live);
            let key = stream.map(|named| named.key.to_string());
            assert_eq!(key.unwrap_or_default(), expected, "{vhost} {name}");
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
            let routes = router.resolve(host, path, query, None).unwrap().routes;
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
            let found = router.resolve(host, path, query, None).unwrap().redirect;
            let expected = expected.map(|(status, url)| Redirection::To { status, url: url.to_owned() });
            assert_eq!(found, expected, "{host} {path}?{query}");
        }
    }
}
