//! Sessions: one record for each publisher, player and viewer.
//!
//! A record is fixed at the session's start, except for one counter: the owner of the session adds to it whenever it hands
//! bytes to its socket, or has received some. So whoever reads records takes no lock of a session. The lock of the table
//! is held at the start and at the end of sessions, and to list them.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::num::ParseIntError;
use std::ops::Range;
use std::str::FromStr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::Waker;
use std::time::{Duration, Instant};

use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use tracing::info;

use super::bans::{Ban, BanError, BanTarget, Bans};
use super::limits::{Counted, Counts, Limits, WINDOW, subscriber};
use super::outcome::{Order, Outcome};
use super::request::MAX_TEXT;
use super::totals::{Amount, Ended, Totals};
use super::{Action, Protocol, Refusal, Request};
use crate::conf::Current;
use crate::stream::StreamKey;

/// The record of one session. It has no query and no credentials, and its `Debug` none of the client's texts.
pub struct Session {
    id: SessionId,
    action: Action,
    protocol: Protocol,
    address: IpAddr,
    key: StreamKey,
    /// `None` if all of them are empty, to save memory.
    texts: Option<Box<Texts>>,
    /// The extension of the mount; empty over RTMP.
    format: Box<str>,
    /// The options that a viewer picked. Unset if there are none.
    variant: OnceLock<Box<str>>,
    /// When its request came.
    started: Instant,
    bytes: AtomicU64,
    /// Milliseconds from the request to the first byte, plus 1; 0 before.
    first_byte: AtomicU32,
    skips: AtomicU32,
    /// In milliseconds: the last one, and the largest so far.
    lag: AtomicU32,
    max_lag: AtomicU32,
    /// Why it ended, as far as its owner knows.
    outcome: OnceLock<Box<Outcome>>,
    /// What an operator has ordered.
    order: OnceLock<Order>,
    /// The task of the owner.
    owner: AtomicWaker,
}

/// What a client and its credentials say about it. Texts may have any characters: escape them where they are shown.
#[derive(Default)]
struct Texts {
    subject: Box<str>,
    user_agent: Box<str>,
    page_url: Box<str>,
}

impl Session {
    /// Creates the record of a session on the stream `key`, which begins now.
    fn new(id: SessionId, request: &Request, key: Option<StreamKey>, subject: Option<&str>) -> Session {
        let Request { action, protocol, address, .. } = *request;
        let texts = [subject.unwrap_or_default(), &request.user_agent, &request.page_url];
        let texts = texts.iter().any(|text| !text.is_empty()).then(|| {
            let [subject, user_agent, page_url] = texts.map(cut);
            Box::new(Texts { subject, user_agent, page_url })
        });
        let key = key.unwrap_or_else(|| request.key.clone());
        Session {
            id,
            action,
            protocol,
            address,
            key,
            texts,
            format: request.format.as_str().into(),
            variant: OnceLock::new(),
            started: request.arrived,
            bytes: AtomicU64::new(0),
            first_byte: AtomicU32::new(0),
            skips: AtomicU32::new(0),
            lag: AtomicU32::new(0),
            max_lag: AtomicU32::new(0),
            outcome: OnceLock::new(),
            order: OnceLock::new(),
            owner: AtomicWaker::new(),
        }
    }

    /// The id.
    pub fn id(&self) -> SessionId {
        self.id
    }

