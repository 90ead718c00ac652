//! Cross-origin requests (Fetch standard, 3.2; Private Network Access).
//!
//! By default every page may read what a client without credentials may read: `*`. With a list of origins, pages of these
//! may also send credentials (cookies of a proxy in front, for one), and pages of others may not read at all.
//!
//! SRS answers a preflight with `Access-Control-Request-Private-Network`, the name of the request header; browsers
//! look for `Access-Control-Allow-Private-Network`.

use hyper::Request;
use hyper::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, HeaderMap, HeaderName, HeaderValue,
    ORIGIN, VARY,
};

/// Response headers that scripts may read: players of files need the range.
const EXPOSED: &str = "Content-Type, Content-Length, Content-Range, Accept-Ranges, ETag, Server";

const REQUEST_PRIVATE_NETWORK: HeaderName = HeaderName::from_static("access-control-request-private-network");
const ALLOW_PRIVATE_NETWORK: HeaderName = HeaderName::from_static("access-control-allow-private-network");

/// The cross-origin part of a request.
#[derive(Debug)]
pub(super) struct Cors {
    allowed: Option<Allowed>,
    /// Whether the answer depends on the origin.
    varies: bool,
    preflight: Option<Preflight>,
}

/// The pages that may read a response.
#[derive(Debug)]
enum Allowed {
    /// All, without credentials.
    All,
    /// Those of the request's origin.
    Origin(HeaderValue),
}

#[derive(Debug)]
struct Preflight {
    headers: Option<HeaderValue>,
    private_network: bool,
}

impl Cors {
    /// Reads a request, whose origin may be one of `origins`, or any if there are none; empty if `enabled` is false or the
    /// request has no origin.
    pub(super) fn of<B>(request: &Request<B>, enabled: bool, origins: &[String]) -> Cors {
        let headers = request.headers();
        let origin = headers.get(ORIGIN).filter(|_| enabled).cloned();
        let allowed = origin.and_then(|origin| match origins {
            [] => Some(Allowed::All),
            listed => listed.iter().any(|one| origin == one.as_str()).then_some(Allowed::Origin(origin)),
        });
        let preflight =
            (allowed.is_some() && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)).then(|| Preflight {
                headers: headers.get(ACCESS_CONTROL_REQUEST_HEADERS).cloned(),
                private_network: headers.get(REQUEST_PRIVATE_NETWORK).is_some_and(|value| value == "true"),
            });
        Cors { allowed, varies: enabled && !origins.is_empty(), preflight }
    }

    /// Adds the response headers.
    pub(super) fn apply(self, headers: &mut HeaderMap) {
        if self.varies {
            // A cache must not serve it to pages of others.
            headers.insert(VARY, HeaderValue::from_static("Origin"));
        }
        match self.allowed {
            None => return,
            Some(Allowed::All) => {
                headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
            }
            Some(Allowed::Origin(origin)) => {
                headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
                headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
            }
        }
        let Some(preflight) = self.preflight else {
            let exposed = HeaderValue::from_static(EXPOSED);
            headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
            return;
        };
        headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, HEAD, OPTIONS"));
        if let Some(asked) = preflight.headers {
            headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, asked);
        }
        headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
        if preflight.private_network {
            headers.insert(ALLOW_PRIVATE_NETWORK, HeaderValue::from_static("true"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(request: &[(&str, &str)], enabled: bool, origins: &[&str]) -> HeaderMap {
        let request = request
            .iter()
            .fold(Request::builder(), |builder, (name, value)| builder.header(*name, *value))
            .body(())
            .unwrap();
        let origins: Vec<_> = origins.iter().map(|origin| (*origin).to_owned()).collect();
        let mut headers = HeaderMap::new();
        Cors::of(&request, enabled, &origins).apply(&mut headers);
        headers
    }

    #[test]
    fn answers_nothing_without_an_origin_or_when_switched_off() {
        assert!(answer(&[], true, &[]).is_empty());
        assert!(answer(&[("origin", "http://a.example")], false, &["http://a.example"]).is_empty());
    }

    #[test]
    fn every_page_may_read_without_credentials() {
        let headers = answer(&[("origin", "http://a.example")], true, &[]);
        assert_eq!(headers["access-control-allow-origin"], "*");
        for name in ["access-control-allow-credentials", "vary", "access-control-allow-private-network"] {
            assert!(!headers.contains_key(name), "{name}");
        }
    }

    #[test]
    fn pages_of_listed_origins_may_read_with_credentials() {
        let origins = ["http://a.example", "https://b.example:8443"];
        for (origin, allowed) in [
            ("http://a.example", true),
            ("https://b.example:8443", true),
            ("https://a.example", false),
            ("https://b.example", false),
            ("null", false),
        ] {
            let asked = [("origin", origin), ("access-control-request-method", "GET")];
            let headers = answer(&asked, true, &origins);
            let answered = headers.get("access-control-allow-origin").map(|value| value.to_str().unwrap());
            assert_eq!(answered, allowed.then_some(origin));
            assert_eq!(headers.contains_key("access-control-allow-credentials"), allowed, "{origin}");
            assert_eq!(headers.contains_key("access-control-allow-methods"), allowed, "{origin}");
            assert_eq!(headers["vary"], "Origin");
        }
        assert_eq!(answer(&[], true, &origins)["vary"], "Origin");
    }

    #[test]
    fn answers_a_preflight_and_allows_a_private_network_when_asked() {
        let asked = [
            ("origin", "http://a.example"),
            ("access-control-request-method", "GET"),
            ("access-control-request-headers", "x-token, range"),
            ("access-control-request-private-network", "true"),
        ];
        let headers = answer(&asked, true, &[]);
        assert_eq!(headers["access-control-allow-methods"], "GET, HEAD, OPTIONS");
        assert_eq!(headers["access-control-allow-headers"], "x-token, range");
        assert_eq!(headers["access-control-allow-private-network"], "true");
        assert!(!answer(&asked[..3], true, &[]).contains_key("access-control-allow-private-network"));
    }
}
