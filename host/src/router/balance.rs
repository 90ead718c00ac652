//! Redirects to nodes of the directory: URLs of the same stream at another node.
//!
//! A request that another node has redirected is served here, and so are the pulls of nodes: what an edge asks for must not send it
//! to a sibling.

use std::net::IpAddr;

use percent_encoding::{AsciiSet, utf8_percent_encode};

use super::answer::{Named, Redirection};
use super::query::query_pairs;
use crate::conf::{DEFAULT_VHOST, PASSED_ON, Players, Redirect, RedirectTo};
use crate::policy::{Base, CREDENTIAL, Choice, HOPS, Protocol, REDIRECTED, Targets};
use crate::stream::StreamKey;

/// Characters that are encoded in a query that is passed on over RTMP, where the last slash ends the app.
const RTMP_QUERY: &AsciiSet = &PASSED_ON.add(b'/');

/// A client that asks for a stream, and the nodes to which it may be sent.
#[derive(Clone, Copy, Debug)]
pub struct Newcomer<'a> {
    /// The client's address.
    pub address: IpAddr,
    /// The protocol.
    pub protocol: Protocol,
    /// The nodes.
    pub targets: &'a Targets,
}

impl Newcomer<'_> {
    /// Returns where a player over RTMP goes, by the first rule of the vhost that redirects players; `None` if it is served here.
    pub fn redirect(&self, Named { vhost, key, .. }: &Named, query: &str) -> Option<Redirection> {
        vhost.redirects.iter().find_map(|rule| self.over_rtmp(rule, key, query))
    }

    /// Returns where a request for `path`, as sent, goes by a rule that leads to nodes of the directory; `None` if it is served here.
    pub(super) fn over_http(
        &self,
        rule: &Redirect,
        vhost: &str,
        path: &str,
        query: &str,
    ) -> Option<Redirection> {
        let choice = self.choose(rule, path, query)?;
        let base = match choice {
            Choice::Here => return None,
            Choice::Full => return Some(Redirection::Full),
            Choice::There(base) => base,
        };
        let query = marked(query, vhost, PASSED_ON);
        Some(Redirection::To {
            status: rule.status,
            url: format!("{}{path}?{query}", base.trim_end_matches('/')),
        })
    }

    /// Returns where a player over RTMP of the stream `key` goes; `None` if it is served here. A name that cannot be written in a URL
    /// of RTMP is served here.
    fn over_rtmp(&self, rule: &Redirect, key: &StreamKey, query: &str) -> Option<Redirection> {
        if [&*key.app, &*key.stream]
            .iter()
            .any(|name| name.contains(['?', '#', '&']) || name.contains(char::is_whitespace))
        {
            return None;
        }
        let base = match self.choose(rule, &key.to_string(), query)? {
            Choice::Here => return None,
            Choice::Full => return Some(Redirection::Full),
            Choice::There(base) => base,
        };
        let query = marked(query, &key.vhost, RTMP_QUERY);
        let (base, app, stream) = (base.trim_end_matches('/'), &key.app, &key.stream);
        Some(Redirection::To { status: rule.status, url: format!("{base}/{app}/{stream}?{query}") })
    }

    /// Returns the choice of a node; `None` if the rule does not lead to one, or not this request.
    fn choose(&self, rule: &Redirect, stream: &str, query: &str) -> Option<Choice<'_>> {
        let RedirectTo::Node { order, rtmp, websocket } = rule.to else { return None };
        let (is_followed, base) = match self.protocol {
            Protocol::Rtmp => (rtmp == Players::Redirect, Base::Rtmp),
            Protocol::WebSocket => (websocket == Players::Redirect, Base::Http),
            Protocol::Http => (true, Base::Http),
        };
        let stays = |name: &str| [REDIRECTED, HOPS, CREDENTIAL].contains(&name);
        if !is_followed || query_pairs(query).any(|(name, _)| stays(&name)) {
            return None;
        }
        Some(self.targets.choose(order, base, self.address, stream))
    }
}

