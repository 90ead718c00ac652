//! Probe: a module is loaded in a child process before the host loads it.
//!
//! Some files end the process that maps them: constructors that crash, exit or hang, and damage that makes the dynamic
//! linker give up. The child is the host's own program with the arguments `__probe FILE`; [`probe_main`] does there
//! what the host will do, and says how it went in the last line that it prints. Without that line nothing is
//! believed, also not exit status 0: the module's code may have ended the process.

use std::io::{self, BufRead, BufReader, PipeReader, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, Signal, set_parent_process_death_signal, setrlimit};

use super::loader::{self, Terms};
use super::{LoadError, Staged, Step, one_line};

/// How long loading may take.
pub const PROBE_LIMIT: Duration = Duration::from_millis(1500);

/// The hidden command of the host's program.
const COMMAND: &str = "__probe";
/// What the child says in the end.
const LOADS: &str = "remuxd probe: loads";
const REFUSED: &str = "remuxd probe: refused: ";
/// What a Rust program says after a panic.
const ADVICE: &str = "note: ";
/// How much of what the child prints is read, in bytes.
const MAX_OUTPUT: u64 = 64 << 10;
/// Between two looks at a child that closed its output but lives on.
const POLL: Duration = Duration::from_millis(1);

/// Loads the module in `file` in a child process of `program`, which must call [`probe_main`] when it is told to. Waits
/// for it, [`PROBE_LIMIT`] at most.
///
/// # Errors
/// `Probe`, `ProbeCrashed`, `ProbeExited`, `ProbeTimedOut`, `ProbeRefused`.
pub fn probe(program: &Path, file: &Staged) -> Result<(), LoadError> {
    run(Command::new(program).arg(COMMAND).arg(file.path()).env("RUST_BACKTRACE", "0"))
}

fn run(command: &mut Command) -> Result<(), LoadError> {
    let deadline = Instant::now() + PROBE_LIMIT;
    let (mut child, output) = spawn(command).map_err(LoadError::Probe)?;
    let (sender, lines) = mpsc::channel();
    thread::spawn(move || read_lines(output, &sender));
    let said = last_words(&lines, deadline);
    let status = wait(&mut child, deadline).map_err(LoadError::Probe)?;
    judge(status.ok_or(LoadError::ProbeTimedOut { limit: PROBE_LIMIT })?, &said)
}

fn spawn(command: &mut Command) -> io::Result<(Child, PipeReader)> {
    let (output, input) = io::pipe()?;
    let child = command.stdin(Stdio::null()).stdout(input.try_clone()?).stderr(input).spawn()?;
    // The command holds the pipe's other end too, and without an end there is no end of the output.
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

/// The last line before the output ended, without the advice below a panic's message. A process that the module
/// started may hold the output open for longer.
fn last_words(lines: &Receiver<Vec<u8>>, deadline: Instant) -> String {
    let mut last = String::new();
    while let Ok(line) = lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
        let line = one_line(&String::from_utf8_lossy(&line));
        if !line.is_empty() && !line.starts_with(ADVICE) {
            last = line;
        }
    }
    last
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

fn judge(status: ExitStatus, said: &str) -> Result<(), LoadError> {
    if let Some(signal) = status.signal() {
        return Err(LoadError::ProbeCrashed { signal });
    }
    if let Some((step, line)) = said.strip_prefix(REFUSED).and_then(|words| words.split_once(": "))
        && let Some(step) = Step::named(step)
    {
        return Err(LoadError::ProbeRefused { step, line: line.to_owned() });
    }
    let loads = said == LOADS;
    match status.code() {
        Some(0) if loads => Ok(()),
        code => {
            let said = if loads { String::new() } else { said.to_owned() };
            Err(LoadError::ProbeExited { status: code.unwrap_or(-1), said })
        }
    }
}

/// The child's side: loads the module in `file` and says how it went.
pub fn probe_main(file: &Path) -> ExitCode {
    // A crash is expected here and tells nothing that a core dump would add; a child that hangs must not outlive a
    // host that was killed. Neither matters to the verdict.
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    let _ = set_parent_process_death_signal(Some(Signal::KILL));
    // What only calls need is not asked for.
    let terms = Terms { generation: 0, max_output: 0, max_faults: 0, unload: false };
    let (verdict, code) = match loader::load(Staged::lent(file), &terms) {
        Ok(_) => (LOADS.to_owned(), ExitCode::SUCCESS),
        Err(error) => (format!("{REFUSED}{}: {error}", error.step()), ExitCode::FAILURE),
    };
    // If nobody reads it, nobody waits for it.
    let _ = writeln!(io::stdout(), "\n{verdict}");
    code
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a shell script as the child.
    fn shell(script: &str) -> Result<(), LoadError> {
        run(Command::new("/bin/sh").arg("-c").arg(script))
    }

    #[test]
    fn believes_only_the_last_line_with_exit_status_0() {
        let rows = [
            ("echo before >&2; echo remuxd probe: loads", "loads"),
            ("echo remuxd probe: refused: layout: 'no  good'; exit 1", "no good"),
            ("exit 0", "loading it ends the process: exit status 0"),
            (
                "echo 'inconsistency!' >&2; echo note: more; exit 127",
                "loading it ends the process: exit status 127, after \"inconsistency!\"",
            ),
            (
                "echo remuxd probe: loads; echo more",
                "loading it ends the process: exit status 0, after \"more\"",
            ),
            ("echo remuxd probe: loads; kill -SEGV $$", "loading it ends the process: SIGSEGV"),
            ("read line || echo remuxd probe: loads", "loads"),
        ];
        for (script, expected) in rows {
            let line = shell(script).map_or_else(|error| error.to_string(), |()| "loads".into());
            assert_eq!(line, expected, "{script}");
        }
    }

    #[test]
    fn kills_what_does_not_end() {
        let began = Instant::now();
        for script in ["exec sleep 100", "exec sleep 100 >&- 2>&-"] {
            let error = shell(script).unwrap_err();
            assert!(matches!(error, LoadError::ProbeTimedOut { limit: PROBE_LIMIT }), "{error}");
        }
        assert!(began.elapsed() < Duration::from_secs(8));
    }

    #[test]
    fn a_process_left_behind_with_the_output_delays_no_verdict_beyond_the_limit() {
        let began = Instant::now();
        shell("sleep 9 & echo remuxd probe: loads").unwrap();
        assert!(began.elapsed() < Duration::from_secs(8));
    }

    #[test]
    fn reads_no_more_than_a_bounded_output() {
        let error = shell("exec yes").unwrap_err();
        assert!(matches!(error, LoadError::ProbeCrashed { signal: 13 }), "{error}");
    }

    #[test]
    fn says_that_there_is_no_program() {
        let error = probe(Path::new("/nowhere"), &Staged::lent(Path::new("x"))).unwrap_err();
        let expected = "cannot be tried in a child process: No such file or directory (os error 2)";
        assert_eq!(error.to_string(), expected);
    }
}
