//! A run: what nodes, encoders and viewers do before and after the fault.

use remuxd_tests::random::Random;

use crate::agenda::{Agenda, SECOND, Time};
use crate::ledger::Ledger;
use crate::plan::{ENCODER_RETURNS, Limits, Plan, REDIS_AWAY, REFUSED, ROUND_TRIPS, Rules, Scene};
use crate::plan::{VIEWER_MOVES, VIEWER_RETRIES};
use crate::redis::{Command, Entry, Redis};
use crate::world::{State, Viewer, World};

/// A stream at an edge, as long as its epoch is this one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct At {
    pub edge: usize,
    pub stream: usize,
    pub epoch: u32,
}

#[derive(Debug)]
pub(crate) enum Event {
    Fault,
    RedisReturns,
    /// An encoder publishes to another origin.
    Publish(usize),
    /// A node connects to Redis.
    Connect(usize),
    /// A third of the lease is over, of a node with this connection.
    Turn(usize, u32),
    /// The node's chunk of commands is answered.
    Reply(usize, u32),
    /// An edge asks where a stream is.
    Ask(At),
    /// It knows where.
    Answer(At),
    /// An origin has not answered, or does not have the stream.
    Fail(At),
    /// An origin sends.
    Media(At, usize),
    Notify(At, Entry),
    /// Nobody has watched a stream for a while.
    Idle(usize, usize),
    /// Some viewer turns to another stream.
    Zap,
    Join(u32),
    /// A second is over.
    Tick,
}

pub struct Storm {
    pub(crate) plan: Plan,
    pub(crate) limits: Limits,
    pub(crate) rules: Rules,
    scene: Scene,
    pub(crate) random: Random,
    pub(crate) agenda: Agenda<Event>,
    pub(crate) now: Time,
    pub(crate) redis: Redis,
    pub(crate) world: World,
    pub(crate) ledger: Ledger,
}

impl Storm {
    pub fn new(plan: &Plan, limits: Limits, rules: Rules, scene: Scene) -> Storm {
        let mut random = Random::new(plan.seed);
        let world = World::new(plan, &mut random);
        let mut storm = Storm {
            plan: plan.clone(),
            limits,
            rules,
            scene,
            random,
            agenda: Agenda::new(),
            now: 0,
            redis: Redis::new(plan.streams),
            world,
            ledger: Ledger::new(plan.origins, plan.end),
        };
        for (stream, live) in storm.world.streams.iter().enumerate() {
            storm.redis.put(stream, live.entry, limits.lease, 0);
        }
        // Nodes were started at different times.
        for node in 0..storm.world.nodes.len() {
            let at = storm.between((0, limits.lease / 3));
            storm.agenda.add(at, Event::Turn(node, 0));
        }
        storm.agenda.add(plan.fault, Event::Fault);
        storm.agenda.add(0, Event::Zap);
        storm.agenda.add(SECOND - 1, Event::Tick);
        storm
    }

    /// Runs to the end.
    pub fn run(mut self) -> Ledger {
        while self.step() {}
        self.ledger
    }

    /// Handles one event. Returns false at the end.
    pub(crate) fn step(&mut self) -> bool {
        let Some((now, event)) = self.agenda.next_before(self.plan.end) else { return false };
        self.now = now;
        match event {
            Event::Fault => self.on_fault(),
            Event::RedisReturns => self.redis.up = true,
            Event::Publish(stream) => self.on_publish(stream),
            Event::Connect(node) => self.on_connect(node),
            Event::Turn(node, connection) => self.on_turn(node, connection),
            Event::Reply(node, connection) => self.on_reply(node, connection),
            Event::Ask(at) => self.when_current(at, Storm::ask),
            Event::Answer(at) => self.when_current(at, Storm::open),
            Event::Fail(at) => self.when_current(at, Storm::on_failure),
            Event::Media(at, origin) => self.when_current(at, |storm, at| storm.on_media(at, origin)),
            Event::Notify(at, entry) => self.on_notification(at, entry),
            Event::Idle(edge, stream) => self.on_idle(edge, stream),
            Event::Zap => self.on_zap(),
            Event::Join(viewer) => self.join(viewer),
            Event::Tick => {
                self.ledger.dark.push(self.world.dark);
                self.agenda.add(now + SECOND, Event::Tick);
            }
        }
        true
    }

    fn on_fault(&mut self) {
        match self.scene {
            Scene::Origin | Scene::Both => self.stop(&[0]),
            Scene::Region => {
                let nodes = self.world.nodes.iter().enumerate();
                let lost: Vec<usize> =
                    nodes.filter(|(_, one)| one.region == 0).map(|(node, _)| node).collect();
                self.stop(&lost);
            }
            Scene::Redis => {}
            Scene::Flushed => self.redis.flush(),
        }
        if self.scene.loses_redis() {
            self.redis.up = false;
            self.redis.flush();
            self.agenda.add(self.now + REDIS_AWAY, Event::RedisReturns);
            for node in 0..self.world.nodes.len() {
                self.lose_redis(node);
            }
        }
    }

