//! Reaped: a child process that is reaped when it ends, though nobody asks after it.

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
    /// Knows its status once it is reaped, and is not signalled any more then.
    child: Arc<Mutex<Child>>,
}

impl Reaped {
    /// Sees to it that `child` is reaped.
    pub fn new(child: Child) -> Reaped {
        let (pid, child) = (child.id(), Arc::new(Mutex::new(child)));
        let theirs = child.clone();
        // Without the thread the child is reaped when somebody asks after it.
        let _ = thread::Builder::new().name("remuxd-reaper".into()).spawn(move || {
            await_end(pid);
            // It fails only when the child has been reaped.
            let _ = theirs.lock().try_wait();
        });
        Reaped { pid, child }
    }

    /// The process's number.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// How it ended, if it has.
    pub fn ended(&self) -> io::Result<Option<ExitStatus>> {
        self.child.lock().try_wait()
    }

    /// Kills it, unless it has ended, and tells how it ended.
    pub fn end(&self) -> io::Result<ExitStatus> {
        let mut child = self.child.lock();
        // It fails only when the process has been reaped.
        let _ = child.kill();
        child.wait()
    }
}

/// Waits without the lock, and without reaping: as long as the child has its number, nobody else gets it.
fn await_end(pid: u32) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let Some(pid) = pid else { return };
    while matches!(waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT), Err(Errno::INTR))
    {
    }
}
