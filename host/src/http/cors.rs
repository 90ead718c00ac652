//! Cross-origin requests (Fetch standard, 3.2; Private Network Access).
//!
//! The origin is echoed rather than answered by `*`, because `*` is illegal with credentials, and players are
//! started with them. Streams are not protected by cookies, so every origin may read.
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
    origin: Option<HeaderValue>,
    preflight: Option<Preflight>,
}

#[derive(Debug)]
struct Preflight {
    headers: Option<HeaderValue>,
    private_network: bool,
}

impl Cors {
    /// Reads a request; empty if `enabled` is false or the request has no origin.
    pub(super) fn of<B>(request: &Request<B>, enabled: bool) -> Cors {
        let headers = request.headers();
        let origin = headers.get(ORIGIN).filter(|_| enabled).cloned();
        let preflight =
            (origin.is_some() && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)).then(|| Preflight {
                headers: headers.get(ACCESS_CONTROL_REQUEST_HEADERS).cloned(),
                private_network: headers.get(REQUEST_PRIVATE_NETWORK).is_some_and(|value| value == "true"),
            });
        Cors { origin, preflight }
    }

    /// Adds the response headers.
    pub(super) fn apply(self, headers: &mut HeaderMap) {
        let Some(origin) = self.origin else { return };
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        headers.insert(VARY, HeaderValue::from_static("Origin"));
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

    fn answer(request: &[(&str, &str)], enabled: bool) -> HeaderMap {
        let request = request
            .iter()
            .fold(Request::builder(), |builder, (name, value)| builder.header(*name, *value))
            .body(())
            .unwrap();
        let mut headers = HeaderMap::new();
        Cors::of(&request, enabled).apply(&mut headers);
        headers
    }

    #[test]
    fn answers_nothing_without_an_origin_or_when_switched_off() {
        assert!(answer(&[], true).is_empty());
        assert!(answer(&[("origin", "http://a.example")], false).is_empty());
    }

    #[test]
    fn echoes_the_origin() {
        let headers = answer(&[("origin", "http://a.example")], true);
        assert_eq!(headers["access-control-allow-origin"], "http://a.example");
        assert_eq!(headers["access-control-allow-credentials"], "true");
        assert_eq!(headers["vary"], "Origin");
        assert!(!headers.contains_key("access-control-allow-private-network"));
    }

    #[test]
    fn answers_a_preflight_and_allows_a_private_network_when_asked() {
        let asked = [
            ("origin", "http://a.example"),
            ("access-control-request-method", "GET"),
            ("access-control-request-headers", "x-token, range"),
            ("access-control-request-private-network", "true"),
        ];
        let headers = answer(&asked, true);
        assert_eq!(headers["access-control-allow-methods"], "GET, HEAD, OPTIONS");
        assert_eq!(headers["access-control-allow-headers"], "x-token, range");
        assert_eq!(headers["access-control-allow-private-network"], "true");
        assert!(!answer(&asked[..3], true).contains_key("access-control-allow-private-network"));
    }
}
