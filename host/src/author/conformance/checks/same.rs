//! Same: the output depends on the tags and the options alone.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::thread;
use std::time::{Duration, Instant};

use super::super::bench::{Bench, CARRIES_NONE, CheckResult, blame, result};
use super::super::play::play;
use crate::media::Millis;
use crate::module::OutBlock;
use crate::module::self_test::run::Run;
use crate::module::self_test::sequence::Sequence;

/// Time between two plays of a sequence. Longer than a second, so that the seconds of a clock differ.
const APART: Duration = Duration::from_millis(1_100);

/// The part of a block that is compared: its time, and a hash of everything.
type Essence = (Millis, u64);

fn essence(blocks: &[OutBlock]) -> Vec<Essence> {
    let hash = |block: &OutBlock| {
        let mut hasher = DefaultHasher::new();
        (block.flags.0, block.track, block.dts.0).hash(&mut hasher);
        // Byte by byte, so that the borders of parts make no difference.
        block.parts.iter().for_each(|part| hasher.write(part));
        hasher.finish()
    };
    blocks.iter().map(|block| (block.dts, hash(block))).collect()
}

/// Reports the first difference between two outputs.
fn compare(name: &str, what: &str, one: &[Essence], other: &[Essence]) -> Result<(), String> {
    match one.iter().zip(other).position(|(one, other)| one != other) {
        Some(at) => Err(format!("{name}: {what}, block {at} differs ({} ms)", one[at].0.0)),
        None if one.len() != other.len() => {
            Err(format!("{name}: {what}, {} blocks became {}", one.len(), other.len()))
        }
        None => Ok(()),
    }
}

/// The same tags make the same blocks, at any time, on one thread and on many.
pub fn determinism(bench: &Bench<'_>) -> CheckResult {
    let played = |sequence: &Sequence| {
        let blocks = play(bench.module, &bench.fresh(), &sequence.tags).map_err(blame(sequence))?;
        Ok::<_, String>(essence(&blocks))
    };
    let on_threads = |sequence: &&Sequence| on_threads(bench, sequence);
    let compared = || {
        let sequences: Vec<_> = bench.carried.iter().collect();
        let first = sequences.iter().copied().map(played).collect::<Result<Vec<_>, _>>()?;
        let end = Instant::now();
        // The time passes with something useful.
        let threaded = sequences.iter().map(on_threads).collect::<Result<Vec<_>, _>>()?;
        thread::sleep(APART.saturating_sub(end.elapsed()));
        for ((sequence, first), threaded) in sequences.iter().zip(&first).zip(&threaded) {
            compare(sequence.name, "played again a second later", first, &played(sequence)?)?;
            compare(sequence.name, "played on several threads", first, threaded)?;
        }
        Ok(format!("{} streams, on several threads, and again a second later", first.len()))
    };
    result(compared())
}

/// Plays a sequence, each tenth of it on another thread.
fn on_threads(bench: &Bench<'_>, sequence: &Sequence) -> Result<Vec<Essence>, String> {
    let mut run = Run::start(bench.module, &bench.fresh()).map_err(blame(sequence))?;
    for tags in sequence.tags.chunks(sequence.tags.len() / 10 + 1) {
        let fed = thread::scope(|scope| {
            let run = &mut run;
            scope.spawn(move || tags.iter().try_for_each(|tag| run.tag(tag))).join()
        });
        fed.map_err(|_| "a thread panicked".to_owned())?.map_err(blame(sequence))?;
    }
    run.finish().map_err(blame(sequence))?;
    Ok(essence(&run.blocks))
}

/// Two remuxers at once are as each alone.
pub fn independence(bench: &Bench<'_>) -> CheckResult {
    let sequences: Vec<_> = bench.carried.iter().filter(|sequence| !sequence.tags.is_empty()).collect();
    let pairs = sequences.iter().zip(sequences.iter().cycle().skip(1));
    let run = |(one, other): (&&Sequence, &&Sequence)| {
        let alone = |sequence: &Sequence| {
            let blocks = play(bench.module, &bench.fresh(), &sequence.tags).map_err(blame(sequence))?;
            Ok::<_, String>(essence(&blocks))
        };
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
            compare(sequence.name, "beside another remuxer", &alone, &essence(&run.blocks))?;
        }
        Ok(())
    };
    let count = sequences.len();
    if count == 0 {
        return CheckResult::Skip(CARRIES_NONE.into());
    }
    result(pairs.take(count).try_for_each(run).map(|()| format!("{count} pairs of remuxers")))
}