    /// What the client does.
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
            let millis = self.elapsed().as_millis().min(u128::from(u32::MAX - 1)) as u32;
            self.first_byte.store(millis + 1, Ordering::Relaxed);
        }
    }

    /// The extension of the mount that a viewer watches; empty over RTMP.
    pub fn format(&self) -> &str {
        &self.format
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

    /// What an operator has ordered. Its owner registers first.
    pub(super) fn order(&self) -> Option<Order> {
        self.order.get().copied()
    }

    /// Registers the task to wake when an operator ends the session.
    pub(super) fn register(&self, owner: &Waker) {
        self.owner.register(owner);
    }

    /// Ends the session. The first order counts.
    fn end(&self, order: Order) {
        let _ = self.order.set(order);
        self.owner.wake();
    }

    fn is_covered_by(&self, target: &BanTarget) -> bool {
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

/// The sessions of the host.
#[derive(Debug)]
pub(super) struct Sessions {
    log: OnceLock<Arc<dyn SessionLog>>,
    ids: SessionIds,
    current: Arc<Current>,
    table: Mutex<Table>,
}

#[derive(Debug)]
struct Table {
    /// In the order of their start.
    sessions: BTreeMap<SessionId, Row>,
    counts: Counts,
    ended: Ended,
    bans: Bans,
    /// When the bitrates were measured last.
    measured: Instant,
}

impl Table {
    /// The sessions, the oldest first.
    fn sessions(&self) -> impl Iterator<Item = Arc<Session>> {
        self.sessions.values().map(|row| row.session.clone())
    }
}

#[derive(Debug)]
struct Row {
    session: Arc<Session>,
    /// It counts for its address: that was no trusted proxy when it began.
    is_limited: bool,
    /// [`Session::bytes`] when it was measured last.
    measured: u64,
}

impl Sessions {
    /// Creates the table. Requests that name one of the trusted proxies as their client have no limits of an address.
    pub fn new(current: Arc<Current>) -> Arc<Sessions> {
        let table = Table {
            sessions: BTreeMap::new(),
            counts: Counts::default(),
            ended: Ended::default(),
            bans: Bans::default(),
            measured: Instant::now(),
        };
        Arc::new(Sessions { log: OnceLock::new(), ids: SessionIds::new(), current, table: Mutex::new(table) })
    }

    /// Sets the access log, once.
    pub fn set_log(&self, log: Arc<dyn SessionLog>) {
        let _ = self.log.set(log);
    }

    /// Returns an id as sessions have it, for what is no session.
    pub fn next_id(&self) -> SessionId {
        self.ids.next()
    }

    /// Returns the number of publishers of a stream, and that of its players and viewers. Takes time for each session.
    pub fn count(&self, key: &StreamKey) -> (usize, usize) {
        let table = self.table.lock();
        let sessions = table.sessions.values().filter(|row| row.session.key == *key);
        sessions.fold((0, 0), |(publishers, players), row| match row.session.action {
            Action::Publish => (publishers + 1, players),
            Action::Play => (publishers, players + 1),
        })
    }

    /// Adds a session on the stream `key` if there is one, else on that of the request.
    ///
    /// # Errors
    /// It is banned, or a limit is reached.
    pub fn enter(
        self: &Arc<Self>,
        limits: &Limits,
        request: &Request,
        key: Option<StreamKey>,
        subject: Option<&str>,
    ) -> Result<Entry, Refusal> {
        let session = Arc::new(Session::new(self.ids.next(), request, key, subject));
        let now = Instant::now();
        let mut table = self.table.lock();
        if let Some(target) = table.bans.of_session(session.address, session.subject(), &session.key, now) {
            return Err(Refusal::Banned { target: target.clone() });
        }
        if limits.need_bitrates() {
            Sessions::measure(&mut table, now);
        }
        // The address of a proxy, which has many clients, is not limited.
        let is_limited = !self.current.config().proxy.trusts(session.address);
        table.counts.enter(counted(&session, is_limited), limits)?;
        table.ended.enter(&session.key);
        table.sessions.insert(session.id, Row { session: session.clone(), is_limited, measured: 0 });
        Ok(Entry { sessions: self.clone(), session })
    }

    /// Returns all sessions, the oldest first.
    pub fn list(&self) -> Vec<Arc<Session>> {
        self.table.lock().sessions().collect()
    }

    /// Returns the number of sessions, and some of them by their places in [`Sessions::list`].
    pub fn page(&self, places: Range<usize>) -> (usize, Vec<Arc<Session>>) {
        let table = self.table.lock();
        (table.sessions.len(), table.sessions().skip(places.start).take(places.len()).collect())
    }

    /// Returns a session.
    pub fn find(&self, id: SessionId) -> Option<Arc<Session>> {
        self.table.lock().sessions.get(&id).map(|row| row.session.clone())
    }

    /// Returns all sessions, the oldest first, and what those before them amount to.
    pub fn amounts(&self) -> (Vec<Arc<Session>>, Totals) {
        let table = self.table.lock();
        (table.sessions().collect(), table.ended.totals())
    }

    /// Checks whether an address is banned, before anything else is done for it.
    ///
    /// # Errors
    /// It is banned.
    pub fn check_address(&self, address: IpAddr) -> Result<(), Refusal> {
        let table = self.table.lock();
        let target = table.bans.of_address(address, Instant::now());
        target.map_or(Ok(()), |target| Err(Refusal::Banned { target: target.clone() }))
    }

    /// Ends a session. Returns false if there is none.
    pub fn kick(&self, id: SessionId) -> bool {
        self.find(id).is_some_and(|session| {
            session.end(Order::Kick);
            true
        })
    }

    /// Bans a target and ends its sessions. Returns their number.
    ///
    /// # Errors
    /// It cannot be banned.
    pub fn ban(&self, target: &BanTarget, time: Duration) -> Result<usize, BanError> {
        let covered: Vec<_> = {
            let mut table = self.table.lock();
            table.bans.add(target.clone(), time, &self.current.config().proxy.trusted, Instant::now())?;
            let sessions = table.sessions.values().map(|row| &row.session);
            sessions.filter(|session| session.is_covered_by(target)).cloned().collect()
        };
        covered.iter().for_each(|session| session.end(Order::Ban));
        Ok(covered.len())
    }

    /// Removes a ban. Returns false if there is none.
    pub fn unban(&self, target: &BanTarget) -> bool {
        self.table.lock().bans.remove(target, Instant::now())
    }

    /// Returns the bans, the oldest first.
    pub fn bans(&self) -> Vec<Ban> {
        self.table.lock().bans.current(Instant::now()).cloned().collect()
    }

    /// Measures what viewers are sent, unless it is measured already. Takes time for each session, but at most once in
    /// [`WINDOW`].
    fn measure(table: &mut Table, now: Instant) {
        let Table { sessions, counts, measured: last, .. } = table;
        if now.saturating_duration_since(*last) < WINDOW {
            return;
        }
        let viewers = sessions.values_mut().filter(|row| row.session.action == Action::Play);
        counts.measure(viewers.map(|row| {
            let period = now.saturating_duration_since(row.session.started.max(*last)).max(WINDOW);
            let bytes = row.session.bytes();
            let bits = (bytes - std::mem::replace(&mut row.measured, bytes)) * 8;
            let bitrate = u128::from(bits) * 1000 / period.as_millis();
            (counted(&row.session, row.is_limited), bitrate as u64)
        }));
        *last = now;
    }
}

/// Returns what a session counts as.
fn counted(session: &Session, is_limited: bool) -> Counted<'_> {
    let address = is_limited.then(|| subscriber(session.address));
    Counted { key: &session.key, action: session.action, address }
}

/// A session in the table, which it leaves when this is dropped.
#[derive(Debug)]
pub(super) struct Entry {
    sessions: Arc<Sessions>,
    pub session: Arc<Session>,
}

impl Drop for Entry {
    fn drop(&mut self) {
        let Entry { sessions, session } = self;
        {
            let mut table = sessions.table.lock();
            table.ended.leave(&session.key, session.amount());
            if let Some(row) = table.sessions.remove(&session.id) {
                table.counts.leave(counted(session, row.is_limited));
            }
        }
        let outcome = session.outcome.get().map_or(&Outcome::ClientLeft, |outcome| outcome);
        log_end(session, outcome);
        if let Some(log) = sessions.log.get() {
            log.ended(session, outcome);
        }
    }
}

/// What is told each end of a session.
pub trait SessionLog: fmt::Debug + Send + Sync {
    /// Notes that a session has ended.
    fn ended(&self, session: &Session, outcome: &Outcome);
}

/// Writes the access line of a session to the log of the process.
fn log_end(session: &Session, outcome: &Outcome) {
    let first_byte_ms = session.first_byte().map(|time| time.as_millis() as u64);
    info!(
        target: "remuxd::access",
        session = %session.id,
        client = %session.address,
        action = %session.action,
        protocol = %session.protocol,
        stream = %session.key,
        format = &*session.format,
        variant = session.variant(),
        bytes = session.bytes(),
        seconds = session.elapsed().as_secs_f64(),
        first_byte_ms,
        skips = session.skips(),
        max_lag_ms = session.max_lag().as_millis() as u64,
        subject = session.subject(),
        user_agent = session.user_agent(),
        referer = session.page_url(),
        outcome = outcome.name(),
        reason = %outcome,
        "session ended"
    );
}

/// The id of a session: unique in this process, and most likely among all processes. Shown as 16 hexadecimal digits. Later
/// sessions have larger ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(u64);

impl FromStr for SessionId {
    type Err = ParseIntError;

    fn from_str(text: &str) -> Result<SessionId, ParseIntError> {
        u64::from_str_radix(text, 16).map(SessionId)
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// The source of session ids.
#[derive(Debug)]
struct SessionIds {
    /// Random for each process, so that an id of an earlier process names no session of this one.
    process: u32,
    next: AtomicU32,
}

impl SessionIds {
    fn new() -> SessionIds {
        SessionIds { process: RandomState::new().hash_one(()) as u32, next: AtomicU32::new(1) }
    }

    fn next(&self) -> SessionId {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        SessionId(u64::from(self.process) << 32 | u64::from(number))
    }
}

#[cfg(test)]
mod tests;
