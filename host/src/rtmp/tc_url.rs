//! Parsing of tcUrl and stream name into vhost, app, stream and parameters.
//!
//! RTMP 1.0 splits a URL into the `tcUrl` of `connect` (7.2.1.1) and the stream name of `publish` or `play` (7.2.2), and
//! does not define virtual hosts and parameters. The rules here are those that SRS users rely on:
//! `rtmp://host[:port]/app[/more]/stream?params`, where the last path part is the stream and the parameter `vhost=` (or
//! `domain=`) overrides the host. The router decides which vhost of the configuration answers.
//!
//! Invariants:
//! - the stream and the app of a [`StreamName`] are not empty and have no control characters;
//! - neither the `Debug` output of a [`StreamName`] nor a [`NameError`] contains the stream or the parameters.
//!
//! Tolerated:
//! - `app...vhost...NAME` for `app?vhost=NAME` (Flash encoders that reject `?` in the application);
//! - parameters of the app, `app?k=v/stream` and `app#k=v/stream` (FMLE, OBS with a query in its server field);
//! - `/_definst_`, the default instance (FMLE and Wowza clients);
//! - an empty stream name, with the whole URL as tcUrl (OBS with an empty stream key).

use std::fmt;

use thiserror::Error;

/// The app of a URL without one.
const DEFAULT_APP: &str = "__defaultApp__";
/// The port of a URL without one.
const DEFAULT_PORT: u16 = 1935;
/// The maximum length of tcUrl and stream name together, in bytes.
const MAX_NAME: usize = 8192;

/// The value of `vhost=` that means the same as no `vhost=`.
const DEFAULT_VHOST: &str = "__defaultVhost__";

/// The name of a stream and of its server, as a client gives them.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct StreamName {
    /// `rtmp` or `rtmps`, in lower case.
    pub schema: String,
    /// The host as the client wrote it, without port; an IPv6 address without brackets.
    pub host: String,
    /// The port; 1935 by default.
    pub port: u16,
    /// The requested virtual host: the parameter `vhost` or `domain`, else `host`.
    pub vhost: String,
    /// The application, without leading and trailing slash.
    pub app: String,
    /// The stream key.
    pub stream: String,
    /// The parameters with their leading `?`, or empty.
    pub params: String,
}

/// An invalid tcUrl or stream name. The culprit is the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum NameError {
    /// The stream name is empty, and tcUrl does not contain one.
    #[error("the stream name is empty")]
    Empty,
    /// The tcUrl and the stream name are too long.
    #[error("tcUrl and stream name have {len} bytes, more than {limit}")]
    TooLong {
        /// Length of both together, in bytes.
        len: usize,
        /// The maximum.
        limit: usize,
    },
    /// The tcUrl or the stream name contains a control character.
    #[error("the name contains control character {code:#04x}")]
    ControlCharacter {
        /// The character's code point.
        code: u32,
    },
    /// A path part is `.` or `..`.
    #[error("the name contains a relative path part")]
    RelativePath,
    /// The port is not a number from 1 to 65535.
    #[error("the port is not a number from 1 to 65535")]
    Port,
}

impl StreamName {
    /// Parses the `tcUrl` of `connect` together with the name of `publish` or `play`.
    ///
    /// # Errors
    ///
    /// See [`NameError`].
    pub fn parse(tc_url: &str, name: &str) -> Result<StreamName, NameError> {
        let len = tc_url.len() + name.len();
        if len > MAX_NAME {
            return Err(NameError::TooLong { len, limit: MAX_NAME });
        }
        if let Some(control) = tc_url.chars().chain(name.chars()).find(|c| c.is_control()) {
            return Err(NameError::ControlCharacter { code: control.into() });
        }

        let (schema, rest) = tc_url.split_once("://").unwrap_or(("rtmp", tc_url));
        let (authority, location) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        let (host, port) = split_authority(authority)?;

        let location = format!("{location}/{}", name.trim_start_matches('/'));
        let location = location.replace("...vhost...", "?vhost=").replace("/_definst_", "");
        let (path, query) = split_query(&location);
        let (app, stream) = split_stream(&path);
        let (app, stream, query) =
            if stream.is_empty() { guess_stream(app, &query)? } else { (app, stream, &*query) };
        if app.split('/').chain(stream.split('/')).any(|part| part == "." || part == "..") {
            return Err(NameError::RelativePath);
        }

        let requested = query_value(query, "vhost").or_else(|| query_value(query, "domain"));
        let is_default = requested == Some(DEFAULT_VHOST) && !query.contains('&');
        Ok(StreamName {
            schema: schema.to_ascii_lowercase(),
            vhost: requested.filter(|vhost| *vhost != DEFAULT_VHOST).unwrap_or(&host).to_owned(),
            host,
            port,
            app: if app.is_empty() { DEFAULT_APP.to_owned() } else { app.to_owned() },
            stream: stream.to_owned(),
            params: if query.is_empty() || is_default { String::new() } else { format!("?{query}") },
        })
    }

