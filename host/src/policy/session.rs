//! The record of one session.

use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::Waker;
use std::time::{Duration, Instant};

use futures_util::task::AtomicWaker;

use super::bans::BanTarget;
use super::group::Group;
use super::hops::hops_of;
use super::ids::{ConnectionId, SessionId};
use super::outcome::{Order, Outcome};
use super::request::MAX_TEXT;
use super::totals::Amount;
use super::{Action, Protocol, Request};
use crate::stream::StreamKey;

/// The record of one session. It has no query and no credentials, and its `Debug` none of the client's texts.
pub struct Session {
    id: SessionId,
    connection: ConnectionId,
    action: Action,
    protocol: Protocol,
    address: IpAddr,
    key: StreamKey,
    /// `None` if all of them are empty, to save memory.
    texts: Option<Box<Texts>>,
    group: Arc<Group>,
    /// The options that a viewer picked. Unset if there are none.
    variant: OnceLock<Box<str>>,
    /// When its request came.
    started: Instant,
    bytes: AtomicU64,
    /// Milliseconds from the request to the first byte, plus 1; 0 before.
    first_byte: AtomicU32,
    skips: AtomicU32,
    /// Whether metrics of streams count it together with others.
    together: AtomicBool,
    /// In milliseconds: the last one, and the largest so far.
    lag: AtomicU32,
    max_lag: AtomicU32,
    /// Why it ended, as far as its owner knows.
    outcome: OnceLock<Box<Outcome>>,
    /// The order of an operator.
    order: OnceLock<Order>,
    /// The task of the owner.
    owner: AtomicWaker,
}

/// The texts of a client and its credentials. Texts may have any characters: escape them where they are shown.
#[derive(Default)]
struct Texts {
    subject: Box<str>,
    user_agent: Box<str>,
    page_url: Box<str>,
    hops: Box<str>,
}

impl Session {
    /// Creates the record of a session on the stream `key`, which begins now.
    pub(super) fn new(
        id: SessionId,
        request: &Request,
        key: StreamKey,
        subject: Option<&str>,
        group: Arc<Group>,
    ) -> Session {
        let Request { action, protocol, address, connection, .. } = *request;
        let texts = [subject.unwrap_or_default(), &request.user_agent, &request.page_url];
        let hops = hops_of(request);
        let texts = texts.iter().chain([&hops]).any(|text| !text.is_empty()).then(|| {
            let [subject, user_agent, page_url] = texts.map(cut);
            Box::new(Texts { subject, user_agent, page_url, hops: hops.into() })
        });
        Session {
            id,
            connection,
            action,
            protocol,
            address,
            key,
            texts,
            group,
            variant: OnceLock::new(),
            started: request.arrived,
            bytes: AtomicU64::new(0),
            first_byte: AtomicU32::new(0),
            skips: AtomicU32::new(0),
            together: AtomicBool::new(false),
            lag: AtomicU32::new(0),
            max_lag: AtomicU32::new(0),
            outcome: OnceLock::new(),
            order: OnceLock::new(),
            owner: AtomicWaker::new(),
        }
    }

    /// The record of a session that no table has.
    #[cfg(test)]
    pub fn of_nobody() -> Arc<Session> {
        let request = super::request::tests::request(Action::Play, "v", "live", "film");
        let group = Arc::new(Group::new(Action::Play, "v".into(), "flv".into()));
        let id = "1".parse().expect("it is a number");
        Arc::new(Session::new(id, &request, request.key.clone(), None, group))
    }

    /// The id.
    pub fn id(&self) -> SessionId {
        self.id
    }

    /// The id of its connection.
    pub fn connection(&self) -> ConnectionId {
        self.connection
    }

    /// The client's action.
    pub fn action(&self) -> Action {
        self.action
    }

    /// How the client is connected.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// The client's address, as in its request.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// The stream, by its public name.
    pub fn key(&self) -> &StreamKey {
        &self.key
    }

    /// The holder of the credentials: the `sub` of a token, or the key of a signed URL; empty if there is none.
    pub fn subject(&self) -> &str {
        self.texts.as_ref().map_or("", |texts| &texts.subject)
    }

    /// The client's name, up to 256 bytes of it; empty if unknown.
    pub fn user_agent(&self) -> &str {
        self.texts.as_ref().map_or("", |texts| &texts.user_agent)
    }

    /// The page that embeds the player, up to 256 bytes of its URL; empty if unknown.
    pub fn page_url(&self) -> &str {
        self.texts.as_ref().map_or("", |texts| &texts.page_url)
    }

    /// The nodes between the client and this host; empty unless the client is another node.
    pub fn hops(&self) -> &str {
        self.texts.as_ref().map_or("", |texts| &texts.hops)
    }

    /// Whether metrics of streams count it together with those of other streams.
    pub(super) fn counts_together(&self) -> bool {
        self.together.load(Ordering::Relaxed)
    }

