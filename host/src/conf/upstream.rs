//! Upstreams: the servers that a vhost pulls streams from, and sends streams to.
//!
//! An upstream is a URL with variables, `rtmp://origin.example/[app]/[stream]`. Without a path it is
//! `/[app]/[stream]`, over HTTP with `.flv`; without a scheme, as in SRS, it is RTMP. No request can change the scheme, the
//! host or the port.

use std::fmt;

use super::pattern::DEFAULT_VHOST;
use super::target::{RedirectTarget, TargetError, TargetPart};

/// A server, with the names that streams have there. The query may be a secret; no output shows it.
#[derive(Clone, PartialEq, Eq)]
pub struct Upstream {
    scheme: Scheme,
    /// The whole URL.
    parts: Vec<TargetPart>,
    /// As written, without the query.
    shown: String,
}

/// The protocol of an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// RTMP.
    Rtmp,
    /// RTMP over TLS.
    Rtmps,
    /// FLV over HTTP.
    Http,
    /// FLV over HTTPS.
    Https,
}

const SCHEMES: [(Scheme, &str); 4] = [
    (Scheme::Rtmp, "rtmp://"),
    (Scheme::Rtmps, "rtmps://"),
    (Scheme::Http, "http://"),
    (Scheme::Https, "https://"),
];

impl Scheme {
    /// Returns the scheme of a URL, and what follows `://`.
    pub fn of_url(url: &str) -> Option<(Scheme, &str)> {
        SCHEMES.iter().find_map(|(scheme, start)| Some((*scheme, url.strip_prefix(start)?)))
    }

    /// The scheme as URLs have it.
    pub fn name(self) -> &'static str {
        match self {
            Scheme::Rtmp => "rtmp",
            Scheme::Rtmps => "rtmps",
            Scheme::Http => "http",
            Scheme::Https => "https",
        }
    }

    /// The port of a URL without one.
    pub fn default_port(self) -> u16 {
        match self {
            Scheme::Rtmp => 1935,
            Scheme::Rtmps | Scheme::Https => 443,
            Scheme::Http => 80,
        }
    }

    /// Returns whether connections use TLS.
    pub fn is_tls(self) -> bool {
        matches!(self, Scheme::Rtmps | Scheme::Https)
    }

    /// Returns whether it carries RTMP.
    pub fn is_rtmp(self) -> bool {
        matches!(self, Scheme::Rtmp | Scheme::Rtmps)
    }
}

/// Returns whether a text is the base of URLs of RTMP: `rtmp://HOST[:PORT]`, also with `rtmps`.
pub fn is_rtmp_base(text: &str) -> bool {
    let authority =
        Scheme::of_url(text).filter(|(scheme, _)| scheme.is_rtmp()).map(|(_, authority)| authority);
    authority.is_some_and(|authority| !authority.contains(['/', '?', '#']))
        && Upstream::parse(text, DEFAULT_VHOST).is_ok()
}

impl Upstream {
    /// Parses an upstream of `vhost`: `HOST[:PORT]` or a URL.
    ///
    /// # Errors
    /// The leftmost error.
    pub fn parse(text: &str, vhost: &str) -> Result<Upstream, TargetError> {
        let url = if text.contains("://") { text.to_owned() } else { format!("rtmp://{text}") };
        let (scheme, rest) = Scheme::of_url(&url).ok_or(TargetError::NotAbsolute)?;
        let (location, query) =
            rest.split_once('?').map_or((rest, None), |(location, query)| (location, Some(query)));
        let has_path = location.split_once('/').is_some_and(|(_, path)| !path.is_empty());
        let path = match (has_path, scheme.is_rtmp()) {
            (true, _) => "",
            (false, true) => "/[app]/[stream]",
            (false, false) => "/[app]/[stream].flv",
        };
        let location = if has_path { location } else { location.trim_end_matches('/') };
        let shown = format!("{}://{location}{path}", scheme.name());
        let names_vhost = |query: &str| query.split('&').any(|pair| pair.starts_with("vhost="));
        let url = match query {
            Some(query) if names_vhost(query) || vhost == DEFAULT_VHOST => format!("{shown}?{query}"),
            Some(query) => format!("{shown}?{query}&vhost=[vhost]"),
            None if vhost == DEFAULT_VHOST => shown.clone(),
            None => format!("{shown}?vhost=[vhost]"),
        };
        let starts = SCHEMES.map(|(_, start)| start);
        let RedirectTarget { parts, .. } = RedirectTarget::parse_url(&url, vhost, &starts)?;
        if parts.contains(&TargetPart::Query) {
            return Err(TargetError::SharedQuery);
        }
        Ok(Upstream { scheme, parts, shown })
    }

    /// The protocol.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// Returns the URL of a stream, where `encode` writes a value into it. The values must be free of characters that end a
    /// part of a URL, or be encoded.
    pub fn url(&self, vhost: &str, app: &str, stream: &str, encode: impl Fn(&str) -> String) -> String {
        let value = |part: &TargetPart| match part {
            TargetPart::Literal(literal) => literal.clone(),
            TargetPart::Vhost => encode(vhost),
            TargetPart::App => encode(app),
            TargetPart::Stream => encode(stream),
            TargetPart::Query => String::new(),
        };
        self.parts.iter().map(value).collect()
    }
}

impl fmt::Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Upstream({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_of_rtmp_has_a_host_alone() {
        for text in ["rtmp://h", "rtmps://h.example:443", "rtmp://[::1]:1936"] {
            assert!(is_rtmp_base(text), "{text}");
        }
        for text in [
            "",
            "h",
            "http://h",
            "rtmp://",
            "rtmp://h/",
            "rtmp://h/[app]",
            "rtmp://h?k=v",
            "rtmp://u@h",
            "rtmp://a b",
        ] {
            assert!(!is_rtmp_base(text), "{text}");
        }
    }

    #[test]
    fn completes_what_is_written() {
        let rows = [
            ("o.example", "rtmp://o.example/live/x?vhost=a.example"),
            ("o.example:1936/", "rtmp://o.example:1936/live/x?vhost=a.example"),
            ("[::1]:1936", "rtmp://[::1]:1936/live/x?vhost=a.example"),
            ("rtmps://o.example/tv/[stream]?k=v", "rtmps://o.example/tv/x?k=v&vhost=a.example"),
            ("http://o.example", "http://o.example/live/x.flv?vhost=a.example"),
            ("https://o.example/[stream].flv?vhost=b", "https://o.example/x.flv?vhost=b"),
            ("rtmp://[vhost]/[app]/[stream]", "rtmp://a.example/live/x?vhost=a.example"),
        ];
        for (text, url) in rows {
            let upstream = Upstream::parse(text, "a.example").unwrap();
            assert_eq!(upstream.url("a.example", "live", "x", str::to_owned), url, "{text}");
            assert!(!format!("{upstream} {upstream:?}").contains("k=v"), "{upstream}");
        }
        let upstream = Upstream::parse("o.example?k=v", DEFAULT_VHOST).unwrap();
        assert_eq!(upstream.url(DEFAULT_VHOST, "live", "x", str::to_owned), "rtmp://o.example/live/x?k=v");
    }

    #[test]
    fn refuses_what_a_request_could_change() {
        for text in [
            "",
            "srt://o",
            "rtmp://",
            "rtmp://[app]/x",
            "u@o",
            "o/[stream]?[query]",
            "o o",
            "http://o/[host]",
        ] {
            assert!(Upstream::parse(text, "a.example").is_err(), "{text}");
        }
    }
}
