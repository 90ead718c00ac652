//! Redirect rules: a request for another host is sent there, before its stream is looked for.

use hyper::header::{CACHE_CONTROL, HeaderValue, LOCATION};
use hyper::{Request, Response, StatusCode};

use super::request::host;
use super::{Body, Refusal, Router};

/// Caches may keep what is permanent, and ask each time.
const REVALIDATE: HeaderValue = HeaderValue::from_static("no-cache");

/// Answers a request by the redirect rule that its path is of, if there is one.
///
/// # Errors
/// [`Refusal::Path`] for paths that are not one.
pub(super) fn respond<B>(router: &Router, request: &Request<B>) -> Result<Option<Response<Body>>, Refusal> {
    let uri = request.uri();
    let found = router.redirect(host(request), uri.path(), uri.query().unwrap_or(""))?;
    let Some((status, url)) = found else { return Ok(None) };
    let mut response = Response::new(Body::empty());
    // Targets are made of visible ASCII, and statuses are known.
    let location = HeaderValue::try_from(url).map_err(|_| Refusal::Path)?;
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::FOUND);
    *response.status_mut() = status;
    response.headers_mut().insert(LOCATION, location);
    if matches!(status, StatusCode::MOVED_PERMANENTLY | StatusCode::PERMANENT_REDIRECT) {
        response.headers_mut().insert(CACHE_CONTROL, REVALIDATE);
    }
    Ok(Some(response))
}
