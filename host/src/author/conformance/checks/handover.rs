//! Handover: a build of the module takes over from another one, here of the same.

use super::super::bench::{Bench, CARRIES_NONE, CheckResult, blame};
use super::super::decode::{self, counts, decode};
use super::super::history::{is_preamble, joins, media, replay, viewed_whole};
use super::super::play::play;
use crate::media::Tag;
use crate::module::OutBlock;
use crate::module::self_test::rules::Breach;
use crate::module::self_test::run::{Run, carries};
use crate::module::self_test::sequence::Sequence;

/// How many sequences are decoded.
const DECODED: usize = 4;

/// Plays a handover between two remuxers of the module at tag `at`. Returns the blocks, and how many of them are the first's.
fn hand_over(bench: &Bench<'_>, tags: &[Tag], at: usize) -> Result<(Vec<OutBlock>, usize), Breach> {
    let mut first = Run::start(bench.module, &bench.fresh())?;
    tags[..at].iter().try_for_each(|tag| first.tag(tag))?;
    first.finish()?;
    let state = first.state()?;
    let mut blocks = first.free()?;
    let from_first = blocks.len();
    let mut setup = bench.later(tags, at);
    setup.state = state;
    let mut second = play(bench.module, &setup, &replay(tags, at))?;
    // The successor's first one is for viewers that join.
    if let Some(preamble) = second.iter().position(is_preamble) {
        second.remove(preamble);
    }
    blocks.extend(second);
    Ok((blocks, from_first))
}

/// Viewers notice nothing when the module takes over from itself: times go on, no frame is lost or repeated.
pub fn handover(bench: &Bench<'_>) -> CheckResult {
    if bench.main().is_none() {
        return CheckResult::Skip(CARRIES_NONE.into());
    }
    let ffprobe = decode::is_available();
    let (mut tried, mut decoded) = (0, 0);
    for sequence in &bench.carried {
        let places = joins(&sequence.tags);
        let Some(&at) = places.get(places.len() / 2).filter(|_| places.len() > 1) else { continue };
        let (blocks, from_first) = match hand_over(bench, &sequence.tags, at) {
            Ok(handed) => handed,
            Err(breach) => return CheckResult::Fail(blame(sequence)(breach)),
        };
        tried += 1;
        let (first, second) = blocks.split_at(from_first);
        let last = media(first).map(|block| block.dts).max();
        let next = media(second).map(|block| block.dts).min();
        if let Some((last, next)) = last.zip(next).filter(|(last, next)| next < last) {
            let Sequence { name, .. } = sequence;
            return CheckResult::Fail(format!(
                "{name}: the successor goes back from {} to {} ms",
                last.0, next.0
            ));
        }
        if !carries(bench.module, &sequence.tags[at..]) || decoded == DECODED || !ffprobe {
            continue;
        }
        let alone = play(bench.module, &bench.fresh(), &sequence.tags).unwrap_or_default();
        let Ok(expected) = decode(viewed_whole(&alone)) else { continue };
        match decode(viewed_whole(&blocks)) {
            Ok(found) if found == expected => decoded += 1,
            Ok(found) => {
                let Sequence { name, .. } = sequence;
                let (found, expected) = (counts(&found), counts(&expected));
                return CheckResult::Fail(format!(
                    "{name}: {found} decode with a handover, {expected} without"
                ));
            }
            Err(why) => {
                return CheckResult::Fail(format!("{}: after a handover ffprobe: {why}", sequence.name));
            }
        }
    }
    CheckResult::Pass(format!("{tried} handovers, {decoded} of them decoded"))
}

/// A state that cannot be read counts as a fresh start.
pub fn foreign_state(bench: &Bench<'_>) -> CheckResult {
    let Some(sequence) = bench.main() else { return CheckResult::Skip(CARRIES_NONE.into()) };
    let own = Run::start(bench.module, &bench.fresh()).and_then(|mut run| {
        sequence.tags.iter().try_for_each(|tag| run.tag(tag))?;
        run.finish()?;
        run.state()
    });
    let own = match own {
        Ok(own) => own,
        Err(breach) => return CheckResult::Fail(blame(sequence)(breach)),
    };
    let damaged = |at: usize| {
        let mut state = own.clone();
        state[at] ^= 0xff;
        state
    };
    let mut states = vec![vec![0], vec![0xff; 3], vec![0; 1000], b"{\"version\": 9}".to_vec()];
    states.extend((0..own.len()).step_by(own.len() / 40 + 1).map(damaged));
    states.extend((1..own.len()).step_by(own.len() / 40 + 1).map(|end| own[..end].to_vec()));
    states.push([&own[..], &[0; 9]].concat());
    let tried = states.len();
    for state in states {
        let shown = state.len();
        let mut setup = bench.fresh();
        setup.state = state;
        if let Err(breach) = play(bench.module, &setup, &sequence.tags) {
            return CheckResult::Fail(format!("with a state of {shown} bytes that is not its own: {breach}"));
        }
    }
    CheckResult::Pass(format!("its own has {} bytes; {tried} others", own.len()))
}
