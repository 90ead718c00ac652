//! Host and query of a URL: their parts, and the vhost that they name.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

use crate::conf::DEFAULT_VHOST;

/// Returns the pairs of a query, decoded.
pub fn query_pairs(query: &str) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    let decode = |text| percent_decode_str(text).decode_utf8_lossy();
    query.split('&').filter(|pair| !pair.is_empty()).map(move |pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode(name), decode(value))
    })
}

/// Returns the value of the first parameter of a query with this name, decoded.
pub fn query_value(query: &str, name: &str) -> Option<String> {
    query_pairs(query).find(|(own, _)| own == name).map(|(_, value)| value.into_owned())
}

/// Returns the name of a Host without its port, and without the final dot of an absolute name.
pub fn host_without_port(host: &str) -> &str {
    let host = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    host.strip_suffix('.').unwrap_or(host)
}

/// Returns the name of the vhost that a request asks for: `?vhost=` or `?domain=`, else its Host. As over RTMP, a query
/// that names the default vhost, or is empty, asks for none.
pub(super) fn asked_vhost<'a>(host: &'a str, query: &'a str) -> Cow<'a, str> {
    let value = |wanted: &str| {
        let mut pairs = query_pairs(query).filter(|(name, value)| name == wanted && !value.is_empty());
        pairs.next().map(|(_, value)| value)
    };
    let named = value("vhost").or_else(|| value("domain")).filter(|name| name != DEFAULT_VHOST);
    named.unwrap_or_else(|| host_without_port(host).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decodes_queries() {
        let pairs: Vec<_> = query_pairs("a=1&&b=x%3dy&c").collect();
        assert_eq!(pairs, [("a".into(), "1".into()), ("b".into(), "x=y".into()), ("c".into(), "".into())]);
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
            assert_eq!(host_without_port(host), name);
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
}
