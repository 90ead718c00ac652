//! Dispatch: from a request to the route that answers it.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Method, Request, Response, StatusCode};

use super::jsonp::Callback;
use super::reply::{Refused, Reply, TEXT};
use super::route::{Call, Route};
use super::state::Api;
use super::table::routes;
use crate::admin::guard::{Caller, Denial};
use crate::http;

/// Answers a probe, for which nobody needs credentials; `None` for other requests.
pub(in crate::admin) fn probe<B>(api: &Api, request: &Request<B>) -> Option<Response<Full<Bytes>>> {
    let reads = [Method::GET, Method::HEAD].contains(request.method());
    let (status, body) = http::probe(request.uri().path(), &api.lifecycle).filter(|_| reads)?;
    Some(Reply::new(status, TEXT, body).response())
}

/// Answers a request of `caller`, on a listener that may answer with JSONP.
pub(in crate::admin) async fn respond<B>(
    api: &Arc<Api>,
    request: &Request<B>,
    caller: Caller,
    jsonp: bool,
) -> Response<Full<Bytes>> {
    match answer(api, request, caller, jsonp).await {
        Ok(reply) => reply,
        Err(refused) => refused.into(),
    }
    .response()
}

async fn answer<B>(
    api: &Arc<Api>,
    request: &Request<B>,
    caller: Caller,
    jsonp: bool,
) -> Result<Reply, Refused> {
    let (route, id) = find(request.method(), request.uri().path())?;
    let query = request.uri().query().unwrap_or_default();
    let callback = if route.is_srs && jsonp && route.method == Method::GET {
        Callback::of(query, request.headers())?
    } else {
        None
    };
    let call = Call {
        path: request.uri().path().to_owned(),
        query: query.to_owned(),
        id: id.to_owned(),
        headers: request.headers().clone(),
        caller,
    };
    let reply = route.answer(api, call).await?;
    Ok(match callback {
        Some(callback) if reply.status == StatusCode::OK => callback.apply(reply),
        _ => reply,
    })
}

/// Returns the route of a method and path, and what the path has in place of its `{id}`.
fn find<'a>(method: &Method, path: &'a str) -> Result<(&'static Route, &'a str), Refused> {
    let bare = path.strip_suffix('/').unwrap_or(path);
    let id = |route: &Route| route.id(path).or_else(|| route.id(bare).filter(|_| route.is_srs));
    let mut found = routes().iter().filter_map(|route| Some((route, id(route)?))).peekable();
    if found.peek().is_none() {
        return Err(Refused::Missing("no such page"));
    }
    let wanted = if *method == Method::HEAD { &Method::GET } else { method };
    let mut allowed = Vec::new();
    for (route, id) in found {
        if route.method == *wanted {
            return Ok((route, id));
        }
        allowed.push(route.method.as_str());
        if route.method == Method::GET {
            allowed.push("HEAD");
        }
    }
    Err(Refused::Method { allowed: allowed.join(", ") })
}

/// Returns the response to a request that the guard refuses.
pub(in crate::admin) fn denied(denial: Denial) -> Response<Full<Bytes>> {
    Reply::from(denial).response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_methods_have_one_route() {
        let rows = [
            ("GET", "/api/v2/sessions", Ok(("/api/v2/sessions", ""))),
            ("HEAD", "/api/v2/sessions", Ok(("/api/v2/sessions", ""))),
            ("DELETE", "/api/v2/sessions/00ff", Ok(("/api/v2/sessions/{id}", "00ff"))),
            ("POST", "/api/v2/sessions", Err(Some("GET, HEAD"))),
            ("PUT", "/api/v2/bans", Err(Some("GET, HEAD, POST, DELETE"))),
            ("GET", "/api/v2/sessions/", Err(None)),
            ("DELETE", "/api/v2/sessions/a/b", Err(None)),
            ("GET", "/api/v2/sessionsX", Err(None)),
            ("GET", "/api/v2", Err(None)),
            ("GET", "/api/v1/streams", Ok(("/api/v1/streams", ""))),
            ("GET", "/api/v1/streams/", Ok(("/api/v1/streams", ""))),
            ("GET", "/api/v1/streams/vid-1", Ok(("/api/v1/streams/{id}", "vid-1"))),
            ("DELETE", "/api/v1/clients/1", Ok(("/api/v1/clients/{id}", "1"))),
            ("GET", "/api/v1/reload", Ok(("/api/v1/reload", ""))),
            ("GET", "/api/v1/modules/", Err(None)),
        ];
        for (method, path, expected) in rows {
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            let found = find(&method, path).map(|(route, id)| (route.path, id));
            let found = found.map_err(|refused| match refused {
                Refused::Method { allowed } => Some(allowed),
                _ => None,
            });
            assert_eq!(found, expected.map_err(|allowed: Option<&str>| allowed.map(str::to_owned)), "{path}");
        }
    }

    #[test]
    fn no_method_of_a_path_has_two_routes() {
        let mut seen = std::collections::HashSet::new();
        for route in routes() {
            assert!(seen.insert((&route.method, route.path)), "{} {}", route.method, route.path);
        }
    }
}
