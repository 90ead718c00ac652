//! Pushes: the tags of a stream on their way to a server, over RTMP.
//!
//! Invariants: tags are read from the stream's ring only while little is unsent, so that a slow server holds a bounded number of
//! bytes and its backlog stays in the ring; a server that falls out of the ring continues at a keyframe, and the GOPs that it
//! lost are counted; a server that takes no byte for some time is left.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::connector::{Connector, Led};
use super::error::UpstreamError;
use super::location::{Location, MAX_REDIRECTS};
use super::rtmp::{RtmpClient, RtmpSettings};
use super::transfers::{Transfer, Transfers};
use crate::budget::Account;
use crate::conf::{Current, Vhost};
use crate::media::{Packet, Tag, TagKind};
use crate::policy::{Access, Action, hops_through};
use crate::stream::{Haste, Reader, Stream};

/// Tags are read only while less than this waits to be written, in bytes.
const MAX_UNSENT: usize = 64 << 10;

/// Limits of messages that a server sends: replies alone.
const MAX_MESSAGE: u32 = 1 << 20;

/// How long a server may take to read the end of a stream that is ended on purpose.
const LINGER: Duration = Duration::from_secs(1);

/// The means of all pushes of the host.
#[derive(Clone)]
pub struct Outbox {
    connector: Connector,
    /// The config.
    pub(super) current: Arc<Current>,
    /// The name of this node, and the hooks.
    pub(super) access: Arc<Access>,
    /// The records of the pushes.
    pub(super) pushes: Arc<Transfers>,
}

/// The destination of a push.
#[derive(Clone, Debug)]
pub(super) struct Target {
    /// The stream there.
    pub location: Location,
    /// The party that names it.
    pub led: Led,
    /// Whether it gets the credential of a node, if there is one.
    pub is_node: bool,
}

/// How the sending of a stream ended without an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    /// The stream ended.
    Whole,
    /// The push was ended before.
    Stopped,
}

impl Outbox {
    /// Creates it without pushes.
    pub fn new(current: Arc<Current>, access: Arc<Access>) -> Outbox {
        Outbox { connector: Connector::new(current.clone()), current, access, pushes: Arc::default() }
    }

    /// Publishes a stream of `vhost`, which has passed the nodes `hops`, at `target` or where that redirects to. Returns once the
    /// server accepts the stream. All of it may take the vhost's `connect_timeout`.
    ///
    /// # Errors
    /// The server cannot be reached, or refuses.
    pub(super) async fn open(
        &self,
        target: &Target,
        vhost: &Vhost,
        hops: &str,
    ) -> Result<RtmpClient, UpstreamError> {
        let limit = vhost.cluster.connect_timeout;
        let deadline = Instant::now() + limit;
        let hops = hops_through(hops, &self.access.node(), &vhost.name);
        let Target { mut location, mut led, is_node } = target.clone();
        for _ in 0..=MAX_REDIRECTS {
            let config = self.current.config();
            let is_signed = is_node && location.has_host_of(&target.location);
            let shown =
                location.signed(Action::Publish, config.cluster.secret.as_ref().filter(|_| is_signed));
            let opened = timeout_at(deadline, self.open_one(&shown, led, &hops)).await;
            match opened.unwrap_or(Err(UpstreamError::NoAnswer { timeout: limit })) {
                Err(UpstreamError::Redirect { url }) => {
                    location = location.redirected(&url)?;
                    led = Led::ByRedirect;
                }
                opened => return opened,
            }
        }
        Err(UpstreamError::Redirects { times: MAX_REDIRECTS })
    }

    async fn open_one(&self, location: &Location, led: Led, hops: &str) -> Result<RtmpClient, UpstreamError> {
        let connection = self.connector.connect(location, led).await?;
        let rtmp = &self.current.config().rtmp;
        let settings = RtmpSettings {
            chunk_size: rtmp.chunk_size,
            window_ack_size: rtmp.window_ack_size,
            max_message: MAX_MESSAGE,
            max_buffered: MAX_MESSAGE as usize,
            hops: hops.to_owned(),
        };
        // Replies are bounded, and the operator has chosen the server.
        RtmpClient::publish(connection, location, settings, Account::unlimited()).await
    }

