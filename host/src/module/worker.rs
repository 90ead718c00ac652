//! Workers: the threads that call into modules, and their watchdog.
//!
//! Remuxers run on a small pool of their own, so that a slow module never blocks a network thread. A [`Task`] is queued at
//! most once and runs on one thread at a time; a wake during its run makes it run again, so that no wake is lost.
//!
//! A watchdog measures the current module calls (see [`CallTime`]). A call that takes longer than the limit is logged, and its
//! thread is replaced, so that the pool keeps its size; a thread whose call returns late finishes its run and exits. The
//! number of hung threads is bounded, since a hung thread cannot be ended.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::task::{Wake, Waker};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use tracing::{error, warn};

use super::call_time::{CallTime, Thread};
use super::process::{CrashNotes, Slot};

/// Number of hung threads that are replaced at a time.
const MAX_HUNG: usize = 64;

/// Work that is done in runs.
pub trait Job: Send + Sync + 'static {
    /// Its name in the log.
    fn name(&self) -> String;

    /// Does a part of the work. `waker` makes it run again. Calls into a module must go through `watch`.
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
        Arc::new(Task { job, pool: pool.inner.clone(), state: AtomicU8::new(IDLE) })
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
}

struct PoolInner {
    queue: Mutex<Queue>,
    available: Condvar,
    closing: Condvar,
    /// The pool's threads, without replaced ones.
    threads: Mutex<Vec<Arc<ThreadState>>>,
    /// Number of replaced threads whose call has not returned.
    hung: AtomicUsize,
    call_limit: Duration,
    started: Instant,
    notes: Option<Arc<CrashNotes>>,
}

#[derive(Default)]
struct Queue {
    tasks: VecDeque<Arc<Task>>,
    closed: bool,
}

/// State that one worker thread shares with the watchdog.
#[derive(Default)]
struct ThreadState {
    task: Mutex<Option<Arc<Task>>>,
    /// Start of the current module call, in microseconds since the pool started, plus one; 0 without a call.
    call_began: AtomicU64,
    /// The thread's id.
    id: AtomicU32,
    /// Used by the watchdog alone.
    watched: Mutex<Watched>,
    replaced: AtomicBool,
}

/// The watchdog's measurements of a thread's calls.
#[derive(Default)]
struct Watched {
    /// Start of the call that it saw last, as in `call_began`.
    began: u64,
    /// The call's time; `None` once it was reported.
    time: Option<CallTime>,
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
        let workers = match workers {
            0 => thread::available_parallelism().map_or(1, usize::from),
            workers => workers,
        };
        let shared = Arc::new(PoolInner {
            queue: Mutex::default(),
            available: Condvar::new(),
            closing: Condvar::new(),
            threads: Mutex::default(),
            hung: AtomicUsize::new(0),
            call_limit,
            started: Instant::now(),
            notes,
        });
        for _ in 0..workers {
            shared.start_worker();
        }
        let watched = shared.clone();
        start_thread("remuxd-watchdog", move || watched.watch());
        Arc::new(Pool { inner: shared })
    }

    /// Number of replaced threads that hang in a module call now.
    pub fn hung(&self) -> usize {
        self.inner.hung.load(Ordering::Relaxed)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let mut queue = self.inner.queue.lock();
        queue.closed = true;
        queue.tasks.clear();
        self.inner.available.notify_all();
        self.inner.closing.notify_all();
    }
}

fn start_thread(name: &str, run: impl FnOnce() + Send + 'static) {
    if let Err(error) = thread::Builder::new().name(name.into()).spawn(run) {
        error!(%error, name, "cannot start a thread");
    }
}

impl PoolInner {
    fn push(&self, task: Arc<Task>) {
        let mut queue = self.queue.lock();
        if !queue.closed {
            queue.tasks.push_back(task);
            self.available.notify_one();
        }
    }

    /// Returns the next task for a thread, or `None` if the thread must exit.
    fn pop(&self, thread: &ThreadState) -> Option<Arc<Task>> {
        let mut queue = self.queue.lock();
        loop {
            if queue.closed || thread.replaced.load(Ordering::Acquire) {
                return None;
            }
            match queue.tasks.pop_front() {
                Some(task) => return Some(task),
                None => self.available.wait(&mut queue),
            }
        }
    }

