//! Workers: the threads that call into modules, and their watchdog.
//!
//! Remuxers run on a small pool of their own, so that a slow module never blocks a network thread. A [`Task`] is queued at
//! most once and runs on one thread at a time; a wake during its run makes it run again, so that no wake is lost.
//!
//! A run is a turn: a job returns once [`CallWatch::is_turn_over`] says so. Modules take turns, not jobs, and a module that
//! cannot keep to the time of a turn gets threads of its own (see [`lanes`]). A thread that is in the middle of a very long turn
//! is given to its module, and another one takes its place, so that a pool of one thread is never blocked for long.
//!
//! A watchdog measures the current turns and module calls (see [`CallTime`](super::call_time::CallTime)). A call that takes
//! longer than the limit is logged, and its thread is replaced, so that the pool keeps its size; a thread whose call returns late
//! finishes its run and exits. The number of hung threads is bounded, since a hung thread cannot be ended.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::task::{Wake, Waker};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use tracing::{error, warn};

use super::call_time::{Thread, waited};
use super::process::{CrashNotes, Slot};

mod lanes;
mod measured;
mod observer;
mod watchdog;

use self::lanes::{Lanes, Next, QUIET, Taker};
use self::measured::Measured;
pub use self::observer::{FaultNote, FaultObserver, FaultWatch};

/// Time of a turn, after which a job leaves its thread to others.
const TURN: Duration = Duration::from_millis(5);
/// A turn that takes this long counts against its module. A call may begin at the end of a turn.
const LONG_TURN: Duration = Duration::from_millis(10);

/// Work that is done in runs.
pub trait Job: Send + Sync + 'static {
    /// Its name in the log.
    fn name(&self) -> String;

    /// The module that it calls. Jobs of one module share its turns.
    fn module(&self) -> String;

    /// Does a part of the work, until the turn is over. `waker` makes it run again. Calls into a module must go through `watch`.
    fn run(&self, waker: &Waker, watch: &CallWatch);

    /// Called after a run that panicked in the host's own code.
    fn on_panic(&self);

    /// Called by the watchdog, once per call, when a module call of this job has taken `elapsed`, longer than the limit without
    /// the time that it waited for a CPU, and has not returned.
    fn on_hang(&self, elapsed: Duration);
}

/// A job and its state in the queue of a pool.
pub struct Task {
    job: Arc<dyn Job>,
    pool: Arc<PoolInner>,
    /// The number of its module's lane.
    lane: usize,
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
    /// Creates a task, which does not run before it is scheduled.
    pub fn new(job: Arc<dyn Job>, pool: &Pool) -> Arc<Task> {
        let lane = pool.inner.queue.lock().lane(&job.module());
        Arc::new(Task { job, pool: pool.inner.clone(), lane, state: AtomicU8::new(IDLE) })
    }

    /// Makes the job run, or run again if it is running.
    pub fn schedule(self: &Arc<Self>) {
        let next = |state| match state {
            IDLE => Some(QUEUED),
            RUNNING => Some(RUNNING_AGAIN),
            // Written anyway: the next run must see what this caller wrote before it woke the task.
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
    inner: Arc<PoolInner>,
    faults: FaultWatch,
}

struct PoolInner {
    queue: Mutex<Lanes<Arc<Task>>>,
    /// Wakes shared threads.
    available: Condvar,
    closing: Condvar,
    /// The pool's threads, without replaced ones.
    threads: Mutex<Vec<Arc<ThreadState>>>,
    /// Number of replaced threads whose call has not returned.
    hung: AtomicUsize,
    /// In microseconds.
    call_limit: AtomicU64,
    started: Instant,
    notes: Option<Arc<CrashNotes>>,
}

/// State that one worker thread shares with the watchdog.
struct ThreadState {
    /// Changed under the lock on the queue.
    role: Mutex<Role>,
    task: Mutex<Option<Arc<Task>>>,
    /// Start of the current turn, in microseconds since the pool started, plus one; 0 without a turn.
    turn_began: AtomicU64,
    /// Start of the current module call in the same way; 0 without a call, or if the call has a deadline of its own.
    call_began: AtomicU64,
    /// The thread's id.
    id: AtomicU32,
    /// The watchdog's measurements of its turn and of its call.
    turn: Mutex<Measured>,
    call: Mutex<Measured>,
}

/// The tasks that a thread takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// Those of all modules that are not slow.
    Shared,
    /// Those of the module with this lane.
    Own(usize),
    /// None: it exits after its current call, which hung.
    Replaced,
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("hung", &self.hung()).finish_non_exhaustive()
    }
}

