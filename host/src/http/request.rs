//! Checks that every request passes before it is routed.
//!
//! hyper refuses malformed HTTP: heads that are too large (431), ambiguous lengths, invalid characters (400). The
//! rules that it leaves to a server are here:
//! - a URL of at most [`MAX_TARGET`] bytes (RFC 9110, 4.1 asks for 8000), else 414;
//! - exactly one Host in HTTP/1.1, and a valid one (RFC 9112, 3.2), else 400;
//! - over HTTP/2 no Host that differs from `:authority` (RFC 9113, 8.3.1), else 400;
//! - no user before the host (RFC 9110, 4.2.4), else 400;
//! - no body on GET and HEAD, which has no meaning and helps to smuggle requests past a proxy (RFC 9110, 9.3.1), else
//!   400, and over HTTP/1 the connection is closed. Over HTTP/2 no header announces a body: a request that does not end
//!   with its headers has [`END_WAIT`] to end without a byte.

use std::future::poll_fn;
use std::pin::Pin;
use std::time::Duration;

use bytes::Buf;
use hyper::body::Body;
use hyper::header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use hyper::http::uri::Authority;
use hyper::{Method, Request, Version};
use tokio::time::timeout;

use super::Refusal;
use crate::router::host_without_port;

/// Limit of path and query together, in bytes.
const MAX_TARGET: usize = 8 * 1024;

/// Time for the end of an empty body to arrive.
const END_WAIT: Duration = Duration::from_secs(1);

/// Checks a request's head.
///
/// # Errors
/// [`Refusal`] for the rule that it breaks.
pub(super) fn check<B>(request: &Request<B>) -> Result<(), Refusal> {
    let target = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
    if target > MAX_TARGET {
        return Err(Refusal::TargetTooLong { limit: MAX_TARGET });
    }
    if !has_host(request) {
        return Err(Refusal::Host);
    }
    if is_without_body(request) && announces_body(request) {
        return Err(Refusal::Content);
    }
    Ok(())
}

/// Checks the body of a request whose head has passed [`check`].
///
/// # Errors
/// [`Refusal::Content`] for a body where none is allowed.
pub(super) async fn check_body<B: Body + Unpin>(request: &mut Request<B>) -> Result<(), Refusal> {
    if !is_without_body(request) || request.body().is_end_stream() {
        return Ok(());
    }
    let body = request.body_mut();
    let is_empty = async {
        while let Some(frame) = poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await {
            let Ok(frame) = frame else { return false };
            // Trailers are no content.
            if frame.data_ref().is_some_and(|data| data.has_remaining()) {
                return false;
            }
        }
        true
    };
    match timeout(END_WAIT, is_empty).await {
        Ok(true) => Ok(()),
        _ => Err(Refusal::Content),
    }
}

fn is_without_body<B>(request: &Request<B>) -> bool {
    matches!(*request.method(), Method::GET | Method::HEAD)
}

/// Returns the host that a request asks for, without port; empty if it names none. The URL takes precedence over the
/// Host header (RFC 9110, 7.2).
pub(super) fn host<B>(request: &Request<B>) -> &str {
    let header = || request.headers().get(HOST).and_then(|host| host.to_str().ok());
    match request.uri().authority() {
        Some(authority) => authority.host(),
        None => header().map_or("", host_without_port),
    }
}

fn has_host<B>(request: &Request<B>) -> bool {
    let authority = request.uri().authority();
    if authority.is_some_and(has_user) {
        return false;
    }
    let mut hosts = request.headers().get_all(HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (Some(host), None) => host,
        (None, _) if request.version() == Version::HTTP_11 => return false,
        (None, _) => return request.version() < Version::HTTP_11 || authority.is_some(),
        (Some(_), Some(_)) => return false,
    };
    // An empty one stands for a URL without a host (RFC 9110, 7.2).
    if host.is_empty() {
        return true;
    }
    let Some(host) = host.to_str().ok().and_then(|host| host.parse::<Authority>().ok()) else { return false };
    let authority = authority.filter(|_| request.version() == Version::HTTP_2);
    !has_user(&host) && authority.is_none_or(|authority| *authority == host)
}

fn has_user(authority: &Authority) -> bool {
    authority.as_str().contains('@')
}

fn announces_body<B>(request: &Request<B>) -> bool {
    let headers = request.headers();
    headers.contains_key(TRANSFER_ENCODING)
        || headers
            .get_all(CONTENT_LENGTH)
            .iter()
            .any(|length| length.as_bytes().iter().any(|digit| *digit != b'0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(uri: &str, version: Version, headers: &[(&str, &str)]) -> Request<()> {
        let mut builder = Request::builder().uri(uri).version(version);
        for (name, value) in headers {
            builder = builder.header(*name, *value);
        }
        builder.body(()).unwrap()
    }

    #[test]
    fn one_valid_host_is_asked_for() {
        let (one, two, old) = (Version::HTTP_11, Version::HTTP_2, Version::HTTP_10);
        type Row<'a> = (&'a str, Version, &'a [(&'a str, &'a str)], Option<&'a str>);
        let rows: &[Row] = &[
            ("/x", one, &[("host", "a.example:80")], Some("a.example")),
            ("/x", one, &[("host", "[::1]:80")], Some("[::1]")),
            ("/x", one, &[("host", "")], Some("")),
            ("/x", one, &[], None),
            ("/x", one, &[("host", "a"), ("host", "a")], None),
            ("/x", one, &[("host", "a b")], None),
            ("/x", one, &[("host", "u@a")], None),
            ("/x", one, &[("host", "a/b")], None),
            ("/x", old, &[], Some("")),
            ("http://b.example:80/x", one, &[("host", "a")], Some("b.example")),
            ("http://u@b.example/x", one, &[("host", "a")], None),
            ("http://u@b.example/x", two, &[], None),
            ("http://u:p@b.example/x", old, &[], None),
            ("http://b.example/x", one, &[], None),
            ("http://b.example/x", two, &[], Some("b.example")),
            ("http://b.example/x", two, &[("host", "b.EXAMPLE")], Some("b.example")),
            ("http://b.example/x", two, &[("host", "a.example")], None),
            ("/x", two, &[], None),
            ("http://b.example/x", two, &[("host", "u@b.example")], None),
        ];
        for (uri, version, headers, expected) in rows {
            let request = request(uri, *version, headers);
            let found = check(&request).is_ok().then(|| host(&request));
            assert_eq!(found, *expected, "{uri} {version:?} {headers:?}");
        }
    }

    #[test]
    fn get_has_no_body() {
        for (name, value, good) in [
            ("content-length", "0", true),
            ("content-length", "00", true),
            ("content-length", "1", false),
            ("content-length", "-", false),
            ("transfer-encoding", "chunked", false),
            ("transfer-encoding", "identity", false),
        ] {
            let request = request("/x", Version::HTTP_11, &[("host", "a"), (name, value)]);
            assert_eq!(check(&request).is_ok(), good, "{name}: {value}");
        }
    }
}
