//! Requests for live mounts. The status line is sent when the outcome is known.

use std::future::poll_fn;
use std::net::IpAddr;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use hyper::Response;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use parking_lot::Mutex;
use tokio::time::{Instant, timeout_at};
use tracing::{info, warn};

use crate::clock::TokioClock;
use crate::conf::{Mount, Vhost};
use crate::log::LineLimit;
use crate::module::{Module, Pool, Recipe, Registry, Transport};
use crate::policy::{Access, Admission, ConnectionId, Outcome, Protocol, SessionId};
use crate::router::{Resolved, Route, query_pairs};
use crate::stream::{
    Carriage, CarriageReader, Codecs, EndReason, Hub, Rendition, Span, Stream, StreamKey, Viewer, Waiting,
};

use super::access::play_request;
use super::refused::Refused;
use super::websocket::Upgrade;
use super::{Body, Client, ConnectionContext, Refusal, Watching};

/// Tells nginx not to buffer the response.
const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// Time limit for the first media of a stream that is live, and for a remuxer's first block. `wait` may be longer.
const MEDIA_TIME: Duration = Duration::from_secs(10);
/// Bytes of memory of a viewer, beside its connection's and what it shares with others: an estimate.
const VIEWER_MEMORY: usize = 16 << 10;
/// Number of lines about requests that wait, at once.
const WAIT_LINES: u32 = 100;
/// Time limit for the second track of a stream.
const TRACK_WAIT: Duration = Duration::from_secs(1);

/// The part of the service that answers with live mounts.
pub(super) struct LiveMounts {
    hub: Arc<Hub>,
    registry: Arc<Registry>,
    pool: Arc<Pool>,
    access: Arc<Access>,
    /// Limits the lines about refused variants.
    refused_variants: Mutex<LineLimit>,
    /// Limits the lines about requests that wait for a publisher.
    waits: Mutex<LineLimit>,
}

/// The form of a live response.
pub(super) enum Delivery {
    /// The status line and headers only, for HEAD.
    Head,
    /// The response's body.
    Body,
    /// WebSocket messages.
    WebSocket(Upgrade),
}

impl Delivery {
    fn protocol(&self) -> Protocol {
        match self {
            Delivery::Head | Delivery::Body => Protocol::Http,
            Delivery::WebSocket(_) => Protocol::WebSocket,
        }
    }

    fn transport(&self) -> Transport {
        match self {
            Delivery::Head | Delivery::Body => Transport::HTTP,
            Delivery::WebSocket(_) => Transport::WEBSOCKET,
        }
    }
}

impl LiveMounts {
    /// Serves the streams of `hub` in the formats of `registry` to whom `access` admits; remuxers run in `pool`.
    pub(super) fn new(
        hub: Arc<Hub>,
        registry: Arc<Registry>,
        pool: Arc<Pool>,
        access: Arc<Access>,
    ) -> LiveMounts {
        let waits = Mutex::new(LineLimit::burst(WAIT_LINES));
        LiveMounts { hub, registry, pool, access, refused_variants: Mutex::default(), waits }
    }

    pub(super) fn access(&self) -> &Arc<Access> {
        &self.access
    }

    /// Whether the stream of one of `routes` is live. If its publisher is away, waits until it has returned or is given up,
    /// at most for the vhost's `wait` after the request's `arrival`.
    pub(super) async fn is_live(&self, routes: &[Route], arrival: Instant) -> bool {
        for route in routes {
            let settled = timeout_at(deadline(route, arrival), self.hub.settle(route.key.clone()));
            if settled.await.unwrap_or(false) {
                return true;
            }
        }
        false
    }

