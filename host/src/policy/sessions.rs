//! Sessions: one record for each publisher, player and viewer.
//!
//! A record is fixed at the session's start, except for one counter: the owner of the session adds to it whenever it hands
//! bytes to its socket, or has received some. So whoever reads records takes no lock of a session. The lock of the table
//! is held at the start and at the end of sessions, and to list them.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::ops::Range;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tracing::info;

use super::bans::{Ban, BanError, BanTarget, Bans};
use super::groups::{GroupTotals, Groups};
use super::ids::{Ids, SessionId};
use super::limits::{Counted, Counts, Limits, WINDOW, subscriber};
use super::outcome::{Order, Outcome};
use super::refusals::Refusals;
use super::session::Session;
use super::stream_totals::{StreamTotals, Streams};
use super::totals::{Ended, Totals, Traffic};
use super::{Action, Refusal, Request};
use crate::conf::{Config, Current};
use crate::stream::StreamKey;

/// The sessions of the host.
#[derive(Debug)]
pub(super) struct Sessions {
    log: OnceLock<Arc<dyn SessionLog>>,
    pub ids: Ids,
    pub refusals: Refusals,
    current: Arc<Current>,
    table: Mutex<Table>,
}

#[derive(Debug)]
struct Table {
    /// In the order of their start.
    sessions: BTreeMap<SessionId, Row>,
    counts: Counts,
    bans: Bans,
    ended: Ended,
    groups: Groups,
    streams: Streams,
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
            bans: Bans::default(),
            ended: Ended::default(),
            groups: Groups::default(),
            streams: Streams::default(),
            measured: Instant::now(),
        };
        let (ids, refusals) = (Ids::new(), Refusals::default());
        Arc::new(Sessions { log: OnceLock::new(), ids, refusals, current, table: Mutex::new(table) })
    }

    /// Sets the access log, once.
    pub fn set_log(&self, log: Arc<dyn SessionLog>) {
        let _ = self.log.set(log);
    }

    /// Returns the number of publishers of a stream, and that of its players and viewers. Takes time for each session.
    pub fn count(&self, key: &StreamKey) -> (usize, usize) {
        let table = self.table.lock();
        let sessions = table.sessions.values().filter(|row| row.session.key() == key);
        sessions.fold((0, 0), |(publishers, players), row| match row.session.action() {
            Action::Publish => (publishers + 1, players),
            Action::Play => (publishers, players + 1),
        })
    }

    /// Returns the number of players and viewers of a stream, also of those that wait for it.
    pub fn viewers(&self, key: &StreamKey) -> u32 {
        self.table.lock().counts.viewers(key)
    }

    /// The config in force.
    pub fn config(&self) -> Arc<Config> {
        self.current.config()
    }

    /// Returns the name of this node: that of the config, or one that is random for each process.
    pub fn node(&self) -> String {
        self.config().cluster.name.clone().unwrap_or_else(|| self.ids.process())
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
        let (key, now) = (key.unwrap_or_else(|| request.key.clone()), Instant::now());
        let mut table = self.table.lock();
        let group = table.groups.group(request, &key.vhost);
        let session = Arc::new(Session::new(self.ids.session(), request, key, subject, group));
        if let Some(target) = table.bans.of_session(session.address(), session.subject(), session.key(), now)
        {
            return Err(Refusal::Banned { target: target.clone() });
        }
        if limits.need_bitrates() {
            Sessions::measure(&mut table, now);
        }
        // The address of a proxy, which has many clients, is not limited.
        let is_limited = !self.current.config().proxy.trusts(session.address());
        table.counts.enter(counted(&session, is_limited), limits)?;
        table.ended.enter(session.key());
        table.streams.begin(&session, now);
        table.sessions.insert(session.id(), Row { session: session.clone(), is_limited, measured: 0 });
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

    /// Returns what all sessions have done so far, and the numbers of those that have ended. Takes time for each session.
    pub fn groups(&self) -> (Vec<GroupTotals>, Vec<(Action, &'static str, u64)>) {
        let table = self.table.lock();
        (table.groups.with(table.sessions.values().map(|row| &*row.session)), table.groups.ends())
    }

    /// Returns what is known of each stream. Takes time for each session.
    pub fn streams(&self) -> Vec<StreamTotals> {
        let mut table = self.table.lock();
        let Table { sessions, streams, .. } = &mut *table;
        streams.with(sessions.values().map(|row| &*row.session), Instant::now())
    }

    /// Returns what viewers and players are sent. Takes time for each session.
    pub fn traffic(&self) -> Traffic {
        let table = self.table.lock();
        let viewers = table.sessions.values().filter(|row| row.session.action() == Action::Play);
        let start = Traffic { sent: table.ended.sent(), viewers: 0 };
        viewers.fold(start, |Traffic { sent, viewers }, row| Traffic {
            sent: sent + row.session.bytes(),
            viewers: viewers + 1,
        })
    }

    /// Limits the number of series in [`Sessions::streams`]; 0 keeps no streams.
    pub fn limit_series(&self, max_series: usize) {
        self.table.lock().streams.limit(max_series);
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
        let viewers = sessions.values_mut().filter(|row| row.session.action() == Action::Play);
        counts.measure(viewers.map(|row| {
            let period = now.saturating_duration_since(row.session.started().max(*last)).max(WINDOW);
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
    let address = is_limited.then(|| subscriber(session.address()));
    Counted { key: session.key(), action: session.action(), address }
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
        let outcome = session.outcome();
        {
            let mut table = sessions.table.lock();
            if let Some(row) = table.sessions.remove(&session.id()) {
                table.counts.leave(counted(session, row.is_limited));
            }
            table.ended.leave(session.key(), session.amount());
            table.groups.end(session, outcome);
            table.streams.end(session, Instant::now());
        }
        // A refusal has a line of its own.
        if !matches!(outcome, Outcome::NotServed { .. }) {
            log_end(session, outcome);
        }
        if let Some(log) = sessions.log.get() {
            log.ended(session, outcome);
        }
    }
}

/// An observer of the ends of sessions.
pub trait SessionLog: fmt::Debug + Send + Sync {
    /// Notes that a session has ended.
    fn ended(&self, session: &Session, outcome: &Outcome);
}

/// Writes the access line of a session to the log of the process.
fn log_end(session: &Session, outcome: &Outcome) {
    let first_byte_ms = session.first_byte().map(|time| time.as_millis() as u64);
    info!(
        target: "remuxd::access",
        session = %session.id(),
        connection = %session.connection(),
        client = %session.address(),
        action = %session.action(),
        protocol = %session.protocol(),
        stream = %session.key(),
        format = session.format(),
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

#[cfg(test)]
mod tests;
