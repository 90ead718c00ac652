//! Kit: each check in a child process of its own, so that a module that crashes or hangs fails one check.
//!
//! The child is the host's program with the arguments `__check FILE CHECK KEY=VALUE...`; [`check_main`] prints the result as
//! its last line.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use super::bench::{Bench, CheckResult};
use super::checks::CHECKS;
use super::threads::Threads;
use crate::module::child::{self, say};
use crate::module::self_test::MAX_OUTPUT;
use crate::module::text::{after, one_line, signal_name};
use crate::module::{LoadError, Staged, Terms, load_module};

/// Time limit of a check.
const CHECK_LIMIT: Duration = Duration::from_secs(120);

/// The hidden command of the host's program.
const COMMAND: &str = "__check";
/// Prefixes of a result.
const PASS: &str = "remuxd check: pass: ";
const SKIP: &str = "remuxd check: skip: ";
const FAIL: &str = "remuxd check: fail: ";
const STOP: &str = "remuxd check: stop: ";

/// The names of all checks, in their order.
pub fn checks() -> impl Iterator<Item = &'static str> {
    CHECKS.iter().map(|check| check.name)
}

/// Runs one check on a module that was [probed](crate::module::probe), with these options of a mount, in a child process
/// of `program`, which must call [`check_main`] for the hidden command.
///
/// # Errors
/// `Probe`: the child cannot be run.
pub fn run_check(
    program: &Path,
    file: &Staged,
    check: &str,
    options: &[(String, String)],
) -> Result<CheckResult, LoadError> {
    let mut command = Command::new(program);
    command.arg(COMMAND).arg(file.path()).arg(check).env("RUST_BACKTRACE", "0").stdin(Stdio::null());
    command.args(options.iter().map(|(key, value)| format!("{key}={value}")));
    let ended = child::run(&mut command, CHECK_LIMIT).map_err(LoadError::Probe)?;
    let Some(status) = ended.status else {
        return Ok(CheckResult::Fail(format!("no end after {CHECK_LIMIT:?}")));
    };
    let last = ended.lines.last().map_or("", String::as_str);
    if let Some(signal) = status.signal() {
        let said = after(last);
        return Ok(CheckResult::Fail(format!("{} ended the process{said}", signal_name(signal))));
    }
    let result = [
        (PASS, CheckResult::Pass as fn(String) -> CheckResult),
        (SKIP, CheckResult::Skip),
        (FAIL, CheckResult::Fail),
        (STOP, CheckResult::Stop),
    ]
    .into_iter()
    .find_map(|(mark, result)| last.strip_prefix(mark.trim_end()).map(|text| result(text.trim().into())));
    Ok(result.unwrap_or_else(|| CheckResult::Fail(format!("the process ended: {status}{}", after(last)))))
}

/// Runs in the child: loads the module in `file`, runs the check and prints the result.
pub fn check_main(file: &Path, check: &str, options: &[(String, String)]) -> ExitCode {
    child::prepare();
    let threads = Threads::now();
    let terms = Terms { generation: 1, max_output: MAX_OUTPUT, max_faults: 0, unload: false };
    let result = match load_module(Staged::lent(file), &terms) {
        Err(error) => CheckResult::Fail(error.to_string()),
        Ok(module) => {
            match (Bench::new(&module, threads, options), CHECKS.iter().find(|one| one.name == check)) {
                (Err(error), _) => CheckResult::Fail(error.to_string()),
                (_, None) => CheckResult::Fail(format!("no check {check:?}")),
                (Ok(bench), Some(check)) => (check.run)(&bench),
            }
        }
    };
    let (mark, text) = match &result {
        CheckResult::Pass(text) => (PASS, text),
        CheckResult::Skip(text) => (SKIP, text),
        CheckResult::Fail(text) => (FAIL, text),
        CheckResult::Stop(text) => (STOP, text),
    };
    say(&format!("{mark}{}", one_line(text)));
    ExitCode::SUCCESS
}
