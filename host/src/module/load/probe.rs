//! Probe: a module is loaded in a child process before the host loads it, and the self-test is played to it there.
//!
//! Some files end the process that maps them: constructors that crash, exit or hang, and damage that makes the dynamic
//! linker give up. The child is the host's own program with the arguments `__probe FILE`; [`probe_main`] does there
//! what the host will do, and says how it went in the last line that it prints. Without that line nothing is
//! believed, also not exit status 0: the module's code may have ended the process. An earlier line tells that it
//! was loaded. A module that leaves its mark on the child, which it would leave on the host, is refused too; one with a
//! process of its own has another trial, and may.
//!
//! What the module declares goes into a file without a name, the child's standard input: it is all that a dry run of a
//! reload, and the checks of a config, know of a module that is not mapped.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitCode, ExitStatus};
use std::time::Duration;

use rustix::fs::{MemfdFlags, memfd_create};

use super::child::{self, say};
use super::loader::{self, Terms};
use super::self_test::{MAX_OUTPUT, self_test};
use super::stage::Staged;
use super::surroundings::Surroundings;
use crate::module::error::{LoadError, Trial};
use crate::module::fault::ModuleFault;
use crate::module::loaded::Description;
use crate::module::process::{self, MAX_DESCRIPTION};

/// How long loading and the self-test may take.
pub const PROBE_LIMIT: Duration = Duration::from_millis(1500);

/// The hidden command of the host's program.
const COMMAND: &str = "__probe";
/// What the child says before the self-test.
const LOADED: &str = "remuxd probe: loaded";
/// What the child says in the end.
const PASSES: &str = "remuxd probe: passes";
const REFUSED: &str = "remuxd probe: refused: ";
/// What a Rust program says after a panic.
const ADVICE: &str = "note: ";

/// Loads the module in `file` in a child process of `program`, which must call [`probe_main`] when it is told to, and
/// returns what it declares. Waits for it, [`PROBE_LIMIT`] at most.
///
/// # Errors
/// `Probe`, `ProbeCrashed`, `ProbeExited`, `ProbeTimedOut`, `ProbeRefused`; `Fault` and `Info` when what it declares cannot
/// be read.
pub fn probe(program: &Path, file: &Staged) -> Result<Description, LoadError> {
    let told =
        memfd_create("remuxd-probe", MemfdFlags::CLOEXEC).map_err(|error| LoadError::Probe(error.into()))?;
    let mut told = File::from(told);
    let theirs = told.try_clone().map_err(LoadError::Probe)?;
    let mut command = Command::new(program);
    run(command.arg(COMMAND).arg(file.path()).env("RUST_BACKTRACE", "0").stdin(theirs))?;
    let mut frame = Vec::new();
    told.rewind().map_err(LoadError::Probe)?;
    told.take(MAX_DESCRIPTION as u64).read_to_end(&mut frame).map_err(LoadError::Probe)?;
    Ok(Description::read(&process::read_description(frame.into()).map_err(ModuleFault::from)?)?)
}

fn run(command: &mut Command) -> Result<(), LoadError> {
    let ended = child::run(command, PROBE_LIMIT).map_err(LoadError::Probe)?;
    let said = Said::read(ended.said);
    let during = said.during();
    judge(ended.status.ok_or(LoadError::ProbeTimedOut { during, limit: PROBE_LIMIT })?, &said)
}

/// What the child said.
#[derive(Default)]
struct Said {
    /// [`LOADED`] was among it.
    loaded: bool,
    /// The last line, without the advice below a panic's message.
    last: String,
}

impl Said {
    fn read(lines: Vec<String>) -> Said {
        let mut said = Said::default();
        for line in lines {
            if line == LOADED {
                said.loaded = true;
            } else if !line.starts_with(ADVICE) {
                said.last = line;
            }
        }
        said
    }

    fn during(&self) -> Trial {
        if self.loaded { Trial::SelfTest } else { Trial::Loading }
    }
}

fn judge(status: ExitStatus, said: &Said) -> Result<(), LoadError> {
    let during = said.during();
    if let Some(signal) = status.signal() {
        return Err(LoadError::ProbeCrashed { during, signal });
    }
    if let Some(error) = said.last.strip_prefix(REFUSED).and_then(LoadError::heard) {
        return Err(error);
    }
    let passes = said.last == PASSES;
    match status.code() {
        Some(0) if passes => Ok(()),
        code => {
            let said = if passes { String::new() } else { said.last.clone() };
            Err(LoadError::ProbeExited { during, status: code.unwrap_or(-1), said })
        }
    }
}

/// The child's side: loads the module in `file`, plays the self-test to it, and says how it went.
pub fn probe_main(file: &Path) -> ExitCode {
    child::prepare();
    let (verdict, code) = match try_module(file) {
        Ok(()) => (PASSES.to_owned(), ExitCode::SUCCESS),
        Err(error) => (format!("{REFUSED}{}", error.told()), ExitCode::FAILURE),
    };
    say(&verdict);
    code
}

fn try_module(file: &Path) -> Result<(), LoadError> {
    let terms = Terms { generation: 0, max_output: MAX_OUTPUT, max_faults: 0, unload: false };
    let before = Surroundings::look();
    let module = loader::load(Staged::lent(file), &terms)?;
    say(LOADED);
    self_test(&module)?;
    if let Some(changed) = Surroundings::look().changed_from(&before) {
        return Err(LoadError::Surroundings { changed });
    }
    let told = io::stdin().as_fd().try_clone_to_owned().map_err(LoadError::Probe)?;
    File::from(told).write_all(&process::describe(&module, &[])).map_err(LoadError::Probe)
}

#[cfg(test)]
mod tests {
    use std::process::Stdio;
    use std::time::Instant;

    use super::*;

    /// Runs a shell script as the child.
    fn shell(script: &str) -> Result<(), LoadError> {
        run(Command::new("/bin/sh").arg("-c").arg(script).stdin(Stdio::null()))
    }

    #[test]
    fn believes_only_the_last_line_with_exit_status_0() {
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
    fn a_process_left_behind_with_the_output_delays_no_verdict_beyond_the_limit() {
        let began = Instant::now();
        shell("sleep 9 & echo remuxd probe: passes").unwrap();
        assert!(began.elapsed() < Duration::from_secs(8));
    }

    #[test]
    fn what_the_child_started_ends_with_it() {
        for (script, verdict) in
            [("echo remuxd probe: passes", true), ("kill -SEGV $$", false), ("sleep 600", false)]
        {
            let (reader, writer) = io::pipe().unwrap();
            let mut command = Command::new("/bin/sh");
            // It holds this pipe, and not the child's output.
            command.arg("-c").arg(format!("sleep 600 >&0 2>&0 & exec <&-; {script}")).stdin(writer);
            assert_eq!(run(&mut command).is_ok(), verdict, "{script}");
            drop(command);
            // Ends when nobody holds the other end.
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
    fn says_that_there_is_no_program() {
        let error = probe(Path::new("/nowhere"), &Staged::lent(Path::new("x"))).unwrap_err();
        let expected = "cannot be tried in a child process: No such file or directory (os error 2)";
        assert_eq!(error.to_string(), expected);
    }
}
