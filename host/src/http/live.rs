//! Live requests: from a route to a viewer, with the outcome known before the status line.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{Method, Request, Response};
use tokio::time::{Instant, timeout_at};
use tracing::info;

use crate::media::Codec;
use crate::plugin::{Module, Recipe, Transport};
use crate::stream::{JoinAt, Pace, Span, Stream, Viewer};

use super::request::host;
use super::router::{Route, query_pairs};
use super::{Body, Client, Refusal, Service, pacer, websocket};

/// Tells nginx not to buffer the response.
const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// How long a remuxer may take to its first block, when there is something to remux.
const REMUX_TIME: Duration = Duration::from_secs(5);
/// How long after the first track of a stream its second may come. It is not there when the stream is older, or when
/// none came while a viewer has waited this long.
const TRACK_WAIT: Duration = Duration::from_secs(1);

/// Answers a GET or HEAD for a live mount.
pub(super) async fn respond<B: Send + 'static>(
    service: &Arc<Service>,
    request: &mut Request<B>,
    upgrade: Option<websocket::Upgrade>,
    client: &Client,
) -> Result<Response<Body>, Refusal> {
    let transport = if upgrade.is_some() { Transport::WEBSOCKET } else { Transport::HTTP };
    let mut target = target(service, request, transport)?;
    let play = &target.route.vhost.play;
    let deadline = Instant::now() + play.wait.min(Duration::from_secs(86_400));

    if service.hub.find(&target.route.key).is_none() {
        info!(client = %client.address, stream = %target.route.key, "waiting for a publisher");
    }
    let wait = service.hub.wait_for(target.route.key.clone());
    let stream = timeout_at(deadline, wait).await.map_err(|_| Refusal::NotLive)?;
    let mut response = if request.method() == Method::HEAD {
        // As GET, without a viewer.
        wait_for_media(target.module(), &stream, deadline).await?;
        Response::new(Body::empty())
    } else {
        // Watched first and judged then, so that a viewer who was here before the first frame gets it.
        let mut viewer = watch(service, &mut target, &stream)?;
        wait_for_media(target.module(), &stream, deadline).await?;
        // The stream is there: what is left to wait for is the remuxer, however short the wait for a stream may be.
        let deadline = deadline.max(Instant::now() + REMUX_TIME);
        let first = first_span(&mut viewer, &stream, deadline).await?;
        info!(client = %client.address, stream = %target.route.key, module = target.module().name(), "viewing");
        match upgrade {
            Some(upgrade) => return Ok(upgrade.accept(request, viewer, first)),
            None => Response::new(Body::live(viewer, first)),
        }
    };
    let content_type = HeaderValue::from_str(target.module().content_type());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, content_type.map_err(|_| Refusal::Unavailable)?);
    headers.insert(ACCEL_BUFFERING, HeaderValue::from_static("no"));
    Ok(response)
}

/// Whether a stream that the request means is there now.
pub(super) fn is_live<B>(service: &Service, request: &Request<B>) -> Result<bool, Refusal> {
    let uri = request.uri();
    let routes = service.router.load().routes(host(request), uri.path(), uri.query().unwrap_or(""))?;
    Ok(routes.iter().any(|route| service.hub.find(&route.key).is_some()))
}

struct Target {
    route: Route,
    transport: Transport,
    recipe: Recipe,
}

impl Target {
    fn module(&self) -> &Arc<Module> {
        self.recipe.module()
    }
}

/// The first mount of the request whose extension a module answers over `transport`.
fn target<B>(service: &Service, request: &Request<B>, transport: Transport) -> Result<Target, Refusal> {
    let uri = request.uri();
    let query = uri.query().unwrap_or("");
    let routes = service.router.load().routes(host(request), uri.path(), query)?;
    let mut refusal = Refusal::NotMounted;
    for route in routes {
        let extension = &route.mount.pattern.extension;
        if let Some(module) = service.registry.find(extension, transport) {
            let recipe = Recipe::new(module, &route.mount.options, query_pairs(query))?;
            return Ok(Target { route, transport, recipe });
        }
        if service.registry.find(extension, Transport::WEBSOCKET).is_some() {
            refusal = Refusal::WebSocketOnly;
        }
    }
    Err(refusal)
}

/// A viewer of the target; the first of a mount starts its clock.
///
/// The module may have changed while the request waited, so it is looked up again; and live mounts are handed over either
/// before or after, not meanwhile, so that a stream has one mount of a format.
fn watch(service: &Service, target: &mut Target, stream: &Arc<Stream>) -> Result<Viewer, Refusal> {
    let mount = &target.route.mount;
    let (viewer, is_first) =
        service.registry.settled(&mount.pattern.extension, target.transport, |module| {
            let module = module.ok_or(Refusal::NotMounted)?;
            if !Arc::ptr_eq(&module, target.recipe.module()) {
                target.recipe = target.recipe.of(module)?;
            }
            let watched = stream.watch(&target.recipe, mount.fast_cache, &service.pool);
            watched.map_err(|_| Refusal::Unavailable)
        })?;
    if is_first {
        tokio::spawn(pacer::pace_mount(stream.clone(), viewer.mount().clone()));
    }
    Ok(viewer)
}

/// Waits until it is known whether `module` can carry a track of the stream: from the first join point on, unless the
/// track may still come.
async fn wait_for_media(module: &Module, stream: &Stream, deadline: Instant) -> Result<(), Refusal> {
    let rings = [stream.tags(), stream.audio()];
    let mut readers = rings.map(|ring| ring.reader(JoinAt::Newest, Pace::Each));
    let mut deadline = deadline;
    loop {
        let facts = stream.facts();
        let (video, audio) = (facts.video, facts.audio);
        let known = rings.iter().any(|ring| ring.has_join()) && (video, audio) != (Codec::NONE, Codec::NONE);
        if known && module.carries(video, audio) {
            return Ok(());
        }
        let complete = video != Codec::NONE && audio != Codec::NONE;
        if known && (complete || u128::from(facts.age_ms) >= TRACK_WAIT.as_millis()) {
            return Err(Refusal::Codec { video, audio });
        }
        if known {
            deadline = deadline.min(Instant::now() + TRACK_WAIT);
        }
        let more = poll_fn(|cx| {
            let polls = readers.each_mut().map(|reader| reader.poll_read(cx));
            polls.into_iter().find(Poll::is_ready).unwrap_or(Poll::Pending)
        });
        match timeout_at(deadline, more).await {
            Ok(Some(_)) => {}
            _ if known => return Err(Refusal::Codec { video, audio }),
            _ => return Err(Refusal::NotLive),
        }
    }
}

async fn first_span(viewer: &mut Viewer, stream: &Stream, deadline: Instant) -> Result<Arc<Span>, Refusal> {
    match timeout_at(deadline, poll_fn(|cx| viewer.poll_next(cx))).await {
        Ok(Some(span)) => Ok(span),
        Ok(None) if viewer.mount().is_unsupported() => {
            let facts = stream.facts();
            Err(Refusal::Codec { video: facts.video, audio: facts.audio })
        }
        Ok(None) if !stream.tags().is_ended() => Err(Refusal::Unavailable),
        Ok(None) | Err(_) => Err(Refusal::NotLive),
    }
}
