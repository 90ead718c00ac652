//! Random histories of a stream in the directory against a model: publishers at several nodes with clocks that differ by an hour, nodes
//! that are cut off, and a Redis that is flushed, restored from an old copy, or lets leases end.
//!
//! The books are real; Redis is a model of the scripts in `lua/`. Of every history hold: no book ever sees a smaller id; Redis never
//! replaces an entry by one with a smaller id, unless it is restored or flushed. Once all nodes reach Redis, one publisher survives if
//! there was one, with an id at least as great as any that a publisher had, and all who follow the stream follow that one. Only within the
//! lease of a publisher that has left while its node was cut off may the others lose to it.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::book::{Book, Fate, Offered};
use super::entry::{State, StreamEntry};
use super::fence::FenceId;
use crate::stream::StreamKey;

const NODES: [&str; 4] = ["a", "b", "c", "d"];
const LEASE_MS: u64 = 10_000;
const HOUR_MS: u64 = 3_600_000;
const START_MS: u64 = 1_800_000_000_000;

/// Turns of all nodes after which nothing changes any more.
const SETTLE: usize = 12;

/// A step of a history. Numbers are indices of nodes.
#[derive(Clone, Debug)]
enum Step {
    /// A publisher comes, with one of two credentials.
    Claim(usize, u8),
    /// It leaves.
    End(usize),
    /// A node renews what it has, and looks up what it follows.
    Turn(usize),
    /// A node cannot reach Redis.
    Cut(usize),
    /// It can again.
    Heal(usize),
    /// Redis loses everything.
    Flush,
    /// Redis makes a copy of everything.
    Save,
    /// Redis goes back to its copy.
    Restore,
    /// Time passes, in milliseconds.
    Wait(u64),
}

/// The state of Redis for one stream.
#[derive(Clone, Debug, Default)]
struct Redis {
    entry: Option<StreamEntry>,
    until: u64,
    seen: Option<StreamEntry>,
}

#[derive(Debug)]
enum PutReply {
    Ok,
    Busy,
    /// Also whether its lease is over.
    Held(StreamEntry, bool),
    Seen(StreamEntry),
}

impl Redis {
    fn put(&mut self, own: &StreamEntry, is_claim: bool, now: u64) -> PutReply {
        if let Some(held) = &self.entry {
            let is_live = held.state == State::Live && self.until > now;
            if is_claim && is_live && held.id.node != own.id.node && held.publisher != own.publisher {
                return PutReply::Busy;
            }
            if held != own && own.id <= held.id {
                return PutReply::Held(held.clone(), self.until <= now);
            }
        }
        if let Some(seen) = self.seen.as_ref().filter(|seen| seen.id > own.id) {
            return PutReply::Seen(seen.clone());
        }
        if self.entry.as_ref() != Some(own) {
            self.seen = None;
        }
        self.entry = Some(own.clone());
        self.until = now + LEASE_MS;
        PutReply::Ok
    }

    fn end(&mut self, own: &StreamEntry) {
        if self.entry.as_ref().is_none_or(|held| held.id <= own.id) {
            (self.entry, self.until) = (Some(own.clone()), 0);
        }
    }

    fn present(&mut self, own: &StreamEntry) {
        let is_newer = |other: &Option<StreamEntry>| other.as_ref().is_none_or(|other| own.id > other.id);
        if is_newer(&self.entry) && is_newer(&self.seen) {
            self.seen = Some(own.clone());
        }
    }
}

struct Node {
    name: &'static str,
    book: Book,
    /// Milliseconds that its clock is ahead.
    ahead: i64,
    is_cut: bool,
    /// The greatest id that its book has seen.
    greatest: Option<FenceId>,
}

struct World {
    nodes: Vec<Node>,
    redis: Redis,
    copy: Redis,
    /// Milliseconds since 1970.
    time: u64,
    start: Instant,
}

fn key() -> StreamKey {
    StreamKey::new("v", "live", "x")
}

impl World {
    fn new(ahead: &[i64]) -> World {
        let node = |(name, ahead): (&&'static str, &i64)| {
            let mut book = Book::default();
            book.begin_follow(&key(), Instant::now());
            Node { name, book, ahead: *ahead, is_cut: false, greatest: None }
        };
        World {
            nodes: NODES.iter().zip(ahead).map(node).collect(),
            redis: Redis::default(),
            copy: Redis::default(),
            time: START_MS,
            start: Instant::now(),
        }
    }

    fn now(&self) -> Instant {
        self.start + Duration::from_millis(self.time - START_MS)
    }