    fn start_worker(self: &Arc<Self>) {
        let thread = Arc::<ThreadState>::default();
        self.threads.lock().push(thread.clone());
        let shared = self.clone();
        start_thread("remuxd-worker", move || shared.work(&thread));
    }

    fn work(self: &Arc<Self>, thread: &Arc<ThreadState>) {
        let watch = CallWatch { pool: self.clone(), thread: thread.clone() };
        thread.id.store(rustix::thread::gettid().as_raw_nonzero().get().unsigned_abs(), Ordering::Release);
        let slot = self.notes.as_ref().and_then(CrashNotes::slot);
        CURRENT.set(Some(Current { thread: thread.clone(), slot }));
        while let Some(task) = self.pop(thread) {
            task.state.swap(RUNNING, Ordering::AcqRel);
            *thread.task.lock() = Some(task.clone());
            let waker = Waker::from(task.clone());
            if catch_unwind(AssertUnwindSafe(|| task.job.run(&waker, &watch))).is_err() {
                error!(job = task.job.name(), "a job panicked in the host's own code");
                task.job.on_panic();
            }
            // A panic leaves them as during a call.
            thread.call_began.store(0, Ordering::Release);
            with_slot(|slot| slot.end());
            *thread.task.lock() = None;
            let idle = task.state.compare_exchange(RUNNING, IDLE, Ordering::AcqRel, Ordering::Acquire);
            if idle.is_err() {
                task.state.swap(QUEUED, Ordering::AcqRel);
                self.push(task);
            }
        }
        CURRENT.set(None);
        if thread.replaced.load(Ordering::Acquire) {
            self.hung.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn watch(self: &Arc<Self>) {
        let pause = CallTime::interval(self.call_limit);
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
            self.check_calls();
        }
    }

    /// Reports calls over the limit and replaces their threads.
    fn check_calls(self: &Arc<Self>) {
        let threads = self.threads.lock().clone();
        for thread in threads {
            let began = thread.call_began.load(Ordering::Acquire);
            if began == 0 || !self.has_hung(&thread, began) {
                continue;
            }
            let elapsed = Duration::from_micros(self.micros().saturating_sub(began));
            let Some(task) = thread.task.lock().clone() else { continue };
            warn!(job = task.job.name(), ?elapsed, limit = ?self.call_limit, "a module call takes too long");
            task.job.on_hang(elapsed);
            if self.hung.load(Ordering::Relaxed) >= MAX_HUNG {
                error!(limit = MAX_HUNG, "too many hung threads; this one is not replaced");
            } else if self.dismiss(&thread, began) {
                self.threads.lock().retain(|other| !Arc::ptr_eq(other, &thread));
                self.start_worker();
            }
        }
    }

    /// Measures the current call of a thread. Returns true once, when it exceeds the limit.
    fn has_hung(&self, thread: &ThreadState, began: u64) -> bool {
        let mut watched = thread.watched.lock();
        if watched.began != began {
            let id = Thread::Own(thread.id.load(Ordering::Acquire));
            let at = self.started + Duration::from_micros(began - 1);
            *watched = Watched { began, time: Some(CallTime::new(id, self.call_limit, at)) };
        }
        let has_hung = watched.time.as_mut().is_some_and(CallTime::measure);
        if has_hung {
            watched.time = None;
        }
        has_hung
    }

    /// Asks a thread to exit after its current call. Returns false if the call has already finished.
    fn dismiss(&self, thread: &ThreadState, began: u64) -> bool {
        // Held because the thread takes its next task under this lock.
        let _queue = self.queue.lock();
        let still = thread.call_began.load(Ordering::Acquire) == began;
        if still {
            self.hung.fetch_add(1, Ordering::Relaxed);
            thread.replaced.store(true, Ordering::Release);
        }
        still
    }

    fn micros(&self) -> u64 {
        self.started.elapsed().as_micros() as u64 + 1
    }
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
}

impl CallWatch {
    /// Writes what the next calls belong to: the text of a [`CrashNote`](super::CrashNote).
    pub fn note(&self, text: &str) {
        with_slot(|slot| slot.write(text));
    }

    /// Makes one call into a module.
    pub fn call<T>(&self, call: impl FnOnce() -> T) -> T {
        self.thread.call_began.store(self.pool.micros(), Ordering::Release);
        with_slot(|slot| slot.begin());
        let result = call();
        with_slot(|slot| slot.end());
        self.thread.call_began.store(0, Ordering::Release);
        result
    }
}

#[cfg(test)]
mod tests;
