//! A pull: one task that takes a stream from origins, as long as somebody wants it.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};
use tracing::{info, warn};

use super::backoff::Backoff;
use super::error::{ConnectError, UpstreamError};
use super::health::{Health, Origin};
use super::origin::{Asker, Incoming, Opener};
use super::published::{Published, Taken};
use super::pulls::Pulls;
use super::records::{RecordEntry, Records};
use super::splice::{Delivery, Splice};
use super::stall::StallLimit;
use crate::budget::{Account, Budget};
use crate::conf::{Upstream, Vhost};
use crate::lifecycle::Lifecycle;
use crate::log::LineLimit;
use crate::media::{Millis, Tag, TagKind};
use crate::policy::{Access, hops_through};
use crate::stream::{Hub, StreamKey, SupplyError};

/// Interval in which a pull checks whether anybody wants its stream, and whether its origin is still one of the vhost's.
const CHECK: Duration = Duration::from_millis(250);

/// An origin that has sent media for this long works: its next failure is the first one again.
const STEADY: Duration = Duration::from_secs(10);

/// Limit of tags that are kept before the first media.
const MAX_EARLY: usize = 16;

/// The means of all pulls.
pub(super) struct Means {
    pub opener: Opener,
    pub hub: Arc<Hub>,
    pub access: Arc<Access>,
    pub budget: Budget,
    pub lifecycle: Lifecycle,
    pub health: Health,
    pub pulls: Mutex<Pulls>,
    pub records: Arc<Records>,
    /// The start of the clock of arrivals.
    pub started: std::time::Instant,
    /// Limits the lines about streams that cannot be had.
    pub failures: Mutex<LineLimit>,
}

/// A pull.
pub(super) struct Pull {
    means: Arc<Means>,
    key: StreamKey,
    /// The nodes that its first client has passed.
    hops: String,
    account: Account,
    record: RecordEntry,
    published: Published,
    splice: Splice,
    stall: StallLimit,
    /// When the last media were delivered.
    newest: Millis,
    /// The origin that had the stream last.
    last: Option<Upstream>,
}

/// Why a pull ends.
#[derive(Debug)]
enum End {
    /// No origin has had the stream.
    Failed(SupplyError, Option<UpstreamError>),
    /// The stream has ended, or no origin has had it for too long.
    Over,
    /// Nobody wants the stream.
    Idle,
    /// The vhost is no edge any more.
    NoEdge,
    /// Another publisher has the stream.
    Taken,
    Stopping,
}

/// How an origin's part of a stream ended.
#[derive(Debug)]
enum Part {
    /// It has ended, as far as the origin knows.
    Clean,
    Broken(UpstreamError),
    /// The config has the origin no more.
    Removed,
}

impl Means {
    /// Returns the vhost in the config in force, if it is an edge.
    pub fn edge(&self, key: &StreamKey) -> Option<Arc<Vhost>> {
        let config = self.opener.current.config();
        let vhost = config.vhosts.iter().find(|vhost| *vhost.name == *key.vhost)?;
        (vhost.enabled && vhost.cluster.is_edge()).then(|| vhost.clone())
    }

    fn now(&self) -> Millis {
        Millis(self.started.elapsed().as_millis() as i64)
    }
}

impl Pull {
    /// Creates the pull of a stream for a client that has passed the nodes `hops`.
    pub fn new(means: Arc<Means>, key: StreamKey, hops: &str) -> Pull {
        let account = means.budget.address().account();
        let published = Published::new(means.hub.clone(), key.clone(), account.clone());
        let hops = hops_through(hops, &means.access.node(), &key.vhost);
        let record = means.records.add(&key);
        Pull {
            means,
            key,
            hops,
            account,
            record,
            published,
            splice: Splice::default(),
            stall: StallLimit::default(),
            newest: Millis(0),
            last: None,
        }
    }

    /// Pulls until nobody wants the stream, or no origin has it.
    pub async fn run(mut self) {
        loop {
            let (means, key) = (self.means.clone(), self.key.clone());
            let end = tokio::select! {
                end = self.pull() => end,
                end = unwanted(&means, &key) => end,
                () = means.lifecycle.stopping() => End::Stopping,
            };
            let began = self.published.has_begun();
            means.pulls.lock().begin_end(&key);
            self.published.end();
            self.splice = Splice::default();
            let error = match &end {
                End::Failed(error, _) => Some(*error),
                End::Over | End::NoEdge | End::Stopping => Some(SupplyError::NotFound),
                End::Idle | End::Taken => None,
            };
            if let Some(error) = error {
                means.pulls.lock().fail(&key, error, std::time::Instant::now());
                means.hub.fail(&key, error);
            } else if !means.pulls.lock().end(&key) {
                continue;
            }
            return self.report(&end, began);
        }
    }

    fn report(&self, end: &End, began: bool) {
        let stream = &self.key;
        let reason = match end {
            End::Failed(error, cause) => {
                let line = self.means.failures.lock().line(std::time::Instant::now());
                if let Some(before) = line {
                    let cause = cause.as_ref().map(ToString::to_string);
                    info!(%stream, reason = %error, cause, before, "not pulled");
                }
                return;
            }
            End::Over => "the stream ended",
            End::Idle => "nobody watches it",
            End::NoEdge => "the vhost is no edge any more",
            End::Taken => "another publisher has the stream",
            End::Stopping => "the host stops",
        };
        if began {
            info!(%stream, reason, "pull ended");
        }
    }

