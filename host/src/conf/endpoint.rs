//! Endpoints: URLs that the host itself asks.

use std::fmt;
use std::net::IpAddr;

use reqwest::Url;

/// A URL over HTTP or HTTPS that the host asks. User info and query may be secrets; no output shows them.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Endpoint(Url);

/// The reason why a text is no [`Endpoint`]. Culprit: operator.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EndpointError {
    /// It has no scheme, or another one.
    #[error("not a URL with the scheme http or https")]
    Scheme,
    /// The same, of the URL of a directory.
    #[error("not a URL with the scheme http, https, redis or rediss")]
    DirectoryScheme,
    /// It has a user or a password, where they have keys of their own.
    #[error("a URL of Redis has no user and no password")]
    UserInfo,
    /// It is asked without TLS, though the answer must be authentic.
    #[error("not https: whoever is between could forge the answer")]
    Plain,
    /// It contains white space.
    #[error("a URL has no spaces")]
    Space,
    /// It cannot be parsed.
    #[error("not a URL: {reason}")]
    Malformed {
        /// The reason.
        reason: String,
    },
}

impl Endpoint {
    /// Parses a URL.
    ///
    /// # Errors
    /// [`EndpointError`] if it is none, or has another scheme.
    pub fn parse(text: &str) -> Result<Endpoint, EndpointError> {
        Endpoint::with_scheme(text, &["http", "https"], EndpointError::Scheme)
    }

    /// Parses the URL of a directory: a JSON list over HTTP or HTTPS, or Redis with or without TLS.
    ///
    /// # Errors
    /// [`EndpointError`] if it is none.
    pub fn parse_directory(text: &str) -> Result<Endpoint, EndpointError> {
        let schemes = ["http", "https", "redis", "rediss"];
        let endpoint = Endpoint::with_scheme(text, &schemes, EndpointError::DirectoryScheme)?;
        let has_user = !endpoint.0.username().is_empty() || endpoint.0.password().is_some();
        if endpoint.is_redis() && has_user {
            return Err(EndpointError::UserInfo);
        }
        match endpoint.0.host_str() {
            None | Some("") => Err(EndpointError::Malformed { reason: "empty host".to_owned() }),
            Some(_) => Ok(endpoint),
        }
    }

    fn with_scheme(text: &str, schemes: &[&str], other: EndpointError) -> Result<Endpoint, EndpointError> {
        if text.contains(char::is_whitespace) {
            return Err(EndpointError::Space);
        }
        // `localhost:8085` would be a URL whose scheme is `localhost`.
        let scheme = text.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase());
        if !scheme.is_some_and(|scheme| schemes.contains(&&*scheme)) {
            return Err(other);
        }
        let url = Url::parse(text).map_err(|error| EndpointError::Malformed { reason: error.to_string() })?;
        Ok(Endpoint(url))
    }

    /// The URL, with its secrets.
    pub fn url(&self) -> &Url {
        &self.0
    }

    /// Returns whether its host is an address of this machine.
    pub fn is_loopback(&self) -> bool {
        let host = self.0.host_str().unwrap_or_default();
        let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        address.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    }

    /// Returns whether it is asked over TLS.
    pub fn is_https(&self) -> bool {
        self.0.scheme() == "https"
    }

    /// Returns whether it is a server of Redis, or a Sentinel.
    pub fn is_redis(&self) -> bool {
        matches!(self.0.scheme(), "redis" | "rediss")
    }
}

impl EndpointError {
    /// Returns advice on what to write instead.
    pub(super) fn help(&self) -> &'static str {
        match self {
            EndpointError::Plain => {
                "without TLS only from an address of this machine: \"http://127.0.0.1:8000/keys\""
            }
            EndpointError::DirectoryScheme => {
                "write scheme, host and port: \"redis://10.0.0.5:6379\", \"https://example.com/nodes.json\""
            }
            EndpointError::UserInfo => "they are `user` and `password` of the same table",
            EndpointError::Space => "several URLs are a list: [\"http://…\", \"http://…\"]",
            _ => "write scheme, host and path: \"https://example.com/hooks\"",
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.0.scheme(), self.0.host_str().unwrap_or_default())?;
        if let Some(port) = self.0.port() {
            write!(f, ":{port}")?;
        }
        f.write_str(self.0.path())
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_urls_of_http_are_endpoints_and_their_secrets_are_not_shown() {
        for (text, expected) in [
            ("http://a.example", Ok("http://a.example/")),
            ("HTTPS://A.example:8443/x", Ok("https://a.example:8443/x")),
            ("https://user:5ecret@a.example/x?key=5ecret#5ecret", Ok("https://a.example/x")),
            ("http://[::1]:80/", Ok("http://[::1]/")),
            ("a.example/x", Err("not a URL with the scheme http or https")),
            ("localhost:8085/x", Err("not a URL with the scheme http or https")),
            ("ftp://a.example/", Err("not a URL with the scheme http or https")),
            ("http://a.example/x http://b.example/y", Err("a URL has no spaces")),
            ("http://", Err("not a URL: empty host")),
            ("http://a.example:port/", Err("not a URL: invalid port number")),
            ("", Err("not a URL with the scheme http or https")),
        ] {
            let found = Endpoint::parse(text).map(|endpoint| format!("{endpoint:?}"));
            assert_eq!(
                found.map_err(|error| error.to_string()),
                expected.map(str::to_owned).map_err(str::to_owned),
                "{text}"
            );
        }
    }

    #[test]
    fn loopback_is_an_address_of_this_machine_and_no_name() {
        for (text, expected) in [
            ("http://127.0.0.1:80/", true),
            ("http://127.1.2.3/", true),
            ("http://[::1]:8000/x", true),
            ("http://localhost/", false),
            ("http://127.0.0.1.example/", false),
            ("http://127.0.0.1@a.example/", false),
            ("http://10.0.0.1/", false),
        ] {
            assert_eq!(Endpoint::parse(text).unwrap().is_loopback(), expected, "{text}");
        }
    }
}
