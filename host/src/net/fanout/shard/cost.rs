//! Costs that depend on no machine: what a thread does for each viewer and tick beside the send.

use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::oneshot;

use super::Shard;
use crate::budget::Budget;
use crate::media::{Millis, Tag, TagKind};
use crate::net::fanout::batch::Framing;
use crate::net::fanout::inbox::{Command, CountedHere, Inbox};
use crate::net::fanout::position::Position;
use crate::net::fanout::session::Arrival;
use crate::net::fanout::socket::Socket;
use crate::policy::Session;
use crate::rtmp::PlayerForm;
use crate::stream::{EntryRole, JoinAt, Pace, Ring, RingLimits};
use crate::sync::locks_of_thread;

const TICKS: usize = 10;

/// Bytes of a tag: all ticks together fit into a socket.
const PAYLOAD: usize = 200;

const LIMITS: RingLimits = RingLimits {
    pace: Pace::Merged,
    window: Millis(10_000),
    history: Millis(0),
    max_bytes: 1 << 20,
    max_gop_entries: 1000,
    max_gop_bytes: 1 << 20,
};

/// The costs of all ticks.
#[derive(Debug, PartialEq, Eq)]
struct Cost {
    locks: u64,
    allocations: u64,
    wakes: usize,
}

#[test]
fn a_tick_takes_no_lock_and_no_memory_for_each_viewer() {
    let one = cost(1);
    assert!(one.locks > 0 && one.allocations > 0, "{one:?}: they are counted");
    assert_eq!(one.wakes, TICKS, "one for each tick");
    assert_eq!(cost(100), one);
}

/// Returns what some ticks cost for a number of viewers who are level.
fn cost(viewers: usize) -> Cost {
    let ring = Ring::new(LIMITS);
    ring.push(tag(), EntryRole::Join);
    ring.flush();
    let inbox = Inbox::new().unwrap();
    let account = Budget::new(1 << 30).address().account();
    let mut shard = Shard::new(inbox.clone(), Arc::default(), account).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut clients = Vec::new();
    for id in 0..viewers as u64 {
        clients.push(TcpStream::connect(listener.local_addr().unwrap()).unwrap());
        let socket = listener.accept().unwrap().0;
        socket.set_nonblocking(true).unwrap();
        let arrival = Arrival {
            socket: Socket::Plain(socket),
            head: Vec::new(),
            first: None,
            position: Position::Stream(ring.reader(JoinAt::Newest, Pace::Merged)),
            counted: None,
            framing: Framing::Rtmp(PlayerForm::PLAIN),
            session: Session::of_nobody(),
            rate: None,
            keep_alive: true,
        };
        shard.add(id, arrival, oneshot::channel().0, CountedHere::new(&inbox));
    }
    // The first one is level once the group was read.
    while let Some(group) = shard.unread.pop() {
        shard.read(group);
    }
    let tick = |shard: &mut Shard| {
        ring.push(tag(), EntryRole::Media);
        ring.flush();
        let mut commands = Vec::new();
        inbox.take(&mut commands);
        for command in &commands {
            let Command::Read { group, .. } = command else { panic!("{command:?}") };
            shard.read(*group);
        }
        commands.len()
    };
    tick(&mut shard);
    let groups: Vec<_> = shard.groups.iter().map(|(_, group)| group.level.len()).collect();
    assert_eq!(groups, [viewers], "all are level");
    let locks = locks_of_thread();
    let mut wakes = 0;
    let allocations = allocation_counter::measure(|| {
        wakes = (0..TICKS).map(|_| tick(&mut shard)).sum();
    });
    let cost = Cost { locks: locks_of_thread() - locks, allocations: allocations.count_total, wakes };
    let sent = shard.members.iter().map(|(_, member)| member.session.bytes()).min();
    assert_eq!(sent, Some(((TICKS + 2) * PAYLOAD) as u64), "each has got all");
    cost
}

fn tag() -> Tag {
    Tag::new(TagKind::VIDEO, Millis(0), Bytes::from(vec![0x27; PAYLOAD]))
}
