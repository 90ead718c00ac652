//! Same: the output depends on the tags and the options alone.

use std::thread;

use remuxd_plugin_api::BlockFlags;

use super::super::bench::{Bench, CARRIES_NONE, CheckResult, blame, result};
use super::super::play::play;
use crate::media::Millis;
use crate::module::OutBlock;
use crate::module::self_test::run::Run;
use crate::module::self_test::sequence::Sequence;

/// The parts of a block that are compared.
type Essence = (BlockFlags, u8, Millis, Vec<u8>);

fn essence(blocks: &[OutBlock]) -> Vec<Essence> {
    blocks.iter().map(|block| (block.flags, block.track, block.dts, block.parts.concat())).collect()
}

/// Reports the first difference between two outputs.
fn compare(name: &str, what: &str, one: &[OutBlock], other: &[OutBlock]) -> Result<(), String> {
    let (one, other) = (essence(one), essence(other));
    match one.iter().zip(&other).position(|(one, other)| one != other) {
        Some(at) => Err(format!("{name}: {what}, block {at} differs ({} ms)", one[at].2.0)),
        None if one.len() != other.len() => {
            Err(format!("{name}: {what}, {} blocks became {}", one.len(), other.len()))
        }
        None => Ok(()),
    }
}

/// The same tags make the same blocks, on one thread and on many.
pub fn determinism(bench: &Bench<'_>) -> CheckResult {
    let run = |sequence: &Sequence| {
        let played = || play(bench.module, &bench.fresh(), &sequence.tags).map_err(blame(sequence));
        let first = played()?;
        compare(sequence.name, "played again", &first, &played()?)?;
        let mut run = Run::start(bench.module, &bench.fresh()).map_err(blame(sequence))?;
        for tags in sequence.tags.chunks(sequence.tags.len() / 10 + 1) {
            let fed = thread::scope(|scope| {
                let run = &mut run;
                scope.spawn(move || tags.iter().try_for_each(|tag| run.tag(tag))).join()
            });
            fed.map_err(|_| "a thread panicked".to_owned())?.map_err(blame(sequence))?;
        }
        run.finish().map_err(blame(sequence))?;
        compare(sequence.name, "played on several threads", &first, &run.blocks)
    };
    let outcome = bench.carried.iter().try_for_each(run);
    result(outcome.map(|()| format!("{} streams, again and on several threads", bench.carried.len())))
}

/// Two remuxers at once are as each alone.
pub fn independence(bench: &Bench<'_>) -> CheckResult {
    let sequences: Vec<_> = bench.carried.iter().filter(|sequence| !sequence.tags.is_empty()).collect();
    let pairs = sequences.iter().zip(sequences.iter().cycle().skip(1));
    let run = |(one, other): (&&Sequence, &&Sequence)| {
        let alone =
            |sequence: &Sequence| play(bench.module, &bench.fresh(), &sequence.tags).map_err(blame(sequence));
        let (alone_one, alone_other) = (alone(one)?, alone(other)?);
        let start = |sequence| Run::start(bench.module, &bench.fresh()).map_err(blame(sequence));
        let (mut first, mut second) = (start(one)?, start(other)?);
        for index in 0..one.tags.len().max(other.tags.len()) {
            for (run, sequence) in [(&mut first, one), (&mut second, other)] {
                sequence.tags.get(index).map_or(Ok(()), |tag| run.tag(tag)).map_err(blame(sequence))?;
            }
        }
        for (mut run, sequence, alone) in [(first, one, alone_one), (second, other, alone_other)] {
            run.finish().map_err(blame(sequence))?;
            compare(sequence.name, "beside another remuxer", &alone, &run.blocks)?;
        }
        Ok(())
    };
    let count = sequences.len();
    if count == 0 {
        return CheckResult::Skip(CARRIES_NONE.into());
    }
    result(pairs.take(count).try_for_each(run).map(|()| format!("{count} pairs of remuxers")))
}