    /// Stops machines: connections stay open, and carry nothing.
    fn stop(&mut self, nodes: &[usize]) {
        for node in nodes {
            self.world.nodes[*node].alive = false;
            self.world.nodes[*node].connected = false;
        }
        for edge in self.world.edges() {
            let runs = self.world.nodes[edge].alive;
            for stream in 0..self.world.streams.len() {
                let state = self.world.pull(edge, stream).state;
                if !runs {
                    let viewers = std::mem::take(&mut self.world.pull(edge, stream).viewers);
                    let was_live = matches!(state, State::Live(_));
                    self.drop_pull(edge, stream);
                    if was_live {
                        self.world.darken(stream, viewers.len());
                    }
                    for viewer in viewers {
                        self.lose(viewer);
                        self.world.viewers[viewer as usize].attached = false;
                        let at = self.now + self.between(VIEWER_MOVES);
                        self.agenda.add(at, Event::Join(viewer));
                    }
                } else if let State::Live(origin) = state
                    && !self.world.nodes[origin].alive
                {
                    for viewer in self.world.pull(edge, stream).viewers.clone() {
                        self.lose(viewer);
                    }
                    self.break_off(edge, stream);
                }
            }
        }
        for stream in 0..self.world.streams.len() {
            if !self.world.nodes[self.world.streams[stream].entry.node].alive {
                let live = &mut self.world.streams[stream];
                (live.live_since, live.lost) = (None, true);
                self.ledger.streams_lost += 1;
                let at = self.now + self.between(ENCODER_RETURNS);
                self.agenda.add(at, Event::Publish(stream));
            }
        }
    }

    fn lose(&mut self, viewer: u32) {
        self.world.viewers[viewer as usize].lost = true;
        self.ledger.viewers_lost += 1;
    }

    /// The origin of a pull sends nothing any more, which the edge notices after a while.
    fn break_off(&mut self, edge: usize, stream: usize) {
        self.world.set_state(edge, stream, State::Broken);
        let noticed = self.now + self.limits.media_timeout;
        let until = noticed + self.limits.failover_wait;
        let pull = self.world.pull(edge, stream);
        pull.epoch += 1;
        pull.until = until;
        pull.backoff.reset();
        let at = At { edge, stream, epoch: pull.epoch };
        self.agenda.add(noticed, Event::Ask(at));
    }

    /// Looks up where a stream is.
    fn ask(&mut self, at: At) {
        let rtt = self.plan.near;
        match self.send(at.edge, Command::Lookup, 1) {
            Some(answered) => self.agenda.add(answered + rtt, Event::Answer(at)),
            None => {
                if self.world.pull(at.edge, at.stream).known.is_none() {
                    self.ledger.unanswered += 1;
                }
                self.open(at);
            }
        }
    }

    /// Opens the stream at the origin of the newest entry that is known.
    pub(crate) fn open(&mut self, at: At) {
        let found =
            if self.world.nodes[at.edge].connected { self.redis.lookup(at.stream, self.now) } else { None };
        let pull = self.world.pull(at.edge, at.stream);
        // Never a smaller one; an entry that is away may come back.
        pull.known = pull.known.max(found);
        let Some(Entry { node: origin, .. }) = pull.known else { return self.on_failure(at) };
        let rtt = if self.world.nodes[at.edge].region == self.world.nodes[origin].region {
            self.plan.near
        } else {
            self.plan.far
        };
        let stream = &self.world.streams[at.stream];
        let since = stream.live_since.filter(|_| stream.entry.node == origin);
        let (Some(since), true) = (since, self.world.nodes[origin].alive) else {
            self.ledger.failed_pulls.add(self.now, 1);
            let answers = self.world.nodes[origin].alive;
            let after = if answers { ROUND_TRIPS * rtt } else { self.limits.connect_timeout };
            return self.agenda.add(self.now + after, Event::Fail(at));
        };
        self.ledger.pulls[origin].add(self.now, 1);
        let bits = self.plan.bitrate * self.plan.gop.min(self.now - since) / SECOND;
        self.ledger.burst_bytes.add(self.now, bits / 8);
        let node = &mut self.world.nodes[origin];
        let whole = self.plan.origin_interface;
        let free = whole.saturating_sub(node.fed * self.plan.bitrate).max(whole / 10);
        let begins = node.busy_until.max(self.now + ROUND_TRIPS * rtt);
        node.busy_until = begins + bits * SECOND / free;
        let media = node.busy_until;
        self.agenda.add(media, Event::Media(at, origin));
    }

    fn on_media(&mut self, at: At, origin: usize) {
        self.world.set_state(at.edge, at.stream, State::Live(origin));
        if !self.world.nodes[origin].alive {
            return self.break_off(at.edge, at.stream);
        }
        let viewers = self.world.pull(at.edge, at.stream).viewers.clone();
        viewers.into_iter().for_each(|viewer| self.is_back(viewer));
        self.judge(at.stream);
    }

    fn is_back(&mut self, viewer: u32) {
        if std::mem::take(&mut self.world.viewers[viewer as usize].lost) {
            self.ledger.viewers_back.push(self.now - self.plan.fault);
        }
    }

