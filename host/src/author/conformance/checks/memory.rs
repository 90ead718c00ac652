//! Memory: what a remuxer keeps, and what it leaves behind.

use super::super::bench::{Bench, CARRIES_NONE, CheckResult};
use super::super::growth::{Growth, resident, size};
use super::super::threads::Threads;
use crate::media::{Millis, Tag};
use crate::module::self_test::sequence::Sequence;

/// Number of tags before memory is measured, and after.
const WARM_UP: usize = 40_000;
const LONG: usize = 200_000;
/// Number of remuxers before memory is measured, and after; each gets this many tags.
const FIRST_REMUXERS: usize = 200;
const REMUXERS: usize = 2_000;
const BEGINNING: usize = 8;
/// Largest beginning that is played to so many remuxers, in bytes.
const SMALL: usize = 1 << 20;
/// Growth that is allowed after the warm-up, in bytes.
const SLACK: usize = 4 << 20;

/// Why memory grows.
enum Excess {
    /// It grows slowly, or by threads.
    Slow(String),
    /// It grew so much that the run was stopped.
    Fast(String),
    /// The module failed.
    Fault(String),
}

/// The memory of a remuxer does not grow with the age of its stream, and a remuxer that is dropped leaves none.
pub fn memory(bench: &Bench<'_>) -> CheckResult {
    let Some(sequence) = bench.main() else { return CheckResult::Skip(CARRIES_NONE.into()) };
    let outcome = long_run(bench, sequence).and_then(|long| Ok(format!("{long}, {}", remuxers(bench)?)));
    match outcome {
        Ok(note) => CheckResult::Pass(note),
        Err(Excess::Slow(why) | Excess::Fault(why)) => CheckResult::Fail(why),
        Err(Excess::Fast(why)) => CheckResult::Stop(why),
    }
}

/// Plays a stream without end to one remuxer.
fn long_run(bench: &Bench<'_>, sequence: &Sequence) -> Result<String, Excess> {
    let fault = |fault| Excess::Fault(format!("{}: {fault}", sequence.name));
    let mut remuxer = bench.module.remuxer(&bench.fresh()).map_err(fault)?;
    let mut steps = Steps::new(bench, "tag", WARM_UP);
    let mut out = Vec::new();
    for tag in endless(sequence).take(WARM_UP + LONG) {
        out.clear();
        remuxer.tag(&tag, &mut out).map_err(fault)?;
        steps.next()?;
    }
    steps.end()
}

/// Makes and drops remuxers, one after the other. Each gets the beginning of a stream; every second one sees its end.
fn remuxers(bench: &Bench<'_>) -> Result<String, Excess> {
    let beginning = |sequence: &Sequence| sequence.tags[..sequence.tags.len().min(BEGINNING)].to_vec();
    let beginnings = bench.carried.iter().map(|sequence| (sequence.name, beginning(sequence)));
    let small = |tags: &[Tag]| tags.iter().map(|tag| tag.payload.len()).sum::<usize>() < SMALL;
    let beginnings: Vec<_> = beginnings.filter(|(_, tags)| small(tags)).collect();
    let mut steps = Steps::new(bench, "remuxer", FIRST_REMUXERS);
    let mut out = Vec::new();
    for (number, (name, tags)) in beginnings.iter().cycle().take(FIRST_REMUXERS + REMUXERS).enumerate() {
        let fault = |fault| Excess::Fault(format!("{name}: {fault}"));
        let mut remuxer = bench.module.remuxer(&bench.fresh()).map_err(fault)?;
        for tag in tags {
            remuxer.tag(tag, &mut out).map_err(fault)?;
            out.clear();
        }
        if number % 2 == 0 {
            remuxer.finish(&mut out).map_err(fault)?;
            out.clear();
        }
        // A fault here is found by the check of "freed at any time".
        let _ = remuxer.free();
        steps.next()?;
    }
    steps.end()
}

/// Steps after which memory must be as it was.
struct Steps<'a> {
    what: &'static str,
    done: usize,
    warm_up: usize,
    /// Resident memory after the warm-up.
    warm: usize,
    growth: Growth,
    /// The threads before the module was loaded.
    threads: &'a Threads,
}

impl<'a> Steps<'a> {
    fn new(bench: &'a Bench<'_>, what: &'static str, warm_up: usize) -> Steps<'a> {
        Steps { what, done: 0, warm_up, warm: 0, growth: Growth::start(), threads: &bench.threads }
    }

    /// Counts a step.
    fn next(&mut self) -> Result<(), Excess> {
        self.done += 1;
        if self.done == self.warm_up {
            self.warm = resident();
        }
        let Some(grown) = self.growth.excess() else { return Ok(()) };
        let why = leak(self.what, grown, self.done);
        Err(match self.threads.started_since() {
            None => Excess::Fast(why),
            // Stacks, of which the check of threads tells more.
            Some(threads) => Excess::Slow(format!("{why}; it started {threads}, still there")),
        })
    }

    /// Ends the steps. Returns the growth since the warm-up, in words.
    fn end(&self) -> Result<String, Excess> {
        let (grown, count) = (resident().saturating_sub(self.warm), self.done - self.warm_up);
        if grown > SLACK {
            return Err(Excess::Slow(leak(self.what, grown, count)));
        }
        Ok(format!("{} more after {count} {}s", size(grown), self.what))
    }
}

fn leak(what: &str, grown: usize, count: usize) -> String {
    format!("leaks {} a {what}: {} more after {count} {what}s", size(grown / count), size(grown))
}

/// A sequence without end: its tags again and again, at times that go on.
fn endless(sequence: &Sequence) -> impl Iterator<Item = Tag> {
    let length = sequence.tags.last().map_or(0, |last| last.dts.0 + 40);
    let turns = (0i64..).flat_map(move |turn| sequence.tags.iter().map(move |tag| (turn, tag)));
    turns.map(move |(turn, tag)| Tag { dts: Millis(tag.dts.0 + turn * length), ..tag.clone() })
}