    fn wall(&self, node: usize) -> u64 {
        self.time.saturating_add_signed(self.nodes[node].ahead)
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Claim(node, credential) => self.claim(node, &credential.to_string()),
            Step::End(node) => {
                let now = self.now();
                self.nodes[node].book.end(&key(), now);
            }
            Step::Turn(node) => self.turn(node),
            Step::Cut(node) => self.nodes[node].is_cut = true,
            Step::Heal(node) => self.nodes[node].is_cut = false,
            Step::Flush => self.redis = Redis::default(),
            Step::Save => self.copy = self.redis.clone(),
            Step::Restore => self.redis = self.copy.clone(),
            Step::Wait(millis) => self.time += millis,
        }
        self.check();
    }

    fn claim(&mut self, node: usize, credential: &str) {
        let (now, wall, time) = (self.now(), self.wall(node), self.time);
        if self.nodes[node].book.own(&key()).is_some() {
            return;
        }
        for _ in 0..5 {
            let Node { name, book, is_cut, .. } = &mut self.nodes[node];
            let draft = book.draft(&key(), name, &format!("rtmp://{name}"), credential, wall);
            if *is_cut {
                return book.hold(draft, now);
            }
            let before = self.redis.entry.clone();
            match self.redis.put(&draft, true, time) {
                PutReply::Ok => {
                    assert!(before.is_none_or(|before| before.id < draft.id), "a smaller id was accepted");
                    return book.hold(draft, now);
                }
                PutReply::Busy => return,
                PutReply::Held(entry, _) | PutReply::Seen(entry) => drop(book.offer(entry, now)),
            }
        }
        panic!("a claim with nobody in between gets an id at the second attempt");
    }

    fn turn(&mut self, node: usize) {
        let (now, wall, time) = (self.now(), self.wall(node), self.time);
        let World { nodes, redis, .. } = self;
        let Node { name, book, is_cut, .. } = &mut nodes[node];
        if *is_cut {
            return;
        }
        for _ in 0..4 {
            let Some(own) = book.own(&key()).cloned() else { break };
            let before = redis.entry.clone();
            match redis.put(&own, false, time) {
                PutReply::Ok => {
                    assert!(before.is_none_or(|before| before.id <= own.id), "a smaller id was accepted");
                    break;
                }
                PutReply::Busy => panic!("a renewal asks for no credential"),
                PutReply::Held(held, is_over) => drop(book.contest(held, is_over, name, wall, now)),
                PutReply::Seen(seen) => match book.raise(&key(), &seen.id, name, wall, now) {
                    Fate::Raised(raised) => assert!(raised.id > seen.id),
                    fate => panic!("{fate:?}"),
                },
            }
        }
        for ended in book.take_ended() {
            redis.end(&ended);
        }
        if book.own(&key()).is_none() {
            let Offered { present, .. } = book.answer(&key(), redis.entry.clone(), now);
            present.iter().for_each(|present| redis.present(present));
        }
    }

    /// Checks what always holds.
    fn check(&mut self) {
        for Node { book, greatest, name, .. } in &mut self.nodes {
            let seen = book.seen(&key()).map(|seen| seen.id.clone());
            assert!(seen >= *greatest, "{name} has seen {seen:?} after {greatest:?}");
            *greatest = seen;
        }
    }

    /// Lets all nodes reach Redis until nothing changes, then checks what holds at last.
    fn settle(&mut self) {
        let live = |world: &World| -> Vec<FenceId> {
            world.nodes.iter().filter_map(|node| Some(node.book.own(&key())?.id.clone())).collect()
        };
        let before = live(self);
        // Who has left while it was cut off still has a lease.
        let entry = self
            .redis
            .entry
            .as_ref()
            .filter(|entry| entry.state == State::Live && self.redis.until > self.time);
        let is_ghost = entry.is_some_and(|entry| !before.contains(&entry.id));
        for round in 0..SETTLE {
            for node in 0..NODES.len() {
                self.step(&Step::Heal(node));
                self.step(&Step::Turn((node + round) % NODES.len()));
            }
            self.step(&Step::Wait(LEASE_MS / 3));
        }
        let after = live(self);
        assert!(
            after.len() <= 1 && (after.is_empty() == before.is_empty() || is_ghost),
            "{before:?} -> {after:?}"
        );
        let Some(survivor) = after.first() else { return };
        assert!(before.iter().all(|id| id <= survivor), "{before:?} -> {after:?}");
        for Node { name, book, .. } in &self.nodes {
            assert_eq!(book.seen(&key()).map(|seen| &seen.id), Some(survivor), "{name} follows another one");
        }
        assert_eq!(self.redis.entry.as_ref().map(|held| &held.id), Some(survivor));
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let node = 0..NODES.len();
    let step = prop_oneof![
        4 => (node.clone(), 0..2_u8).prop_map(|(node, credential)| Step::Claim(node, credential)),
        2 => node.clone().prop_map(Step::End),
        6 => node.clone().prop_map(Step::Turn),
        2 => node.clone().prop_map(Step::Cut),
        2 => node.prop_map(Step::Heal),
        1 => Just(Step::Flush),
        1 => Just(Step::Save),
        1 => Just(Step::Restore),
        2 => (0..2 * LEASE_MS).prop_map(Step::Wait),
    ];
    prop::collection::vec(step, 0..60)
}

fn clocks() -> impl Strategy<Value = Vec<i64>> {
    let hour = HOUR_MS as i64;
    prop::collection::vec(prop_oneof![Just(0), Just(hour), Just(-hour), -500..500_i64], NODES.len())
}

proptest! {
    #[test]
    fn the_newest_publisher_survives_whatever_happens_to_redis(clocks in clocks(), steps in steps()) {
        let mut world = World::new(&clocks);
        steps.iter().for_each(|step| world.step(step));
        world.settle();
    }
}

#[test]
fn two_publishers_of_nodes_that_were_cut_off_end_as_the_newer_one() {
    // The clock of the first node is an hour ahead; the other one has seen that.
    let mut world = World::new(&[HOUR_MS as i64, 0, 0, 0]);
    let steps =
        [Step::Claim(0, 0), Step::Turn(1), Step::Cut(0), Step::Cut(1), Step::Flush, Step::Claim(1, 0)];
    steps.iter().for_each(|step| world.step(step));
    world.settle();
    assert!(world.nodes[1].book.own(&key()).is_some() && world.nodes[0].book.own(&key()).is_none());
}
