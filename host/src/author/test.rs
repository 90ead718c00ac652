//! Test: runs the conformance kit and prints a table of results.

use std::fmt;
use std::io::{self, Write};
use std::path::Path;

use serde::Serialize;
use thiserror::Error;

use super::conformance::{CheckResult, checks, run_check};
use crate::module::{LoadError, OptionError, Stage, probe, resolve_options};

/// Name of the first row, for the checks of every load.
const LOADING: &str = "loading, self-test";

/// A row of the table.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// The check.
    pub check: &'static str,
    /// `pass`, `skip` or `FAIL`.
    pub verdict: &'static str,
    /// One line.
    pub why: String,
}

impl Row {
    fn new(check: &'static str, verdict: CheckResult) -> Row {
        let (verdict, why) = match verdict {
            CheckResult::Pass(why) => ("pass", why),
            CheckResult::Skip(why) => ("skip", why),
            CheckResult::Fail(why) | CheckResult::Stop(why) => ("FAIL", why),
        };
        Row { check, verdict, why }
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}  {:24} {}", self.verdict, self.check, self.why)
    }
}

/// Why a module was not tested to the end. The culprit is the caller of the command.
#[derive(Debug, Error)]
pub enum TestError {
    /// The module does not take these options.
    #[error(transparent)]
    Options(#[from] OptionError),
    /// The table cannot be written.
    #[error("{0}")]
    Write(#[from] io::Error),
}

/// Runs the kit on the module in `file`, with these options of a mount, in child processes of `program`. Each row is written
/// to `table` at once; with `json`, all rows are written as one array at the end. Returns whether no check failed.
///
/// # Errors
/// [`TestError`].
pub fn test_module(
    file: &Path,
    options: &[(String, String)],
    program: &Path,
    json: bool,
    table: &mut impl Write,
) -> Result<bool, TestError> {
    let mut rows = Vec::new();
    let mut add = |row: Row| {
        let shown = if json { Ok(()) } else { writeln!(table, "{row}") };
        rows.push(row);
        shown
    };
    let stage = Stage::new();
    let loaded = stage.stage("tested", file).and_then(|staged| Ok((probe(program, &staged)?, staged)));
    let failed = |error: LoadError| CheckResult::Fail(error.to_string());
    match loaded {
        Err(error) => add(Row::new(LOADING, failed(error)))?,
        Ok((description, staged)) => {
            resolve_options(&description.options, options, std::iter::empty())?;
            add(Row::new(LOADING, CheckResult::Pass("the host would load it".into())))?;
            let mut stopped_by = None;
            for check in checks() {
                let verdict = match stopped_by {
                    None => run_check(program, &staged, check, options).unwrap_or_else(failed),
                    Some(other) => CheckResult::Skip(format!("not tried after {other:?} failed")),
                };
                if matches!(verdict, CheckResult::Stop(_)) {
                    stopped_by = Some(check);
                }
                add(Row::new(check, verdict))?;
            }
        }
    }
    if json {
        serde_json::to_writer_pretty(&mut *table, &rows).map_err(io::Error::from)?;
        writeln!(table)?;
    }
    Ok(rows.iter().all(|row| row.verdict != "FAIL"))
}