    /// Parses a whole URL: `rtmp://host/app/stream?params`.
    ///
    /// # Errors
    ///
    /// As [`parse`](Self::parse).
    pub fn parse_url(url: &str) -> Result<StreamName, NameError> {
        StreamName::parse(url, "")
    }

    /// Returns the `tcUrl` for a connection to this stream, without parameters.
    pub fn tc_url(&self) -> String {
        let StreamName { schema, host, port, app, .. } = self;
        let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        let app = if app == DEFAULT_APP { "" } else { app };
        match *port {
            DEFAULT_PORT => format!("{schema}://{host}/{app}"),
            port => format!("{schema}://{host}:{port}/{app}"),
        }
    }

    /// Returns the name for `publish` or `play`: the stream key and the parameters.
    pub fn stream_with_params(&self) -> String {
        format!("{}{}", self.stream, self.params)
    }
}

/// Leaves out the stream key and the parameters, which may hold tokens.
impl fmt::Debug for StreamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamName")
            .field("schema", &self.schema)
            .field("host", &self.host)
            .field("port", &self.port)
            .field("vhost", &self.vhost)
            .field("app", &self.app)
            .finish_non_exhaustive()
    }
}

/// Splits `[user@]host[:port]` into host and port. An IPv6 host is in brackets.
fn split_authority(authority: &str) -> Result<(String, u16), NameError> {
    let authority = authority.rsplit_once('@').map_or(authority, |(_user, host)| host);
    let (host, port) = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, port)) => (host, port.strip_prefix(':')),
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    let port = match port {
        None | Some("") => DEFAULT_PORT,
        Some(port) => port.parse().ok().filter(|port| *port != 0).ok_or(NameError::Port)?,
    };
    Ok((host.to_owned(), port))
}

/// Splits path and query. A query before the last slash (`app?k=v/stream`) is moved to the end.
fn split_query(location: &str) -> (String, String) {
    let Some(mark) = location.find(['?', '#']) else { return (location.to_owned(), String::new()) };
    let (path, rest) = location.split_at(mark);
    let Some(slash) = rest.rfind('/') else { return (path.to_owned(), join_queries(&rest[1..], "")) };
    let (on_app, last) = rest.split_at(slash);
    let (last, on_stream) = last.split_at(last.find(['?', '#']).unwrap_or(last.len()));
    (format!("{path}{last}"), join_queries(&on_app[1..], on_stream.get(1..).unwrap_or_default()))
}

fn join_queries(first: &str, second: &str) -> String {
    let separator = if first.is_empty() || second.is_empty() { "" } else { "&" };
    // Further `?` and `#` separate parameters too.
    format!("{first}{separator}{second}").replace(['?', '#'], "&")
}

/// Splits a path into app and stream, its last part.
fn split_stream(path: &str) -> (&str, &str) {
    let (app, stream) = path.rsplit_once('/').unwrap_or(("", path));
    (app.trim_matches('/'), stream)
}