impl Pool {
    /// Starts `workers` threads (0: one per core) and a watchdog for module calls longer than `call_limit`. The threads keep
    /// `notes` of their calls.
    pub fn new(workers: usize, call_limit: Duration, notes: Option<Arc<CrashNotes>>) -> Arc<Pool> {
        let workers = count(workers);
        let shared = Arc::new(PoolInner {
            queue: Mutex::new(Lanes::new(workers)),
            available: Condvar::new(),
            closing: Condvar::new(),
            threads: Mutex::default(),
            hung: AtomicUsize::new(0),
            call_limit: AtomicU64::new(micros(call_limit)),
            started: Instant::now(),
            notes,
        });
        for _ in 0..workers {
            shared.start_worker(Role::Shared);
        }
        let watched = shared.clone();
        start_thread("remuxd-watchdog", move || watched.watch());
        Arc::new(Pool { inner: shared, faults: FaultWatch::default() })
    }

    /// Changes the number of threads, and the limit of calls that begin later. Threads that are too many exit after their turn.
    pub fn set(&self, workers: usize, call_limit: Duration) {
        self.inner.call_limit.store(micros(call_limit), Ordering::Relaxed);
        let more = self.inner.queue.lock().resize(count(workers));
        (0..more).for_each(|_| self.inner.start_worker(Role::Shared));
        self.inner.available.notify_all();
    }

    /// The observer of faults.
    pub fn faults(&self) -> &FaultWatch {
        &self.faults
    }

    /// Number of replaced threads that hang in a module call now.
    pub fn hung(&self) -> usize {
        self.inner.hung.load(Ordering::Relaxed)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let mut queue = self.inner.queue.lock();
        queue.close();
        self.inner.available.notify_all();
        self.inner.closing.notify_all();
    }
}

