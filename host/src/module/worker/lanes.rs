//! Lanes: the run queue of a pool, with one lane for each module.
//!
//! Threads take a task of each lane in turn, so that a module with many remuxers gets no more of them than one with few. A
//! module whose turns take long would delay the others nevertheless, since a turn cannot be interrupted in a call. So its lane
//! gets threads of its own, and no other thread takes its tasks until it has been fast for [`QUIET`].

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Condvar;

/// Period over which long turns are added.
const WINDOW: Duration = Duration::from_secs(1);
/// Time in long turns within [`WINDOW`] that makes a lane slow.
const LIMIT: Duration = Duration::from_millis(100);
/// Time after which a lane without more long turns than permitted is fast again.
pub(super) const QUIET: Duration = Duration::from_secs(10);

/// The lanes of a pool, and their tasks.
pub(super) struct Lanes<T> {
    lanes: Vec<Lane<T>>,
    /// Fast lanes with tasks, by number, in the order of their turns.
    ready: VecDeque<usize>,
    /// Number of shared threads, and the largest number of threads that a lane has of its own.
    workers: usize,
    /// Number of shared threads that are to exit.
    surplus: usize,
    pub closed: bool,
}

/// The tasks of one module.
struct Lane<T> {
    name: String,
    tasks: VecDeque<T>,
    /// It is in `ready`.
    is_ready: bool,
    /// Until when it has its own threads, unless there are more long turns; `None` if it is fast.
    slow_until: Option<Instant>,
    /// Start of the current window, and time in long turns since.
    window: Option<Instant>,
    long: Duration,
    /// Number of its own threads, and of those that wait for a task.
    own: usize,
    idle: usize,
    available: Arc<Condvar>,
}

/// The thread for a task that was pushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taker {
    /// A shared one.
    Shared,
    /// One of the lane's own, which is there.
    Own,
    /// Another one of the lane's own, which must be started.
    NewOwn,
}

/// The next step of a thread of a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next<T> {
    Run(T),
    /// Waits for a task.
    Wait,
    /// Ends: the lane is fast again, or has threads enough.
    End,
}

impl<T> Lanes<T> {
    /// Creates the lanes of a pool with this number of shared threads.
    pub fn new(workers: usize) -> Lanes<T> {
        Lanes { lanes: Vec::new(), ready: VecDeque::new(), workers, surplus: 0, closed: false }
    }

    /// Changes the number of shared threads. Returns how many the caller must start; those that are too many get `true` of
    /// [`take_surplus`](Self::take_surplus).
    pub fn resize(&mut self, workers: usize) -> usize {
        let running = self.workers + self.surplus;
        self.workers = workers;
        self.surplus = running.saturating_sub(workers);
        workers.saturating_sub(running)
    }

    /// Whether the shared thread that asks must exit.
    pub fn take_surplus(&mut self) -> bool {
        let takes = self.surplus > 0;
        self.surplus -= usize::from(takes);
        takes
    }

    /// Returns the number of the lane with this name.
    pub fn lane(&mut self, name: &str) -> usize {
        self.lanes.iter().position(|lane| lane.name == name).unwrap_or_else(|| {
            self.lanes.push(Lane {
                name: name.to_owned(),
                tasks: VecDeque::new(),
                is_ready: false,
                slow_until: None,
                window: None,
                long: Duration::ZERO,
                own: 0,
                idle: 0,
                available: Arc::default(),
            });
            self.lanes.len() - 1
        })
    }

    pub fn name(&self, lane: usize) -> &str {
        &self.lanes[lane].name
    }

    /// Wakes the lane's own threads, when notified.
    pub fn available(&self, lane: usize) -> Arc<Condvar> {
        self.lanes[lane].available.clone()
    }

