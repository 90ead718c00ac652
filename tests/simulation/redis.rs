//! A model of Redis: entries with leases, and commands that wait for each other.

use crate::agenda::Time;
use crate::plan::REDIS_TIMEOUT;

/// The entry of a stream: the greatest fencing id wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    pub id: u64,
    pub node: usize,
}

/// A kind of command. One that reads or writes several keys counts as often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    Connect,
    Renew,
    Nodes,
    Claim,
    Lookup,
    Subscribe,
    Unsubscribe,
}

impl Command {
    /// Returns the time for which Redis is busy with one, in nanoseconds: CPU time of Debian's Redis 7.0 with the host's scripts on
    /// one core of a virtual machine; of subscriptions and greetings, an estimate.
    pub fn cost(self) -> u64 {
        match self {
            Command::Renew | Command::Claim => 28_000,
            Command::Nodes => 3_600,
            Command::Lookup => 8_000,
            Command::Connect => 10_000,
            Command::Subscribe | Command::Unsubscribe => 3_000,
        }
    }

    pub const ALL: [(&str, Command); 7] = [
        ("connect", Command::Connect),
        ("renew", Command::Renew),
        ("nodes", Command::Nodes),
        ("claim", Command::Claim),
        ("lookup", Command::Lookup),
        ("subscribe", Command::Subscribe),
        ("unsubscribe", Command::Unsubscribe),
    ];
}

#[derive(Debug)]
pub struct Redis {
    pub up: bool,
    /// By stream: the entry, and until when it holds.
    entries: Vec<Option<(Entry, Time)>>,
    /// When the last command that has come is served.
    busy_until: Time,
}

impl Redis {
    pub fn new(streams: usize) -> Redis {
        Redis { up: true, entries: vec![None; streams], busy_until: 0 }
    }

    /// Serves commands that come at once. Returns when the last of them is answered, or `None` if it would wait for too long.
    pub fn serve(&mut self, now: Time, command: Command, count: usize) -> Option<Time> {
        if !self.up {
            return None;
        }
        self.busy_until = self.busy_until.max(now) + count as u64 * command.cost() / 1000;
        (self.busy_until - now <= REDIS_TIMEOUT).then_some(self.busy_until)
    }

    pub fn lookup(&self, stream: usize, now: Time) -> Option<Entry> {
        self.entries[stream].filter(|(_, until)| *until > now).map(|(entry, _)| entry)
    }

    /// Puts an entry with a greater id in place, or extends the lease of the same one. Returns whether it is new.
    pub fn put(&mut self, stream: usize, entry: Entry, until: Time, now: Time) -> bool {
        match self.lookup(stream, now) {
            Some(kept) if kept > entry => false,
            kept => {
                self.entries[stream] = Some((entry, until));
                kept != Some(entry)
            }
        }
    }

    pub fn flush(&mut self) {
        self.entries.fill(None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_greater_id_wins_and_leases_end() {
        let mut redis = Redis::new(1);
        let [old, new] = [Entry { id: 1, node: 7 }, Entry { id: 2, node: 3 }];
        assert!(redis.put(0, new, 100, 0));
        assert!(!redis.put(0, old, 300, 50));
        assert!(!redis.put(0, new, 200, 50), "the same one is not new");
        assert_eq!((redis.lookup(0, 199), redis.lookup(0, 200)), (Some(new), None));
        redis.flush();
        assert!(redis.put(0, old, 300, 60));
    }

    #[test]
    fn commands_wait_for_each_other_and_time_out() {
        let mut redis = Redis::new(1);
        let whole = REDIS_TIMEOUT / 8;
        assert_eq!(redis.serve(0, Command::Lookup, whole as usize / 2), Some(REDIS_TIMEOUT / 2));
        assert_eq!(redis.serve(0, Command::Lookup, whole as usize / 2), Some(REDIS_TIMEOUT));
        assert_eq!(redis.serve(0, Command::Lookup, 1), None);
        assert_eq!(redis.serve(2 * REDIS_TIMEOUT, Command::Lookup, 1), Some(2 * REDIS_TIMEOUT + 8));
        redis.up = false;
        assert_eq!(redis.serve(3 * REDIS_TIMEOUT, Command::Lookup, 1), None);
    }
}
