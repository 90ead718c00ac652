//! What nodes do with Redis, as `host/src/cluster/directory/redis.rs` does it: each has one connection, on which it sends chunks one
//! after the other, renews its leases every third of the lease, and looks up a third of what it follows.

use crate::agenda::Time;
use crate::redis::{Command, Entry};
use crate::storm::{At, Event, Storm};
use crate::world::State;

/// The most commands, or streams of a lookup, that are sent at once.
const CHUNK: usize = 200;

/// Commands with which a connection begins.
const GREETING: usize = 8;

/// A chunk of commands on its way to Redis.
#[derive(Clone, Debug)]
pub(crate) enum Chunk {
    /// The leases of these streams.
    Renew(Vec<usize>),
    /// The own entry, and those of all nodes.
    Nodes,
    Subscribe(usize),
    Lookup(Vec<usize>),
}

impl Storm {
    /// Sends commands of one node. Returns when they are answered; `None` if the node has no connection, or loses it now.
    pub(crate) fn send(&mut self, node: usize, command: Command, count: usize) -> Option<Time> {
        if !self.world.nodes[node].connected {
            return None;
        }
        self.ledger.count(command, self.now, count);
        let answered = self.redis.serve(self.now, command, count);
        if answered.is_none() {
            self.ledger.timeouts += 1;
            self.lose_redis(node);
        }
        answered
    }

    pub(crate) fn lose_redis(&mut self, node: usize) {
        let lost = &mut self.world.nodes[node];
        if lost.alive {
            lost.connected = false;
            lost.connection += 1;
            lost.chunks.clear();
            let at = self.now + self.pause(node);
            self.agenda.add(at, Event::Connect(node));
        }
    }

    /// Returns the pause before a node's next attempt to connect to Redis.
    fn pause(&mut self, node: usize) -> Time {
        let random = if self.rules.jitter { self.random.number() } else { 0 };
        self.world.nodes[node].backoff.next_with(random).as_micros() as Time
    }

    /// A node connects, renews what it has, subscribes to what it follows, and looks that up.
    pub(crate) fn on_connect(&mut self, node: usize) {
        if !self.world.nodes[node].alive || self.world.nodes[node].connected {
            return;
        }
        if !self.redis.up {
            let at = self.now + self.pause(node);
            return self.agenda.add(at, Event::Connect(node));
        }
        self.world.nodes[node].connected = true;
        if self.send(node, Command::Connect, GREETING).is_none() {
            return;
        }
        self.add_turn(node);
        let followed = self.followed(node);
        let subscriptions = followed.chunks(self.chunk()).map(|chunk| Chunk::Subscribe(chunk.len()));
        let mut chunks: Vec<_> = self.renewals(node).into_iter().chain(subscriptions).collect();
        chunks.extend(followed.chunks(self.chunk()).map(|chunk| Chunk::Lookup(chunk.to_vec())));
        self.enqueue(node, chunks);
    }

    pub(crate) fn on_turn(&mut self, node: usize, connection: u32) {
        if !self.world.nodes[node].alive || self.world.nodes[node].connection != connection {
            return;
        }
        self.add_turn(node);
        self.world.nodes[node].turn += 1;
        let turn = self.world.nodes[node].turn;
        let mut followed = self.followed(node);
        followed.retain(|stream| (stream + node + turn).is_multiple_of(3));
        let lookups = followed.chunks(self.chunk()).map(|chunk| Chunk::Lookup(chunk.to_vec()));
        let chunks: Vec<_> = self.renewals(node).into_iter().chain(lookups).collect();
        self.enqueue(node, chunks);
    }

    pub(crate) fn add_turn(&mut self, node: usize) {
        let third = self.limits.lease / 3;
        let pause = if self.rules.jitter { self.between((third * 7 / 8, third)) } else { third };
        let connection = self.world.nodes[node].connection;
        self.agenda.add(self.now + pause, Event::Turn(node, connection));
    }

    fn chunk(&self) -> usize {
        if self.rules.caps { CHUNK } else { self.plan.streams }
    }

    fn renewals(&self, node: usize) -> Vec<Chunk> {
        let streams = self.world.streams.iter().enumerate();
        let own = streams.filter(|(_, live)| live.entry.node == node && live.live_since.is_some());
        let own: Vec<usize> = own.map(|(stream, _)| stream).collect();
        let renewals = own.chunks(self.chunk()).map(|chunk| Chunk::Renew(chunk.to_vec()));
        renewals.chain([Chunk::Nodes]).collect()
    }

