//! Redirect rules: responses that send the client to another URL.

use hyper::header::{CACHE_CONTROL, HeaderValue, LOCATION};
use hyper::{Response, StatusCode};

use super::{Body, Refusal};
use crate::router::Redirection;

/// Caches may keep a permanent redirect, and must ask each time.
const REVALIDATE: HeaderValue = HeaderValue::from_static("no-cache");

/// Answers a request with a redirect.
///
/// # Errors
/// [`Refusal::NodesFull`] if there is no node to redirect to; [`Refusal::Path`] for a URL that no header can hold.
pub(super) fn respond(redirection: Redirection) -> Result<Response<Body>, Refusal> {
    let Redirection::To { status, url } = redirection else { return Err(Refusal::NodesFull) };
    let location = HeaderValue::try_from(url).map_err(|_| Refusal::Path)?;
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::FOUND);
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response.headers_mut().insert(LOCATION, location);
    if matches!(status, StatusCode::MOVED_PERMANENTLY | StatusCode::PERMANENT_REDIRECT) {
        response.headers_mut().insert(CACHE_CONTROL, REVALIDATE);
    }
    Ok(response)
}
