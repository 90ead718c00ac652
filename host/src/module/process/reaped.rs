//! Reaped: a child process that is reaped as soon as it ends.

use std::io;
use std::process::{Child, ExitStatus};
use std::sync::Arc;
use std::thread;

use parking_lot::Mutex;
use rustix::io::Errno;
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

/// A running child.
#[derive(Debug)]
pub struct Reaped {
    pid: u32,
    /// Keeps the status once the child is reaped, and does not signal it any more.
    child: Arc<Mutex<Child>>,
}

impl Reaped {
    /// Starts a thread that reaps `child`.
    pub fn new(child: Child) -> Reaped {
        let (pid, child) = (child.id(), Arc::new(Mutex::new(child)));
        let theirs = child.clone();
        // Without the thread the child is reaped by `ended` or `end`.
        let _ = thread::Builder::new().name("remuxd-reaper".into()).spawn(move || {
            await_end(pid);
            // Fails only if the child has been reaped.
            let _ = theirs.lock().try_wait();
        });
        Reaped { pid, child }
    }

    /// The process's id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Its exit status, if it has ended.
    pub fn ended(&self) -> io::Result<Option<ExitStatus>> {
        self.child.lock().try_wait()
    }

    /// Kills it, unless it has ended, and returns its exit status.
    pub fn end(&self) -> io::Result<ExitStatus> {
        let mut child = self.child.lock();
        // Fails only if the process has been reaped.
        let _ = child.kill();
        child.wait()
    }
}

/// Waits without the lock and without reaping, so that the process id is not reused meanwhile.
fn await_end(pid: u32) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let Some(pid) = pid else { return };
    while matches!(waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT), Err(Errno::INTR))
    {
    }
}
