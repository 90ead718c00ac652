//! Probe: loads a module and runs the self-test in a child process, before the host loads it.
//!
//! Some files end the process that maps them: constructors that crash, exit or hang, and damage that makes the dynamic
//! linker give up. The child is the host's own program with the arguments `__probe FILE`; [`probe_main`] does there what
//! the host will do and prints the outcome as its last line. Without that line the trial has failed, even with exit
//! status 0: the module's code may have ended the process. An earlier line reports that it was loaded. A module that
//! changes its surroundings is refused too; a module with a process of its own has another trial, and may.
//!
//! The child writes the module's description to an unnamed file, its standard input. A dry run of a reload, and the checks
//! of a config, have only that, since the module is not mapped.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitCode, ExitStatus};

use rustix::fs::{MemfdFlags, memfd_create};

use super::child::{self, say};
use super::loader;
use super::self_test::{MAX_OUTPUT, self_test};
use super::stage::Staged;
use super::surroundings::Surroundings;
use crate::module::description::Description;
use crate::module::error::LoadError;
use crate::module::step::{PROBE_LIMIT, Trial};
use crate::module::terms::Terms;

/// Longest encoded description that is read, in bytes.
const MAX_DESCRIPTION: u64 = 1 << 20;
/// The hidden command of the host's program.
const COMMAND: &str = "__probe";
/// Line that the child prints before the self-test.
const LOADED: &str = "remuxd probe: loaded";
/// Last line that the child prints.
const PASSES: &str = "remuxd probe: passes";
const REFUSED: &str = "remuxd probe: refused: ";
/// Start of the lines that a Rust program prints after a panic's message.
const NOTE: &str = "note: ";

/// Tries the module in `file` in a child process of `program`, which must call [`probe_main`] for the hidden command, and
/// returns the module's description. Blocks for [`PROBE_LIMIT`] at most.
///
/// # Errors
/// `Probe`, `ProbeCrashed`, `ProbeExited`, `ProbeTimedOut`, `ProbeRefused`; `Description` if its description
/// cannot be read.
pub fn probe(program: &Path, file: &Staged) -> Result<Description, LoadError> {
    let unnamed =
        memfd_create("remuxd-probe", MemfdFlags::CLOEXEC).map_err(|error| LoadError::Probe(error.into()))?;
    let mut unnamed = File::from(unnamed);
    let stdin = unnamed.try_clone().map_err(LoadError::Probe)?;
    let mut command = Command::new(program);
    run(command.arg(COMMAND).arg(file.path()).env("RUST_BACKTRACE", "0").stdin(stdin))?;
    let mut description = Vec::new();
    unnamed.rewind().map_err(LoadError::Probe)?;
    unnamed.take(MAX_DESCRIPTION).read_to_end(&mut description).map_err(LoadError::Probe)?;
    Ok(Description::decode(&description)?)
}

fn run(command: &mut Command) -> Result<(), LoadError> {
    let ended = child::run(command, PROBE_LIMIT).map_err(LoadError::Probe)?;
    let output = Output::read(ended.lines);
    let during = output.during();
    judge(ended.status.ok_or(LoadError::ProbeTimedOut { during, limit: PROBE_LIMIT })?, &output)
}

/// The lines that the child printed.
#[derive(Default)]
struct Output {
    /// [`LOADED`] was among them.
    loaded: bool,
    /// The last line, except for the notes below a panic's message.
    last: String,
}

impl Output {
    fn read(lines: Vec<String>) -> Output {
        let mut output = Output::default();
        for line in lines {
            if line == LOADED {
                output.loaded = true;
            } else if !line.starts_with(NOTE) {
                output.last = line;
            }
        }
        output
    }

    fn during(&self) -> Trial {
        if self.loaded { Trial::SelfTest } else { Trial::Loading }
    }
}

fn judge(status: ExitStatus, output: &Output) -> Result<(), LoadError> {
    let during = output.during();
    if let Some(signal) = status.signal() {
        return Err(LoadError::ProbeCrashed { during, signal });
    }
    if let Some(error) = output.last.strip_prefix(REFUSED).and_then(LoadError::from_wire) {
        return Err(error);
    }
    let passes = output.last == PASSES;
    match status.code() {
        Some(0) if passes => Ok(()),
        code => {
            let said = if passes { String::new() } else { output.last.clone() };
            Err(LoadError::ProbeExited { during, status: code.unwrap_or(-1), said })
        }
    }
}

/// Runs in the child: loads the module in `file`, plays the self-test to it, and prints the outcome.
pub fn probe_main(file: &Path) -> ExitCode {
    child::prepare();
    let (outcome, code) = match try_module(file) {
        Ok(()) => (PASSES.to_owned(), ExitCode::SUCCESS),
        Err(error) => (format!("{REFUSED}{}", error.to_wire()), ExitCode::FAILURE),
    };
    say(&outcome);
    code
}