    /// Adds a task. The caller wakes or starts a thread for it.
    pub fn push(&mut self, lane: usize, task: T) -> Taker {
        let at = &mut self.lanes[lane];
        at.tasks.push_back(task);
        if at.slow_until.is_none() {
            self.make_ready(lane);
            return Taker::Shared;
        }
        if at.tasks.len() > at.idle && at.own < self.workers {
            at.own += 1;
            return Taker::NewOwn;
        }
        Taker::Own
    }

    fn make_ready(&mut self, lane: usize) {
        let at = &mut self.lanes[lane];
        if !at.is_ready && !at.tasks.is_empty() {
            at.is_ready = true;
            self.ready.push_back(lane);
        }
    }

    /// Takes the next task for a shared thread.
    pub fn pop(&mut self) -> Option<T> {
        let lane = self.ready.pop_front()?;
        let at = &mut self.lanes[lane];
        at.is_ready = false;
        let task = at.tasks.pop_front();
        self.make_ready(lane);
        task
    }

    /// Returns what a lane's own thread does at `now`.
    pub fn next_own(&mut self, lane: usize, now: Instant) -> Next<T> {
        let at = &mut self.lanes[lane];
        if at.slow_until.is_some_and(|until| now >= until) {
            at.slow_until = None;
            at.available.notify_all();
            self.make_ready(lane);
        }
        let at = &mut self.lanes[lane];
        if at.slow_until.is_none() || at.own > self.workers {
            at.own -= 1;
            return Next::End;
        }
        at.tasks.pop_front().map_or(Next::Wait, Next::Run)
    }

    /// Counts a thread of a lane that waits, or does no longer.
    pub fn set_waiting(&mut self, lane: usize, waits: bool) {
        let idle = &mut self.lanes[lane].idle;
        *idle = if waits { *idle + 1 } else { *idle - 1 };
    }

    /// Adds a long turn. Returns whether the lane has become slow by it; then the caller starts a thread for the lane.
    pub fn add_long_turn(&mut self, lane: usize, took: Duration, now: Instant) -> bool {
        let at = &mut self.lanes[lane];
        if at.window.is_none_or(|began| now.saturating_duration_since(began) > WINDOW) {
            (at.window, at.long) = (Some(now), Duration::ZERO);
        }
        at.long += took;
        let has_become_slow = at.long >= LIMIT && self.set_slow(lane, now);
        self.lanes[lane].own += usize::from(has_become_slow);
        has_become_slow
    }

    /// Gives a shared thread in the middle of a long turn to the lane. Returns whether the lane has become slow by it. The
    /// caller starts another shared thread.
    pub fn adopt(&mut self, lane: usize, now: Instant) -> bool {
        self.lanes[lane].own += 1;
        self.set_slow(lane, now)
    }

    /// Makes a lane slow, or slow for longer. Returns whether it was fast.
    fn set_slow(&mut self, lane: usize, now: Instant) -> bool {
        let at = &mut self.lanes[lane];
        at.is_ready = false;
        let was_fast = at.slow_until.replace(now + QUIET).is_none();
        self.ready.retain(|ready| *ready != lane);
        was_fast
    }