/// Returns app, stream and query of a URL without stream name: the stream is the last part of the app
/// (`live/livestream`), or follows a slash in the query (`k=v/livestream`).
fn guess_stream<'a>(app: &'a str, query: &'a str) -> Result<(&'a str, &'a str, &'a str), NameError> {
    let (app, stream, query) = match (app.rsplit_once('/'), query.rsplit_once('/')) {
        (_, Some((query, stream))) => (app, stream, query),
        (Some((app, stream)), None) => (app.trim_end_matches('/'), stream, query),
        (None, None) => return Err(NameError::Empty),
    };
    if stream.is_empty() { Err(NameError::Empty) } else { Ok((app, stream, query)) }
}

/// Returns the first non-empty value of a key in a query without `?`.
fn query_value<'a>(query: &'a str, key: &str) -> Option<&'a str> {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.filter(|(name, value)| *name == key && !value.is_empty()).map(|(_, value)| value).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// tcUrl, stream name, and the parsed schema, host, port, vhost, app, stream and params.
    #[rustfmt::skip]
    const NAMES: &[(&str, &str, [&str; 7])] = &[
        ("rtmp://ip/live", "livestream", ["rtmp", "ip", "1935", "ip", "live", "livestream", ""]),
        ("rtmp://ip/live/", "livestream", ["rtmp", "ip", "1935", "ip", "live", "livestream", ""]),
        ("rtmp://ip/live", "/livestream", ["rtmp", "ip", "1935", "ip", "live", "livestream", ""]),
        ("RTMPS://ip:443/live", "s", ["rtmps", "ip", "443", "ip", "live", "s", ""]),
        ("rtmp://[2001:db8::1]:19350/live", "s", ["rtmp", "2001:db8::1", "19350", "2001:db8::1", "live", "s", ""]),
        ("rtmp://[::1]/live", "s", ["rtmp", "::1", "1935", "::1", "live", "s", ""]),
        ("rtmp://user:pw@ip/live", "s", ["rtmp", "ip", "1935", "ip", "live", "s", ""]),
        // Several levels.
        ("rtmp://ip/a/b/c", "s", ["rtmp", "ip", "1935", "ip", "a/b/c", "s", ""]),
        ("rtmp://ip/a", "b/s", ["rtmp", "ip", "1935", "ip", "a/b", "s", ""]),
        // No app.
        ("rtmp://ip", "s", ["rtmp", "ip", "1935", "ip", "__defaultApp__", "s", ""]),
        ("rtmp://ip/", "s", ["rtmp", "ip", "1935", "ip", "__defaultApp__", "s", ""]),
        ("rtmp://ip?vhost=v", "s", ["rtmp", "ip", "1935", "v", "__defaultApp__", "s", "?vhost=v"]),
        // Parameters, on either side.
        ("rtmp://ip/live", "s?k=v", ["rtmp", "ip", "1935", "ip", "live", "s", "?k=v"]),
        ("rtmp://ip/live?k=v", "s", ["rtmp", "ip", "1935", "ip", "live", "s", "?k=v"]),
        ("rtmp://ip/live/?k=v", "s", ["rtmp", "ip", "1935", "ip", "live", "s", "?k=v"]),
        ("rtmp://ip/live#k=v", "s", ["rtmp", "ip", "1935", "ip", "live", "s", "?k=v"]),
        ("rtmp://ip/live?a=1", "s?b=2", ["rtmp", "ip", "1935", "ip", "live", "s", "?a=1&b=2"]),
        ("rtmp://ip/live", "s?a=1?b=2", ["rtmp", "ip", "1935", "ip", "live", "s", "?a=1&b=2"]),
        ("rtmp://ip/live", "s?", ["rtmp", "ip", "1935", "ip", "live", "s", ""]),
        // Virtual hosts.
        ("rtmp://ip/live?vhost=v.net", "s", ["rtmp", "ip", "1935", "v.net", "live", "s", "?vhost=v.net"]),
        ("rtmp://ip/live", "s?vhost=v.net&k=v", ["rtmp", "ip", "1935", "v.net", "live", "s", "?vhost=v.net&k=v"]),
        ("rtmp://ip/live", "s?k=v&domain=d", ["rtmp", "ip", "1935", "d", "live", "s", "?k=v&domain=d"]),
        ("rtmp://ip/live", "s?domain=d&vhost=v", ["rtmp", "ip", "1935", "v", "live", "s", "?domain=d&vhost=v"]),
        ("rtmp://ip/live...vhost...v.net", "s", ["rtmp", "ip", "1935", "v.net", "live", "s", "?vhost=v.net"]),
        ("rtmp://ip/live", "s?vhost=__defaultVhost__", ["rtmp", "ip", "1935", "ip", "live", "s", ""]),
        ("rtmp://ip/live", "s?vhost=__defaultVhost__&k=v",
            ["rtmp", "ip", "1935", "ip", "live", "s", "?vhost=__defaultVhost__&k=v"]),
        ("rtmp://ip/live", "s?vhost=&k=v", ["rtmp", "ip", "1935", "ip", "live", "s", "?vhost=&k=v"]),
        // The default instance.
        ("rtmp://ip/live/_definst_", "s", ["rtmp", "ip", "1935", "ip", "live", "s", ""]),
        ("rtmp://ip/live/_definst_?k=v", "s", ["rtmp", "ip", "1935", "ip", "live", "s", "?k=v"]),
        // The stream is guessed.
        ("rtmp://ip/live/livestream", "", ["rtmp", "ip", "1935", "ip", "live", "livestream", ""]),
        ("rtmp://ip/live/livestream?k=v", "", ["rtmp", "ip", "1935", "ip", "live", "livestream", "?k=v"]),
        ("rtmp://ip/live?k=v/livestream", "", ["rtmp", "ip", "1935", "ip", "live", "livestream", "?k=v"]),
        ("rtmp://ip/a/b/livestream", "", ["rtmp", "ip", "1935", "ip", "a/b", "livestream", ""]),
        // No scheme: the client sent its app instead of a tcUrl.
        ("/live", "s", ["rtmp", "", "1935", "", "live", "s", ""]),
    ];

    fn parts(name: &StreamName) -> [String; 7] {
        let StreamName { schema, host, port, vhost, app, stream, params } = name.clone();
        [schema, host, port.to_string(), vhost, app, stream, params]
    }

    #[test]
    fn parses_names() {
        for (tc_url, name, expected) in NAMES {
            let parsed = StreamName::parse(tc_url, name).unwrap();
            assert_eq!(parts(&parsed), *expected, "{tc_url} {name}");
        }
    }

    #[test]
    fn parses_back_what_it_writes() {
        for (tc_url, name, _) in NAMES {
            let parsed = StreamName::parse(tc_url, name).unwrap();
            let again = StreamName::parse(&parsed.tc_url(), &parsed.stream_with_params()).unwrap();
            assert_eq!(parts(&again), parts(&parsed), "{tc_url} {name}");
        }
    }

    #[test]
    fn rejects_invalid_names() {
        let long = "x".repeat(MAX_NAME);
        let rows = [
            ("rtmp://ip/live", "", NameError::Empty),
            ("rtmp://ip/live", "/", NameError::Empty),
            ("rtmp://ip/live", "?k=v", NameError::Empty),
            ("", "", NameError::Empty),
            ("rtmp://ip:99999/live", "s", NameError::Port),
            ("rtmp://ip:0/live", "s", NameError::Port),
            ("rtmp://ip:x/live", "s", NameError::Port),
            ("rtmp://ip/../live", "s", NameError::RelativePath),
            ("rtmp://ip/live", "..", NameError::RelativePath),
            ("rtmp://ip/live", "a\nb", NameError::ControlCharacter { code: 10 }),
            ("rtmp://ip/live", &long, NameError::TooLong { len: MAX_NAME + 14, limit: MAX_NAME }),
        ];
        for (tc_url, name, error) in rows {
            assert_eq!(StreamName::parse(tc_url, name), Err(error), "{tc_url} {name}");
        }
    }

    #[test]
    fn keeps_secrets_out_of_debug() {
        let name = StreamName::parse("rtmp://ip/live?token=hush", "key").unwrap();
        let shown = format!("{name:?}");
        assert!(shown.contains("live") && !shown.contains("hush") && !shown.contains("key"), "{shown}");
    }
}