    fn enqueue(&mut self, node: usize, chunks: Vec<Chunk>) {
        let waits = !self.world.nodes[node].chunks.is_empty();
        self.world.nodes[node].chunks.extend(chunks);
        if !waits {
            self.send_next(node);
        }
    }

    /// Sends the first chunk of a node, which stays in the queue until it is answered.
    fn send_next(&mut self, node: usize) {
        let Some(chunk) = self.world.nodes[node].chunks.front() else { return };
        let (command, count) = match chunk {
            Chunk::Renew(streams) => (Command::Renew, streams.len()),
            Chunk::Nodes => (Command::Nodes, self.world.nodes.len()),
            Chunk::Subscribe(count) => (Command::Subscribe, *count),
            Chunk::Lookup(streams) => (Command::Lookup, streams.len()),
        };
        let connection = self.world.nodes[node].connection;
        if let Some(answered) = self.send(node, command, count) {
            self.agenda.add(answered + self.plan.near, Event::Reply(node, connection));
        }
    }

    pub(crate) fn on_reply(&mut self, node: usize, connection: u32) {
        if !self.world.nodes[node].alive || self.world.nodes[node].connection != connection {
            return;
        }
        match self.world.nodes[node].chunks.pop_front() {
            Some(Chunk::Renew(streams)) => streams.into_iter().for_each(|stream| self.claim(node, stream)),
            Some(Chunk::Lookup(streams)) => self.take(node, &streams),
            Some(Chunk::Nodes) => self.world.nodes[node].backoff.reset(),
            Some(Chunk::Subscribe(_)) | None => {}
        }
        self.send_next(node);
    }

    /// An encoder publishes to another origin, which accepts it also without Redis.
    pub(crate) fn on_publish(&mut self, stream: usize) {
        let before = self.world.streams[stream].entry;
        let region = self.world.nodes[before.node].region;
        let node = self.world.some_origin(Some(region), &mut self.random);
        self.world.streams[stream].entry = Entry { id: before.id + 1, node };
        self.world.streams[stream].live_since = Some(self.now);
        self.judge(stream);
        if self.send(node, Command::Claim, 1).is_some() {
            self.claim(node, stream);
        }
    }

    /// Puts the entry of a stream in place, and notifies the followers if it is new.
    fn claim(&mut self, node: usize, stream: usize) {
        let (entry, until) = (self.world.streams[stream].entry, self.now + self.limits.lease);
        if entry.node != node || !self.redis.put(stream, entry, until, self.now) {
            return;
        }
        for edge in self.world.edges() {
            let follows = self.world.nodes[edge].connected;
            let pull = self.world.pull(edge, stream);
            if follows && pull.state != State::Absent {
                let at = At { edge, stream, epoch: pull.epoch };
                self.ledger.notifications.add(self.now, 1);
                self.agenda.add(self.now + self.plan.near, Event::Notify(at, entry));
            }
        }
    }

    pub(crate) fn on_notification(&mut self, at: At, entry: Entry) {
        let is_connected = self.world.nodes[at.edge].connected;
        let pull = self.world.pull(at.edge, at.stream);
        if is_connected && pull.state != State::Absent && pull.known < Some(entry) {
            self.follow(at.edge, at.stream, entry);
        }
    }

    fn followed(&mut self, node: usize) -> Vec<usize> {
        if self.world.is_origin(node) {
            return Vec::new();
        }
        let streams = 0..self.world.streams.len();
        streams.filter(|stream| self.world.pull(node, *stream).state != State::Absent).collect()
    }

    /// Takes the answers to lookups.
    fn take(&mut self, edge: usize, streams: &[usize]) {
        for stream in streams {
            if let Some(entry) = self.redis.lookup(*stream, self.now)
                && self.world.pull(edge, *stream).known < Some(entry)
            {
                self.follow(edge, *stream, entry);
            }
        }
    }

    /// Leaves the wait for an origin for the origin of a newer entry.
    fn follow(&mut self, edge: usize, stream: usize, entry: Entry) {
        let pull = self.world.pull(edge, stream);
        pull.known = Some(entry);
        if matches!(pull.state, State::Pending | State::Broken) {
            pull.epoch += 1;
            let at = At { edge, stream, epoch: pull.epoch };
            self.open(at);
        }
    }
}