    /// Sets [`Session::counts_together`], for good.
    pub(super) fn count_together(&self) {
        self.together.store(true, Ordering::Relaxed);
    }

    /// When the session's request came.
    pub(super) fn started(&self) -> Instant {
        self.started
    }

    /// The time since the session's request.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Bytes of media, without the framing of the transport: those that were handed to the socket of a viewer or player, or
    /// received from a publisher.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// [`Session::bytes`] by direction.
    pub fn amount(&self) -> Amount {
        match self.action {
            Action::Publish => Amount { sent: 0, received: self.bytes() },
            Action::Play => Amount { sent: self.bytes(), received: 0 },
        }
    }

    /// Adds to [`Session::bytes`]. For the owner of the session, once for each batch.
    pub fn add_bytes(&self, count: usize) {
        if self.bytes.fetch_add(count as u64, Ordering::Relaxed) == 0 && count > 0 {
            let elapsed = self.elapsed();
            self.group.first_byte.add(elapsed);
            let millis = elapsed.as_millis().min(u128::from(u32::MAX - 1)) as u32;
            self.first_byte.store(millis + 1, Ordering::Relaxed);
        }
    }

    /// The extension of the mount that a viewer watches; empty over RTMP.
    pub fn format(&self) -> &str {
        if self.protocol == Protocol::Rtmp { "" } else { &self.group.format }
    }

    /// The group that it is counted in, for metrics.
    pub(super) fn group(&self) -> &Arc<Group> {
        &self.group
    }

    /// The options of the format that a viewer picked, such as `track=2`, of texts the name alone; empty if it picked none. At most
    /// 256 bytes of them.
    pub fn variant(&self) -> &str {
        self.variant.get().map_or("", |variant| variant)
    }

    /// Sets [`Session::variant`], once. For the owner of the session.
    pub fn set_variant(&self, variant: &str) {
        if !variant.is_empty() {
            let _ = self.variant.set(cut(variant));
        }
    }

    /// Whether it publishes, or has got media.
    pub(super) fn is_served(&self) -> bool {
        self.action == Action::Publish || self.bytes() > 0
    }

    /// The time from the session's request to its first byte of media; `None` before.
    pub fn first_byte(&self) -> Option<Duration> {
        let millis = self.first_byte.load(Ordering::Relaxed).checked_sub(1)?;
        Some(Duration::from_millis(millis.into()))
    }

    /// Number of times that a viewer or player fell behind and moved to a newer keyframe.
    pub fn skips(&self) -> u32 {
        self.skips.load(Ordering::Relaxed)
    }

    /// How far what a viewer or player was sent last was behind the newest media.
    pub fn lag(&self) -> Duration {
        Duration::from_millis(self.lag.load(Ordering::Relaxed).into())
    }

    /// The largest [`Session::lag`] so far.
    pub fn max_lag(&self) -> Duration {
        Duration::from_millis(self.max_lag.load(Ordering::Relaxed).into())
    }

    /// Sets [`Session::skips`], and [`Session::lag`] in milliseconds. For the owner of the session, once for each batch.
    pub fn set_progress(&self, skips: u64, lag: i64) {
        let lag = lag.clamp(0, u32::MAX.into()) as u32;
        self.skips.store(skips.min(u32::MAX.into()) as u32, Ordering::Relaxed);
        self.lag.store(lag, Ordering::Relaxed);
        // The owner alone writes.
        if lag > self.max_lag.load(Ordering::Relaxed) {
            self.max_lag.store(lag, Ordering::Relaxed);
        }
    }

    /// Notes why the session ends. The first reason counts; without one the client left. For the owner of the session.
    pub fn ends_because(&self, outcome: Outcome) {
        let _ = self.outcome.set(Box::new(outcome));
    }

    /// Why it ended, as far as its owner knows: else the client left.
    pub(super) fn outcome(&self) -> &Outcome {
        self.outcome.get().map_or(&Outcome::ClientLeft, |outcome| outcome)
    }

    /// The order of an operator. The owner of the session registers first.
    pub(super) fn order(&self) -> Option<Order> {
        self.order.get().copied()
    }

    /// Registers the task to wake when an operator ends the session.
    pub(super) fn register(&self, owner: &Waker) {
        self.owner.register(owner);
    }

    /// Ends the session. The first order counts.
    pub(super) fn end(&self, order: Order) {
        let _ = self.order.set(order);
        self.owner.wake();
    }

    pub(super) fn is_covered_by(&self, target: &BanTarget) -> bool {
        target.covers(self.address, self.subject(), &self.key)
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("id", &self.id).field("key", &self.key).finish_non_exhaustive()
    }
}

/// Returns the start of a text, at most [`MAX_TEXT`] bytes in whole characters.
fn cut(text: &str) -> Box<str> {
    text[..text.floor_char_boundary(MAX_TEXT)].into()
}