fn try_module(file: &Path) -> Result<(), LoadError> {
    let terms = Terms { generation: 0, max_output: MAX_OUTPUT, max_faults: 0, unload: false };
    let before = Surroundings::read();
    let module = loader::load_module(Staged::lent(file), &terms)?;
    say(LOADED);
    self_test(&module)?;
    if let Some(changed) = Surroundings::read().changed_from(&before) {
        return Err(LoadError::Surroundings { changed });
    }
    let unnamed = io::stdin().as_fd().try_clone_to_owned().map_err(LoadError::Probe)?;
    File::from(unnamed).write_all(&module.description().encode()).map_err(LoadError::Probe)
}

#[cfg(test)]
mod tests {
    use std::process::Stdio;
    use std::time::{Duration, Instant};

    use super::*;

    /// Runs a shell script as the child.
    fn shell(script: &str) -> Result<(), LoadError> {
        run(Command::new("/bin/sh").arg("-c").arg(script).stdin(Stdio::null()))
    }

    #[test]
    fn accepts_only_the_last_line_with_exit_status_0() {
        let rows = [
            ("echo before >&2; echo remuxd probe: passes", "passes"),
            ("echo remuxd probe: refused: 'preflight: no  good'; exit 1", "no good"),
            (
                "echo remuxd probe: refused: 'magic: no good'; exit 1",
                "loading it ends the process: exit status 1, after \"remuxd probe: refused: magic: no good\"",
            ),
            (
                "echo remuxd probe: loaded; echo Bye >&2; exit 3",
                "playing the self-test to it ends the process: exit status 3, after \"Bye\"",
            ),
            (
                "echo remuxd probe: loaded; kill -ABRT $$",
                "playing the self-test to it ends the process: SIGABRT",
            ),
            ("exit 0", "loading it ends the process: exit status 0"),
            (
                "echo 'inconsistency!' >&2; echo note: more; exit 127",
                "loading it ends the process: exit status 127, after \"inconsistency!\"",
            ),
            (
                "echo remuxd probe: passes; echo more",
                "loading it ends the process: exit status 0, after \"more\"",
            ),
            ("echo remuxd probe: passes; kill -SEGV $$", "loading it ends the process: SIGSEGV"),
            ("read line || echo remuxd probe: passes", "passes"),
        ];
        for (script, expected) in rows {
            let line = shell(script).map_or_else(|error| error.to_string(), |()| "passes".to_owned());
            assert_eq!(line, expected, "{script}");
        }
    }

    #[test]
    fn kills_what_does_not_end() {
        let began = Instant::now();
        for script in ["exec sleep 100", "exec sleep 100 >&- 2>&-"] {
            let error = shell(script).unwrap_err();
            assert!(matches!(error, LoadError::ProbeTimedOut { during: Trial::Loading, .. }), "{error}");
        }
        assert!(began.elapsed() < Duration::from_secs(8));
    }

    #[test]
    fn a_process_that_keeps_the_output_open_delays_no_outcome_beyond_the_limit() {
        let began = Instant::now();
        shell("sleep 9 & echo remuxd probe: passes").unwrap();
        assert!(began.elapsed() < Duration::from_secs(8));
    }

    #[test]
    fn processes_that_the_child_started_end_with_it() {
        for (script, verdict) in
            [("echo remuxd probe: passes", true), ("kill -SEGV $$", false), ("sleep 600", false)]
        {
            let (reader, writer) = io::pipe().unwrap();
            let mut command = Command::new("/bin/sh");
            // It keeps this pipe open, and not the child's output.
            command.arg("-c").arg(format!("sleep 600 >&0 2>&0 & exec <&-; {script}")).stdin(writer);
            assert_eq!(run(&mut command).is_ok(), verdict, "{script}");
            drop(command);
            // Ends when the other end is closed everywhere.
            let (ended, end) = std::sync::mpsc::channel();
            std::thread::spawn(move || ended.send(io::read_to_string(reader)));
            let end = end.recv_timeout(Duration::from_secs(10));
            assert!(matches!(&end, Ok(Ok(_))), "{script}: {end:?}");
        }
    }

    #[test]
    fn reads_no_more_than_a_bounded_output() {
        let error = shell("exec yes").unwrap_err();
        assert!(matches!(error, LoadError::ProbeCrashed { signal: 13, .. }), "{error}");
    }

    #[test]
    fn reports_a_missing_program() {
        let error = probe(Path::new("/nowhere"), &Staged::lent(Path::new("x"))).unwrap_err();
        let expected = "cannot be tried in a child process: No such file or directory (os error 2)";
        assert_eq!(error.to_string(), expected);
    }
}
