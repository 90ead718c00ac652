//! A fan-out thread: its epoll instance, groups and viewers.

// A model checker counts no locks.
#[cfg(test)]
#[cfg(not(feature = "model"))]
mod cost;
mod ending;
mod input;

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use slab::Slab;
use tokio::sync::oneshot;

use super::batch::Batch;
use super::group::{Group, GroupKey, Joined};
use super::inbox::{Command, CountedHere, Inbox};
use super::member::{Member, Place, Sent};
use super::position::Position;
use super::session::{Arrival, Farewell, Left, Reason};
use crate::budget::Account;
use crate::http::websocket::frames::CloseCode;
use crate::policy::Lag;

/// The token of the inbox in the epoll instance.
const INBOX: u64 = u64::MAX;

/// Number of events that are taken from the kernel at once.
const EVENTS: usize = 256;

/// Interval at which deadlines are looked at.
const SWEEP: Duration = Duration::from_secs(1);

const END_OF_STREAM: Farewell = Farewell { code: Some(CloseCode::NORMAL), text: "end of stream" };
const NO_FAREWELL: Farewell = Farewell { code: None, text: "" };

/// Size of the buffer that all viewers of a thread are read into, in bytes.
const READ: usize = 16 * 1024;

/// Pause before the next look at viewers that may not be read now.
const READ_PAUSE: Duration = Duration::from_millis(50);

/// The state of a fan-out thread.
pub(super) struct Shard {
    inbox: Arc<Inbox>,
    epoll: OwnedFd,
    lag: Arc<Lag>,
    /// The account of batches that are kept for slow viewers.
    account: Account,
    members: Slab<Member>,
    /// Keys in `members`, by the id that other threads know.
    keys: HashMap<u64, usize>,
    groups: Slab<Group>,
    by_key: HashMap<GroupKey, usize>,
    /// Groups that must be read before the thread waits.
    unread: Vec<usize>,
    /// Viewers that have bytes to read and may not be read now.
    paused: Vec<usize>,
    buffer: Box<[u8]>,
    swept: Instant,
    sweeps: usize,
}