    /// Drops all tasks and lets all threads end.
    pub fn close(&mut self) {
        self.closed = true;
        self.ready.clear();
        for lane in &mut self.lanes {
            lane.tasks.clear();
            lane.available.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Lanes with these tasks, the first letter of each names its lane.
    fn with(tasks: &[&'static str]) -> Lanes<&'static str> {
        let mut lanes = Lanes::new(2);
        tasks.iter().for_each(|task| {
            push(&mut lanes, task);
        });
        lanes
    }

    fn push(lanes: &mut Lanes<&'static str>, task: &'static str) -> Taker {
        let lane = lanes.lane(&task[..1]);
        lanes.push(lane, task)
    }

    fn all(lanes: &mut Lanes<&'static str>) -> Vec<&'static str> {
        std::iter::from_fn(|| lanes.pop()).collect()
    }

    #[test]
    fn lanes_take_turns_however_many_tasks_each_has() {
        let mut lanes = with(&["a1", "a2", "a3", "a4", "b1", "c1", "b2"]);
        assert_eq!(all(&mut lanes), ["a1", "b1", "c1", "a2", "b2", "a3", "a4"]);
        // A task that is pushed again comes after the other lanes.
        let mut lanes = with(&["a1", "a2", "b1"]);
        assert_eq!(lanes.pop(), Some("a1"));
        push(&mut lanes, "a1");
        assert_eq!(all(&mut lanes), ["b1", "a2", "a1"]);
    }

    #[test]
    fn a_slow_lane_has_threads_of_its_own_and_no_others_until_it_is_fast() {
        let mut lanes = with(&["a1", "a2", "b1"]);
        let (a, now) = (lanes.lane("a"), Instant::now());
        assert!(!lanes.add_long_turn(a, 60 * MS, now));
        assert!(lanes.add_long_turn(a, 60 * MS, now + 500 * MS), "the second within a second");
        assert!(!lanes.add_long_turn(a, 60 * MS, now + 600 * MS), "it is slow already");
        assert_eq!(all(&mut lanes), ["b1"]);
        assert_eq!(lanes.next_own(a, now), Next::Run("a1"));
        // One more thread, and then no more: two are permitted.
        assert_eq!([push(&mut lanes, "a3"), push(&mut lanes, "a4")], [Taker::NewOwn, Taker::Own]);
        assert_eq!(push(&mut lanes, "b2"), Taker::Shared);
        let later = now + 600 * MS + QUIET;
        assert_eq!(lanes.next_own(a, later - MS), Next::Run("a2"));
        assert_eq!([lanes.next_own(a, later), lanes.next_own(a, later)], [Next::End; 2]);
        assert_eq!((all(&mut lanes), lanes.lanes[a].own), (vec!["b2", "a3", "a4"], 0));
        assert_eq!(push(&mut lanes, "a5"), Taker::Shared);
    }

    #[test]
    fn another_number_of_threads_starts_some_or_lets_some_exit() {
        let mut lanes = with(&[]);
        // The number, the threads to start, and how many then may exit at once.
        for (workers, started, exits) in [(5, 3, 0), (2, 0, 3), (2, 0, 0), (1, 0, 1), (4, 3, 0)] {
            assert_eq!(lanes.resize(workers), started, "{workers}");
            assert_eq!((0..9).filter(|_| lanes.take_surplus()).count(), exits, "{workers}");
        }
        // Those that have not exited yet stay.
        assert_eq!((lanes.resize(1), lanes.resize(3)), (0, 0));
        assert_eq!((0..9).filter(|_| lanes.take_surplus()).count(), 1);
    }

    #[test]
    fn a_thread_that_waits_is_preferred_to_a_new_one() {
        let mut lanes = with(&[]);
        let (a, now) = (lanes.lane("a"), Instant::now());
        assert!(lanes.add_long_turn(a, LIMIT, now));
        assert_eq!(lanes.next_own(a, now), Next::Wait);
        lanes.set_waiting(a, true);
        assert_eq!([push(&mut lanes, "a1"), push(&mut lanes, "a2")], [Taker::Own, Taker::NewOwn]);
    }

    #[test]
    fn rare_long_turns_are_not_slow() {
        let mut lanes = with(&[]);
        let (a, now) = (lanes.lane("a"), Instant::now());
        for turn in 0..20 {
            assert!(!lanes.add_long_turn(a, 60 * MS, now + turn * 1001 * MS));
        }
    }

    #[test]
    fn adopted_threads_beyond_the_limit_end() {
        let mut lanes = with(&["a1"]);
        let (a, now) = (lanes.lane("a"), Instant::now());
        assert_eq!([lanes.adopt(a, now), lanes.adopt(a, now), lanes.adopt(a, now)], [true, false, false]);
        assert_eq!(lanes.pop(), None);
        assert_eq!(lanes.next_own(a, now), Next::End);
        assert_eq!(lanes.next_own(a, now), Next::Run("a1"));
    }
}
