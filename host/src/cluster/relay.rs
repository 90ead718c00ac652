//! Relays: publishers of an edge, who are passed to one of its origins.
//!
//! The origins are the nodes of tier 0 of the directory, the least loaded first, then those of the config.
//! A publisher is accepted once an origin accepts it, with the publisher's own parameters. What it sends goes through a stream that
//! nobody else finds: viewers of the edge get it from the origin. If the origin fails, the stream continues at another one from its
//! newest keyframe on, and the publisher stays; if none takes it within `failover_wait`, the publisher ends.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use tracing::info;

use super::backoff::Backoff;
use super::directory::{Directory, Source};
use super::error::UpstreamError;
use super::health::{Health, Origin};
use super::location::{Location, LocationError};
use super::push::{Feed, Outbox, Target};
use super::rtmp::RtmpClient;
use super::transfers::{TransferEntry, TransferKind, Transfers};
use crate::budget::Account;
use crate::conf::Vhost;
use crate::media::{Millis, Tag};
use crate::stream::{Passage, Stream, StreamKey};

/// Limit of an origin's text for a publisher, in bytes.
const MAX_DESCRIPTION: usize = 256;

/// Number of nodes of the directory that are asked to take a publisher.
const MAX_TAKERS: usize = 3;

/// An origin that has kept the stream for this long works: its next failure is the first one again.
const STEADY: Duration = Duration::from_secs(10);

/// Passes the publishers of edges to their origins.
#[derive(Clone)]
pub struct Relay {
    outbox: Outbox,
    /// The health of all origins, which pulls know too.
    health: Arc<Health>,
    directory: Directory,
    tasks: TaskTracker,
}

/// A request to publish on an edge. It has no `Debug`: the query may be a secret.
pub struct RelayRequest {
    /// The edge.
    pub vhost: Arc<Vhost>,
    /// The stream, by its public name.
    pub key: StreamKey,
    /// The publisher's parameters without `?`, as sent.
    pub query: String,
    /// The nodes that the stream has passed before this one.
    pub hops: String,
    /// The memory of the publisher.
    pub account: Account,
}

/// A publisher that an origin has accepted. The stream at the origin ends when this is dropped.
pub struct Relayed {
    passage: Passage,
    failed: oneshot::Receiver<RelayError>,
    _left: DropGuard,
}

/// The reason why no origin takes a publisher.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RelayError {
    /// The edge has no origin with RTMP. Culprit: operator.
    #[error("no origin takes publishers: none is reached over RTMP")]
    NoOrigin,
    /// The name cannot be carried. Culprit: peer.
    #[error("{0}")]
    Location(#[from] LocationError),
    /// An origin refuses. Culprit: peer.
    #[error("the origin refuses: {code}")]
    Refused {
        /// The status code.
        code: String,
        /// The origin's description, for the publisher alone; empty if it may have a secret of the operator.
        description: String,
    },
    /// No origin accepts the stream at the moment. Culprit: operator.
    #[error("no origin accepts the stream: {last}")]
    Unreachable {
        /// The error of the last one.
        last: String,
    },
}

impl RelayError {
    /// Returns the error for an origin that closes the connection instead of an answer.
    fn dropped() -> RelayError {
        let description = "The origin refused the stream by closing the connection.".to_owned();
        RelayError::Refused { code: "NetStream.Publish.Denied".to_owned(), description }
    }
}

/// A stream on its way to an origin.
struct Run {
    outbox: Outbox,
    health: Arc<Health>,
    directory: Directory,
    vhost: Arc<Vhost>,
    stream: Arc<Stream>,
    /// The publisher's own parameters.
    query: String,
    hops: String,
    entry: TransferEntry,
    /// Cancelled when the publisher has left.
    left: CancellationToken,
}

/// A search for an origin that keeps the stream for [`STEADY`].
struct Search {
    wait: Duration,
    /// When it is given up, from the first failure on.
    until: Option<Instant>,
    backoff: Backoff,
}

impl Relay {
    /// Creates it without publishers.
    pub fn new(outbox: Outbox, health: Arc<Health>, directory: Directory) -> Relay {
        Relay { outbox, health, directory, tasks: TaskTracker::new() }
    }

