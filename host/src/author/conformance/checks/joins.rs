//! Joins: remuxers that start, and viewers who join, in the middle of a stream.

use super::super::bench::{Bench, CARRIES_NONE, CheckResult, blame, result};
use super::super::decode::{self, decode};
use super::super::history::{join_blocks, joins, replay, viewed, viewed_whole};
use super::super::play::play;
use crate::module::self_test::rules::Rule;
use crate::module::self_test::run::carries;

/// A remuxer that starts where the first viewer of an old stream makes it start.
pub fn starts(bench: &Bench<'_>) -> CheckResult {
    if bench.main().is_none() {
        return CheckResult::Skip(CARRIES_NONE.into());
    }
    result(
        bench
            .carried
            .iter()
            .try_fold(0, |starts, sequence| {
                let places = joins(&sequence.tags);
                let step = places.len() / 5 + 1;
                for &from in places.iter().step_by(step) {
                    let tags = replay(&sequence.tags, from);
                    let setup = bench.later(&sequence.tags, from);
                    let blocks = play(bench.module, &setup, &tags)
                        .map_err(|breach| format!("{}, from tag {from}: {breach}", sequence.name))?;
                    if join_blocks(&blocks).is_empty() && carries(bench.module, &tags) {
                        return Err(format!("{}, from tag {from}: {}", sequence.name, Rule::NoJoin));
                    }
                }
                Ok(starts + places.len().div_ceil(step))
            })
            .map(|starts| format!("{starts} starts")),
    )
}

/// How many sequences are decoded, and at how many places of each.
const DECODED: usize = 4;
const PLACES: usize = 3;

/// Preamble, configurations and all from a JOIN on decode without anything else.
pub fn joins_decode(bench: &Bench<'_>) -> CheckResult {
    if !decode::is_available() {
        return CheckResult::Skip("no ffprobe on the PATH".into());
    }
    let mut decoded = 0;
    let mut problem = CARRIES_NONE.to_owned();
    for sequence in bench.carried.iter().filter(|one| !one.tags.is_empty()).take(DECODED) {
        let blocks = match play(bench.module, &bench.fresh(), &sequence.tags) {
            Ok(blocks) => blocks,
            Err(breach) => return CheckResult::Fail(blame(sequence)(breach)),
        };
        let places = join_blocks(&blocks);
        if let Err(why) = decode(viewed_whole(&blocks)) {
            problem = format!("ffprobe does not read it: {why}");
            continue;
        }
        // The last third may be too short to be recognised.
        let early = &places[..places.len() * 2 / 3];
        for &from in early.iter().step_by(early.len() / PLACES + 1) {
            if let Err(why) = decode(viewed(&blocks, from)) {
                let dts = blocks[from].dts.0;
                return CheckResult::Fail(format!("{}, joined at {dts} ms: ffprobe: {why}", sequence.name));
            }
            decoded += 1;
        }
    }
    if decoded == 0 {
        CheckResult::Skip(problem)
    } else {
        CheckResult::Pass(format!("{decoded} joins decoded"))
    }
}
