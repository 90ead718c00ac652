//! Threads: a module starts none, so that its library can be unmapped and a sandbox can run it.

use super::super::bench::{Bench, CARRIES_NONE, CheckResult, blame, result};
use crate::module::self_test::run::Run;
use crate::module::self_test::sequence::Sequence;

/// There are no threads that the module started: after loading, beside a remuxer, after the last remuxer.
pub fn threads(bench: &Bench<'_>) -> CheckResult {
    if bench.main().is_none() {
        return CheckResult::Skip(CARRIES_NONE.into());
    }
    let none_since = |moment: &str| match bench.threads.started_since() {
        None => Ok(()),
        Some(threads) => Err(format!("{moment}: the module started {threads}, still there")),
    };
    let run = |sequence: &Sequence| {
        let of = blame(sequence);
        let mut run = Run::start(bench.module, &bench.fresh()).map_err(&of)?;
        sequence.tags.iter().try_for_each(|tag| run.tag(tag)).map_err(&of)?;
        none_since(&format!("{}, after its tags", sequence.name))?;
        run.finish().map_err(&of)?;
        run.free().map_err(&of)?;
        none_since(&format!("{}, after the remuxer was dropped", sequence.name))
    };
    let outcome = none_since("after loading").and_then(|()| bench.carried.iter().try_for_each(run));
    result(outcome.map(|()| format!("none started in {} streams", bench.carried.len())))
}
