//! The service: one response per request.

use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, SERVER};
use hyper::{Method, Request, Response, StatusCode};
use tokio::time::Instant;

use super::cors::Cors;
use super::files::Files;
use super::live::{Delivery, LiveMounts};
use super::probe::versions;
use super::refused::{Refused, report};
use super::responses::Responses;
use super::websocket::Upgrade;
use super::{Body, Client, ConnectionContext, Page, Pages, Refusal, probe, redirect, request};
use crate::conf::{Current, HttpServer};
use crate::module::{Pool, Registry};
use crate::policy::{Access, Protocol};
use crate::router::{Newcomer, Router};
use crate::stream::Hub;

/// Value of the `Server` response header.
const SERVER_NAME: HeaderValue = HeaderValue::from_static(concat!("remuxd/", env!("CARGO_PKG_VERSION")));

/// The HTTP service of a host, shared by all connections.
pub struct Service {
    current: Arc<Current>,
    router: Arc<ArcSwap<Router>>,
    pages: Option<Box<dyn Pages>>,
    live: LiveMounts,
    files: Files,
    responses: Responses,
}

impl Service {
    /// Creates a service over the streams of `hub` and the formats of `registry`.
    pub fn new(
        current: Arc<Current>,
        router: Router,
        hub: Arc<Hub>,
        registry: Arc<Registry>,
        pool: Arc<Pool>,
        pages: Option<Box<dyn Pages>>,
    ) -> Arc<Service> {
        Arc::new(Service {
            router: Arc::new(ArcSwap::from_pointee(router)),
            pages,
            files: Files::new(registry.clone()),
            live: LiveMounts::new(hub, registry, pool, Access::new(current.clone())),
            responses: Responses::default(),
            current,
        })
    }

    /// Returns the current router, which a reload replaces as a whole.
    pub fn router(&self) -> &Arc<ArcSwap<Router>> {
        &self.router
    }

    /// Returns what all sessions share.
    pub fn access(&self) -> &Arc<Access> {
        self.live.access()
    }

    /// Returns the numbers of responses so far, by status.
    pub fn responses(&self) -> &Responses {
        &self.responses
    }

    /// Answers one request that came over `connection`.
    pub async fn respond<B: hyper::body::Body<Data: Send, Error: Send> + Send + Unpin + 'static>(
        &self,
        mut request: Request<B>,
        connection: &ConnectionContext,
    ) -> Response<Body> {
        let peer = connection.peer;
        let config = self.current.config();
        let crossdomain = config.http_server.crossdomain;
        let cors = Cors::of(&request, crossdomain, &config.http_server.origins);
        let client = Client::of(&request, peer.ip(), &config.proxy);
        let checked = match request::check(&request) {
            Ok(()) => request::check_body(&mut request).await,
            refused => refused,
        };
        let outcome = match checked {
            Ok(()) => match *request.method() {
                Method::GET | Method::HEAD => {
                    self.get(&request, connection, &client, &config.http_server).await
                }
                Method::OPTIONS if crossdomain => Ok(Response::new(Body::empty())),
                _ => Err(Refusal::Method { crossdomain }.into()),
            },
            Err(refusal) => Err(refusal.into()),
        };
        let mut response = outcome.unwrap_or_else(|Refused { refusal, is_reported }| {
            if !is_reported {
                let path = self.router.load().shown(request.uri().path());
                report(&refusal, &path, self.access().refusals(), &client, connection);
            }
            refusal.response(&request)
        });
        self.responses.count(response.status());
        let headers = response.headers_mut();
        headers.insert(SERVER, SERVER_NAME);
        headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
        cors.apply(headers);
        response
    }

    /// Answers by the first that there is of: a probe, a page, a redirect, a stream that is live or whose publisher returns, a file, a
    /// stream that may still be published.
    async fn get<B>(
        &self,
        request: &Request<B>,
        connection: &ConnectionContext,
        client: &Client,
        config: &HttpServer,
    ) -> Result<Response<Body>, Refused> {
        let arrival = Instant::now();
        let uri = request.uri();
        let (host, query) = (request::host(request), uri.query().unwrap_or(""));
        if let Some((status, body)) = probe(uri.path(), &connection.lifecycle) {
            return Ok(respond_with_probe(status, body, request.method()));
        }
        if let Some(page) = versions(uri.path()) {
            return Ok(respond_with_page(page, request.method()));
        }
        let upgrade = Upgrade::of(request);
        let targets = self.access().targets().load();
        let is_websocket = !matches!(upgrade, Ok(None));
        let protocol = if is_websocket { Protocol::WebSocket } else { Protocol::Http };
        let newcomer = Newcomer { address: client.address, protocol, targets: &targets };
        let resolved = self.router.load().resolve(host, uri.path(), query, Some(&newcomer))?;
        drop(targets);
        if let Some(page) = self.pages.as_ref().and_then(|pages| pages.page(&resolved.path, client)) {
            return Ok(respond_with_page(page, request.method()));
        }
        let delivery = match upgrade? {
            Some(upgrade) => Delivery::WebSocket(upgrade),
            None if request.method() == Method::HEAD => Delivery::Head,
            None => Delivery::Body,
        };
        if let Some(redirection) = resolved.redirect {
            return Ok(redirect::respond(redirection)?);
        }
        if !matches!(delivery, Delivery::WebSocket(_))
            && let Some(dir) = &config.dir
            && !self.live.is_live(&resolved.routes, arrival).await
            && let Some(response) = self.files.respond(dir, request, &resolved, connection).await?
        {
            return Ok(response);
        }
        self.live.respond(resolved, delivery, arrival, client, request.headers(), connection).await
    }
}

fn respond_with_probe(status: StatusCode, body: &'static str, method: &Method) -> Response<Body> {
    let page = Page { content_type: "text/plain; charset=utf-8", body: Bytes::from_static(body.as_bytes()) };
    let mut response = respond_with_page(page, method);
    *response.status_mut() = status;
    response
}

fn respond_with_page(page: Page, method: &Method) -> Response<Body> {
    let body = if method == Method::HEAD { Body::empty() } else { Body::from(page.body) };
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(page.content_type));
    response
}
