//! Child: the host's own program, run to do what could end the host.
//!
//! What the child and the code in it print is read up to a limit, and so is its time. It leads a process group of its own,
//! which is killed with it: the code may have started processes. So a Ctrl-C at the host's terminal does not reach the
//! child; it ends as soon as the host does.

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

use crate::module::text::one_line;

/// How much of what the child prints is read, in bytes.
const MAX_SAID: u64 = 64 << 10;
/// Between two looks at a child that closed its output but lives on.
const POLL: Duration = Duration::from_millis(1);

/// A child that ended.
#[derive(Debug)]
pub struct Ended {
    /// `None`: it did not end in time and was killed.
    pub status: Option<ExitStatus>,
    /// The lines that it printed, without empty ones.
    pub said: Vec<String>,
}

/// Runs `command`, whose standard input is its own affair, for `limit` at most.
///
/// # Errors
/// The process cannot be started, or not be waited for.
pub fn run(command: &mut Command, limit: Duration) -> io::Result<Ended> {
    let deadline = Instant::now() + limit;
    let (mut child, output) = spawn(command)?;
    let (sender, lines) = mpsc::channel();
    thread::spawn(move || read_lines(output, &sender));
    let said = collect(&lines, deadline);
    Ok(Ended { status: wait(&mut child, deadline)?, said })
}

fn spawn(command: &mut Command) -> io::Result<(Child, PipeReader)> {
    let (output, input) = io::pipe()?;
    let child = command.process_group(0).stdout(input.try_clone()?).stderr(input).spawn()?;
    // The command holds the pipe's other end too, and without an end there is no end of the output.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    Ok((child, output))
}

fn read_lines(output: PipeReader, lines: &Sender<Vec<u8>>) {
    let mut output = BufReader::new(output.take(MAX_SAID));
    loop {
        let mut line = Vec::new();
        match output.read_until(b'\n', &mut line) {
            Ok(1..) if lines.send(line).is_ok() => {}
            _ => return,
        }
    }
}

/// The lines before the output ended. A process that the module started may hold the output open for longer.
fn collect(lines: &Receiver<Vec<u8>>, deadline: Instant) -> Vec<String> {
    let mut said = Vec::new();
    while let Ok(line) = lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
        let line = one_line(&String::from_utf8_lossy(&line));
        if !line.is_empty() {
            said.push(line);
        }
    }
    said
}

/// Waits for the child to end, until the deadline: then `None`. Its whole group is killed in any case.
fn wait(child: &mut Child, deadline: Instant) -> io::Result<Option<ExitStatus>> {
    let pid = Pid::from_child(child);
    // Not reaped by looking: so long the group has its number, and nobody else.
    let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    let ended = loop {
        match waitid(WaitId::Pid(pid), look) {
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

/// In the child: makes ready for a crash.
pub fn prepare() {
    // A crash is expected here and tells nothing that a core dump would add; a child that hangs must not outlive a
    // host that was killed. Neither matters to the verdict.
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    let _ = set_parent_process_death_signal(Some(Signal::KILL));
    // Also what the children of a module leave behind is this process's, so that it is seen.
    let _ = set_child_subreaper(Some(getpid()));
}

/// In the child: says a line. If nobody reads it, nobody waits for it.
pub fn say(line: &str) {
    // The module may have left a line without an end.
    let _ = writeln!(io::stdout(), "\n{line}");
}
