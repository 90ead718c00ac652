//! Live requests: from a route to a viewer, with the outcome known before the status line.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{Method, Request, Response};
use tokio::time::{Instant, timeout_at};

use crate::media::Codec;
use crate::plugin::{Module, Options, Transport, resolve_options};
use crate::stream::{JoinAt, Pace, Span, Stream, Viewer};

use super::request::host;
use super::router::{Route, query_pairs};
use super::{Body, Refusal, Service, pacer, websocket};

/// Tells nginx not to buffer the response.
const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// Answers a GET or HEAD for a live mount.
pub(super) async fn respond<B: Send + 'static>(
    service: &Arc<Service>,
    request: &mut Request<B>,
    upgrade: Option<websocket::Upgrade>,
) -> Result<Response<Body>, Refusal> {
    let transport = if upgrade.is_some() { Transport::WEBSOCKET } else { Transport::HTTP };
    let target = target(service, request, transport)?;
    let play = &target.route.vhost.play;
    let deadline = Instant::now() + play.wait.min(Duration::from_secs(86_400));

    let wait = service.hub.wait_for(target.route.key.clone());
    let stream = timeout_at(deadline, wait).await.map_err(|_| Refusal::NotLive)?;
    let content_type = HeaderValue::from_str(target.module.content_type());
    let mut response = if request.method() == Method::HEAD {
        // As GET, without a viewer.
        wait_for_media(&target.module, &stream, deadline).await?;
        Response::new(Body::empty())
    } else {
        // Watched first and judged then, so that a viewer who was here before the first frame gets it.
        let mut viewer = watch(service, &target, &stream)?;
        wait_for_media(&target.module, &stream, deadline).await?;
        let first = first_span(&mut viewer, &stream, deadline).await?;
        match upgrade {
            Some(upgrade) => return Ok(upgrade.accept(request, viewer, first)),
            None => Response::new(Body::live(viewer, first)),
        }
    };
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, content_type.map_err(|_| Refusal::Unavailable)?);
    headers.insert(ACCEL_BUFFERING, HeaderValue::from_static("no"));
    Ok(response)
}

/// Whether a stream that the request means is there now.
pub(super) fn is_live<B>(service: &Service, request: &Request<B>) -> Result<bool, Refusal> {
    let uri = request.uri();
    let routes = service.router.routes(host(request), uri.path(), uri.query().unwrap_or(""))?;
    Ok(routes.iter().any(|route| service.hub.find(&route.key).is_some()))
}

struct Target {
    route: Route,
    module: Arc<Module>,
    options: Options,
}

/// The first mount of the request whose extension a module answers over `transport`.
fn target<B>(service: &Service, request: &Request<B>, transport: Transport) -> Result<Target, Refusal> {
    let uri = request.uri();
    let query = uri.query().unwrap_or("");
    let routes = service.router.routes(host(request), uri.path(), query)?;
    let mut refusal = Refusal::NotMounted;
    for route in routes {
        let extension = &route.mount.pattern.extension;
        if let Some(module) = service.registry.find(extension, transport) {
            let options = resolve_options(module.options(), &route.mount.options, query_pairs(query))?;
            return Ok(Target { route, module, options });
        }
        if service.registry.find(extension, Transport::WEBSOCKET).is_some() {
            refusal = Refusal::WebSocketOnly;
        }
    }
    Err(refusal)
}

/// A viewer of the target; the first of a mount starts its clock.
fn watch(service: &Service, target: &Target, stream: &Arc<Stream>) -> Result<Viewer, Refusal> {
    let watched = stream.watch(&target.module, &target.options, &service.pool);
    let (viewer, started) = watched.map_err(|_| Refusal::Unavailable)?;
    if started {
        tokio::spawn(pacer::pace_mount(stream.clone(), viewer.mount().clone()));
    }
    Ok(viewer)
}

/// Waits until the stream has something to join: then its codecs are known, and `module` must carry one.
async fn wait_for_media(module: &Module, stream: &Stream, deadline: Instant) -> Result<(), Refusal> {
    let tags = stream.tags();
    if !tags.has_join() {
        let mut reader = tags.reader(JoinAt::Newest, Pace::Each);
        let first = timeout_at(deadline, poll_fn(|cx| reader.poll_read(cx))).await;
        first.ok().flatten().ok_or(Refusal::NotLive)?;
    }
    check_codecs(module, stream)
}

/// A format must carry at least one of the tracks.
fn check_codecs(module: &Module, stream: &Stream) -> Result<(), Refusal> {
    let facts = stream.facts();
    let (video, audio) = (facts.video, facts.audio);
    let carried = module.video_codecs().contains(&video) || module.audio_codecs().contains(&audio);
    let known = video != Codec::NONE || audio != Codec::NONE;
    if known && !carried { Err(Refusal::Codec { video, audio }) } else { Ok(()) }
}

async fn first_span(viewer: &mut Viewer, stream: &Stream, deadline: Instant) -> Result<Arc<Span>, Refusal> {
    match timeout_at(deadline, poll_fn(|cx| viewer.poll_next(cx))).await {
        Ok(Some(span)) => Ok(span),
        Ok(None) if !stream.tags().is_ended() => Err(Refusal::Unavailable),
        Ok(None) | Err(_) => Err(Refusal::NotLive),
    }
}