    /// Publishes a stream at one of the origins of its edge. Returns once one accepts it.
    ///
    /// # Errors
    /// The first origin that can be reached refuses, or none can be reached.
    pub async fn open(&self, request: RelayRequest) -> Result<Relayed, RelayError> {
        let RelayRequest { vhost, key, query, hops, account } = request;
        let query = own_parameters(&query);
        for origin in vhost.cluster.origins.iter().filter(|origin| origin.scheme().is_rtmp()) {
            Location::of(origin, &key)?;
        }
        let entry = self.outbox.pushes.add(&key, TransferKind::Relay);
        let passage = Passage::new(key, &vhost, account);
        let (stream, left) = (passage.stream().clone(), CancellationToken::new());
        let (outbox, health, guard) = (self.outbox.clone(), self.health.clone(), left.clone().drop_guard());
        let directory = self.directory.clone();
        let run = Run { outbox, health, directory, vhost, stream, query, hops, entry, left };
        let mut error = RelayError::NoOrigin;
        for origin in run.origins() {
            match run.open(&origin).await {
                Ok(client) => {
                    let (sender, failed) = oneshot::channel();
                    self.tasks.spawn(async move {
                        if let Err(error) = run.run(client, origin).await {
                            let _ = sender.send(error);
                        }
                    });
                    return Ok(Relayed { passage, failed, _left: guard });
                }
                Err(UpstreamError::Refused { code, description }) => {
                    let description = without_secrets(description, origin.location.query());
                    return Err(RelayError::Refused { code, description });
                }
                // At another origin, a stream that is busy here would exist twice.
                Err(UpstreamError::Dropped) => return Err(RelayError::dropped()),
                Err(other) => error = RelayError::Unreachable { last: other.to_string() },
            }
        }
        Err(error)
    }

    /// The records of all pushes of the host.
    pub fn pushes(&self) -> &Transfers {
        &self.outbox.pushes
    }

    /// Returns the longest time that [`Relay::open`] takes for a stream of `vhost`.
    pub fn longest(&self, vhost: &Vhost) -> Duration {
        let origins = vhost.cluster.origins.len() + self.directory.takers(vhost).len().min(MAX_TAKERS);
        vhost.cluster.connect_timeout.saturating_mul(origins as u32)
    }

