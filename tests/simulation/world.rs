//! The nodes, streams, pulls and viewers of a cluster, and who is without media.

use std::collections::VecDeque;

use remuxd::testing::cluster::Backoff;
use remuxd_tests::random::Random;

use crate::agenda::Time;
use crate::directory::Chunk;
use crate::plan::Plan;
use crate::redis::Entry;

/// Origins come first, then edges.
#[derive(Debug)]
pub struct Node {
    pub region: usize,
    pub alive: bool,
    /// Whether it has a connection to Redis, and the number of that connection.
    pub connected: bool,
    pub connection: u32,
    /// The chunks for Redis; the first one is on its way.
    pub chunks: VecDeque<Chunk>,
    /// Thirds of the lease so far.
    pub turn: usize,
    /// The pauses between its attempts to connect to Redis.
    pub backoff: Backoff,
    /// Of an edge: pulls without media that nobody had before.
    pub pending: usize,
    /// Of an origin: pulls that it feeds.
    pub fed: u64,
    /// Of an origin: when its interface has sent what pulls got at their start.
    pub busy_until: Time,
}

#[derive(Debug)]
pub struct Stream {
    /// The newest claim.
    pub entry: Entry,
    /// Since when the publisher is there.
    pub live_since: Option<Time>,
    /// Whether the fault took the publisher, and not all viewers are back.
    pub lost: bool,
    /// Viewers who wait for media.
    pub dark: usize,
}

/// A stream at an edge.
#[derive(Debug, Default)]
pub struct Pull {
    pub state: State,
    pub viewers: Vec<u32>,
    /// The newest entry that the edge has seen.
    pub known: Option<Entry>,
    /// Raised by whatever makes earlier events void.
    pub epoch: u32,
    pub backoff: Backoff,
    /// Until when a broken pull waits for an origin.
    pub until: Time,
    /// Until when the name is refused.
    pub refused_until: Time,
    /// Since when nobody watches.
    pub quiet_since: Time,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// Nobody wants the stream here.
    #[default]
    Absent,
    /// Without media so far.
    Pending,
    /// This origin sends.
    Live(usize),
    /// The origin was lost.
    Broken,
}

#[derive(Clone, Copy, Debug)]
pub struct Viewer {
    pub edge: usize,
    pub stream: usize,
    /// Whether the edge serves it, also while it has no media. Otherwise the viewer asks again later.
    pub attached: bool,
    /// Whether the fault took its media, and it has none since.
    pub lost: bool,
}

#[derive(Debug)]
pub struct World {
    pub nodes: Vec<Node>,
    pub streams: Vec<Stream>,
    /// By edge, then by stream.
    pulls: Vec<Pull>,
    pub viewers: Vec<Viewer>,
    /// Viewers without media.
    pub dark: u64,
    origins: usize,
    /// Sums of the streams' shares of viewers.
    popularity: Vec<f64>,
}

impl World {
    /// Creates a cluster in which every viewer has media.
    pub fn new(plan: &Plan, random: &mut Random) -> World {
        let nodes = (0..plan.origins + plan.edges).map(|number| Node {
            region: number % plan.regions,
            alive: true,
            connected: true,
            connection: 0,
            chunks: VecDeque::new(),
            turn: 0,
            backoff: Backoff::default(),
            pending: 0,
            fed: 0,
            busy_until: 0,
        });
        let streams = (0..plan.streams).map(|_| Stream {
            entry: Entry { id: 1, node: random.below(plan.origins) },
            live_since: Some(0),
            lost: false,
            dark: 0,
        });
        let mut sum = 0.0;
        let popularity = (1..=plan.streams).map(|rank| {
            sum += 1.0 / rank as f64;
            sum
        });
        let mut world = World {
            nodes: nodes.collect(),
            streams: streams.collect(),
            pulls: (0..plan.edges * plan.streams).map(|_| Pull::default()).collect(),
            viewers: Vec::with_capacity(plan.viewers),
            dark: 0,
            origins: plan.origins,
            popularity: popularity.collect(),
        };
        for number in 0..plan.viewers {
            let (edge, stream) = (world.some_edge(None, random), world.some_stream(random));
            world.viewers.push(Viewer { edge, stream, attached: true, lost: false });
            let entry = world.streams[stream].entry;
            let pull = world.pull(edge, stream);
            pull.viewers.push(number as u32);
            if pull.state == State::Absent {
                (pull.state, pull.known) = (State::Live(entry.node), Some(entry));
                world.nodes[entry.node].fed += 1;
            }
        }
        world
    }

