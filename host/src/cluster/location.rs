//! Locations: streams on other servers.

use std::fmt;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use crate::conf::{Scheme, Secret, Upstream};
use crate::policy::{Action, CREDENTIAL, node_credential};
use crate::rtmp::tc_url::StreamName;
use crate::stream::StreamKey;

/// Redirects that are followed.
pub(super) const MAX_REDIRECTS: usize = 3;

/// The maximum length of a URL, in bytes.
const MAX_URL: usize = 4096;

/// Characters that are encoded in a name within an HTTP path: all but the unreserved ones of RFC 3986, and the slash.
const NAME: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

/// Characters that are encoded in a value of a query: also the slash, since RTMP takes the last one for the end of the app.
const VALUE: &AsciiSet = &NAME.add(b'/');

/// A stream on another server. The query may be a secret: neither `Display` nor `Debug` shows it.
#[derive(Clone, PartialEq, Eq)]
pub struct Location {
    /// The protocol.
    pub scheme: Scheme,
    /// A host name or an address; an IPv6 address without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The path with its leading slash: of RTMP as it is, of HTTP encoded.
    path: String,
    /// The query without `?`.
    query: String,
}

/// The reason why a name or URL is no location. The culprit is who named it: a client, or the server that redirects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LocationError {
    /// The scheme is none that streams are carried by.
    #[error("its scheme is not rtmp, rtmps, http or https")]
    Scheme,
    /// There is no host, or it has user information or white space.
    #[error("its host is not a host name")]
    Host,
    /// The port is not a number from 1 to 65535.
    #[error("its port is not a number from 1 to 65535")]
    Port,
    /// A character cannot be carried.
    #[error("the character {character:?} cannot be carried")]
    Character {
        /// The character.
        character: char,
    },
    /// It is too long.
    #[error("it has {len} bytes, more than {limit}")]
    TooLong {
        /// Its length, in bytes.
        len: usize,
        /// The maximum.
        limit: usize,
    },
    /// The path has no stream.
    #[error("its path names no stream")]
    NoStream,
}

impl Location {
    /// Returns where `upstream` has the stream `key`.
    ///
    /// # Errors
    /// The key cannot be carried.
    pub fn of(upstream: &Upstream, key: &StreamKey) -> Result<Location, LocationError> {
        let names = [&*key.vhost, &*key.app, &*key.stream];
        let url = if upstream.scheme().is_rtmp() {
            names.into_iter().try_for_each(check_rtmp_name)?;
            upstream.url(&key.vhost, &key.app, &key.stream, str::to_owned)
        } else {
            upstream
                .url(&key.vhost, &key.app, &key.stream, |name| utf8_percent_encode(name, NAME).to_string())
        };
        Location::parse(&url)
    }