    /// Waits until all streams are sent. Their publishers must have left.
    pub async fn idle(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Relayed {
    /// Sends a tag with the publisher's own timestamp. `now` is when it was received; see
    /// [`Publisher::push`](crate::stream::Publisher::push).
    pub fn push(&self, tag: Tag, now: Millis) {
        self.passage.push(tag, now);
    }

    /// The edge, as of the begin of the publisher.
    pub fn vhost(&self) -> Arc<Vhost> {
        self.passage.stream().vhost()
    }

    /// Polls for the reason for which the publisher must end: no origin takes the stream any more.
    pub fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<RelayError> {
        match Pin::new(&mut self.failed).poll(cx) {
            Poll::Ready(Ok(error)) => Poll::Ready(error),
            // Otherwise the task ends only after the publisher.
            Poll::Ready(Err(_)) => {
                Poll::Ready(RelayError::Unreachable { last: "it was given up".to_owned() })
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

impl fmt::Debug for Relayed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Relayed").field("passage", &self.passage).finish_non_exhaustive()
    }
}

impl Run {
    /// Returns the origins that take publishers, in the order in which they are to be asked.
    fn origins(&self) -> Vec<Origin> {
        let takers = self.directory.takers(&self.vhost);
        let takers: Vec<_> = takers
            .into_iter()
            .take(MAX_TAKERS)
            .map(|upstream| Source { upstream, publisher: None })
            .collect();
        let now = std::time::Instant::now();
        let mut origins = self.health.order(&self.vhost, &takers, self.stream.key(), None, now);
        origins.retain(|origin| origin.location.scheme.is_rtmp());
        origins
    }

    /// Publishes at an origin.
    async fn open(&self, origin: &Origin) -> Result<RtmpClient, UpstreamError> {
        let Run { outbox, health, vhost, stream, query, hops, entry, .. } = self;
        let location = origin.location.clone().with_query(query);
        let shown = location.to_string();
        let target = Target { location, led: origin.led, is_node: false };
        health.begin(origin, std::time::Instant::now());
        entry.connecting(shown.clone());
        let opened = outbox.open(&target, vhost, hops).await;
        match &opened {
            Ok(_) => {
                health.succeed(origin);
                entry.running(shown.clone());
                info!(stream = %stream.key(), origin = shown, "publishing at the origin");
            }
            Err(error) => {
                health.judge(origin, error, std::time::Instant::now());
                entry.fail(error.to_string());
                entry.waiting();
                info!(stream = %stream.key(), origin = shown, %error, "the origin does not take the stream");
            }
        }
        opened
    }

    /// Sends the stream until its end, to one origin after another.
    async fn run(self, mut client: RtmpClient, mut origin: Origin) -> Result<(), RelayError> {
        let mut feed = Feed::relay(&self.stream);
        let never = CancellationToken::new();
        let mut search = Search::new(&self.vhost);
        loop {
            let began = Instant::now();
            let limit = self.vhost.cluster.first_byte_timeout;
            let sent = self.outbox.send(&mut client, &mut feed, &self.entry, limit, &never).await;
            let Err(error) = sent else { return Ok(()) };
            self.health.fail(&origin, &error, std::time::Instant::now());
            self.entry.fail(error.to_string());
            self.entry.waiting();
            info!(stream = %self.stream.key(), origin = %origin.location, %error, "the origin failed");
            // What comes while there is no origin waits in the ring.
            feed = Feed::relay(&self.stream);
            if began.elapsed() >= STEADY {
                search = Search::new(&self.vhost);
            }
            match self.fail_over(error, &mut search).await? {
                Some(next) => (client, origin) = next,
                None => return Ok(()),
            }
        }
    }

    /// Publishes at the next origin that takes the stream; `None` if the publisher leaves before.
    async fn fail_over(
        &self,
        error: UpstreamError,
        search: &mut Search,
    ) -> Result<Option<(RtmpClient, Origin)>, RelayError> {
        let Search { wait, until, backoff } = search;
        let is_first = until.is_none();
        let deadline = *until.get_or_insert_with(|| Instant::now() + *wait);
        let mut last = error.to_string();
        let next = async {
            if !is_first {
                // Some servers accept every stream first, and refuse it by closing the connection.
                sleep(backoff.next()).await;
            }
            loop {
                for origin in self.origins() {
                    match self.open(&origin).await {
                        Ok(client) => return (client, origin),
                        Err(error) => last = error.to_string(),
                    }
                }
                sleep(backoff.next()).await;
            }
        };
        let opened = tokio::select! {
            opened = timeout_at(deadline, next) => opened,
            () = self.left.cancelled() => return Ok(None),
        };
        opened.map(Some).map_err(|_| RelayError::Unreachable { last })
    }
}

impl Search {
    fn new(vhost: &Vhost) -> Search {
        Search { wait: vhost.cluster.failover_wait, until: None, backoff: Backoff::default() }
    }
}

/// Returns a publisher's parameters without those that name a vhost: that is for the operator.
fn own_parameters(query: &str) -> String {
    let names_vhost = |pair: &&str| pair.starts_with("vhost=") || pair.starts_with("domain=");
    let own: Vec<_> = query.split('&').filter(|pair| !pair.is_empty() && !names_vhost(pair)).collect();
    own.join("&")
}

/// Returns an origin's description for the publisher; empty if it repeats a value of the operator's query.
fn without_secrets(description: String, query: &str) -> String {
    let mut values = query.split('&').filter_map(|pair| Some(pair.split_once('=')?.1));
    if values.any(|value| !value.is_empty() && description.contains(value)) {
        return String::new();
    }
    let description = description[..description.floor_char_boundary(MAX_DESCRIPTION)].to_owned();
    description.replace(char::is_control, " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_publisher_names_no_vhost_at_the_origin() {
        for (query, expected) in [
            ("", ""),
            ("token=a&vhost=b&domain=c&x", "token=a&x"),
            ("vhost=b", ""),
            ("vhosts=b&&k=v=w", "vhosts=b&k=v=w"),
        ] {
            assert_eq!(own_parameters(query), expected, "{query}");
        }
    }

    #[test]
    fn a_publisher_is_told_no_secret_of_the_operator() {
        for (description, query, expected) in [
            ("Denied: x", "key=hush&vhost=v", "Denied: x"),
            ("Denied: x?key=hush", "key=hush", ""),
            ("a\r\nb", "", "a  b"),
            ("all", "k=", "all"),
        ] {
            assert_eq!(without_secrets(description.to_owned(), query), expected, "{description}");
        }
        assert_eq!(without_secrets("é".repeat(200), "").len(), MAX_DESCRIPTION);
    }
}
