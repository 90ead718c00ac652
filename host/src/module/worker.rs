//! Workers: the threads that call into modules.
//!
//! Remuxers run on a small pool of their own, so that a slow module never holds a network thread. A [`Task`] is
//! queued at most once and runs on one thread at a time; a wake during its run makes it run again, so that no wake
//! is lost.
//!
//! A watchdog looks at the module calls that are under way. One that takes longer than the limit is named, and its
//! thread is replaced, so that the pool keeps its size; a thread that comes back late finishes its run and goes.
//! How many may hang at a time is bounded: a hung thread cannot be ended.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::task::{Wake, Waker};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use tracing::{error, warn};

/// How many threads may hang at a time and be replaced.
const MAX_HUNG: usize = 64;

/// Work that comes in runs.
pub trait Job: Send + Sync + 'static {
    /// What the log calls it.
    fn name(&self) -> String;

    /// Does a part of the work. `waker` makes it run again. Calls into a module go through `watch`.
    fn run(&self, waker: &Waker, watch: &CallWatch);

    /// A module call of this job has taken `elapsed`, longer than the limit. Called once a call, from the
    /// watchdog, while the call is still under way.
    fn on_hang(&self, elapsed: Duration);
}

/// A job and its place in the queue of a pool.
pub struct Task {
    job: Arc<dyn Job>,
    pool: Arc<Shared>,
    state: AtomicU8,
}

const IDLE: u8 = 0;
const QUEUED: u8 = 1;
const RUNNING: u8 = 2;
const RUNNING_AGAIN: u8 = 3;

impl fmt::Debug for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "task {}", self.job.name())
    }
}

impl Task {
    /// A task that does not run before it is woken.
    pub fn new(job: Arc<dyn Job>, pool: &Pool) -> Arc<Task> {
        Arc::new(Task { job, pool: pool.shared.clone(), state: AtomicU8::new(IDLE) })
    }

    /// Makes the job run, or run again when it is running.
    pub fn schedule(self: &Arc<Self>) {
        let next = |state| match state {
            IDLE => Some(QUEUED),
            RUNNING => Some(RUNNING_AGAIN),
            // Written all the same: the run to come must see what this caller wrote before it woke the task.
            other => Some(other),
        };
        let before = self.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, next);
        if before == Ok(IDLE) {
            self.pool.push(self.clone());
        }
    }
}

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        self.schedule();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.schedule();
    }
}

/// A pool of threads.
pub struct Pool {
    shared: Arc<Shared>,
}

struct Shared {
    queue: Mutex<Queue>,
    available: Condvar,
    closing: Condvar,
    /// The threads that belong to the pool; a replaced one does not.
    seats: Mutex<Vec<Arc<Seat>>>,
    /// Replaced threads that have not come back.
    hung: AtomicUsize,
    call_limit: Duration,
    started: Instant,
}

#[derive(Default)]
struct Queue {
    tasks: VecDeque<Arc<Task>>,
    closed: bool,
}

/// What the watchdog sees of one thread.
#[derive(Default)]
struct Seat {
    task: Mutex<Option<Arc<Task>>>,
    /// When the module call under way began, in microseconds since the pool started, plus one; 0: none.
    call_began: AtomicU64,
    /// The call that was named last, by when it began.
    named: AtomicU64,
    replaced: AtomicBool,
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("hung", &self.hung()).finish_non_exhaustive()
    }
}

impl Pool {
    /// Starts `workers` threads (0: one a core) and a watchdog over module calls longer than `call_limit`.
    pub fn new(workers: usize, call_limit: Duration) -> Arc<Pool> {
        let workers = match workers {
            0 => thread::available_parallelism().map_or(1, usize::from),
            workers => workers,
        };
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            available: Condvar::new(),
            closing: Condvar::new(),
            seats: Mutex::default(),
            hung: AtomicUsize::new(0),
            call_limit,
            started: Instant::now(),
        });
        for _ in 0..workers {
            shared.start_worker();
        }
        let watched = shared.clone();
        start_thread("remuxd-watchdog", move || watched.watch());
        Arc::new(Pool { shared })
    }

    /// How many threads hang in a module call now, and were replaced.
    pub fn hung(&self) -> usize {
        self.shared.hung.load(Ordering::Relaxed)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let mut queue = self.shared.queue.lock();
        queue.closed = true;
        queue.tasks.clear();
        self.shared.available.notify_all();
        self.shared.closing.notify_all();
    }
}

fn start_thread(name: &str, run: impl FnOnce() + Send + 'static) {
    if let Err(error) = thread::Builder::new().name(name.into()).spawn(run) {
        error!(%error, name, "a thread cannot be started");
    }
}

