//! HTTP: live mounts as unending responses and as WebSockets, on the same URLs; redirects and static files beside.
//!
//! Purpose: find the mount that a request means, tell the outcome by the status line, and hand the viewer's cursor
//! to hyper or to a WebSocket. 200 is sent only when a byte will follow.
//!
//! Invariants: a response body shares its bytes with all viewers of the mount ([`Body`]); nothing is queued for a
//! viewer beyond one span. Formats are known by extension and transport alone.
//!
//! HEAD answers as GET, by the same way, and leaves when the first bytes are there: what a format makes of a stream only
//! its module knows. So it may start a mount, which lives for `idle_timeout` then.
//!
//! Used by `net`; uses `stream`, `module` and `conf`.

mod body;
mod conditional;
mod cors;
mod files;
mod forwarded;
mod linger;
mod live;
mod media_type;
mod pacer;
mod redirect;
mod refusal;
mod request;
mod router;
mod websocket;

use std::any::Any;
use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use hyper::header::{
    ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_RANGE, CONTENT_TYPE, HeaderValue, SEC_WEBSOCKET_VERSION, SERVER,
};
use hyper::{Method, Request, Response, StatusCode, Version};
use tokio_util::sync::CancellationToken;
use tracing::debug;

pub use body::{Body, Data};
pub use conditional::{ByteRange, Condition, Validators};
pub use forwarded::{Client, Outside};
pub use linger::linger;
pub use pacer::{pace, pace_stream};
pub use refusal::Refusal;
pub use router::Router;

use crate::conf::Config;
use crate::module::{Pool, Registry};
use crate::stream::Hub;

/// What `Server` says.
const SERVER_NAME: HeaderValue = HeaderValue::from_static(concat!("remuxd/", env!("CARGO_PKG_VERSION")));

/// The router in force. A reload replaces it as a whole: a stream keeps the vhost that it was published on, what comes
/// after finds the new ones.
pub type SharedRouter = Arc<ArcSwap<Router>>;

/// A page or a file of the host's own: content type and bytes by path and who asks. `None` leaves the path to the
/// mounts.
pub type Pages = Box<dyn Fn(&str, &Client) -> Option<(&'static str, bytes::Bytes)> + Send + Sync>;

/// Counts a connection as open, and has the server wait for it, as long as it is held.
pub type Open = Arc<dyn Any + Send + Sync>;

/// A connection, as its requests see it.
#[derive(Clone, Debug)]
pub struct Connection {
    /// Who it is of; where a proxy says for whom it speaks, they.
    pub peer: SocketAddr,
    /// A WebSocket holds it on when HTTP is over.
    pub open: Open,
    /// Cancelled when the server stops: no publisher is waited for any more.
    pub stopping: CancellationToken,
}

/// What requests are answered from.
pub struct Service {
    config: Arc<Config>,
    router: SharedRouter,
    hub: Arc<Hub>,
    registry: Arc<Registry>,
    pool: Arc<Pool>,
    pages: Option<Pages>,
}

impl Service {
    /// A service over the streams of `hub` and the formats of `registry`; `pages` come before mounts.
    pub fn new(
        config: Arc<Config>,
        hub: Arc<Hub>,
        registry: Arc<Registry>,
        pool: Arc<Pool>,
        pages: Option<Pages>,
    ) -> Arc<Service> {
        let router = Arc::new(ArcSwap::from_pointee(Router::new(&config)));
        Arc::new(Service { config, router, hub, registry, pool, pages })
    }

    /// Where its requests go, for whoever replaces it and for RTMP.
    pub fn router(&self) -> &SharedRouter {
        &self.router
    }

    /// Answers one request that came over `connection`.
    pub async fn respond<B: hyper::body::Body<Data: Send, Error: Send> + Send + Unpin + 'static>(
        self: &Arc<Self>,
        mut request: Request<B>,
        connection: &Connection,
    ) -> Response<Body> {
        let peer = connection.peer;
        let crossdomain = self.config.http_server.crossdomain;
        let cors = cors::Cors::of(&request, crossdomain);
        let client = Client::of(&request, peer.ip(), &self.config.proxy);
        let checked = match request::check(&request) {
            Ok(()) => request::check_body(&mut request).await,
            refused => refused,
        };
        let outcome = match checked {
            Ok(()) => match *request.method() {
                Method::GET | Method::HEAD => self.get(&mut request, connection, &client).await,
                Method::OPTIONS if crossdomain => Ok(Response::new(Body::empty())),
                _ => Err(Refusal::Method { crossdomain }),
            },
            Err(refusal) => Err(refusal),
        };
        let mut response = outcome.unwrap_or_else(|refusal| {
            debug!(client = %client.address, %peer, status = refusal.status().as_u16(), %refusal, "refused");
            refused(&refusal, &request)
        });
        let headers = response.headers_mut();
        headers.insert(SERVER, SERVER_NAME);
        headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
        cors.apply(headers);
        response
    }

    /// Pages, then redirect rules, then streams that are live, then files, then streams that may come.
    async fn get<B: Send + 'static>(
        self: &Arc<Self>,
        request: &mut Request<B>,
        connection: &Connection,
        client: &Client,
    ) -> Result<Response<Body>, Refusal> {
        if let Some(page) = self.page(request, client) {
            return Ok(page);
        }
        let upgrade = websocket::Upgrade::of(request, connection)?;
        if let Some(redirect) = redirect::respond(&self.router.load(), request)? {
            return Ok(redirect);
        }
        if upgrade.is_none()
            && !live::is_live(self, request)?
            && let Some(file) = files::respond(self, request).await?
        {
            return Ok(file);
        }
        live::respond(self, request, upgrade, client, &connection.stopping).await
    }

    fn page<B>(&self, request: &Request<B>, client: &Client) -> Option<Response<Body>> {
        let (content_type, bytes) = self.pages.as_ref()?(request.uri().path(), client)?;
        let body = if request.method() == Method::HEAD { Body::empty() } else { Body::from(bytes) };
        let mut response = Response::new(body);
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        Some(response)
    }
}

fn refused<B>(refusal: &Refusal, request: &Request<B>) -> Response<Body> {
    let status = refusal.status();
    let body =
        if request.method() == Method::HEAD { Body::empty() } else { Body::from(format!("{refusal}\n")) };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    if let Refusal::Method { crossdomain } = refusal {
        let allowed = if *crossdomain { "GET, HEAD, OPTIONS" } else { "GET, HEAD" };
        headers.insert(ALLOW, HeaderValue::from_static(allowed));
    }
    if status == StatusCode::UPGRADE_REQUIRED && request.version() < Version::HTTP_2 {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(hyper::header::UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    }
    if let Refusal::Range { len } = refusal
        && let Ok(range) = HeaderValue::try_from(format!("bytes */{len}"))
    {
        headers.insert(CONTENT_RANGE, range);
    }
    // What follows may be a body or, for all that is known, another request.
    if matches!(refusal, Refusal::Content | Refusal::Host) && request.version() < Version::HTTP_2 {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    if status == StatusCode::SERVICE_UNAVAILABLE {
        headers.insert(hyper::header::RETRY_AFTER, HeaderValue::from_static("5"));
    }
    response
}
