//! A pull: one task that takes a stream from origins, as long as somebody wants it.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use tokio_util::task::AbortOnDropHandle;
use tracing::{info, warn};

use super::backoff::Backoff;
use super::connector::Led;
use super::directory::{FenceId, Watch};
use super::error::UpstreamError;
use super::health::Origin;
use super::inquiry::{Found, Inquiry, NotFound, is_media};
use super::means::Means;
use super::origin::Incoming;
use super::published::{Published, Taken};
use super::splice::{Delivery, Splice};
use super::stall::StallLimit;
use super::transfers::{TransferEntry, TransferKind};
use crate::conf::{Upstream, Vhost};
use crate::media::Millis;
use crate::policy::hops_through;
use crate::stream::{StreamKey, SupplyError};

/// Interval in which a pull checks whether anybody wants its stream, and whether its origin is still one of the vhost's.
const CHECK: Duration = Duration::from_millis(250);

/// An origin that has sent media for this long works: its next failure is the first one again.
const STEADY: Duration = Duration::from_secs(10);

/// The least time between two inquiries at other origins for a stream that was late and then went on.
const CALM: Duration = Duration::from_secs(60);

/// A pull.
pub(super) struct Pull {
    means: Arc<Means>,
    key: StreamKey,
    inquiry: Arc<Inquiry>,
    record: Arc<TransferEntry>,
    published: Published,
    splice: Splice,
    stall: StallLimit,
    /// When the last media were delivered.
    newest: Millis,
    /// The origin that had the stream last.
    last: Option<Upstream>,
    /// The notifications of the directory about the stream.
    watch: Watch,
    /// An inquiry at the other origins, while the stream is late.
    standby: Option<AbortOnDropHandle<Result<Found, NotFound>>>,
}

/// Why a pull ends.
#[derive(Debug)]
enum End {
    /// No origin has had the stream.
    Failed(NotFound),
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
    /// The stream has a newer publisher, at another origin.
    Moved,
}

