//! Watchdog: the thread that measures the turns and module calls of the others.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tracing::{error, warn};

use super::measured::Measured;
use super::{PoolInner, Role, ThreadState, report_slow};
use crate::module::call_time::{CallTime, Thread};

/// Number of hung threads that are replaced at a time.
pub(super) const MAX_HUNG: usize = 64;
/// A shared thread whose turn takes longer is given to its module.
const LONGEST_TURN: Duration = Duration::from_millis(200);
/// Longest interval between two checks.
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

impl PoolInner {
    /// Checks all threads again and again, until the pool is closed.
    pub(super) fn watch(self: &Arc<Self>) {
        loop {
            {
                let pause = CallTime::interval(self.call_limit()).min(LONGEST_PAUSE);
                let mut queue = self.queue.lock();
                if !queue.closed {
                    self.closing.wait_for(&mut queue, pause);
                }
                if queue.closed {
                    return;
                }
            }
            let threads = self.threads.lock().clone();
            for thread in threads {
                self.check_call(&thread);
                self.check_turn(&thread);
            }
        }
    }

    /// Reports a call over the limit and replaces its thread.
    fn check_call(self: &Arc<Self>, thread: &Arc<ThreadState>) {
        let began = thread.call_began.load(Ordering::Acquire);
        let limit = self.call_limit();
        if !self.exceeds(&mut thread.call.lock(), limit, began, thread) {
            return;
        }
        let elapsed = Duration::from_micros(self.micros().saturating_sub(began));
        let Some(task) = thread.task.lock().clone() else { return };
        warn!(job = task.job.name(), ?elapsed, ?limit, "a module call takes too long");
        task.job.on_hang(elapsed);
        if self.hung.load(Ordering::Relaxed) >= MAX_HUNG {
            error!(limit = MAX_HUNG, "too many hung threads; this one is not replaced");
        } else if let Some(role) = self.dismiss(thread, began) {
            self.threads.lock().retain(|other| !Arc::ptr_eq(other, thread));
            self.start_worker(role);
        }
    }

    /// Measures what a thread began at `began`. Returns true once, when it exceeds `limit`.
    fn exceeds(&self, measured: &mut Measured, limit: Duration, began: u64, thread: &ThreadState) -> bool {
        if began == 0 {
            return false;
        }
        let id = Thread::Own(thread.id.load(Ordering::Acquire));
        measured.exceeds(limit, began, id, self.started + Duration::from_micros(began - 1))
    }

    /// Asks a thread to exit after its current call. Returns the role that its successor has, or `None` if the call has
    /// already finished.
    fn dismiss(&self, thread: &ThreadState, began: u64) -> Option<Role> {
        // Held because the thread takes its next task under this lock.
        let _queue = self.queue.lock();
        if thread.call_began.load(Ordering::Acquire) != began {
            return None;
        }
        self.hung.fetch_add(1, Ordering::Relaxed);
        Some(std::mem::replace(&mut *thread.role.lock(), Role::Replaced))
    }

    /// Gives a shared thread whose turn takes too long to its module, and starts another one.
    fn check_turn(self: &Arc<Self>, thread: &Arc<ThreadState>) {
        if *thread.role.lock() != Role::Shared {
            return;
        }
        let began = thread.turn_began.load(Ordering::Acquire);
        if !self.exceeds(&mut thread.turn.lock(), LONGEST_TURN, began, thread) {
            return;
        }
        let Some(lane) = thread.task.lock().as_ref().map(|task| task.lane) else { return };
        let mut queue = self.queue.lock();
        if queue.closed || thread.turn_began.load(Ordering::Acquire) != began {
            return;
        }
        *thread.role.lock() = Role::Own(lane);
        let slow = queue.adopt(lane, Instant::now()).then(|| queue.name(lane).to_owned());
        drop(queue);
        self.start_worker(Role::Shared);
        if let Some(module) = slow {
            report_slow(&module, Duration::from_micros(self.micros().saturating_sub(began)));
        }
    }
}