/// Returns a query with the mark of a redirected request, and with the vhost unless it names one: the other node is asked by another
/// host name.
fn marked(query: &str, vhost: &str, set: &'static AsciiSet) -> String {
    let names_vhost = |(name, value): (std::borrow::Cow<str>, std::borrow::Cow<str>)| {
        (name == "vhost" || name == "domain") && !value.is_empty()
    };
    let mut marked = utf8_percent_encode(query, set).to_string();
    let mut add = |name: &str, value: &str| {
        if !marked.is_empty() && !marked.ends_with('&') {
            marked.push('&');
        }
        marked.push_str(name);
        marked.push('=');
        marked.push_str(value);
    };
    if vhost != DEFAULT_VHOST && !query_pairs(query).any(names_vhost) {
        add("vhost", vhost);
    }
    add(REDIRECTED, "1");
    marked
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::conf::{Config, SessionLimits};
    use crate::policy::{NodeLoad, Target};
    use crate::router::Router;

    const CONFIG: &str = r#"
        [cluster]
        node = "own"
        secret = "0123456789abcdef0123456789abcdef"
        allow = ["10.0.0.0/8"]
        [cluster.directory]
        kind = "static"
        [[cluster.directory.node]]
        name = "a"
        [[vhost."__defaultVhost__".http_remux]]
        enabled = true
        [[vhost."__defaultVhost__".redirect]]
        enabled = true
        to = "least-loaded"
        [[vhost."b.example".redirect]]
        enabled = true
        to = "least-loaded"
        status = 307
        rtmp = "redirect"
        websocket = "redirect"
        [[vhost."b.example".http_remux]]
        enabled = true
    "#;

    fn targets(url: &str, max_bitrate: u64) -> Targets {
        let load = NodeLoad { bitrate: 1, max_bitrate, ..NodeLoad::default() };
        let target = Target {
            name: "a".to_owned(),
            is_own: url.is_empty(),
            play_url: Some(url.to_owned()),
            rtmp_url: Some(url.replace("http", "rtmp")),
            region: String::new(),
            load,
        };
        Targets::new(vec![target], Default::default(), Duration::ZERO)
    }

    fn router() -> Router {
        Router::new(Config::parse(CONFIG, "remuxd.toml").unwrap().vhosts, &SessionLimits::default())
    }

    fn shown(redirect: Option<Redirection>) -> Option<String> {
        redirect.map(|redirect| match redirect {
            Redirection::To { status, url } => format!("{status} {url}"),
            Redirection::Full => "full".to_owned(),
        })
    }

    #[test]
    fn a_request_goes_to_the_same_path_at_the_node_once() {
        use Protocol::{Http, WebSocket};
        let (router, there) = (router(), targets("http://a:80/", 0));
        let rows = [
            (Http, "h", "/live/x.flv", "", Some("302 http://a:80/live/x.flv?remuxd_redirected=1")),
            (
                Http,
                "h",
                "/live/%C3%BC.flv",
                "k=a/b%20",
                Some("302 http://a:80/live/%C3%BC.flv?k=a/b%20&remuxd_redirected=1"),
            ),
            (
                Http,
                "h",
                "/live/x.flv",
                "k=\r\n",
                Some("302 http://a:80/live/x.flv?k=%0D%0A&remuxd_redirected=1"),
            ),
            (
                Http,
                "b.example:80",
                "/live/x.flv",
                "",
                Some("307 http://a:80/live/x.flv?vhost=b.example&remuxd_redirected=1"),
            ),
            (
                Http,
                "h",
                "/live/x.flv",
                "vhost=b.example",
                Some("307 http://a:80/live/x.flv?vhost=b.example&remuxd_redirected=1"),
            ),
            (Http, "h", "/live/x.flv", "remuxd_redirected=1", None),
            (Http, "h", "/live/x.flv", "a=b&remuxd%5fredirected=1", None),
            (Http, "h", "/live/x.flv", "remuxd_hops=n/v", None),
            (Http, "h", "/live/x.flv", "remuxd_node=1.2.3", None),
            (WebSocket, "h", "/live/x.flv", "", None),
            (
                WebSocket,
                "b.example",
                "/live/x.flv",
                "",
                Some("307 http://a:80/live/x.flv?vhost=b.example&remuxd_redirected=1"),
            ),
        ];
        for (protocol, host, path, query, expected) in rows {
            let newcomer = Newcomer { address: [10, 0, 0, 1].into(), protocol, targets: &there };
            let resolved = router.resolve(host, path, query, Some(&newcomer)).unwrap();
            assert_eq!(resolved.routes.is_empty(), expected.is_some(), "{host} {path}?{query}");
            assert_eq!(shown(resolved.redirect).as_deref(), expected, "{host} {path}?{query}");
        }
    }

    #[test]
    fn this_node_serves_what_it_is_chosen_for_and_full_nodes_refuse() {
        let router = router();
        for (targets, expected, routes) in [
            (targets("", 0), None, 1),
            (targets("http://a", 1), Some("full"), 0),
            (Targets::default(), None, 1),
        ] {
            let newcomer =
                Newcomer { address: [10, 0, 0, 1].into(), protocol: Protocol::Http, targets: &targets };
            let resolved = router.resolve("h", "/live/x.flv", "", Some(&newcomer)).unwrap();
            assert_eq!((shown(resolved.redirect).as_deref(), resolved.routes.len()), (expected, routes));
        }
        let resolved = router.resolve("h", "/live/x.flv", "", None).unwrap();
        assert!(resolved.redirect.is_none() && resolved.routes.len() == 1);
    }

    #[test]
    fn players_over_rtmp_are_redirected_by_rules_that_say_so() {
        let (router, there) = (router(), targets("http://a:1935", 0));
        let newcomer = Newcomer { address: [10, 0, 0, 1].into(), protocol: Protocol::Rtmp, targets: &there };
        let rows = [
            ("h", "x", "", None),
            ("b.example", "x", "", Some("307 rtmp://a:1935/live/x?vhost=b.example&remuxd_redirected=1")),
            (
                "b.example",
                "x",
                "k=a/b",
                Some("307 rtmp://a:1935/live/x?k=a%2Fb&vhost=b.example&remuxd_redirected=1"),
            ),
            (
                "b.example",
                "x",
                "vhost=b.example",
                Some("307 rtmp://a:1935/live/x?vhost=b.example&remuxd_redirected=1"),
            ),
            ("b.example", "x", "remuxd_redirected=1", None),
            ("b.example", "x y", "", None),
        ];
        for (vhost, stream, query, expected) in rows {
            let named = router.stream(vhost, "live", stream, |_| false).unwrap();
            assert_eq!(
                shown(newcomer.redirect(&named, query)).as_deref(),
                expected,
                "{vhost} {stream} {query}"
            );
        }
    }
}