/// Returns the number of threads for `modules.workers`.
fn count(workers: usize) -> usize {
    match workers {
        0 => thread::available_parallelism().map_or(1, usize::from),
        workers => workers,
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

fn start_thread(name: &str, run: impl FnOnce() + Send + 'static) {
    if let Err(error) = thread::Builder::new().name(name.into()).spawn(run) {
        error!(%error, name, "cannot start a thread");
    }
}

impl PoolInner {
    fn push(self: &Arc<Self>, task: Arc<Task>) {
        let mut queue = self.queue.lock();
        if queue.closed {
            return;
        }
        let lane = task.lane;
        match queue.push(lane, task) {
            Taker::Shared => {
                self.available.notify_one();
            }
            Taker::Own => {
                queue.available(lane).notify_one();
            }
            Taker::NewOwn => {
                drop(queue);
                self.start_worker(Role::Own(lane));
            }
        }
    }

    /// Returns the next task for a thread, or `None` if the thread must exit.
    fn next(&self, thread: &Arc<ThreadState>) -> Option<Arc<Task>> {
        let mut queue = self.queue.lock();
        loop {
            // Another thread may have changed it during the wait.
            let role = *thread.role.lock();
            if queue.closed || role == Role::Replaced {
                return None;
            }
            let Role::Own(lane) = role else {
                if queue.take_surplus() {
                    drop(queue);
                    // It may have been woken for a task.
                    self.available.notify_one();
                    self.threads.lock().retain(|other| !Arc::ptr_eq(other, thread));
                    return None;
                }
                match queue.pop() {
                    Some(task) => return Some(task),
                    None => self.available.wait(&mut queue),
                }
                continue;
            };
            match queue.next_own(lane, Instant::now()) {
                Next::Run(task) => return Some(task),
                Next::Wait => {
                    let available = queue.available(lane);
                    queue.set_waiting(lane, true);
                    available.wait_for(&mut queue, QUIET);
                    queue.set_waiting(lane, false);
                }
                Next::End => {
                    // What is left of the lane's tasks is for shared threads.
                    self.available.notify_all();
                    drop(queue);
                    self.threads.lock().retain(|other| !Arc::ptr_eq(other, thread));
                    return None;
                }
            }
        }
    }

    fn start_worker(self: &Arc<Self>, role: Role) {
        let thread = Arc::new(ThreadState {
            role: Mutex::new(role),
            task: Mutex::default(),
            turn_began: AtomicU64::new(0),
            call_began: AtomicU64::new(0),
            id: AtomicU32::new(0),
            turn: Mutex::default(),
            call: Mutex::default(),
        });
        self.threads.lock().push(thread.clone());
        let shared = self.clone();
        start_thread("remuxd-worker", move || shared.work(&thread));
    }

    fn work(self: &Arc<Self>, thread: &Arc<ThreadState>) {
        let watch = CallWatch { pool: self.clone(), thread: thread.clone(), now: Cell::new(0) };
        let id = rustix::thread::gettid().as_raw_nonzero().get().unsigned_abs();
        thread.id.store(id, Ordering::Release);
        let slot = self.notes.as_ref().and_then(CrashNotes::slot);
        CURRENT.set(Some(Current { thread: thread.clone(), slot }));
        // Time that the thread has waited for a CPU, up to its last long turn.
        let mut waited_before = Duration::ZERO;
        while let Some(task) = self.next(thread) {
            let took = self.run(thread, &task, &watch);
            if took >= LONG_TURN {
                let waited = waited(Thread::Own(id)).unwrap_or_default();
                self.on_long_turn(task.lane, took.saturating_sub(waited.saturating_sub(waited_before)));
                waited_before = waited;
            }
            let idle = task.state.compare_exchange(RUNNING, IDLE, Ordering::AcqRel, Ordering::Acquire);
            if idle.is_err() {
                task.state.swap(QUEUED, Ordering::AcqRel);
                self.push(task);
            }
        }
        CURRENT.set(None);
        if *thread.role.lock() == Role::Replaced {
            self.hung.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Gives a task a turn. Returns the time up to the end of its last call.
    fn run(&self, thread: &ThreadState, task: &Arc<Task>, watch: &CallWatch) -> Duration {
        task.state.swap(RUNNING, Ordering::AcqRel);
        *thread.task.lock() = Some(task.clone());
        let began = self.micros();
        watch.now.set(began);
        thread.turn_began.store(began, Ordering::Release);
        let waker = Waker::from(task.clone());
        if catch_unwind(AssertUnwindSafe(|| task.job.run(&waker, watch))).is_err() {
            error!(job = task.job.name(), "a job panicked in the host's own code");
            task.job.on_panic();
        }
        // A panic leaves them as during a call.
        thread.call_began.store(0, Ordering::Release);
        with_slot(|slot| slot.end());
        thread.turn_began.store(0, Ordering::Release);
        *thread.task.lock() = None;
        Duration::from_micros(watch.now.get() - began)
    }

    /// Counts a long turn against a module.
    fn on_long_turn(self: &Arc<Self>, lane: usize, took: Duration) {
        let mut queue = self.queue.lock();
        if !queue.add_long_turn(lane, took, Instant::now()) {
            return;
        }
        let module = queue.name(lane).to_owned();
        drop(queue);
        report_slow(&module, took);
        self.start_worker(Role::Own(lane));
    }

    /// The limit of a module call.
    fn call_limit(&self) -> Duration {
        Duration::from_micros(self.call_limit.load(Ordering::Relaxed))
    }

    fn micros(&self) -> u64 {
        self.started.elapsed().as_micros() as u64 + 1
    }
}

/// Reports that a module has become slow.
fn report_slow(module: &str, took: Duration) {
    warn!(module, ?took, "calls of the module are slow; it gets threads of its own");
}

/// A worker, to itself.
struct Current {
    thread: Arc<ThreadState>,
    slot: Option<Slot>,
}

thread_local! {
    /// This thread if it is a worker.
    static CURRENT: RefCell<Option<Current>> = const { RefCell::new(None) };
}

/// Takes note that the current call is performed by another process. It enforces its own deadline.
pub(super) fn unwatch() {
    CURRENT.with_borrow(|current| {
        if let Some(Current { thread, slot }) = current {
            thread.call_began.store(0, Ordering::Release);
            slot.iter().for_each(Slot::end);
        }
    });
}

/// Calls `act` with the notes of this thread, if it has any.
fn with_slot(act: impl FnOnce(&mut Slot)) {
    CURRENT.with_borrow_mut(|current| {
        if let Some(slot) = current.as_mut().and_then(|current| current.slot.as_mut()) {
            act(slot);
        }
    });
}

/// Reports calls into modules to the watchdog.
pub struct CallWatch {
    pool: Arc<PoolInner>,
    thread: Arc<ThreadState>,
    /// End of the last call, or start of the turn, as in `turn_began`: a call reads the clock once.
    now: Cell<u64>,
}

impl CallWatch {
    /// Writes what the next calls belong to: the text of a [`CrashNote`](super::CrashNote).
    pub fn note(&self, text: &str) {
        with_slot(|slot| slot.write(text));
    }

    /// Whether the job should return, so that others get their turn. Measured up to the end of the last call.
    pub fn is_turn_over(&self) -> bool {
        let began = self.thread.turn_began.load(Ordering::Relaxed);
        self.now.get().saturating_sub(began) >= TURN.as_micros() as u64
    }

    /// Makes one call into a module.
    pub fn call<T>(&self, call: impl FnOnce() -> T) -> T {
        self.thread.call_began.store(self.now.get(), Ordering::Release);
        with_slot(|slot| slot.begin());
        let result = call();
        with_slot(|slot| slot.end());
        self.thread.call_began.store(0, Ordering::Release);
        self.now.set(self.pool.micros());
        result
    }
}

#[cfg(test)]
mod tests;
