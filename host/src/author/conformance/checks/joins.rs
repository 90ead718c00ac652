//! Joins: remuxers that start, and viewers who join, in the middle of a stream.

use super::super::bench::{Bench, CARRIES_NONE, CheckResult, blame, result};
use super::super::decode::{self, counts, decode};
use super::super::history::{is_preamble, join_blocks, joins, media, replay, viewed, viewed_whole};
use super::super::play::play;
use crate::media::Tag;
use crate::module::OutBlock;
use crate::module::self_test::rules::{Breach, Rule};
use crate::module::self_test::run::{Run, carries};
use crate::module::self_test::sequence::Sequence;

/// How many sequences are decoded, and at how many places of each.
const DECODED: usize = 4;
const PLACES: usize = 3;

/// A remuxer that starts where the first viewer of an old stream makes it start writes all that one which is older writes
/// from there on.
pub fn starts(bench: &Bench<'_>) -> CheckResult {
    if bench.main().is_none() {
        return CheckResult::Skip(CARRIES_NONE.into());
    }
    let ffprobe = decode::is_available();
    let (mut starts, mut decoded, mut sequences) = (0, 0, 0);
    let mut try_sequence = |sequence: &Sequence| {
        let places = joins(&sequence.tags);
        let step = places.len() / 5 + 1;
        let mut decoded_here = 0;
        for &from in places.iter().step_by(step) {
            let blame = |why| format!("{}, from tag {from}: {why}", sequence.name);
            let blocks = start(bench, &sequence.tags, from).map_err(blame)?;
            starts += 1;
            if ffprobe && from > places[0] && sequences < DECODED && decoded_here < PLACES {
                decoded_here += usize::from(starts_whole(bench, sequence, from, &blocks).map_err(blame)?);
            }
        }
        decoded += decoded_here;
        sequences += usize::from(decoded_here > 0);
        Ok(())
    };
    let outcome = bench.carried.iter().try_for_each(&mut try_sequence);
    result(outcome.map(|()| format!("{starts} starts, {decoded} of them decoded")))
}

/// Plays a sequence from tag `from` to its end.
fn start(bench: &Bench<'_>, tags: &[Tag], from: usize) -> Result<Vec<OutBlock>, String> {
    let replayed = replay(tags, from);
    let blocks =
        play(bench.module, &bench.later(tags, from), &replayed).map_err(|breach| breach.to_string())?;
    if join_blocks(&blocks).is_empty() && carries(bench.module, &replayed) {
        return Err(Rule::NoJoin.to_string());
    }
    Ok(blocks)
}

/// Compares the output of a remuxer that started at tag `from` with what a viewer who joins there gets from an older one.
/// Returns whether there was one to compare.
fn starts_whole(
    bench: &Bench<'_>,
    sequence: &Sequence,
    from: usize,
    blocks: &[OutBlock],
) -> Result<bool, String> {
    let (before, older) = older_blocks(bench, &sequence.tags, from).map_err(|breach| breach.to_string())?;
    let dts = sequence.tags[from].dts;
    let join = join_blocks(&older).into_iter().find(|&block| block >= before && older[block].dts >= dts);
    let Some((join, start)) = join.zip(join_blocks(blocks).into_iter().next()) else { return Ok(false) };
    // The older one may have joins at fewer places.
    if older[join].dts > blocks[start].dts {
        return Ok(false);
    }
    let Ok(expected) = decode(viewed(&older, join)) else { return Ok(false) };
    match decode(viewed(blocks, start)) {
        Ok(found) if has_all(&found, &expected) => Ok(true),
        Ok(found) => {
            let (found, expected) = (counts(&found), counts(&expected));
            Err(format!("{found} decode, {expected} of an older remuxer from there on"))
        }
        Err(why) => Err(format!("ffprobe: {why}")),
    }
}

/// Whether the frames found are at least the expected ones. A fragment of an older remuxer may begin before the join point, and so
/// be left out there.
fn has_all(found: &[(String, u64)], expected: &[(String, u64)]) -> bool {
    let frames =
        |codec: &str| found.iter().find(|(other, _)| other == codec).map_or(0, |(_, frames)| *frames);
    expected.iter().all(|(codec, expected)| frames(codec) >= *expected)
}

/// Plays a whole sequence. Returns the number of blocks before tag `from`, and all blocks.
fn older_blocks(bench: &Bench<'_>, tags: &[Tag], from: usize) -> Result<(usize, Vec<OutBlock>), Breach> {
    let mut run = Run::start(bench.module, &bench.fresh())?;
    let (earlier, later) = tags.split_at(from);
    earlier.iter().try_for_each(|tag| run.tag(tag))?;
    let before = run.blocks.len();
    later.iter().try_for_each(|tag| run.tag(tag))?;
    run.finish()?;
    Ok((before, run.free()?))
}

/// Preamble, configurations and all from a JOIN on decode without anything else, to as many frames as they do in the whole.
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
        let whole = match decode(viewed_whole(&blocks)) {
            Ok(whole) => whole,
            Err(why) => {
                problem = format!("ffprobe does not read it: {why}");
                continue;
            }
        };
        let places = join_blocks(&blocks);
        // The last third may be too short to be recognised.
        let early = &places[..places.len() * 2 / 3];
        for &from in early.iter().step_by(early.len() / PLACES + 1) {
            let joined = decode(viewed(&blocks, from)).map_err(|why| format!("ffprobe: {why}"));
            if let Err(why) = joined.and_then(|found| joins_whole(&blocks, from, &found, &whole)) {
                let dts = blocks[from].dts.0;
                return CheckResult::Fail(format!("{}, joined at {dts} ms: {why}", sequence.name));
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

/// Compares the frames that a viewer who joined at block `from` found with the whole: all that were not there before.
fn joins_whole(
    blocks: &[OutBlock],
    from: usize,
    found: &[(String, u64)],
    whole: &[(String, u64)],
) -> Result<(), String> {
    // The whole ends at a second preamble.
    if blocks.iter().filter(|block| is_preamble(block)).count() > 1 {
        return Ok(());
    }
    let before = match &blocks[..from] {
        before if media(before).next().is_none() => Vec::new(),
        before => match decode(viewed_whole(before)) {
            Ok(before) => before,
            // Too short to be recognised.
            Err(_) => return Ok(()),
        },
    };
    let rest = |(codec, all): &(String, u64)| {
        let earlier = before.iter().filter(|(other, _)| other == codec).map(|(_, frames)| frames).sum();
        (codec.clone(), all.saturating_sub(earlier))
    };
    let expected: Vec<_> = whole.iter().map(rest).filter(|(_, frames)| *frames > 0).collect();
    if found == expected {
        return Ok(());
    }
    Err(format!("{} decode, {} of the whole stream from there on", counts(found), counts(&expected)))
}
