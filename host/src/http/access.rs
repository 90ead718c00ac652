//! The request to the policy, from an HTTP request.

use hyper::header::{AsHeaderName, HeaderMap, REFERER, USER_AGENT};

use super::Client;
use crate::policy::{Action, Protocol, Request};
use crate::router::Route;

/// Returns the request to play the stream of `route`.
pub(super) fn play_request(
    route: &Route,
    query: &str,
    protocol: Protocol,
    client: &Client,
    headers: &HeaderMap,
) -> Request {
    let key = route.key.clone();
    Request {
        action: Action::Play,
        protocol,
        address: client.address,
        page_url: text(headers, REFERER),
        user_agent: text(headers, USER_AGENT),
        tc_url: format!("rtmp://{}/{}", key.vhost, key.app),
        query: query.to_owned(),
        key,
    }
}

/// Returns the value of a header; empty if it is missing or no text.
fn text(headers: &HeaderMap, name: impl AsHeaderName) -> String {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
}
