//! Spawning of modules' processes.

use std::io::{self, PipeReader, PipeWriter};
use std::process::{Child, Command};
use std::sync::{OnceLock, mpsc};
use std::thread;

/// A command and the sender for its process.
struct Order {
    command: Command,
    reply: mpsc::Sender<io::Result<Child>>,
}

/// Starts a process from a thread that lives as long as this program: the kernel sends the parent-death signal when the
/// thread that started a process ends.
pub fn spawn(command: Command) -> io::Result<Child> {
    static SPAWNER: OnceLock<mpsc::Sender<Order>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (orders, received) = mpsc::channel::<Order>();
        // Without the thread the channel is closed, which is the error below.
        let _ = thread::Builder::new().name("remuxd-spawner".into()).spawn(move || {
            for Order { mut command, reply } in received {
                // The caller may have given up.
                let _ = reply.send(command.spawn());
            }
        });
        orders
    });
    let (reply, child) = mpsc::channel();
    let gone = || io::Error::other("the thread that starts processes is gone");
    spawner.send(Order { command, reply }).map_err(|_| gone())?;
    child.recv().map_err(|_| gone())?
}

/// Makes a pipe with two non-blocking ends.
pub fn pipe() -> io::Result<(PipeReader, PipeWriter)> {
    let (reader, writer) = io::pipe()?;
    rustix::io::ioctl_fionbio(&reader, true)?;
    rustix::io::ioctl_fionbio(&writer, true)?;
    Ok((reader, writer))
}