    /// Parses a URL.
    ///
    /// # Errors
    /// [`LocationError`] if it is none.
    pub fn parse(url: &str) -> Result<Location, LocationError> {
        if url.len() > MAX_URL {
            return Err(LocationError::TooLong { len: url.len(), limit: MAX_URL });
        }
        if let Some(character) = url.chars().find(|c| c.is_control() || c.is_whitespace()) {
            return Err(LocationError::Character { character });
        }
        let (scheme, rest) = Scheme::of_url(url).ok_or(LocationError::Scheme)?;
        let rest = rest.split_once('#').map_or(rest, |(rest, _fragment)| rest);
        let (authority, rest) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (host, port) = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, port)) => (host, port.strip_prefix(':').or(port.is_empty().then_some(""))),
            None => {
                authority.split_once(':').map_or((authority, Some("")), |(host, port)| (host, Some(port)))
            }
        };
        if host.is_empty() || host.contains(['@', '[', ']']) {
            return Err(LocationError::Host);
        }
        let port = match port {
            Some("") => scheme.default_port(),
            port => port
                .and_then(|port| port.parse().ok())
                .filter(|port| *port != 0)
                .ok_or(LocationError::Port)?,
        };
        let path = if path.is_empty() { "/" } else { path };
        Ok(Location {
            scheme,
            host: host.to_ascii_lowercase(),
            port,
            path: path.to_owned(),
            query: query.to_owned(),
        })
    }

    /// Adds a parameter to the query.
    #[must_use]
    pub fn with_parameter(mut self, name: &str, value: &str) -> Location {
        if !self.query.is_empty() {
            self.query.push('&');
        }
        self.query.push_str(name);
        self.query.push('=');
        self.query.extend(utf8_percent_encode(value, VALUE));
        self
    }

    /// Adds pairs to the query, as they are.
    #[must_use]
    pub fn with_query(mut self, pairs: &str) -> Location {
        if !self.query.is_empty() && !pairs.is_empty() {
            self.query.push('&');
        }
        self.query.push_str(pairs);
        self
    }

    /// The query without `?`. It may be a secret.
    pub fn query(&self) -> &str {
        &self.query
    }

    /// Returns the host with the port, if that is not the scheme's, as in a Host header.
    pub fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        if self.port == self.scheme.default_port() { host } else { format!("{host}:{}", self.port) }
    }

    /// Returns path and query as a request line has them.
    pub fn path_and_query(&self) -> String {
        if self.query.is_empty() { self.path.clone() } else { format!("{}?{}", self.path, self.query) }
    }

    /// Returns the name of the stream over RTMP.
    ///
    /// # Errors
    /// The path names none.
    pub fn stream_name(&self) -> Result<StreamName, LocationError> {
        let (app, stream) =
            self.path.trim_start_matches('/').rsplit_once('/').ok_or(LocationError::NoStream)?;
        if app.is_empty() || stream.is_empty() {
            return Err(LocationError::NoStream);
        }
        Ok(StreamName {
            schema: self.scheme.name().to_owned(),
            host: self.host.clone(),
            port: self.port,
            vhost: self.host.clone(),
            app: app.to_owned(),
            stream: stream.to_owned(),
            params: if self.query.is_empty() { String::new() } else { format!("?{}", self.query) },
        })
    }

    /// Returns where a redirect to `url` leads from here. A tcUrl of RTMP, which has no stream, keeps the name of this one, without
    /// its query.
    ///
    /// # Errors
    /// The URL is no location.
    pub fn redirected(&self, url: &str) -> Result<Location, LocationError> {
        let target = Location::parse(url)?;
        if !target.scheme.is_rtmp() || target.stream_name().is_ok() {
            return Ok(target);
        }
        let tc_url = url.split_once('?').map_or(url, |(tc_url, _)| tc_url);
        let name = self.stream_name()?.stream;
        Location::parse(&format!("{}/{name}", tc_url.trim_end_matches('/')))
    }

    /// Returns the URL that a `Location` header means here (RFC 9110, 10.2.2).
    pub fn absolute(&self, reference: &str) -> String {
        let (scheme, authority) = (self.scheme.name(), self.authority());
        match reference {
            _ if reference.contains("://") => reference.to_owned(),
            _ if reference.starts_with("//") => format!("{scheme}:{reference}"),
            _ if reference.starts_with('/') => format!("{scheme}://{authority}{reference}"),
            _ => {
                let folder = self.path.rsplit_once('/').map_or("", |(folder, _)| folder);
                format!("{scheme}://{authority}{folder}/{reference}")
            }
        }
    }

    /// Returns the location with the credential of this node for `action`; unchanged without a secret.
    #[must_use]
    pub fn signed(&self, action: Action, secret: Option<&Secret>) -> Location {
        let location = self.clone();
        let Some(secret) = secret else { return location };
        location.with_parameter(CREDENTIAL, &node_credential(secret, action, &self.decoded_path()))
    }

    /// Returns the path as the other node reads it.
    fn decoded_path(&self) -> String {
        if self.scheme.is_rtmp() {
            return self.path.clone();
        }
        percent_decode_str(&self.path).decode_utf8_lossy().into_owned()
    }

    /// Returns whether `other` is on the same host, which may have the same credentials.
    pub fn has_host_of(&self, other: &Location) -> bool {
        (self.scheme.is_tls() || !other.scheme.is_tls()) && self.host == other.host
    }
}

/// Checks a name for what would end it, or would mean another vhost, in a URL of RTMP.
fn check_rtmp_name(name: &str) -> Result<(), LocationError> {
    match name.chars().find(|c| "?#&".contains(*c)) {
        Some(character) => Err(LocationError::Character { character }),
        None if name.contains("...vhost...") => Err(LocationError::Character { character: '.' }),
        None => Ok(()),
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.scheme.name(), self.authority(), self.path.escape_debug())
    }
}

