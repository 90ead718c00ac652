//! Which streams are pulled, and which could not be had a moment ago.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::stream::{StreamKey, SupplyError};

/// How long a stream that could not be had is not tried again.
const FAILURE_TIME: Duration = Duration::from_secs(2);

/// Limit of remembered failures. With more, the oldest are forgotten.
const MAX_FAILURES: usize = 10_000;

/// The pulls of all edges. It has no lock of its own, and does no IO.
#[derive(Debug, Default)]
pub(super) struct Pulls {
    by_key: HashMap<StreamKey, Entry>,
    /// Numbers of pulls without media so far, by vhost, and by vhost and address.
    pending: HashMap<(Arc<str>, Option<IpAddr>), usize>,
    failures: HashMap<StreamKey, (SupplyError, Instant)>,
    /// Their keys, the oldest first.
    failed: VecDeque<(StreamKey, Instant)>,
}

/// Limits of pulls without media so far.
#[derive(Clone, Copy, Debug)]
pub(super) struct PendingLimits {
    /// Limit of the vhost.
    pub all: usize,
    /// Limit of the viewers of one address.
    pub of_address: usize,
}

/// One pull.
#[derive(Debug)]
struct Entry {
    state: State,
    /// Whether a client has come since [`Pulls::begin_end`].
    is_wanted: bool,
}

#[derive(Debug)]
enum State {
    /// No media so far. It counts for the address of its first viewer, unless that is not limited.
    Pending {
        address: Option<IpAddr>,
        /// The first viewer.
        first: IpAddr,
        /// The server that is asked for the stream.
        asked: Option<IpAddr>,
    },
    Live,
}

/// The answer to a client that wants a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// The stream is being pulled.
    Coming,
    /// The caller starts the pull.
    Begin,
}

impl State {
    /// Whether a client is the server that is asked for the stream: that one passes no hop list on, and waits for what it is asked
    /// for. Viewers on a machine with a server have its address too.
    fn waits_for_itself(&self, client: IpAddr) -> bool {
        let State::Pending { first, asked, .. } = self else { return false };
        *asked == Some(client) && *first != client && !client.is_loopback()
    }
}

impl Pulls {
    /// Adds a client of a stream at `client`. `address` is `None` if it is not limited.
    ///
    /// # Errors
    /// The stream could not be had a moment ago, or too many others are pending.
    pub fn want(
        &mut self,
        key: &StreamKey,
        client: IpAddr,
        address: Option<IpAddr>,
        limits: PendingLimits,
        now: Instant,
    ) -> Result<Answer, SupplyError> {
        if let Some(entry) = self.by_key.get_mut(key) {
            if entry.state.waits_for_itself(client) {
                return Err(SupplyError::NotFound);
            }
            entry.is_wanted = true;
            return Ok(Answer::Coming);
        }
        if let Some((error, until)) = self.failures.get(key)
            && now < *until
        {
            return Err(*error);
        }
        let of_address = address.map_or(0, |address| self.pending(key, Some(address)));
        if self.pending(key, None) >= limits.all || of_address >= limits.of_address {
            return Err(SupplyError::TooMany);
        }
        let state = State::Pending { address, first: client, asked: None };
        self.count(key, &state, 1);
        self.by_key.insert(key.clone(), Entry { state, is_wanted: true });
        Ok(Answer::Begin)
    }

    /// Notes that a pull asks the server at this address.
    pub fn ask(&mut self, key: &StreamKey, server: IpAddr) {
        if let Some(Entry { state: State::Pending { asked, .. }, .. }) = self.by_key.get_mut(key) {
            *asked = Some(server);
        }
    }

    /// Notes that media has come.
    pub fn go_live(&mut self, key: &StreamKey) {
        let Some(entry) = self.by_key.get_mut(key) else { return };
        let before = std::mem::replace(&mut entry.state, State::Live);
        self.count(key, &before, -1);
    }

    /// Removes a pull that has failed, and remembers the failure for a while.
    pub fn fail(&mut self, key: &StreamKey, error: SupplyError, now: Instant) {
        self.remove(key);
        while self.failed.front().is_some_and(|(_, until)| *until <= now) || self.failed.len() >= MAX_FAILURES
        {
            let Some((oldest, until)) = self.failed.pop_front() else { break };
            if self.failures.get(&oldest).is_some_and(|(_, newest)| *newest == until) {
                self.failures.remove(&oldest);
            }
        }
        let until = now + FAILURE_TIME;
        self.failures.insert(key.clone(), (error, until));
        self.failed.push_back((key.clone(), until));
    }

    /// Notes that a pull is about to end, since nobody wants the stream.
    pub fn begin_end(&mut self, key: &StreamKey) {
        if let Some(entry) = self.by_key.get_mut(key) {
            entry.is_wanted = false;
        }
    }

    /// Removes a pull that has ended. Returns false if a client has come since [`Pulls::begin_end`]: the pull stays, and starts
    /// again.
    pub fn end(&mut self, key: &StreamKey) -> bool {
        if self.by_key.get(key).is_some_and(|entry| entry.is_wanted) {
            return false;
        }
        self.remove(key);
        true
    }

    fn remove(&mut self, key: &StreamKey) {
        if let Some(entry) = self.by_key.remove(key) {
            self.count(key, &entry.state, -1);
        }
    }

    fn pending(&self, key: &StreamKey, address: Option<IpAddr>) -> usize {
        self.pending.get(&(key.vhost.clone(), address)).copied().unwrap_or(0)
    }