    /// Answers a GET or HEAD that came at `arrival` with a live mount.
    ///
    /// # Errors
    /// [`Refusal`] when no mount matches, the policy refuses the viewer, no publisher comes in time, or the format cannot carry
    /// the stream.
    pub(super) async fn respond(
        &self,
        resolved: Resolved,
        delivery: Delivery,
        arrival: Instant,
        client: &Client,
        headers: &HeaderMap,
        connection: &ConnectionContext,
    ) -> Result<Response<Body>, Refused> {
        let Resolved { path, query, routes, .. } = resolved;
        let mut target = self.target(routes, &query, delivery.transport())?;
        let protocol = (delivery.protocol(), arrival.into_std());
        let request = play_request(&target.route, &path, &query, protocol, client, headers, connection);
        let admitted = self.access.admit(&target.route.policy, request, None).await;
        let mut admission = admitted.map_err(Refused::reported)?;
        let asker = Asker { client: client.address, connection: connection.id, session: admission.id() };
        // While memory is short, also before the wait for a publisher.
        let refused = |refusal: Refusal, admission: &Admission| {
            Refused::of_session(refusal, admission, self.access.refusals(), client, connection)
        };
        let room = connection.account.admit(VIEWER_MEMORY);
        let room = room.map_err(|over| refused(over.into(), &admission))?;
        let deadline = deadline(&target.route, arrival);
        if !self.hub.find(&target.route.key).is_some_and(|stream| stream.is_live()) {
            self.report_wait(asker, admission.key());
            admission.want();
        }
        let asking = Waiting { address: client.address, hops: admission.session().hops() };
        let wait = self.hub.want(target.route.key.clone(), asking);
        let wait = wait.map_err(|error| refused(error.into(), &admission))?;
        let is_node = !admission.session().hops().is_empty();
        let join = async {
            let stream = tokio::select! {
                stream = timeout_at(deadline, wait) => stream.map_err(|_| Refusal::NotLive)??,
                () = connection.lifecycle.stopping() => return Err(Refusal::Unavailable),
            };
            let (mut viewer, first) = self.join(&mut target, &stream, asker, deadline).await?;
            if is_node {
                viewer.hasten(stream.hasten());
            }
            Ok((viewer, first))
        };
        let joined = tokio::select! {
            joined = join => joined,
            _ = poll_fn(|cx| admission.poll_end(cx)) => return Err(Refused::reported(Refusal::Forbidden)),
        };
        let (viewer, first) = joined.map_err(|refusal| refused(refusal, &admission))?;
        admission.session().set_variant(&target.recipe.variant());
        if !matches!(delivery, Delivery::Head) {
            let (Asker { client, connection, session }, stream) = (asker, &target.route.key);
            info!(%client, %connection, %session, %stream, module = target.module().name(), "viewing");
        }
        let stall = connection.stall.clone();
        let mut response = match delivery {
            Delivery::Head => {
                admission.session().ends_because(Outcome::Answered);
                Response::new(Body::empty())
            }
            Delivery::Body => Response::new(Body::live(Watching { viewer, first, room, admission, stall })),
            Delivery::WebSocket(upgrade) => {
                return Ok(upgrade.accept(Body::live(Watching { viewer, first, room, admission, stall })));
            }
        };
        let content_type = HeaderValue::from_str(target.module().content_type());
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, content_type.map_err(|_| Refused::from(Refusal::Unavailable))?);
        headers.insert(ACCEL_BUFFERING, HeaderValue::from_static("no"));
        Ok(response)
    }

    /// Attaches a viewer, and waits for its first blocks.
    async fn join(
        &self,
        target: &mut Target,
        stream: &Arc<Stream>,
        asker: Asker,
        deadline: Instant,
    ) -> Result<(Viewer, Arc<Span>), Refusal> {
        let track = target.recipe.track();
        loop {
            let rendition = timeout_at(deadline, stream.rendition(track)).await.ok().flatten();
            let rendition = rendition.ok_or(Refusal::NoTrack { track })?;
            let mut carriage = rendition.carriage();
            // The viewer attaches before the wait, so that it gets the first frame if it was here before it.
            let mut viewer = self.watch(target, stream, asker)?;
            // `wait` is for streams that are not live. Its publisher may have begun a moment ago, or the next keyframe be far.
            let media_deadline =
                if stream.is_live() { deadline.max(Instant::now() + MEDIA_TIME) } else { deadline };
            wait_for_carriage(&mut carriage, target.module(), media_deadline).await?;
            drop(carriage);
            let media_deadline = deadline.max(Instant::now() + MEDIA_TIME);
            match first_span(&mut viewer, &rendition, media_deadline).await {
                Ok(first) => return Ok((viewer, first)),
                // The mount ended before the viewer's first byte: the next one begins with the new preamble.
                Err(_) if viewer.mount().end_reason() == Some(EndReason::Outdated) => {}
                // Attaching again says for how long the mount is closed.
                Err(_) if viewer.mount().end_reason() == Some(EndReason::Faults) => {}
                Err(refusal) => return Err(refusal),
            }
        }
    }

    /// Returns the first route that a module can serve over `transport`.
    fn target(&self, routes: Vec<Route>, query: &str, transport: Transport) -> Result<Target, Refusal> {
        let mut refusal = Refusal::NotMounted;
        for route in routes {
            let extension = &route.mount.pattern.extension;
            if let Some(module) = self.registry.find(extension, transport) {
                let recipe = Recipe::new(module, &route.mount.options, query_pairs(query))?;
                let recipe = recipe.of_mount(&route.mount.pattern.text);
                return Ok(Target { route, transport, recipe });
            }
            if self.registry.find(extension, Transport::WEBSOCKET).is_some() {
                refusal = Refusal::WebSocketOnly;
            }
        }
        Err(refusal)
    }

    /// Attaches a viewer to the target's mount. The first viewer of a mount starts its pacer.
    ///
    /// The module and the mount's settings may have changed while the request waited, so they are looked up again.
    fn watch(&self, target: &mut Target, stream: &Arc<Stream>, asker: Asker) -> Result<Viewer, Refusal> {
        let Target { route, transport, recipe } = target;
        let mount = &route.mount;
        let look_up = |vhost: &Vhost| {
            let newest = vhost.mounts.iter().find(|one| one.pattern.text == mount.pattern.text);
            // Until a reload has reached the stream, its vhost lacks a new mount.
            let newest = newest.unwrap_or(mount);
            let module = self.registry.find(&mount.pattern.extension, *transport);
            let module = module.ok_or(Refusal::NotMounted)?;
            if !Arc::ptr_eq(&module, recipe.module()) || recipe.set() != newest.options {
                *recipe = recipe.with(module, &newest.options)?;
            }
            Ok::<_, Refusal>((recipe.clone(), newest.fast_cache))
        };
        let watched = stream.watch(look_up, &self.pool);
        let (viewer, pacer) = watched.inspect_err(|refusal| self.report(refusal, stream, mount, asker))?;
        if let Some(pacer) = pacer {
            let (Asker { client, connection, session }, stream) = (asker, stream.key());
            let module = target.module().name();
            info!(%client, %connection, %session, %stream, %module, "mount started");
            tokio::spawn(pacer.run::<TokioClock>());
        }
        Ok(viewer)
    }

    /// Logs that a request waits for its publisher, in some lines every few seconds: nobody knows yet whether there is one.
    fn report_wait(&self, Asker { client, connection, session }: Asker, stream: &StreamKey) {
        let line = self.waits.lock().line(std::time::Instant::now());
        if let Some(before) = line {
            info!(%client, %connection, %session, %stream, before, "waiting for a publisher");
        }
    }

    /// Logs that a variant is refused, in a line every few seconds.
    fn report(&self, refusal: &Refusal, stream: &Stream, mount: &Mount, asker: Asker) {
        let Refusal::TooManyVariants { limit } = *refusal else { return };
        let line = self.refused_variants.lock().line(std::time::Instant::now());
        if let Some(before) = line {
            let (Asker { client, connection, session }, stream) = (asker, stream.key());
            let (mount, message) = (&mount.pattern.text, "variant refused: viewers watch too many others");
            warn!(%client, %connection, %session, %stream, mount, limit, before, "{message}");
        }
    }
}

