//! Whole streams: what real publishers send must pass, what others send must not harm.

use remuxd_plugin_api::{Options, Setup, StreamFacts};

use super::super::bench::{Bench, CARRIES_NONE, CheckResult, blame, result};
use super::super::play::{play, survive};
use crate::module::OptionKind;
use crate::module::self_test::rules::Rule;
use crate::module::self_test::run::Run;
use crate::module::self_test::sequence::Sequence;

/// No fault, blocks by the rules, and a place to join in each stream that can be carried.
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
                run.free().map_err(blame(sequence))?;
                Ok(tags + sequence.tags.len())
            })
            .map(|tags| format!("{} streams, {tags} tags", bench.carried.len())),
    )
}

/// Every word, flag and bound of each option does what a default does: no fault.
pub fn options(bench: &Bench<'_>) -> CheckResult {
    let specs = bench.module.options();
    let mut tried = 0;
    for spec in specs {
        let values = match &spec.kind {
            OptionKind::Flag => vec!["false".to_owned(), "true".to_owned()],
            OptionKind::Integer { min, max } => vec![min.to_string(), max.to_string()],
            OptionKind::Choice(words) => words.clone(),
            // The streams of the checks have one track.
            OptionKind::Track => vec!["0".to_owned()],
            OptionKind::Text => vec![String::new(), "text \u{e9}\u{1f600}".to_owned()],
        };
        for value in values {
            let set = bench.options.iter().map(|(key, old)| {
                (key.to_owned(), if key == spec.name { value.clone() } else { old.to_owned() })
            });
            let setup = Setup::new(Options::new(set.collect()), StreamFacts::default());
            for sequence in &bench.carried {
                if let Err(breach) = play(bench.module, &setup, &sequence.tags) {
                    return CheckResult::Fail(format!(
                        "{} = {value:?}: {}: {breach}",
                        spec.name, sequence.name
                    ));
                }
            }
            tried += 1;
        }
    }
    if tried == 0 {
        CheckResult::Skip("it has none".into())
    } else {
        CheckResult::Pass(format!("{tried} values"))
    }
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
