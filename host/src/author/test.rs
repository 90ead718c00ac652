//! Test: the conformance kit, with a table of verdicts as it goes.

use std::fmt;
use std::io::{self, Write};
use std::path::Path;

use serde::Serialize;

use crate::plugin::{LoadError, Stage, Verdict, checks, probe, run_check};

/// The name of the first row: what every load checks.
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
    fn new(check: &'static str, verdict: Verdict) -> Row {
        let (verdict, why) = match verdict {
            Verdict::Pass(why) => ("pass", why),
            Verdict::Skip(why) => ("skip", why),
            Verdict::Fail(why) => ("FAIL", why),
        };
        Row { check, verdict, why }
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}  {:24} {}", self.verdict, self.check, self.why)
    }
}

/// Runs the kit on the module in `file`, with these options of a mount, in child processes of `program`. Each row goes to
/// `table` as soon as it is known; with `json`, all of them as one array in the end. True: nothing failed.
///
/// # Errors
/// `table` cannot be written.
pub fn test_module(
    file: &Path,
    options: &[(String, String)],
    program: &Path,
    json: bool,
    table: &mut impl Write,
) -> io::Result<bool> {
    let mut rows = Vec::new();
    let mut add = |row: Row| {
        let shown = if json { Ok(()) } else { writeln!(table, "{row}") };
        rows.push(row);
        shown
    };
    let stage = Stage::new();
    let loaded = stage.stage("tested", file).and_then(|staged| probe(program, &staged).map(|_| staged));
    let failed = |error: LoadError| Verdict::Fail(error.to_string());
    match loaded {
        Err(error) => add(Row::new(LOADING, failed(error)))?,
        Ok(staged) => {
            add(Row::new(LOADING, Verdict::Pass("the host would load it".into())))?;
            for check in checks() {
                let verdict = run_check(program, &staged, check, options).unwrap_or_else(failed);
                add(Row::new(check, verdict))?;
            }
        }
    }
    if json {
        serde_json::to_writer_pretty(&mut *table, &rows)?;
        writeln!(table)?;
    }
    Ok(rows.iter().all(|row| row.verdict != "FAIL"))
}