/// The client and the ids of a request, as every line of the log about it has them.
#[derive(Clone, Copy)]
struct Asker {
    client: IpAddr,
    connection: ConnectionId,
    session: SessionId,
}

/// The mount that answers a request, with the recipe for its remuxer.
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

/// Returns when a request for `route` has waited long enough for its stream.
fn deadline(route: &Route, arrival: Instant) -> Instant {
    arrival + route.vhost.play.wait.min(Duration::from_secs(86_400))
}

/// Waits until it is known whether `module` can carry a track of the stream: from the first join point on, unless a second
/// track may still come.
async fn wait_for_carriage(
    carriage: &mut CarriageReader,
    module: &Module,
    mut deadline: Instant,
) -> Result<(), Refusal> {
    let mut refusal = Refusal::NotLive;
    let mut undecided = false;
    loop {
        let judged = poll_fn(|cx| match carriage.judge(module, cx) {
            Carriage::Unknown => Poll::Pending,
            Carriage::Undecided(_) if undecided => Poll::Pending,
            judged => Poll::Ready(judged),
        });
        match timeout_at(deadline, judged).await {
            Ok(Carriage::Carried) => return Ok(()),
            Ok(Carriage::Undecided(Codecs { video, audio })) => {
                refusal = Refusal::Codec { video, audio };
                undecided = true;
                deadline = deadline.min(Instant::now() + TRACK_WAIT);
            }
            Ok(Carriage::Refused(Codecs { video, audio })) => return Err(Refusal::Codec { video, audio }),
            Ok(Carriage::Unknown | Carriage::Ended) | Err(_) => return Err(refusal),
        }
    }
}

/// Waits for the viewer's first blocks.
async fn first_span(
    viewer: &mut Viewer,
    rendition: &Rendition,
    deadline: Instant,
) -> Result<Arc<Span>, Refusal> {
    match timeout_at(deadline, poll_fn(|cx| viewer.poll_next(cx))).await {
        Ok(Some(span)) => Ok(span),
        Ok(None) if viewer.mount().end_reason() == Some(EndReason::Unsupported) => {
            let Codecs { video, audio } = rendition.codecs();
            Err(Refusal::Codec { video, audio })
        }
        Ok(None) if !rendition.is_ended() => Err(Refusal::Unavailable),
        Ok(None) | Err(_) => Err(Refusal::NotLive),
    }
}
