//! Cost: the time of a call.

use std::hint::black_box;
use std::time::{Duration, Instant};

use super::super::bench::{Bench, CARRIES_NONE, CheckResult};

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