    /// Takes the stream from one origin after the other.
    async fn pull(&mut self) -> End {
        let mut backoff = Backoff::default();
        // Until when viewers wait for an origin, once there was one.
        let mut patience: Option<Instant> = None;
        loop {
            let Some(vhost) = self.means.edge(&self.key) else { return End::NoEdge };
            let began = Instant::now();
            let part = match self.part(&vhost, patience).await {
                Ok(Ok(part)) => part,
                Ok(Err(Taken)) => return End::Taken,
                Err((error, cause)) => match patience {
                    None => return End::Failed(error, cause),
                    Some(until) => {
                        self.record.waiting();
                        pause(&mut backoff, until).await;
                        if Instant::now() >= until {
                            return End::Over;
                        }
                        continue;
                    }
                },
            };
            // The limit of a stall grows by itself, and may be what the stream needs.
            let is_stall = matches!(part, Part::Broken(UpstreamError::Stalled { .. }));
            let steady = is_stall || began.elapsed() >= STEADY;
            let wait = match part {
                Part::Clean => {
                    self.published.leave();
                    self.splice = Splice::default();
                    vhost.publish.republish_wait
                }
                Part::Broken(_) | Part::Removed => {
                    self.splice.switch(self.newest);
                    vhost.cluster.failover_wait
                }
            };
            let mut until = Instant::now() + wait;
            match patience {
                Some(before) if !steady => {
                    // An origin that fails again and again must neither keep viewers for ever, nor be asked without a pause.
                    until = until.min(before);
                    pause(&mut backoff, until).await;
                }
                _ => backoff.reset(),
            }
            if Instant::now() >= until {
                return End::Over;
            }
            patience = Some(until);
        }
    }

    /// Tries the origins until one has sent a part of the stream; none is opened after `until`.
    ///
    /// # Errors
    /// None has the stream.
    async fn part(
        &mut self,
        vhost: &Arc<Vhost>,
        until: Option<Instant>,
    ) -> Result<Result<Part, Taken>, (SupplyError, Option<UpstreamError>)> {
        let mut failure = (SupplyError::NotFound, None);
        let now = std::time::Instant::now();
        for origin in self.means.health.order(vhost, &self.key, self.last.as_ref(), now) {
            self.means.health.begin(&origin, std::time::Instant::now());
            self.record.connecting(origin.location.to_string());
            let opened = self.first_media(vhost, &origin);
            let opened = match until {
                Some(until) => timeout_at(until, opened).await,
                None => Ok(opened.await),
            };
            let Ok(opened) = opened else { break };
            match opened {
                Ok((incoming, early)) => return Ok(self.follow(vhost, &origin, incoming, early).await),
                Err(error) => {
                    if !self.is_absent(&origin, &error) {
                        self.record.failed(error.to_string());
                        failure = (SupplyError::Unreachable, Some(error));
                    }
                }
            }
        }
        Err(failure)
    }

    /// Returns whether an error of an origin means that it does not have the stream. Other errors count against its health.
    fn is_absent(&self, origin: &Origin, error: &UpstreamError) -> bool {
        match error {
            UpstreamError::NotFound | UpstreamError::Dropped => {
                self.means.health.succeed(origin);
                true
            }
            // The stream comes from here, or the server may wait for a publisher.
            UpstreamError::Loop | UpstreamError::Silent { .. } => true,
            // What it redirects to, or refuses, says nothing of the origin.
            UpstreamError::Refused { .. }
            | UpstreamError::Redirects { .. }
            | UpstreamError::Location(_)
            | UpstreamError::InvalidRequest
            | UpstreamError::Connect(ConnectError::NotAllowed { .. } | ConnectError::Foreign { .. }) => false,
            _ => {
                self.means.health.fail(origin, error, std::time::Instant::now());
                false
            }
        }
    }

    /// Opens the stream at an origin, and waits for its first media. Also returns the tags up to there.
    async fn first_media(
        &self,
        vhost: &Vhost,
        origin: &Origin,
    ) -> Result<(Incoming, VecDeque<Tag>), UpstreamError> {
        let cluster = &vhost.cluster;
        let (hops, account, limit) = (&self.hops, &self.account, cluster.connect_timeout);
        let on_ask = |server: IpAddr| self.means.pulls.lock().ask(&self.key, server.to_canonical());
        let mut incoming =
            self.means.opener.open(&origin.location, Asker::Node, hops, account, limit, on_ask).await?;
        let mut early = VecDeque::new();
        let first = async {
            loop {
                let tag = match incoming.next_tag().await {
                    // Some servers accept every name first.
                    Err(UpstreamError::Closed | UpstreamError::Io(_)) => return Err(UpstreamError::Dropped),
                    tag => tag?.ok_or(UpstreamError::NotFound)?,
                };
                let is_media = is_media(&tag);
                if early.len() == MAX_EARLY {
                    early.pop_front();
                }
                early.push_back(tag);
                if is_media {
                    return Ok(());
                }
            }
        };
        // Some servers accept every name, and send nothing.
        timeout(cluster.first_byte_timeout, first).await.unwrap_or(Err(UpstreamError::NotFound))?;
        Ok((incoming, early))
    }