impl Shared {
    fn push(&self, task: Arc<Task>) {
        let mut queue = self.queue.lock();
        if !queue.closed {
            queue.tasks.push_back(task);
            self.available.notify_one();
        }
    }

    /// The next task for a thread of the pool; `None` when it shall go.
    fn pop(&self, seat: &Seat) -> Option<Arc<Task>> {
        let mut queue = self.queue.lock();
        loop {
            if queue.closed || seat.replaced.load(Ordering::Acquire) {
                return None;
            }
            match queue.tasks.pop_front() {
                Some(task) => return Some(task),
                None => self.available.wait(&mut queue),
            }
        }
    }

    fn start_worker(self: &Arc<Self>) {
        let seat = Arc::<Seat>::default();
        self.seats.lock().push(seat.clone());
        let shared = self.clone();
        start_thread("remuxd-worker", move || shared.work(&seat));
    }

    fn work(self: &Arc<Self>, seat: &Arc<Seat>) {
        let watch = CallWatch { pool: self.clone(), seat: seat.clone() };
        SEAT.set(Some(seat.clone()));
        while let Some(task) = self.pop(seat) {
            task.state.swap(RUNNING, Ordering::AcqRel);
            *seat.task.lock() = Some(task.clone());
            let waker = Waker::from(task.clone());
            if catch_unwind(AssertUnwindSafe(|| task.job.run(&waker, &watch))).is_err() {
                error!(job = task.job.name(), "a job panicked in the host's own code");
            }
            seat.call_began.store(0, Ordering::Release);
            *seat.task.lock() = None;
            let idle = task.state.compare_exchange(RUNNING, IDLE, Ordering::AcqRel, Ordering::Acquire);
            if idle.is_err() {
                task.state.swap(QUEUED, Ordering::AcqRel);
                self.push(task);
            }
        }
        if seat.replaced.load(Ordering::Acquire) {
            self.hung.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn watch(self: &Arc<Self>) {
        let pause = (self.call_limit / 4).max(Duration::from_millis(5));
        loop {
            {
                let mut queue = self.queue.lock();
                if !queue.closed {
                    self.closing.wait_for(&mut queue, pause);
                }
                if queue.closed {
                    return;
                }
            }
            self.look();
        }
    }

    /// Names the calls over the limit and replaces their threads.
    fn look(self: &Arc<Self>) {
        let now = self.micros();
        let seats = self.seats.lock().clone();
        for seat in seats {
            let began = seat.call_began.load(Ordering::Acquire);
            let elapsed = Duration::from_micros(now.saturating_sub(began));
            if began == 0 || elapsed <= self.call_limit || seat.named.swap(began, Ordering::AcqRel) == began {
                continue;
            }
            let Some(task) = seat.task.lock().clone() else { continue };
            warn!(job = task.job.name(), ?elapsed, limit = ?self.call_limit, "a module call takes too long");
            task.job.on_hang(elapsed);
            if self.hung.load(Ordering::Relaxed) >= MAX_HUNG {
                error!(limit = MAX_HUNG, "too many hung threads; this one is not replaced");
            } else if self.dismiss(&seat, began) {
                self.seats.lock().retain(|other| !Arc::ptr_eq(other, &seat));
                self.start_worker();
            }
        }
    }

    /// Tells a thread to go when its call is over. False: the call is over.
    fn dismiss(&self, seat: &Seat, began: u64) -> bool {
        // Under the lock under which the thread would take its next task.
        let _queue = self.queue.lock();
        let still = seat.call_began.load(Ordering::Acquire) == began;
        if still {
            self.hung.fetch_add(1, Ordering::Relaxed);
            seat.replaced.store(true, Ordering::Release);
        }
        still
    }

    fn micros(&self) -> u64 {
        self.started.elapsed().as_micros() as u64 + 1
    }
}

thread_local! {
    /// The seat of this thread, when it is a worker.
    static SEAT: RefCell<Option<Arc<Seat>>> = const { RefCell::new(None) };
}

/// Takes the call under way on this thread out of the watchdog's sight: it has a deadline of its own.
pub(super) fn unwatch() {
    SEAT.with_borrow(|seat| {
        if let Some(seat) = seat {
            seat.call_began.store(0, Ordering::Release);
        }
    });
}

/// Lets the watchdog see calls into modules.
pub struct CallWatch {
    pool: Arc<Shared>,
    seat: Arc<Seat>,
}

impl CallWatch {
    /// Runs one call into a module.
    pub fn call<T>(&self, call: impl FnOnce() -> T) -> T {
        self.seat.call_began.store(self.pool.micros(), Ordering::Release);
        let result = call();
        self.seat.call_began.store(0, Ordering::Release);
        result
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const DEADLINE: Duration = Duration::from_secs(10);

    /// A job that does what a closure says.
    struct Closure<F>(F, mpsc::Sender<Duration>);

    impl<F: Fn(&CallWatch) + Send + Sync + 'static> Job for Closure<F> {
        fn name(&self) -> String {
            "closure".into()
        }

        fn run(&self, _waker: &Waker, watch: &CallWatch) {
            (self.0)(watch);
        }

        fn on_hang(&self, elapsed: Duration) {
            let _ = self.1.send(elapsed);
        }
    }

    fn task(
        pool: &Pool,
        run: impl Fn(&CallWatch) + Send + Sync + 'static,
    ) -> (Arc<Task>, mpsc::Receiver<Duration>) {
        let (sender, receiver) = mpsc::channel();
        (Task::new(Arc::new(Closure(run, sender)), pool), receiver)
    }

    #[test]
    fn loses_no_wake_and_runs_on_one_thread_at_a_time() {
        let pool = Pool::new(4, DEADLINE);
        let (sent, seen) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (done, finished) = mpsc::channel();
        let running = AtomicBool::new(false);
        let (counted, read) = (sent.clone(), seen.clone());
        let (task, _) = task(&pool, move |_| {
            assert!(!running.swap(true, Ordering::AcqRel), "two runs at once");
            let sent = counted.load(Ordering::Acquire);
            read.store(sent, Ordering::Release);
            running.store(false, Ordering::Release);
            if sent == 4 * 10_000 {
                let _ = done.send(());
            }
        });
        let wakers: Vec<_> = (0..4)
            .map(|_| {
                let (task, sent) = (task.clone(), sent.clone());
                thread::spawn(move || {
                    for _ in 0..10_000 {
                        sent.fetch_add(1, Ordering::AcqRel);
                        task.schedule();
                    }
                })
            })
            .collect();
        wakers.into_iter().for_each(|waker| waker.join().unwrap());
        finished.recv_timeout(DEADLINE).unwrap();
        assert_eq!(seen.load(Ordering::Acquire), 40_000);
    }

    #[test]
    fn replaces_a_hung_thread_and_names_the_job_once() {
        let pool = Pool::new(1, Duration::from_millis(20));
        let (release, released) = mpsc::channel::<()>();
        let released = Mutex::new(released);
        let (stuck, hung) = task(&pool, move |watch| watch.call(|| released.lock().recv().unwrap()));
        stuck.schedule();
        assert!(hung.recv_timeout(DEADLINE).unwrap() > Duration::from_millis(20));
        let (done, ran) = mpsc::channel();
        let (other, _) = task(&pool, move |_| done.send(()).unwrap());
        other.schedule();
        ran.recv_timeout(DEADLINE).expect("the only worker was replaced");
        assert_eq!(pool.hung(), 1);
        release.send(()).unwrap();
        stuck.schedule();
        release.send(()).unwrap();
        assert!(hung.try_recv().is_err());
    }

    #[test]
    fn a_thread_that_comes_back_is_not_hung_any_more() {
        let pool = Pool::new(1, Duration::from_millis(5));
        let (release, released) = mpsc::channel::<()>();
        let released = Mutex::new(released);
        let (stuck, _) = task(&pool, move |watch| {
            watch.call(|| {
                let _ = released.lock().recv();
            });
        });
        let wait = |count| {
            let deadline = Instant::now() + DEADLINE;
            while pool.hung() != count {
                assert!(Instant::now() < deadline, "{} hang", pool.hung());
                thread::yield_now();
            }
        };
        // More than may hang at a time, one after the other.
        for _ in 0..=MAX_HUNG {
            stuck.schedule();
            wait(1);
            release.send(()).unwrap();
            wait(0);
        }
        let (done, ran) = mpsc::channel();
        let (other, _) = task(&pool, move |_| done.send(()).unwrap());
        other.schedule();
        ran.recv_timeout(DEADLINE).expect("the pool has kept its size");
    }

    #[test]
    fn goes_on_after_a_job_panics() {
        let pool = Pool::new(1, DEADLINE);
        let (task_that_panics, _) = task(&pool, |_| panic!("expected in this test"));
        task_that_panics.schedule();
        let (done, ran) = mpsc::channel();
        let (other, _) = task(&pool, move |_| done.send(()).unwrap());
        other.schedule();
        ran.recv_timeout(DEADLINE).unwrap();
    }
}
