//! Child: the host's own program, run for work that could end the host.
//!
//! The child's output, time and memory are limited. It leads a process group of its own, which is killed with it, since the
//! code may have started processes. Therefore a Ctrl-C at the host's terminal does not reach the child; it ends when the
//! host does.

use std::io::{self, BufRead, BufReader, PipeReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{
    Pid, Resource, Rlimit, Signal, WaitId, WaitIdOptions, getpid, kill_process_group, set_child_subreaper,
    set_parent_process_death_signal, setrlimit, waitid,
};

use crate::module::process_size::process_size;
use crate::module::text::one_line;

/// Amount of the child's output that is read, in bytes.
const MAX_OUTPUT: u64 = 64 << 10;
/// Private memory that a child may map in addition to what it starts with, in bytes. Beyond it allocations fail, long before
/// the machine is out of memory.
const MAX_MEMORY: u64 = 1 << 30;
/// Interval of checking a child that has closed its output but still runs.
const POLL: Duration = Duration::from_millis(1);

/// A child that ended.
#[derive(Debug)]
pub struct Ended {
    /// `None` if it did not end in time and was killed.
    pub status: Option<ExitStatus>,
    /// The lines that it printed, without empty ones.
    pub lines: Vec<String>,
}

/// Runs `command`, whose standard input the caller sets, for `limit` at most.
///
/// # Errors
/// The process cannot be started or waited for.
pub fn run(command: &mut Command, limit: Duration) -> io::Result<Ended> {
    let deadline = Instant::now() + limit;
    let (mut child, output) = spawn(command)?;
    let (sender, received) = mpsc::channel();
    thread::spawn(move || read_lines(output, &sender));
    let lines = collect(&received, deadline);
    Ok(Ended { status: wait(&mut child, deadline)?, lines })
}

fn spawn(command: &mut Command) -> io::Result<(Child, PipeReader)> {
    let (output, input) = io::pipe()?;
    let child = command.process_group(0).stdout(input.try_clone()?).stderr(input).spawn()?;
    // The command also holds the pipe's other end; the output ends only once that is closed.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    Ok((child, output))
}

fn read_lines(output: PipeReader, lines: &Sender<Vec<u8>>) {
    let mut output = BufReader::new(output.take(MAX_OUTPUT));
    loop {
        let mut line = Vec::new();
        match output.read_until(b'\n', &mut line) {
            Ok(1..) if lines.send(line).is_ok() => {}
            _ => return,
        }
    }
}

/// Collects lines until the output ends, or the deadline: a process that the module started may keep the output open.
fn collect(received: &Receiver<Vec<u8>>, deadline: Instant) -> Vec<String> {
    let mut lines = Vec::new();
    while let Ok(line) = received.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
        let line = one_line(&String::from_utf8_lossy(&line));
        if !line.is_empty() {
            lines.push(line);
        }
    }
    lines
}

/// Waits for the child to end; returns `None` at the deadline. Its whole group is killed in either case.
fn wait(child: &mut Child, deadline: Instant) -> io::Result<Option<ExitStatus>> {
    let pid = Pid::from_child(child);
    // Not reaped yet, so that the id of its group is not reused before the group is killed.
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    let ended = loop {
        match waitid(WaitId::Pid(pid), options) {
            Ok(Some(_)) => break true,
            Ok(None) if Instant::now() >= deadline => break false,
            Ok(None) => thread::sleep(POLL),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    };
    kill_process_group(pid, Signal::KILL)?;
    let status = child.wait()?;
    Ok(ended.then_some(status))
}

/// Runs in the child: prepares for a crash, and for a module that takes all memory.
pub fn prepare() {
    // A crash is expected here and needs no core dump; a child that hangs must not outlive a host that was killed. The
    // outcome does not depend on either.
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    let _ = set_parent_process_death_signal(Some(Signal::KILL));
    let memory = Some(process_size("VmData").saturating_add(MAX_MEMORY));
    let _ = setrlimit(Resource::Data, Rlimit { current: memory, maximum: memory });
    // Orphans of the module's child processes become children of this process, so that they are noticed.
    let _ = set_child_subreaper(Some(getpid()));
}

/// Runs in the child: prints a line. If the output is closed, the host has given up on the child.
pub fn say(line: &str) {
    // The module may have left a line without an end.
    let _ = writeln!(io::stdout(), "\n{line}");
}