impl fmt::Debug for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Location({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(upstream: &str, app: &str, stream: &str) -> Result<String, LocationError> {
        let upstream = Upstream::parse(upstream, "a.example").unwrap();
        let location = Location::of(&upstream, &StreamKey::new("a.example", app, stream))?;
        Ok(format!("{} {} {}", location.authority(), location.port, location.path_and_query()))
    }

    #[test]
    fn names_the_stream_at_the_upstream() {
        let rows = [
            ("o.example", "live", "x", Ok("o.example 1935 /live/x?vhost=a.example")),
            ("O.example:80", "a/b", "ü x", Err(' ')),
            ("http://o.example", "a/b", "ü x?", Ok("o.example 80 /a/b/%C3%BC%20x%3F.flv?vhost=a.example")),
            ("https://[::1]/s/[stream]?k=1", "live", "x", Ok("[::1] 443 /s/x?k=1&vhost=a.example")),
            ("rtmps://o.example:1/t/[stream]", "live", "x", Ok("o.example:1 1 /t/x?vhost=a.example")),
            ("o.example", "live", "x?vhost=b", Err('?')),
            ("o.example", "live...vhost...b", "x", Err('.')),
        ];
        for (upstream, app, stream, expected) in rows {
            let expected =
                expected.map(str::to_owned).map_err(|character| LocationError::Character { character });
            assert_eq!(of(upstream, app, stream), expected, "{upstream} {app} {stream}");
        }
    }

    #[test]
    fn parses_the_target_of_a_redirect() {
        use LocationError::*;
        let rows = [
            ("rtmp://h/a/s?k=v#f", Ok("rtmp://h/a/s")),
            ("http://h:8080?k=v", Ok("http://h:8080/")),
            ("rtmps://[::1]:443/a/s", Ok("rtmps://[::1]/a/s")),
            ("file:///etc/passwd", Err(Scheme)),
            ("//h/a", Err(Scheme)),
            ("rtmp:///a/s", Err(Host)),
            ("rtmp://u@h/a/s", Err(Host)),
            ("rtmp://[::1]x/a/s", Err(Port)),
            ("rtmp://h:0/a/s", Err(Port)),
            ("rtmp://h:99999/a/s", Err(Port)),
            ("rtmp://h/a/s\r\nX: 1", Err(Character { character: '\r' })),
        ];
        for (url, expected) in rows {
            assert_eq!(
                Location::parse(url).map(|location| location.to_string()).as_deref(),
                expected.as_deref(),
                "{url}"
            );
        }
    }

    #[test]
    fn a_redirect_is_relative_or_keeps_the_name() {
        let location = Location::parse("rtmp://a/live/x?k=hush").unwrap();
        for (url, expected) in [
            ("rtmp://b/tv/y?n=1", Ok("rtmp://b/tv/y")),
            ("rtmp://b:1936/live", Ok("rtmp://b:1936/live/x")),
            ("rtmp://b/live/?n=1", Ok("rtmp://b/live/x")),
            ("b/live", Err(LocationError::Scheme)),
        ] {
            let found = location.redirected(url);
            assert!(!found.as_ref().is_ok_and(|one| one.query().contains("hush")), "{url}");
            assert_eq!(found.map(|one| one.to_string()), expected.map(str::to_owned), "{url}");
        }
        let location = Location::parse("https://a:444/live/x%20y.flv?k=hush").unwrap();
        assert_eq!(location.decoded_path(), "/live/x y.flv");
        for (reference, expected) in [
            ("http://b/y.flv?n=1", "http://b/y.flv?n=1"),
            ("//b/y.flv", "https://b/y.flv"),
            ("/y.flv?n=1", "https://a:444/y.flv?n=1"),
            ("y.flv", "https://a:444/live/y.flv"),
        ] {
            assert_eq!(location.absolute(reference), expected);
        }
    }

    #[test]
    fn shows_no_query_and_keeps_credentials_on_their_host() {
        let location = Location::parse("rtmps://h/a/s?k=hush").unwrap().with_parameter("n", "a b&c/d");
        assert_eq!(location.stream_name().unwrap().stream_with_params(), "s?k=hush&n=a%20b%26c%2Fd");
        assert!(!format!("{location} {location:?}").contains("hush"));
        for (other, expected) in [("rtmps://h:1/b", true), ("rtmp://h/b", false), ("rtmps://i/b", false)] {
            assert_eq!(Location::parse(other).unwrap().has_host_of(&location), expected, "{other}");
        }
    }
}
