//! Dispatch: from a request to the route that answers it.

use std::error::Error;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt, Either, Full, Limited};
use hyper::header::WWW_AUTHENTICATE;
use hyper::{Method, Request, Response, StatusCode};

use super::events::Subscription;
use super::jsonp::Callback;
use super::peer::Peer;
use super::reply::{Refused, Reply};
use super::route::{Call, Route};
use super::state::Api;
use super::table::routes;
use crate::admin::console;
use crate::admin::guard::Admitted;

/// The longest body of a request, in bytes.
const MAX_BODY: usize = 4096;

/// Answers a request.
pub(in crate::admin) async fn respond<B: hyper::body::Body<Error: Into<Box<dyn Error + Send + Sync>>>>(
    api: &Arc<Api>,
    peer: &Peer,
    request: Request<B>,
) -> Response<Either<Full<Bytes>, Subscription>> {
    let (head, body) = request.into_parts();
    let head = Request::from_parts(head, ());
    let reads = [Method::GET, Method::HEAD].contains(head.method());
    if let Some(file) = console::file(head.uri().path()).filter(|_| reads && !matches!(peer, Peer::Local)) {
        return file.response();
    }
    let found = find(head.method(), head.uri().path());
    let needs = found.as_ref().ok().map(|(route, _)| route.needs);
    let mut reply = match (peer.admit(&head, needs, api.access.refusals()), found) {
        (Err(denial), _) => Reply::from(denial),
        (_, Err(refused)) => refused.into(),
        (Ok(admitted), Ok((route, id))) => {
            answer(api, peer, &head, body, admitted, route, id).await.unwrap_or_else(Reply::from)
        }
    };
    // At a challenge to a script a browser asks its user for credentials, before the page can (Fetch, 4.6).
    if head.headers().get("sec-fetch-dest").is_some_and(|of| of == "empty") {
        reply.headers.remove(WWW_AUTHENTICATE);
    }
    reply.response()
}

async fn answer<B: hyper::body::Body<Error: Into<Box<dyn Error + Send + Sync>>>>(
    api: &Arc<Api>,
    peer: &Peer,
    head: &Request<()>,
    body: B,
    admitted: Admitted,
    route: &Route,
    id: &str,
) -> Result<Reply, Refused> {
    let query = head.uri().query().unwrap_or_default();
    let jsonp = route.is_srs && route.method == Method::GET && peer.gets_jsonp();
    let callback = if jsonp { Callback::of(query, head.headers())? } else { None };
    // The browser of somebody who is logged in sends the cookie for the script of another page, too.
    if callback.is_some() && admitted.login_ends.is_some() {
        return Err(Refused::Forbidden);
    }
    let body = match route.body {
        Some(_) => Limited::new(body, MAX_BODY).collect().await.map_err(|_| Refused::Body)?.to_bytes(),
        None => Bytes::new(),
    };
    let call = Call {
        path: head.uri().path().to_owned(),
        query: query.to_owned(),
        id: id.to_owned(),
        headers: head.headers().clone(),
        body,
        admitted,
        peer: peer.clone(),
        is_head: *head.method() == Method::HEAD,
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
