//! Tally: what sessions amount to, by vhost and by stream.

use std::collections::HashMap;
use std::ops::AddAssign;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Serialize;

use super::super::state::Api;
use crate::policy::{Action, Amount, Session, SessionId};
use crate::stream::StreamKey;

/// Rates, in kilobits per second.
#[derive(Clone, Copy, Debug, Default, Serialize, JsonSchema)]
pub(super) struct Kbps {
    pub recv_30s: u64,
    pub send_30s: u64,
}

/// The sum of sessions, past ones included in its bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sum {
    pub clients: usize,
    pub amount: Amount,
    pub kbps: Kbps,
}

/// The sums of all sessions.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub host: Sum,
    vhosts: HashMap<Arc<str>, Sum>,
    streams: HashMap<StreamKey, Sum>,
    publishers: HashMap<StreamKey, SessionId>,
}

impl Tally {
    /// Takes time for each session.
    pub fn of(api: &Api) -> Tally {
        let (sessions, ended) = api.access.amounts();
        let past = |amount| Sum { amount, ..Sum::default() };
        let mut tally = Tally {
            host: past(ended.host),
            vhosts: ended.vhosts.into_iter().map(|(name, amount)| (name, past(amount))).collect(),
            streams: ended.streams.into_iter().map(|(key, amount)| (key, past(amount))).collect(),
            publishers: HashMap::new(),
        };
        for (session, rate) in sessions.iter().zip(api.rates.of(&sessions, || sessions.clone())) {
            let key = session.key();
            let sum = Sum::of(session, rate);
            if session.action() == Action::Publish {
                // The newest, if it has just replaced another one.
                tally.publishers.insert(key.clone(), session.id());
            }
            tally.host += sum;
            *tally.vhosts.entry(key.vhost.clone()).or_default() += sum;
            match tally.streams.get_mut(key) {
                Some(stream) => *stream += sum,
                None => drop(tally.streams.insert(key.clone(), sum)),
            }
        }
        tally
    }

    pub fn vhost(&self, name: &str) -> Sum {
        self.vhosts.get(name).copied().unwrap_or_default()
    }

    pub fn stream(&self, key: &StreamKey) -> Sum {
        self.streams.get(key).copied().unwrap_or_default()
    }

    /// Returns the session of a stream's publisher.
    pub fn publisher(&self, key: &StreamKey) -> Option<SessionId> {
        self.publishers.get(key).copied()
    }
}

impl Sum {
    /// Returns what one session counts, with its rate.
    pub fn of(session: &Session, rate: u64) -> Sum {
        let kbps = match session.action() {
            Action::Publish => Kbps { recv_30s: rate, send_30s: 0 },
            Action::Play => Kbps { recv_30s: 0, send_30s: rate },
        };
        Sum { clients: 1, amount: session.amount(), kbps }
    }
}

impl AddAssign for Sum {
    fn add_assign(&mut self, other: Sum) {
        self.clients += other.clients;
        self.amount += other.amount;
        self.kbps.recv_30s += other.kbps.recv_30s;
        self.kbps.send_30s += other.kbps.send_30s;
    }
}