    pub fn pull(&mut self, edge: usize, stream: usize) -> &mut Pull {
        let place = (edge - self.origins) * self.streams.len() + stream;
        &mut self.pulls[place]
    }

    pub fn edges(&self) -> std::ops::Range<usize> {
        self.origins..self.nodes.len()
    }

    pub fn is_origin(&self, node: usize) -> bool {
        node < self.origins
    }

    /// Returns an edge that runs, in `region` if there is one.
    pub fn some_edge(&self, region: Option<usize>, random: &mut Random) -> usize {
        self.some_node(self.edges(), region, random)
    }

    /// Returns an origin that runs, in `region` if there is one.
    pub fn some_origin(&self, region: Option<usize>, random: &mut Random) -> usize {
        self.some_node(0..self.origins, region, random)
    }

    fn some_node(&self, of: std::ops::Range<usize>, region: Option<usize>, random: &mut Random) -> usize {
        let alive = |node: &usize| self.nodes[*node].alive;
        let near: Vec<usize> =
            of.clone().filter(alive).filter(|node| region == Some(self.nodes[*node].region)).collect();
        let found = if near.is_empty() { of.filter(alive).collect() } else { near };
        random.one(&found)
    }

    /// Returns a stream by its popularity (Zipf).
    pub fn some_stream(&self, random: &mut Random) -> usize {
        let point = random.unit() * self.popularity.last().copied().unwrap_or(0.0);
        self.popularity.partition_point(|sum| *sum <= point).min(self.streams.len() - 1)
    }

    /// Puts a pull into another state, with what counts on it: who is without media, pulls of the edge without media, pulls that
    /// an origin feeds.
    pub fn set_state(&mut self, edge: usize, stream: usize, state: State) {
        let pull = self.pull(edge, stream);
        let (before, viewers) = (std::mem::replace(&mut pull.state, state), pull.viewers.len());
        let is_live = |state| matches!(state, State::Live(_));
        match (is_live(before), is_live(state)) {
            (true, false) => self.darken(stream, viewers),
            (false, true) => self.lighten(stream, viewers),
            _ => {}
        }
        for (state, change) in [(before, -1), (state, 1)] {
            match state {
                State::Pending => {
                    self.nodes[edge].pending = self.nodes[edge].pending.saturating_add_signed(change)
                }
                State::Live(origin) => {
                    self.nodes[origin].fed = self.nodes[origin].fed.saturating_add_signed(change as i64)
                }
                State::Absent | State::Broken => {}
            }
        }
    }

    pub fn darken(&mut self, stream: usize, viewers: usize) {
        self.streams[stream].dark += viewers;
        self.dark += viewers as u64;
    }

    pub fn lighten(&mut self, stream: usize, viewers: usize) {
        self.streams[stream].dark -= viewers;
        self.dark -= viewers as u64;
    }

    /// Removes a viewer from its pull.
    pub fn detach(&mut self, number: u32) {
        let viewer = &mut self.viewers[number as usize];
        viewer.attached = false;
        let Viewer { edge, stream, .. } = *viewer;
        let viewers = &mut self.pull(edge, stream).viewers;
        if let Some(place) = viewers.iter().position(|one| *one == number) {
            viewers.swap_remove(place);
        }
    }
}
