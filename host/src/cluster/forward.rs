//! Forwards: the streams of a vhost, each sent to the destinations of the vhost's `forward`.
//!
//! A stream has one push for each destination, from its first publisher to its end. A reload starts and ends pushes. Where streams
//! are sent besides, the hooks of `backend` say when a stream begins.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, info};

use super::backoff::Backoff;
use super::connector::Led;
use super::error::UpstreamError;
use super::location::Location;
use super::push::{Feed, Outbox, Sent, Target};
use super::transfers::{TransferEntry, TransferKind};
use crate::conf::{Endpoint, Upstream, Vhost};
use crate::policy::HookRefusal;
use crate::stream::{Hub, Stream, StreamKey, StreamObserver};

/// A push that lasted this long has worked: the next attempt comes soon.
const WORKED: Duration = Duration::from_secs(10);

/// Sends the streams of a hub to the destinations of their vhosts.
pub struct Forwards {
    this: Weak<Forwards>,
    outbox: Outbox,
    hub: Weak<Hub>,
    runtime: Handle,
    tasks: TaskTracker,
    /// Cancelled when the host stops.
    stopping: CancellationToken,
    streams: Mutex<HashMap<StreamKey, Forwarded>>,
}

/// A stream that is forwarded.
struct Forwarded {
    /// The stream of that name which is meant.
    stream: Weak<Stream>,
    tasks: Vec<(Wanted, CancellationToken)>,
}

/// A part of a vhost's `forward`.
#[derive(Clone, PartialEq)]
enum Wanted {
    Destination(Upstream),
    Backends(Vec<Endpoint>),
}

impl Forwards {
    /// Forwards the streams of `hub` from now on. Needs a runtime around it.
    pub fn new(outbox: Outbox, hub: &Arc<Hub>) -> Arc<Forwards> {
        let forwards = Arc::new_cyclic(|this| Forwards {
            this: this.clone(),
            outbox,
            hub: Arc::downgrade(hub),
            runtime: Handle::current(),
            tasks: TaskTracker::new(),
            stopping: CancellationToken::new(),
            streams: Mutex::default(),
        });
        hub.observe(forwards.clone());
        forwards
    }

    /// Follows the vhosts of all streams, after a reload.
    pub fn follow(&self) {
        let hub = self.hub.upgrade();
        hub.iter().flat_map(|hub| hub.streams()).for_each(|stream| self.follow_stream(&stream));
    }

