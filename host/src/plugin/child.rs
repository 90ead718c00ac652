//! Child: the host's own program, run to do what could end the host.
//!
//! What the child and the code in it print is read up to a limit, and so is its time.

use std::io::{self, BufRead, BufReader, PipeReader, Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{
    Resource, Rlimit, Signal, getpid, set_child_subreaper, set_parent_process_death_signal, setrlimit,
};

use super::one_line;

/// How much of what the child prints is read, in bytes.
const MAX_SAID: u64 = 64 << 10;
/// Between two looks at a child that closed its output but lives on.
const POLL: Duration = Duration::from_millis(1);

/// A child that ended.
#[derive(Debug)]
pub(super) struct Ended {
    /// `None`: it did not end in time and was killed.
    pub status: Option<ExitStatus>,
    /// The lines that it printed, without empty ones.
    pub said: Vec<String>,
}

/// Runs `command`, whose standard input is its own affair, for `limit` at most.
///
/// # Errors
/// The process cannot be started, or not be waited for.
pub(super) fn run(command: &mut Command, limit: Duration) -> io::Result<Ended> {
    let deadline = Instant::now() + limit;
    let (mut child, output) = spawn(command)?;
    let (sender, lines) = mpsc::channel();
    thread::spawn(move || read_lines(output, &sender));
    let said = collect(&lines, deadline);
    Ok(Ended { status: wait(&mut child, deadline)?, said })
}

fn spawn(command: &mut Command) -> io::Result<(Child, PipeReader)> {
    let (output, input) = io::pipe()?;
    let child = command.stdout(input.try_clone()?).stderr(input).spawn()?;
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

/// Waits for the child to end, and kills it at the deadline: then `None`.
fn wait(child: &mut Child, deadline: Instant) -> io::Result<Option<ExitStatus>> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= deadline {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        thread::sleep(POLL);
    }
}

/// In the child: makes ready for a crash.
pub(super) fn prepare() {
    // A crash is expected here and tells nothing that a core dump would add; a child that hangs must not outlive a
    // host that was killed. Neither matters to the verdict.
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    let _ = set_parent_process_death_signal(Some(Signal::KILL));
    // Also what the children of a module leave behind is this process's, so that it is seen.
    let _ = set_child_subreaper(Some(getpid()));
}

/// In the child: says a line. If nobody reads it, nobody waits for it.
pub(super) fn say(line: &str) {
    // The module may have left a line without an end.
    let _ = writeln!(io::stdout(), "\n{line}");
}
