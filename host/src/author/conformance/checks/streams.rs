//! Whole streams: what real publishers send must pass, what others send must not harm.

use remuxd_plugin_api::{Options, Setup, StreamFacts};

use super::super::bench::{Bench, CARRIES_NONE, CheckResult, blame, result};
use super::super::history::{join_blocks, media};
use super::super::play::{play, survive};
use crate::media::{Packet, TagKind};
use crate::module::self_test::rules::Rule;
use crate::module::self_test::run::Run;
use crate::module::self_test::sequence::Sequence;
use crate::module::{OptionKind, OutBlock};

/// No fault, blocks by the rules and in the order of their times, and a place to join in each stream that can be carried.
pub fn sound_streams(bench: &Bench<'_>) -> CheckResult {
    if bench.main().is_none() {
        return CheckResult::Skip(CARRIES_NONE.into());
    }
    result(
        bench
            .carried
            .iter()
            .try_fold(0, |tags, sequence| {
                let mut run = Run::start(bench.module, &bench.fresh()).map_err(blame(sequence))?;
                sequence.tags.iter().try_for_each(|tag| run.tag(tag)).map_err(blame(sequence))?;
                run.finish().map_err(blame(sequence))?;
                if run.joins() == 0 && !sequence.tags.is_empty() {
                    return Err(format!("{}: {}", sequence.name, Rule::NoJoin));
                }
                in_order(sequence, &run.blocks)?;
                run.free().map_err(blame(sequence))?;
                Ok(tags + sequence.tags.len())
            })
            .map(|tags| format!("{} streams, {tags} tags", bench.carried.len())),
    )
}

/// Times of blocks with media never go back in a stream of one track: the tags of a sound sequence do not either. Blocks of two tracks
/// may come in another order than the tags, such as fragments.
fn in_order(sequence: &Sequence, blocks: &[OutBlock]) -> Result<(), String> {
    let coded = || sequence.tags.iter().filter(|tag| tag.header.packet == Packet::CODED_FRAME);
    if ![TagKind::AUDIO, TagKind::VIDEO].iter().any(|kind| coded().all(|tag| tag.kind == *kind)) {
        return Ok(());
    }
    let mut last = None;
    for block in media(blocks) {
        let before = last.replace(block.dts).unwrap_or(block.dts);
        if block.dts < before {
            let (name, before, dts) = (sequence.name, before.0, block.dts.0);
            return Err(format!("{name}: a block's dts goes back from {before} to {dts} ms"));
        }
    }
    Ok(())
}

/// Every word, flag and bound of each option does what a default does, alone and with the others at their bounds.
pub fn options(bench: &Bench<'_>) -> CheckResult {
    let specs = bench.module.options();
    let each = specs.iter().flat_map(|spec| {
        values(&spec.kind).into_iter().map(|value| {
            let label = format!("{} = {value:?}", spec.name);
            (label, with(bench, |name| (name == spec.name).then(|| value.clone())))
        })
    });
    let all = |label: &str, pick: fn(&OptionKind) -> Option<String>| {
        let value =
            |name: &str| specs.iter().find(|spec| spec.name == name).and_then(|spec| pick(&spec.kind));
        (label.to_owned(), with(bench, value))
    };
    let bounds = [
        all("all options at their minimum", |kind| values(kind).into_iter().next()),
        all("all options at their maximum", |kind| values(kind).into_iter().last()),
    ];
    let bounds = bounds.into_iter().filter(|_| specs.len() > 1);
    if specs.is_empty() {
        return CheckResult::Skip("it has none".into());
    }
    let mut tried = 0;
    let outcome = each.chain(bounds).try_for_each(|(label, options)| {
        tried += 1;
        works_with(bench, options).map_err(|why| format!("{label}: {why}"))
    });
    result(outcome.map(|()| format!("{tried} settings")))
}

/// Returns the values that are tried: for an option with a range its bounds.
fn values(kind: &OptionKind) -> Vec<String> {
    match kind {
        OptionKind::Flag => vec!["false".to_owned(), "true".to_owned()],
        OptionKind::Integer { min, max } => vec![min.to_string(), max.to_string()],
        OptionKind::Choice(words) => words.clone(),
        // The streams of the checks have one track.
        OptionKind::Track => vec!["0".to_owned()],
        OptionKind::Text => vec![String::new(), "text \u{e9}\u{1f600}".to_owned()],
    }
}

/// Returns the options of the bench with some values replaced.
fn with(bench: &Bench<'_>, value: impl Fn(&str) -> Option<String>) -> Options {
    let set = bench
        .options
        .iter()
        .map(|(name, old)| (name.to_owned(), value(name).unwrap_or_else(|| old.to_owned())));
    Options::new(set.collect())
}

/// With these options sound streams cause no fault and one of them at least can be joined, and damaged ones do no harm.
fn works_with(bench: &Bench<'_>, options: Options) -> Result<(), String> {
    let setup = Setup::new(options, StreamFacts::default());
    let mut joins = 0;
    for sequence in &bench.carried {
        let blocks = play(bench.module, &setup, &sequence.tags).map_err(blame(sequence))?;
        in_order(sequence, &blocks)?;
        joins += join_blocks(&blocks).len();
    }
    if joins == 0 && bench.main().is_some() {
        return Err(Rule::NoJoin.to_string());
    }
    let mut damaged = bench.unsound.iter();
    damaged.try_for_each(|one| survive(bench.module, &setup, &one.tags).map(drop).map_err(blame(one)))
}

/// Errors are in order, panics and floods are not.
pub fn other_codecs(bench: &Bench<'_>) -> CheckResult {
    if bench.foreign.is_empty() {
        return CheckResult::Skip("it declares all that the kit has".into());
    }
    survives(bench, &bench.foreign)
}

pub fn damaged_streams(bench: &Bench<'_>) -> CheckResult {
    survives(bench, &bench.unsound)
}

fn survives(bench: &Bench<'_>, sequences: &[Sequence]) -> CheckResult {
    result(
        sequences
            .iter()
            .try_fold((0, 0), |(tags, errors), sequence| {
                let more = survive(bench.module, &bench.fresh(), &sequence.tags).map_err(blame(sequence))?;
                Ok((tags + sequence.tags.len(), errors + more))
            })
            .map(|(tags, errors)| format!("{} streams, {tags} tags, {errors} errors", sequences.len())),
    )
}

/// How many places to stop at.
const STOPS: usize = 80;

/// The last viewer may leave at any time: then there is no `finish`.
pub fn freed(bench: &Bench<'_>) -> CheckResult {
    let outcome = bench.carried.iter().chain(&bench.unsound).try_fold(0, |stops, sequence| {
        let ends = 0..sequence.tags.len().min(STOPS);
        for end in ends.clone() {
            let free = || {
                let mut run = Run::start(bench.module, &bench.fresh())?;
                for tag in &sequence.tags[..end] {
                    // What a tag does is looked at elsewhere.
                    if run.tag(tag).is_err() {
                        break;
                    }
                }
                run.free()
            };
            free().map_err(|breach| format!("{}, after {end} tags: {breach}", sequence.name))?;
        }
        Ok(stops + ends.len())
    });
    result(outcome.map(|stops| format!("after {stops} beginnings")))
}