    /// Sends the tags of a stream until it ends, or `stop` is cancelled.
    ///
    /// # Errors
    /// The server fails, ends the session, or takes no byte for `limit`.
    pub(super) async fn send(
        &self,
        client: &mut RtmpClient,
        feed: &mut Feed,
        record: &Transfer,
        limit: Duration,
        stop: &CancellationToken,
    ) -> Result<Sent, UpstreamError> {
        let mut progress = Instant::now();
        let (sent, linger) = loop {
            let unsent = client.unsent();
            tokio::select! {
                driven = client.drive() => {
                    driven?;
                    progress = Instant::now();
                }
                batch = poll_fn(|cx| feed.poll_read(cx)), if unsent < MAX_UNSENT => {
                    let Some((batch, lost)) = batch else { break (Sent::Whole, limit) };
                    if unsent == 0 {
                        progress = Instant::now();
                    }
                    record.drop_gops(lost);
                    for tag in batch.iter() {
                        client.send_tag(tag);
                    }
                    record.add_bytes(batch.iter().map(|tag| tag.payload.len()).sum());
                }
                () = sleep_until(progress + limit), if unsent > 0 => {
                    return Err(UpstreamError::Stalled { timeout: limit });
                }
                () = stop.cancelled() => break (Sent::Stopped, LINGER),
            }
        };
        let finished = timeout(linger, client.finish()).await;
        finished.unwrap_or(Err(UpstreamError::Stalled { timeout: linger }))?;
        let _ = timeout(linger, client.drain()).await;
        Ok(sent)
    }
}

/// A reader of a stream that counts the GOPs that it loses.
pub(super) struct Feed {
    stream: Arc<Stream>,
    tags: Reader<Tag>,
    _haste: Haste,
    /// [`Reader::skipped`] so far.
    skips: u64,
    /// Number of the newest keyframe that was read, among those of the stream.
    newest: u64,
}

impl Feed {
    /// Reads at the pace of the vhost's players.
    pub fn play(stream: &Arc<Stream>) -> Feed {
        let gop_cache = stream.vhost().play.gop_cache;
        Feed::new(stream, stream.play(), gop_cache)
    }

    /// Reads each tag at once.
    pub fn relay(stream: &Arc<Stream>) -> Feed {
        Feed::new(stream, stream.relay(), true)
    }

    /// `at_newest`: the reader starts at the newest keyframe if there is one, else at the next.
    fn new(stream: &Arc<Stream>, tags: Reader<Tag>, at_newest: bool) -> Feed {
        let keyframes = stream.stats().total.keyframes;
        let is_there = at_newest && stream.tags().has_join();
        let newest = if is_there { keyframes.saturating_sub(1) } else { keyframes };
        Feed { stream: stream.clone(), tags, _haste: stream.hasten(), skips: 0, newest }
    }

    /// Waits for the next batch, and returns it with the number of whole GOPs that were lost before it; `None` at the end of the
    /// stream.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Option<(Arc<Vec<Tag>>, u64)>> {
        let Some(batch) = ready!(self.tags.poll_read(cx)) else { return Poll::Ready(None) };
        let keyframes = batch.iter().filter(|tag| is_keyframe(tag)).count() as u64;
        let before = self.newest + keyframes;
        let has_skipped = std::mem::replace(&mut self.skips, self.tags.skipped()) != self.tags.skipped();
        if !has_skipped || keyframes == 0 {
            self.newest = before;
            return Poll::Ready(Some((batch, 0)));
        }
        // It continues at the newest keyframe.
        self.newest = self.stream.stats().total.keyframes.max(before);
        Poll::Ready(Some((batch, self.newest - before)))
    }
}

fn is_keyframe(tag: &Tag) -> bool {
    tag.kind == TagKind::VIDEO && tag.header.packet == Packet::CODED_FRAME && tag.header.keyframe
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::conf::Config;
    use crate::media::Millis;
    use crate::stream::{Passage, StreamKey};

    #[test]
    fn counts_the_gops_that_a_slow_reader_lost() {
        let config = Config::parse("[vhost.a.play]\nqueue_length = \"1s\"\n", "remuxd.toml").unwrap();
        let passage = Passage::new(StreamKey::new("a", "live", "x"), &config.vhosts[0], Account::unlimited());
        let mut feed = Feed::relay(passage.stream());
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let mut read = |count: i64, from: i64| {
            for number in from..from + count {
                // A GOP has ten pictures of 100 ms.
                let kind = if number % 10 == 0 { 0x17 } else { 0x27 };
                let payload = Bytes::copy_from_slice(&[kind, 1, 0, 0, 0, 9]);
                passage.push(Tag::new(TagKind::VIDEO, Millis(number * 100), payload), Millis(number * 100));
            }
            let mut lost = 0;
            while let Poll::Ready(Some((_, count))) = feed.poll_read(&mut cx) {
                lost += count;
            }
            lost
        };
        assert_eq!([read(5, 0), read(10, 5), read(10, 15), read(10, 25)], [0; 4]);
        // It has read keyframes 0, 10, 20 and 30, and continues at 80.
        assert_eq!(read(50, 35), 4);
        assert_eq!(read(10, 85), 0);
    }
}