    /// Delivers the tags of an origin until it ends or fails.
    async fn follow(
        &mut self,
        vhost: &Arc<Vhost>,
        origin: &Origin,
        mut incoming: Incoming,
        early: VecDeque<Tag>,
    ) -> Result<Part, Taken> {
        let stream = &self.key.clone();
        info!(%stream, origin = %origin.location, "pulling");
        self.means.pulls.lock().go_live(stream);
        self.record.receiving(self.last.is_some());
        self.last = Some(origin.upstream.clone());
        self.stall.begin();
        for tag in early {
            if is_media(&tag) {
                self.stall.add(&tag);
            }
            let delivery = self.splice.push(tag, self.means.now());
            self.deliver(vhost, delivery)?;
        }
        let part = self.rest(vhost, origin, &mut incoming).await?;
        match &part {
            Part::Clean => info!(%stream, origin = %origin.location, "the origin ended the stream"),
            Part::Removed => {
                info!(%stream, origin = %origin.location, "the origin is left: the config has it no more")
            }
            Part::Broken(error) => {
                self.means.health.fail(origin, error, std::time::Instant::now());
                self.record.failed(error.to_string());
                warn!(%stream, origin = %origin.location, %error, "the origin failed");
            }
        }
        Ok(part)
    }

    async fn rest(
        &mut self,
        vhost: &Arc<Vhost>,
        origin: &Origin,
        incoming: &mut Incoming,
    ) -> Result<Part, Taken> {
        let began = Instant::now();
        let mut newest = began;
        let mut check = began + CHECK;
        let mut works = false;
        loop {
            let limit = self.stall.limit(vhost.cluster.media_timeout);
            let stalled = newest + limit;
            let decides = self
                .splice
                .deadline()
                .map(|at| Instant::now() + Duration::from_millis((at.0 - self.means.now().0).max(0) as u64));
            let delivery = tokio::select! {
                tag = incoming.next_tag() => match tag {
                    Ok(Some(tag)) => {
                        self.record.add_bytes(tag.payload.len());
                        if is_media(&tag) {
                            newest = Instant::now();
                            self.stall.add(&tag);
                        }
                        if !works && began.elapsed() >= vhost.cluster.media_timeout {
                            works = true;
                            self.stall.recover();
                            self.means.health.succeed(origin);
                        }
                        self.splice.push(tag, self.means.now())
                    }
                    Ok(None) => return Ok(Part::Clean),
                    Err(error) => return Ok(Part::Broken(error)),
                },
                () = sleep_until(stalled) => {
                    self.stall.stall();
                    return Ok(Part::Broken(UpstreamError::Stalled { timeout: limit }));
                }
                () = sleep_until(decides.unwrap_or(stalled)), if decides.is_some() => {
                    self.splice.elapse(self.means.now())
                }
                () = sleep_until(check) => {
                    check = Instant::now() + CHECK;
                    let vhost = self.means.edge(&self.key);
                    // A vhost that is no edge any more ends the whole pull.
                    if vhost.is_some_and(|vhost| !vhost.cluster.origins.contains(&origin.upstream)) {
                        return Ok(Part::Removed);
                    }
                    continue;
                }
            };
            self.deliver(vhost, delivery)?;
        }
    }

    fn deliver(&mut self, vhost: &Arc<Vhost>, delivery: Delivery) -> Result<(), Taken> {
        let now = self.means.now();
        let tags = match delivery {
            Delivery::Nothing => return Ok(()),
            Delivery::Next(tag) => {
                if is_media(&tag) {
                    self.newest = now;
                }
                return self.published.push(vhost, tag, now);
            }
            Delivery::Resumed(tags) => tags,
            Delivery::Restarted(tags) => {
                self.published.leave();
                tags
            }
        };
        if tags.iter().any(is_media) {
            self.newest = now;
        }
        tags.into_iter().try_for_each(|tag| self.published.push(vhost, tag, now))
    }
}

/// Waits before the next attempt, at most until `until`.
async fn pause(backoff: &mut Backoff, until: Instant) {
    sleep(backoff.next().min(until.saturating_duration_since(Instant::now()))).await;
}

/// Waits until nobody has wanted the stream for the vhost's `idle_timeout`, or the vhost is no edge any more.
async fn unwanted(means: &Means, key: &StreamKey) -> End {
    let mut wanted = Instant::now();
    loop {
        sleep(CHECK).await;
        let Some(vhost) = means.edge(key) else { return End::NoEdge };
        if means.access.viewers(key) > 0 {
            wanted = Instant::now();
        } else if wanted.elapsed() >= vhost.play.idle_timeout {
            return End::Idle;
        }
    }
}

fn is_media(tag: &Tag) -> bool {
    tag.kind == TagKind::AUDIO || tag.kind == TagKind::VIDEO
}
