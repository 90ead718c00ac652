//! Totals: the bytes of sessions that have ended.

use std::collections::HashMap;
use std::ops::AddAssign;
use std::sync::Arc;

use crate::stream::StreamKey;

/// Bytes of media.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// Those that were sent to viewers and players.
    pub sent: u64,
    /// Those that were received from publishers.
    pub received: u64,
}

impl AddAssign for Amount {
    fn add_assign(&mut self, other: Amount) {
        self.sent += other.sent;
        self.received += other.received;
    }
}

/// The media that the host sends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes that were sent to viewers and players since the host was started.
    pub sent: u64,
    /// Number of viewers and players.
    pub viewers: u64,
}

/// The bytes of past sessions.
#[derive(Clone, Debug, Default)]
pub struct Totals {
    /// Since the host was started.
    pub host: Amount,
    /// The same by vhost.
    pub vhosts: HashMap<Arc<str>, Amount>,
    /// By stream, of streams that have a session, since their first one.
    pub streams: HashMap<StreamKey, Amount>,
}

/// The totals with what is needed to keep them.
#[derive(Debug, Default)]
pub(super) struct Ended {
    host: Amount,
    vhosts: HashMap<Arc<str>, Amount>,
    /// With the number of sessions that each stream has now.
    streams: HashMap<StreamKey, (usize, Amount)>,
}

impl Ended {
    /// Notes that a session of the stream `key` has begun.
    pub fn enter(&mut self, key: &StreamKey) {
        match self.streams.get_mut(key) {
            Some((sessions, _)) => *sessions += 1,
            None => drop(self.streams.insert(key.clone(), (1, Amount::default()))),
        }
    }

    /// Adds what a session that has ended amounts to.
    pub fn leave(&mut self, key: &StreamKey, amount: Amount) {
        self.host += amount;
        match self.vhosts.get_mut(&key.vhost) {
            Some(vhost) => *vhost += amount,
            None => drop(self.vhosts.insert(key.vhost.clone(), amount)),
        }
        if let Some((sessions, stream)) = self.streams.get_mut(key) {
            *sessions -= 1;
            *stream += amount;
            if *sessions == 0 {
                self.streams.remove(key);
            }
        }
    }

    /// Returns the bytes that the sessions were sent.
    pub fn sent(&self) -> u64 {
        self.host.sent
    }

    /// Returns the totals.
    pub fn totals(&self) -> Totals {
        let streams = self.streams.iter().filter(|(_, (_, amount))| *amount != Amount::default());
        Totals {
            host: self.host,
            vhosts: self.vhosts.clone(),
            streams: streams.map(|(key, (_, amount))| (key.clone(), *amount)).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_of_a_stream_last_as_long_as_its_sessions() {
        let mut ended = Ended::default();
        let [film, other] = ["film", "other"].map(|name| StreamKey::new("v", "live", name));
        let (sent, received) = (Amount { sent: 5, received: 0 }, Amount { sent: 0, received: 7 });
        ended.enter(&film);
        ended.enter(&film);
        ended.enter(&other);
        ended.leave(&film, sent);
        assert_eq!(ended.totals().streams, HashMap::from([(film.clone(), sent)]));
        ended.leave(&film, received);
        ended.leave(&other, sent);
        let Totals { host, vhosts, streams } = ended.totals();
        assert_eq!((host, vhosts["v"]), (Amount { sent: 10, received: 7 }, Amount { sent: 10, received: 7 }));
        assert!(streams.is_empty() && ended.streams.is_empty());
    }
}