    /// Notes that a lost stream has all its viewers back.
    pub(crate) fn judge(&mut self, stream: usize) {
        let live = &mut self.world.streams[stream];
        if live.lost && live.dark == 0 && live.live_since.is_some() {
            live.lost = false;
            self.ledger.streams_back.push(self.now - self.plan.fault);
        }
    }

    fn on_failure(&mut self, at: At) {
        let pull = self.world.pull(at.edge, at.stream);
        if pull.state == State::Broken && self.now < pull.until {
            let random = if self.rules.jitter { self.random.number() } else { 0 };
            let pause = pull.backoff.next_with(random).as_micros() as Time;
            let again = (self.now + pause).min(pull.until);
            return self.agenda.add(again, Event::Ask(at));
        }
        pull.refused_until = self.now + REFUSED;
        let viewers = std::mem::take(&mut pull.viewers);
        self.drop_pull(at.edge, at.stream);
        for viewer in viewers {
            self.world.viewers[viewer as usize].attached = false;
            self.retry(viewer);
        }
    }

    fn retry(&mut self, viewer: u32) {
        let at = self.now + self.between(VIEWER_RETRIES);
        self.agenda.add(at, Event::Join(viewer));
    }

    /// Ends a pull whose viewers are gone, or were taken from it.
    fn drop_pull(&mut self, edge: usize, stream: usize) {
        let pull = self.world.pull(edge, stream);
        pull.epoch += 1;
        if pull.state == State::Absent {
            return;
        }
        self.world.set_state(edge, stream, State::Absent);
        if self.world.nodes[edge].alive {
            self.send(edge, Command::Unsubscribe, 1);
        }
    }

    fn on_idle(&mut self, edge: usize, stream: usize) {
        let (now, idle) = (self.now, self.limits.idle_timeout);
        let pull = self.world.pull(edge, stream);
        if pull.viewers.is_empty() && now - pull.quiet_since >= idle {
            self.drop_pull(edge, stream);
        }
    }

    fn on_zap(&mut self) {
        let every = self.plan.watch_time / self.plan.viewers as u64;
        self.agenda.add(self.now + every.max(1), Event::Zap);
        let number = self.random.below(self.plan.viewers) as u32;
        let Viewer { edge, stream, attached, .. } = self.world.viewers[number as usize];
        if !attached {
            return;
        }
        self.world.detach(number);
        let pull = self.world.pull(edge, stream);
        if !matches!(pull.state, State::Live(_)) {
            self.world.lighten(stream, 1);
            self.judge(stream);
        }
        let pull = self.world.pull(edge, stream);
        if pull.viewers.is_empty() {
            pull.quiet_since = self.now;
            self.agenda.add(self.now + self.limits.idle_timeout, Event::Idle(edge, stream));
        }
        if std::mem::take(&mut self.world.viewers[number as usize].lost) {
            self.ledger.viewers_left += 1;
        }
        let region = self.world.nodes[edge].region;
        let stream = self.world.some_stream(&mut self.random);
        let edge = self.world.some_edge(Some(region), &mut self.random);
        (self.world.viewers[number as usize].edge, self.world.viewers[number as usize].stream) =
            (edge, stream);
        self.world.darken(stream, 1);
        self.join(number);
    }

    /// A viewer asks an edge for its stream.
    fn join(&mut self, number: u32) {
        let Viewer { mut edge, stream, .. } = self.world.viewers[number as usize];
        if !self.world.nodes[edge].alive {
            edge = self.world.some_edge(Some(self.world.nodes[edge].region), &mut self.random);
            self.world.viewers[number as usize].edge = edge;
        }
        let pull = self.world.pull(edge, stream);
        let (state, refused) = (pull.state, pull.refused_until > self.now);
        if state == State::Absent {
            let full = self.rules.caps && self.world.nodes[edge].pending >= self.limits.max_pending;
            self.ledger.refused += u64::from(full);
            if refused || full {
                return self.retry(number);
            }
        }
        self.world.viewers[number as usize].attached = true;
        self.world.pull(edge, stream).viewers.push(number);
        match state {
            State::Live(_) => {
                self.world.lighten(stream, 1);
                self.is_back(number);
                self.judge(stream);
            }
            State::Pending | State::Broken => {}
            State::Absent => {
                self.world.set_state(edge, stream, State::Pending);
                let pending = self.world.nodes[edge].pending;
                self.ledger.most_pending = self.ledger.most_pending.max(pending);
                let pull = self.world.pull(edge, stream);
                pull.epoch += 1;
                let at = At { edge, stream, epoch: pull.epoch };
                // What was published before the subscription is looked up once more.
                self.send(edge, Command::Subscribe, 1);
                self.send(edge, Command::Lookup, 1);
                self.ask(at);
            }
        }
    }

    fn when_current(&mut self, at: At, act: impl FnOnce(&mut Storm, At)) {
        let pull = self.world.pull(at.edge, at.stream);
        if pull.epoch == at.epoch && pull.state != State::Absent {
            act(self, at);
        }
    }

    pub(crate) fn between(&mut self, (least, most): (Time, Time)) -> Time {
        least + self.random.number() % (most - least)
    }
}