impl Pull {
    /// Creates the pull of a stream for a client that has passed the nodes `hops`.
    pub fn new(means: Arc<Means>, key: StreamKey, hops: &str) -> Pull {
        let account = means.budget.address().account();
        let published = Published::new(means.hub.clone(), key.clone(), account.clone());
        let hops = hops_through(hops, &means.access.node(), &key.vhost);
        let record = Arc::new(means.transfers.add(&key, TransferKind::Pull));
        let watch = means.directory.watch(&key);
        let inquiry =
            Inquiry { means: means.clone(), key: key.clone(), hops, account, record: record.clone() };
        Pull {
            means,
            key,
            inquiry: Arc::new(inquiry),
            record,
            published,
            splice: Splice::default(),
            stall: StallLimit::default(),
            newest: Millis(0),
            last: None,
            watch,
            standby: None,
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
            self.standby = None;
            let error = match &end {
                End::Failed(NotFound { error, .. }) => Some(*error),
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
            End::Failed(NotFound { error, cause }) => {
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
                Err(failure) => match patience {
                    None => return End::Failed(failure),
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
                    self.standby = None;
                    self.published.leave();
                    self.splice = Splice::default();
                    vhost.publish.republish_wait
                }
                Part::Broken(_) | Part::Removed | Part::Moved => {
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

    /// Takes a part of the stream from the origin on standby, or else from the first one that has it; none is asked after `until`.
    ///
    /// # Errors
    /// None has the stream.
    async fn part(
        &mut self,
        vhost: &Arc<Vhost>,
        until: Option<Instant>,
    ) -> Result<Result<Part, Taken>, NotFound> {
        let standby = self.standby.take();
        let (inquiry, record, last) = (self.inquiry.clone(), self.record.clone(), self.last.clone());
        let found = async {
            if let Some(standby) = standby {
                record.waiting();
                if let Ok(Ok(found)) = standby.await {
                    return Ok(found);
                }
            }
            let (origins, is_unsure) = inquiry.means.origins(vhost, &inquiry.key, last.as_ref()).await;
            if origins.is_empty() && is_unsure {
                return Err(NotFound::UNKNOWN);
            }
            let on_ask = |origin: &Origin| record.connecting(origin.location.to_string());
            inquiry.ask(vhost, origins, on_ask).await
        };
        let found = match until {
            Some(until) => timeout_at(until, found).await.unwrap_or(Err(NotFound::ABSENT))?,
            None => found.await?,
        };
        Ok(self.follow(vhost, found).await)
    }

    /// Delivers the tags of an origin until it ends or fails.
    async fn follow(&mut self, vhost: &Arc<Vhost>, found: Found) -> Result<Part, Taken> {
        let Found { origin, mut incoming, early } = found;
        let stream = &self.key.clone();
        info!(%stream, origin = %origin.location, "pulling");
        self.means.pulls.lock().go_live(stream);
        self.record.running(origin.location.to_string());
        if self.last.replace(origin.upstream.clone()).is_some() {
            self.record.fail_over();
        }
        self.stall.begin();
        for tag in early {
            if is_media(&tag) {
                self.stall.add(&tag);
            }
            let delivery = self.splice.push(tag, self.means.now());
            self.deliver(vhost, delivery)?;
        }
        let part = self.rest(vhost, &origin, &mut incoming).await?;
        match &part {
            Part::Clean => info!(%stream, origin = %origin.location, "the origin ended the stream"),
            Part::Removed => {
                info!(%stream, origin = %origin.location, "the origin is left: the config has it no more")
            }
            Part::Moved => {
                self.watch.count_move();
                self.last = None;
                info!(%stream, origin = %origin.location, "the origin is left: the stream has a newer publisher elsewhere")
            }
            Part::Broken(error) => {
                self.means.health.fail(&origin, error, std::time::Instant::now());
                self.record.fail(error.to_string());
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
        let mut calm_until = began;
        // Parents follow the publisher themselves.
        let followed = origin.publisher.clone();
        let is_led = origin.led == Led::ByDirectory;
        loop {
            let limit = self.stall.limit(vhost.cluster.media_timeout);
            let stalled = newest + limit;
            let late = (newest + self.stall.late(vhost.cluster.media_timeout)).max(calm_until);
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
                            if self.standby.take().is_some() {
                                calm_until = newest + CALM;
                            }
                        }
                        if !works && began.elapsed() >= vhost.cluster.media_timeout {
                            works = true;
                            self.stall.recover();
                            self.means.health.succeed(origin);
                        }
                        self.splice.push(tag, self.means.now())
                    }
                    Ok(None) => {
                        let has_moved = match &followed {
                            Some(followed) => self.watch.ask_moved(followed).await,
                            None => false,
                        };
                        return Ok(if has_moved { Part::Moved } else { Part::Clean });
                    }
                    Err(error) => return Ok(Part::Broken(error)),
                },
                () = sleep_until(late), if self.standby.is_none() => {
                    self.standby = Some(self.ask_others(vhost, origin));
                    continue;
                }
                () = sleep_until(stalled) => {
                    self.stall.stall();
                    return Ok(Part::Broken(UpstreamError::Stalled { timeout: limit }));
                }
                () = sleep_until(decides.unwrap_or(stalled)), if decides.is_some() => {
                    self.splice.elapse(self.means.now())
                }
                () = moved(&mut self.watch, followed.as_ref()) => {
                    return Ok(Part::Moved);
                }
                () = sleep_until(check) => {
                    check = Instant::now() + CHECK;
                    // A vhost that is no edge any more ends the whole pull.
                    let Some(vhost) = self.means.edge(&self.key) else { continue };
                    let is_kept = if is_led {
                        self.means.opener.current.config().cluster.directory.is_used()
                    } else {
                        vhost.cluster.origins.contains(&origin.upstream)
                    };
                    if !is_kept {
                        return Ok(Part::Removed);
                    }
                    continue;
                }
            };
            self.deliver(vhost, delivery)?;
        }
    }

    /// Asks the other origins for the stream, so that one of them sends it already when this one is left.
    fn ask_others(&self, vhost: &Arc<Vhost>, current: &Origin) -> AbortOnDropHandle<Result<Found, NotFound>> {
        let (vhost, inquiry) = (vhost.clone(), self.inquiry.clone());
        let current = current.upstream.clone();
        AbortOnDropHandle::new(tokio::spawn(async move {
            let (mut origins, _) = inquiry.means.origins(&vhost, &inquiry.key, None).await;
            origins.retain(|origin| origin.upstream != current);
            inquiry.ask(&vhost, origins, |_| {}).await
        }))
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

/// Waits until the stream has a newer publisher than `followed`; without one, for ever.
async fn moved(watch: &mut Watch, followed: Option<&FenceId>) {
    match followed {
        Some(followed) => watch.moved(followed).await,
        None => std::future::pending().await,
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