impl Shard {
    pub(super) fn new(inbox: Arc<Inbox>, lag: Arc<Lag>, account: Account) -> io::Result<Shard> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let edges = epoll::EventFlags::IN | epoll::EventFlags::ET;
        epoll::add(&epoll, &*inbox, epoll::EventData::new_u64(INBOX), edges)?;
        Ok(Shard {
            inbox,
            epoll,
            lag,
            account,
            members: Slab::new(),
            keys: HashMap::new(),
            groups: Slab::new(),
            by_key: HashMap::new(),
            unread: Vec::new(),
            paused: Vec::new(),
            buffer: vec![0; READ].into_boxed_slice(),
            swept: Instant::now(),
            sweeps: 0,
        })
    }

    /// Serves until the inbox says stop.
    pub(super) fn run(&mut self) {
        let (mut events, mut commands) = (Vec::with_capacity(EVENTS), Vec::new());
        loop {
            let timeout = self.timeout();
            // Interrupted by a signal, or with nothing: the loop goes on either way.
            let _ = epoll::wait(&self.epoll, spare_capacity(&mut events), timeout.as_ref());
            for event in events.drain(..) {
                if event.data.u64() != INBOX {
                    self.on_event(event.data.u64() as usize, event.flags);
                }
            }
            self.inbox.take(&mut commands);
            for command in commands.drain(..) {
                match command {
                    Command::Add { id, arrival, leaves, counted } => self.add(id, *arrival, leaves, counted),
                    Command::End { id, farewell } => self.end(id, Reason::Ordered, farewell),
                    Command::Read { group, since } => {
                        self.read(group);
                        self.lag.note(since.elapsed());
                    }
                    Command::Stop => return,
                }
            }
            while let Some(group) = self.unread.pop() {
                self.read(group);
            }
            self.read_paused();
            self.sweep();
        }
    }

    /// The time until there is something to do without an event.
    fn timeout(&self) -> Option<Timespec> {
        let until = if self.members.is_empty() {
            return None;
        } else if !self.unread.is_empty() {
            Duration::ZERO
        } else if !self.paused.is_empty() {
            READ_PAUSE
        } else {
            SWEEP.saturating_sub(self.swept.elapsed())
        };
        Timespec::try_from(until).ok()
    }

    fn add(&mut self, id: u64, arrival: Arrival, leaves: oneshot::Sender<Left>, counted: CountedHere) {
        let key = GroupKey::new(&arrival.position, arrival.framing);
        let group = *self.by_key.entry(key).or_insert_with(|| {
            let entry = self.groups.vacant_entry();
            let index = entry.key();
            entry.insert(Group::new(key, self.inbox.clone(), index));
            index
        });
        let (behind, entry) = (&mut self.groups[group].behind, self.members.vacant_entry());
        let key = entry.key();
        let member = entry.insert(Member::new(id, arrival, (leaves, counted), group, behind.len()));
        behind.push(key);
        self.keys.insert(id, key);
        let mut flags = epoll::EventFlags::OUT | epoll::EventFlags::RDHUP | epoll::EventFlags::ET;
        if member.is_heard() {
            flags |= epoll::EventFlags::IN;
        }
        match epoll::add(&self.epoll, &member.socket, epoll::EventData::new_u64(key as u64), flags) {
            Ok(()) => self.advance(key),
            Err(error) => self.remove(key, io::Error::from(error).into()),
        }
    }

    fn end(&mut self, id: u64, reason: Reason, farewell: Farewell) {
        if let Some(&key) = self.keys.get(&id) {
            self.end_soon(key, reason, farewell);
        }
    }

    /// Ends a response once nothing is unsent.
    fn end_soon(&mut self, key: usize, reason: Reason, farewell: Farewell) {
        let member = &mut self.members[key];
        if member.is_live() && member.end.is_none() {
            member.end = Some((reason, farewell));
            if !member.has_unsent() {
                self.advance(key);
            }
        }
    }

    /// Reads a group's ring, and sends what is there to its viewers.
    fn read(&mut self, index: usize) {
        let Some(group) = self.groups.get_mut(index) else { return };
        group.rearm();
        group.forget_batches();
        let ended = loop {
            let Some(group) = self.groups.get_mut(index) else { return };
            let before = group.fork();
            match group.poll_next() {
                Poll::Ready((Some(part), skips)) => {
                    let batch = Arc::new(Batch::of(group.key.framing, &part));
                    self.send_level(index, before.as_ref(), &batch, skips);
                }
                Poll::Ready((None, _)) => break true,
                Poll::Pending => break false,
            }
        };
        let Some(group) = self.groups.get(index) else { return };
        let level = if ended { group.level.clone() } else { Vec::new() };
        let behind = group.behind.clone();
        for key in level {
            self.end_soon(key, Reason::StreamEnded, END_OF_STREAM);
        }
        for key in behind {
            if self.members.get(key).is_some_and(|member| !member.has_unsent()) {
                self.advance(key);
            }
        }
    }

    /// Sends a batch to all viewers of a group that are level. Those who have not taken the last one yet continue from `before`, the
    /// position between the two.
    fn send_level(&mut self, index: usize, before: Option<&Position>, batch: &Arc<Batch>, skips: u64) {
        let lag = self.groups[index].lag();
        let (mut at, mut count) = (0, 0);
        while let Some(&key) = self.groups.get(index).and_then(|group| group.level.get(at)) {
            let member = &mut self.members[key];
            if member.has_unsent()
                && let Some(before) = before
            {
                self.fall_behind(key, before.fork());
                continue;
            }
            member.count(batch.media(), skips, lag);
            count += 1;
            match member.send(batch, &self.account) {
                Sent::All | Sent::Part => at += 1,
                Sent::Failed(reason) => self.remove(key, reason),
            }
        }
        if let Some(group) = self.groups.get(index) {
            group.count_skips(skips * count);
        }
    }

    /// Gives a viewer that is level a position of its own.
    fn fall_behind(&mut self, key: usize, position: Position) {
        self.unlist(key);
        let member = &mut self.members[key];
        let behind = &mut self.groups[member.group].behind;
        member.place = Place::Behind { index: behind.len(), position: Box::new(position), first: None };
        behind.push(key);
    }

    /// Sends what waits for a viewer, until its socket is full or it is level with its group.
    fn advance(&mut self, key: usize) {
        loop {
            let member = &mut self.members[key];
            match member.flush(&self.account) {
                Sent::All => {}
                Sent::Part => return,
                Sent::Failed(reason) => return self.remove(key, reason),
            }
            if let Some((reason, farewell)) = member.end.take() {
                return self.finish(key, reason, farewell);
            }
            let Place::Behind { position, first, .. } = &mut member.place else {
                if matches!(member.place, Place::Ending) {
                    self.on_end_sent(key);
                }
                return;
            };
            let before = position.skipped();
            let next = match first.take() {
                Some(part) => Poll::Ready(Some(part)),
                // The group's position wakes the thread.
                None => position.poll_next(&mut Context::from_waker(Waker::noop())),
            };
            let (skips, lag) = (position.skipped() - before, position.lag());
            position.count_skips(skips);
            match next {
                Poll::Ready(Some(part)) => {
                    let batch = self.groups[member.group].batch(&part);
                    member.count(batch.media(), skips, lag);
                    member.queue(batch);
                }
                Poll::Ready(None) => return self.finish(key, Reason::StreamEnded, END_OF_STREAM),
                Poll::Pending => return self.try_join(key),
            }
        }
    }

    /// Makes a viewer level with its group if its position is the same.
    fn try_join(&mut self, key: usize) {
        let index = self.members[key].group;
        let level = Place::Level(self.groups[index].level.len());
        let Place::Behind { index: at, position, first } =
            std::mem::replace(&mut self.members[key].place, level)
        else {
            return;
        };
        match self.groups[index].join(*position) {
            Ok(joined) => {
                if joined == Joined::First {
                    self.unread.push(index);
                }
                let group = &mut self.groups[index];
                remove_from(&mut group.behind, at, &mut self.members);
                group.level.push(key);
            }
            Err(position) => {
                let position = Box::new(position);
                self.members[key].place = Place::Behind { index: at, position, first };
            }
        }
    }

    /// Removes a viewer from its group's lists.
    fn unlist(&mut self, key: usize) {
        let Member { group: index, ref place, .. } = self.members[key];
        let group = &mut self.groups[index];
        match *place {
            Place::Level(at) => {
                remove_from(&mut group.level, at, &mut self.members);
                if group.level.is_empty() {
                    group.scatter();
                    // Its position would have woken the others.
                    self.unread.push(index);
                }
            }
            Place::Behind { index: at, .. } => remove_from(&mut group.behind, at, &mut self.members),
            _ => {}
        }
    }

    /// Drops a group without viewers.
    fn drop_group(&mut self, index: usize) {
        if self.groups[index].is_empty() {
            let group = self.groups.remove(index);
            self.by_key.remove(&group.key);
        }
    }

    fn on_event(&mut self, key: usize, flags: epoll::EventFlags) {
        let has = |flag| flags.contains(flag);
        let Some(member) = self.members.get(key) else { return };
        if has(epoll::EventFlags::ERR) || has(epoll::EventFlags::HUP) {
            let error = member.socket.error();
            return self.remove(key, error.map_or(Reason::ClientLeft, Reason::Io));
        }
        if has(epoll::EventFlags::OUT) && (member.has_unsent() || !matches!(member.place, Place::Level(_))) {
            self.advance(key);
        }
        if has(epoll::EventFlags::IN) {
            self.receive(key);
        }
        if has(epoll::EventFlags::RDHUP) {
            self.on_client_done(key);
        }
    }
}

/// Removes the key at an index of a list, and tells the one that takes its place.
fn remove_from(list: &mut Vec<usize>, at: usize, members: &mut Slab<Member>) {
    list.swap_remove(at);
    if let Some(&moved) = list.get(at) {
        match &mut members[moved].place {
            Place::Level(index) | Place::Behind { index, .. } => *index = at,
            _ => {}
        }
    }
}