    /// Waits until all pushes have ended, whose streams must have ended. Those that have no connection end at once.
    pub async fn finish(&self) {
        self.stopping.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Starts the pushes that a stream's vhost wants, and ends those that it no longer wants.
    fn follow_stream(&self, stream: &Arc<Stream>) {
        let wanted = Wanted::of(&stream.vhost());
        let mut streams = self.streams.lock();
        if wanted.is_empty() && !streams.contains_key(stream.key()) {
            return;
        }
        let forwarded = streams.entry(stream.key().clone()).or_insert_with(|| Forwarded::new(stream));
        if !std::ptr::eq(forwarded.stream.as_ptr(), Arc::as_ptr(stream)) {
            // That one has ended, and its pushes with it.
            *forwarded = Forwarded::new(stream);
        }
        forwarded.tasks.retain(|(one, stop)| {
            let stays = wanted.contains(one);
            if !stays {
                stop.cancel();
            }
            stays
        });
        for one in wanted {
            if !forwarded.tasks.iter().any(|(other, _)| *other == one) {
                let stop = CancellationToken::new();
                forwarded.tasks.push((one.clone(), stop.clone()));
                self.start(one, stream.clone(), stop);
            }
        }
    }

    fn start(&self, wanted: Wanted, stream: Arc<Stream>, stop: CancellationToken) {
        let Some(forwards) = self.this.upgrade() else { return };
        // Now, so that a destination gets the stream from its first tag.
        let feed = Feed::play(&stream);
        let task = async move {
            match wanted {
                Wanted::Destination(upstream) => match Location::of(&upstream, stream.key()) {
                    Ok(location) => {
                        let target = Target { location, led: Led::ByConfig, is_node: true };
                        forwards.push(target, &stream, Some(feed), &stop).await;
                    }
                    Err(error) => {
                        info!(stream = %stream.key(), destination = %upstream, %error, "cannot forward");
                    }
                },
                Wanted::Backends(backends) => {
                    drop(feed);
                    forwards.push_to_backends(&backends, &stream, &stop).await;
                }
            }
            forwards.forget_if_ended(&stream);
        };
        self.tasks.spawn_on(task, &self.runtime);
    }

    fn forget_if_ended(&self, stream: &Arc<Stream>) {
        let mut streams = self.streams.lock();
        let is_same = |one: &Forwarded| std::ptr::eq(one.stream.as_ptr(), Arc::as_ptr(stream));
        if stream.tags().is_ended() && streams.get(stream.key()).is_some_and(is_same) {
            streams.remove(stream.key());
        }
    }

    /// Asks the backends, again and again if they fail, and sends the stream where they say.
    async fn push_to_backends(&self, backends: &[Endpoint], stream: &Arc<Stream>, stop: &CancellationToken) {
        let mut backoff = Backoff::default();
        let urls = loop {
            let vhost = stream.vhost();
            let hooks = self.outbox.access.hooks();
            let asked = tokio::select! {
                asked = hooks.destinations(stream.key(), backends, &vhost.http_hooks.requests) => asked,
                () = stop.cancelled() => return,
                () = self.stopping.cancelled() => return,
            };
            let error = match asked {
                Ok(urls) => break urls,
                Err(error) => error,
            };
            if matches!(error, HookRefusal::Refused { .. }) {
                info!(stream = %stream.key(), reason = %error, "not forwarded");
                return;
            }
            let again_in = backoff.next();
            info!(stream = %stream.key(), %error, ?again_in, "forward.backend failed");
            if !self.wait(again_in, stream, stop).await {
                return;
            }
        };
        let pushes = urls.iter().filter_map(|url| match Location::parse(url) {
            Ok(location) if location.scheme.is_rtmp() => {
                let target = Target { location, led: Led::ByRedirect, is_node: false };
                Some(self.push(target, stream, None, stop))
            }
            Ok(location) => {
                info!(stream = %stream.key(), destination = %location, "cannot forward: it is not RTMP");
                None
            }
            Err(error) => {
                info!(stream = %stream.key(), %error, "cannot forward to a URL of forward.backend");
                None
            }
        });
        join_all(pushes).await;
    }

    /// Sends the stream to `target`, again and again if that fails, until the stream ends or `stop` is cancelled.
    async fn push(
        &self,
        target: Target,
        stream: &Arc<Stream>,
        mut feed: Option<Feed>,
        stop: &CancellationToken,
    ) {
        let shown = target.location.to_string();
        let entry = self.outbox.pushes.add(stream.key(), TransferKind::Forward);
        let mut backoff = Backoff::default();
        loop {
            let began = Instant::now();
            entry.connecting(shown.clone());
            let feed = feed.take().unwrap_or_else(|| Feed::play(stream));
            let error = match self.attempt(&target, stream, feed, &entry, stop).await {
                Ok(sent) => {
                    info!(stream = %stream.key(), destination = shown, ?sent, "forward ended");
                    return;
                }
                Err(error) => error,
            };
            if began.elapsed() > WORKED {
                backoff.reset();
            }
            let again_in = backoff.next();
            entry.waiting();
            if entry.fail(error.to_string()) {
                info!(stream = %stream.key(), destination = shown, %error, ?again_in, "forward failed");
            } else {
                debug!(stream = %stream.key(), destination = shown, %error, ?again_in, "forward failed again");
            }
            if !self.wait(again_in, stream, stop).await {
                return;
            }
        }
    }

    async fn attempt(
        &self,
        target: &Target,
        stream: &Arc<Stream>,
        mut feed: Feed,
        entry: &TransferEntry,
        stop: &CancellationToken,
    ) -> Result<Sent, UpstreamError> {
        let (vhost, hops) = (stream.vhost(), stream.hops());
        let mut client = tokio::select! {
            opened = self.outbox.open(target, &vhost, &hops) => opened?,
            () = stop.cancelled() => return Ok(Sent::Stopped),
            () = self.stopping.cancelled() => return Ok(Sent::Stopped),
        };
        entry.running(target.location.to_string());
        info!(stream = %stream.key(), destination = %target.location, "forwarding");
        let limit = self.outbox.current.config().limits.send_timeout;
        self.outbox.send(&mut client, &mut feed, entry, limit, stop).await
    }

    /// Waits for `pause`, and then until the stream has a publisher. Returns false if it has ended, or `stop` is cancelled.
    async fn wait(&self, pause: Duration, stream: &Arc<Stream>, stop: &CancellationToken) -> bool {
        let Some(hub) = self.hub.upgrade() else { return false };
        let settled = async {
            sleep(pause).await;
            // Another stream may have its name by then.
            hub.settle(stream.key().clone()).await && !stream.tags().is_ended()
        };
        tokio::select! {
            is_live = settled => is_live,
            () = stop.cancelled() => false,
            () = self.stopping.cancelled() => false,
        }
    }
}

impl StreamObserver for Forwards {
    fn began(&self, stream: &Arc<Stream>) {
        self.follow_stream(stream);
    }
}

impl fmt::Debug for Forwards {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Forwards").finish_non_exhaustive()
    }
}

impl Forwarded {
    fn new(stream: &Arc<Stream>) -> Forwarded {
        Forwarded { stream: Arc::downgrade(stream), tasks: Vec::new() }
    }
}

impl Wanted {
    /// Returns where the streams of a vhost are sent. Those of an edge are its origins'.
    fn of(vhost: &Vhost) -> Vec<Wanted> {
        if vhost.cluster.is_edge() {
            return Vec::new();
        }
        let destinations = vhost.forward.destinations.iter().cloned().map(Wanted::Destination);
        let backends = Some(vhost.forward.backends.clone()).filter(|backends| !backends.is_empty());
        destinations.chain(backends.map(Wanted::Backends)).collect()
    }
}
