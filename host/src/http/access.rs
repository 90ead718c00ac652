//! The request to the policy, from an HTTP request.

use std::borrow::Cow;
use std::time::Instant;

use hyper::header::{AUTHORIZATION, AsHeaderName, HeaderMap, REFERER, USER_AGENT};

use super::{Client, ConnectionContext};
use crate::policy::{Action, HOPS_HEADER, Protocol, Request};
use crate::router::{Route, query_pairs};

/// Returns the request to play the stream of `route`, which came at `arrived`.
pub(super) fn play_request(
    route: &Route,
    path: &str,
    query: &str,
    (protocol, arrived): (Protocol, Instant),
    client: &Client,
    headers: &HeaderMap,
    connection: &ConnectionContext,
) -> Request {
    let key = route.key.clone();
    Request {
        action: Action::Play,
        protocol,
        connection: connection.id,
        arrived,
        address: client.address,
        page_url: text(headers, REFERER),
        user_agent: text(headers, USER_AGENT),
        tc_url: format!("rtmp://{}/{}", key.vhost, key.app),
        path: path.to_owned(),
        bearer: bearer(headers),
        format: route.mount.pattern.extension.clone(),
        parameters: query_pairs(query).map(|(name, value)| (name.into(), value.into())).collect(),
        hops: text(headers, HOPS_HEADER),
        query: query.to_owned(),
        key,
    }
}

/// Returns the value of a header; empty if it is missing.
fn text(headers: &HeaderMap, name: impl AsHeaderName) -> String {
    let value = headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()));
    value.map(Cow::into_owned).unwrap_or_default()
}

/// Returns the token of `Authorization: Bearer` (RFC 6750, 2.1).
fn bearer(headers: &HeaderMap) -> Option<String> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().to_owned())
}
