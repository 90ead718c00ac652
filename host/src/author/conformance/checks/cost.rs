//! Cost: memory over a long stream, and the time of a call.

use std::fs;
use std::hint::black_box;
use std::time::{Duration, Instant};

use super::super::bench::{Bench, CARRIES_NONE, CheckResult};
use crate::media::{Millis, Tag};
use crate::module::ModuleFault;
use crate::module::self_test::sequence::Sequence;

/// How many tags come before memory is measured, and after.
const WARM_UP: usize = 40_000;
const LONG: usize = 200_000;
/// How much more may be held after the long run, in bytes.
const GROWTH: usize = 4 << 20;

/// A sequence without end: its tags again and again, at times that go on.
fn endless(sequence: &Sequence) -> impl Iterator<Item = Tag> {
    let length = sequence.tags.last().map_or(0, |last| last.dts.0 + 40);
    let turns = (0i64..).flat_map(move |turn| sequence.tags.iter().map(move |tag| (turn, tag)));
    turns.map(move |(turn, tag)| Tag { dts: Millis(tag.dts.0 + turn * length), ..tag.clone() })
}

/// The memory of a remuxer does not grow with the age of its stream.
pub fn memory(bench: &Bench<'_>) -> CheckResult {
    let Some(sequence) = bench.main() else { return CheckResult::Skip(CARRIES_NONE.into()) };
    let measure = || -> Result<(usize, usize), String> {
        let mut remuxer = bench.module.remuxer(&bench.fresh()).map_err(|fault| fault.to_string())?;
        let mut out = Vec::new();
        let mut tags = endless(sequence);
        let mut feed = |count| {
            tags.by_ref().take(count).try_for_each(|tag| {
                out.clear();
                remuxer.tag(&tag, &mut out)
            })
        };
        let fault = |fault: ModuleFault| fault.to_string();
        feed(WARM_UP).map_err(fault)?;
        let before = resident();
        feed(LONG).map_err(fault)?;
        Ok((before, resident()))
    };
    match measure() {
        Ok((before, after)) if after > before + GROWTH => {
            let grown = after - before;
            CheckResult::Fail(format!(
                "{} KiB more after {LONG} tags: {} bytes a tag",
                grown >> 10,
                grown / LONG
            ))
        }
        Ok((before, after)) => {
            let grown = after.saturating_sub(before) >> 10;
            CheckResult::Pass(format!("{grown} KiB more after {LONG} tags"))
        }
        Err(fault) => CheckResult::Fail(format!("{}: {fault}", sequence.name)),
    }
}

/// The memory of this process, in bytes.
fn resident() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()).and_then(|kib| kib.parse::<usize>().ok());
    kib.unwrap_or(0) << 10
}

/// Duration of a call from which the host warns: the default of `modules.call_timeout`.
const CALL_LIMIT: Duration = Duration::from_secs(1);

/// A call does not keep a thread of the host.
pub fn call_time(bench: &Bench<'_>) -> CheckResult {
    let mut times = Vec::new();
    for sequence in &bench.carried {
        let Ok(mut remuxer) = bench.module.remuxer(&bench.fresh()) else { continue };
        let mut out = Vec::new();
        for (number, tag) in sequence.tags.iter().enumerate() {
            let began = Instant::now();
            let _ = black_box(remuxer.tag(tag, &mut out));
            times.push((began.elapsed(), sequence.name, number));
            out.clear();
        }
    }
    times.sort();
    let (Some(&(median, ..)), Some(&(longest, name, number))) = (times.get(times.len() / 2), times.last())
    else {
        return CheckResult::Skip(CARRIES_NONE.into());
    };
    if longest > CALL_LIMIT {
        return CheckResult::Fail(format!("{longest:.1?} at tag {number} of {name}, {CALL_LIMIT:?} at most"));
    }
    CheckResult::Pass(format!("half of them below {median:.1?}, the longest {longest:.1?} ({name})"))
}
