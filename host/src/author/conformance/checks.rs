//! Checks: one for each thing that an author can get wrong.

mod cost;
mod handover;
mod joins;
mod memory;
mod same;
mod streams;
mod threads;

use super::bench::{Bench, CheckResult};

/// A check and its name.
pub struct Check {
    pub name: &'static str,
    pub run: fn(&Bench<'_>) -> CheckResult,
}

/// All checks, the most basic first.
pub const CHECKS: [Check; 14] = [
    // Before the others, which play much more: see `CheckResult::Stop`.
    Check { name: "memory", run: memory::memory },
    Check { name: "sound streams", run: streams::sound_streams },
    Check { name: "options", run: streams::options },
    Check { name: "codecs it lacks", run: streams::other_codecs },
    Check { name: "damaged streams", run: streams::damaged_streams },
    Check { name: "start in the middle", run: joins::starts },
    Check { name: "joins decode alone", run: joins::joins_decode },
    Check { name: "handover to itself", run: handover::handover },
    Check { name: "state of another build", run: handover::foreign_state },
    Check { name: "same output each time", run: same::determinism },
    Check { name: "one stream, one remuxer", run: same::independence },
    Check { name: "freed at any time", run: streams::freed },
    Check { name: "threads", run: threads::threads },
    Check { name: "time of a call", run: cost::call_time },
];