    /// Adds to the numbers that `state` counts in.
    fn count(&mut self, key: &StreamKey, state: &State, change: isize) {
        let State::Pending { address, .. } = state else { return };
        for address in [Some(None), address.map(Some)].into_iter().flatten() {
            let place = (key.vhost.clone(), address);
            let count = self.pending.get(&place).copied().unwrap_or(0).saturating_add_signed(change);
            if count == 0 {
                self.pending.remove(&place);
            } else {
                self.pending.insert(place, count);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCAL: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
    const LIMITS: PendingLimits = PendingLimits { all: 3, of_address: 2 };

    fn key(stream: &str) -> StreamKey {
        StreamKey::new("a", "live", stream)
    }

    fn address(last: u8) -> Option<IpAddr> {
        Some([10, 0, 0, last].into())
    }

    #[test]
    fn one_pull_serves_all_and_pending_ones_are_limited() {
        let (mut pulls, now) = (Pulls::default(), Instant::now());
        let want = |pulls: &mut Pulls, stream, from| pulls.want(&key(stream), LOCAL, from, LIMITS, now);
        assert_eq!(want(&mut pulls, "x", address(1)), Ok(Answer::Begin));
        assert_eq!(want(&mut pulls, "x", address(2)), Ok(Answer::Coming));
        assert_eq!(want(&mut pulls, "y", address(1)), Ok(Answer::Begin));
        assert_eq!(want(&mut pulls, "z", address(1)), Err(SupplyError::TooMany), "two of one address");
        assert_eq!(want(&mut pulls, "z", None), Ok(Answer::Begin));
        assert_eq!(want(&mut pulls, "w", address(2)), Err(SupplyError::TooMany), "three in all");
        assert_eq!(want(&mut pulls, "x", address(2)), Ok(Answer::Coming));
        pulls.go_live(&key("x"));
        assert_eq!(want(&mut pulls, "w", address(1)), Ok(Answer::Begin));
        for stream in ["x", "y", "z", "w"] {
            pulls.begin_end(&key(stream));
            assert!(pulls.end(&key(stream)));
        }
        assert!(pulls.pending.is_empty() && pulls.by_key.is_empty());
    }

    #[test]
    fn a_failure_is_remembered_for_a_while_and_memory_is_bounded() {
        let (mut pulls, start) = (Pulls::default(), Instant::now());
        let want = |pulls: &mut Pulls, stream: &str, at| pulls.want(&key(stream), LOCAL, None, LIMITS, at);
        assert_eq!(want(&mut pulls, "x", start), Ok(Answer::Begin));
        pulls.fail(&key("x"), SupplyError::NotFound, start);
        let later = start + FAILURE_TIME / 2;
        assert_eq!(want(&mut pulls, "x", later), Err(SupplyError::NotFound));
        assert_eq!(want(&mut pulls, "x", start + FAILURE_TIME), Ok(Answer::Begin));
        pulls.fail(&key("x"), SupplyError::Unreachable, start + FAILURE_TIME);
        pulls.fail(&key("y"), SupplyError::NotFound, start + FAILURE_TIME);
        assert_eq!(want(&mut pulls, "x", start + FAILURE_TIME), Err(SupplyError::Unreachable));
        for number in 0..2 * MAX_FAILURES {
            pulls.fail(&key(&number.to_string()), SupplyError::NotFound, start + FAILURE_TIME);
        }
        assert!(pulls.failures.len() <= MAX_FAILURES && pulls.failed.len() <= MAX_FAILURES);
        assert!(pulls.pending.is_empty());
        pulls.fail(&key("z"), SupplyError::NotFound, start + 3 * FAILURE_TIME);
        assert_eq!((pulls.failures.len(), pulls.failed.len()), (1, 1));
    }

    #[test]
    fn a_client_that_comes_at_the_end_is_not_forgotten() {
        let (mut pulls, now) = (Pulls::default(), Instant::now());
        assert_eq!(pulls.want(&key("x"), LOCAL, None, LIMITS, now), Ok(Answer::Begin));
        pulls.go_live(&key("x"));
        pulls.begin_end(&key("x"));
        assert_eq!(pulls.want(&key("x"), LOCAL, None, LIMITS, now), Ok(Answer::Coming));
        assert!(!pulls.end(&key("x")));
        pulls.begin_end(&key("x"));
        assert!(pulls.end(&key("x")));
    }

    #[test]
    fn a_stream_that_waits_for_itself_is_refused() {
        let [viewer, server] = [1, 2].map(|last| IpAddr::from([10, 0, 0, last]));
        let now = Instant::now();
        // The first viewer, the server that is asked, the next client, and whether that is refused.
        let rows = [
            (viewer, server, server, true),
            (viewer, server, viewer, false),
            (server, server, server, false),
            (viewer, LOCAL, LOCAL, false),
        ];
        for (first, asked, next, refused) in rows {
            let mut pulls = Pulls::default();
            assert_eq!(pulls.want(&key("x"), first, None, LIMITS, now), Ok(Answer::Begin));
            assert_eq!(
                pulls.want(&key("x"), next, None, LIMITS, now),
                Ok(Answer::Coming),
                "nobody is asked yet"
            );
            pulls.ask(&key("x"), asked);
            let answer = pulls.want(&key("x"), next, None, LIMITS, now);
            assert_eq!(answer, if refused { Err(SupplyError::NotFound) } else { Ok(Answer::Coming) });
            pulls.go_live(&key("x"));
            assert_eq!(pulls.want(&key("x"), next, None, LIMITS, now), Ok(Answer::Coming));
        }
    }
}
