//! Play: whole sequences, played to remuxers.

use remuxd_plugin_api::Setup;

use super::history::{joins, replay};
use crate::media::Tag;
use crate::module::self_test::rules::{Breach, Rule};
use crate::module::self_test::run::Run;
use crate::module::{Module, ModuleFault, OutBlock};

/// Plays a sequence from its start to its end.
pub fn play(module: &Module, setup: &Setup, tags: &[Tag]) -> Result<Vec<OutBlock>, Breach> {
    let mut run = Run::start(module, setup)?;
    tags.iter().try_for_each(|tag| run.tag(tag))?;
    run.finish()?;
    run.free()
}

/// Plays a sequence with which a module may return errors. As in the host, the stream continues after an error at the next
/// keyframe with a new remuxer. Returns the number of errors. Any other fault is a breach.
pub fn survive(module: &Module, setup: &Setup, tags: &[Tag]) -> Result<usize, Breach> {
    let mut errors = 0;
    let mut from = 0;
    while let Err((failed, breach)) = play_from(module, setup, tags, from) {
        if !matches!(breach.rule, Rule::Fault(ModuleFault::Remux { .. } | ModuleFault::Unsupported { .. })) {
            return Err(breach);
        }
        errors += 1;
        let next = joins(tags).into_iter().find(|&place| place > failed);
        let Some(next) = next else { break };
        from = next;
    }
    Ok(errors)
}

/// Plays from tag `from` on. An error comes with the number of its tag.
fn play_from(module: &Module, setup: &Setup, tags: &[Tag], from: usize) -> Result<(), (usize, Breach)> {
    let replayed = replay(tags, from);
    let before = replayed.len() - (tags.len() - from);
    let mut number = from;
    let mut run = Run::start(module, setup).map_err(|breach| (number, breach))?;
    for (index, tag) in replayed.iter().enumerate() {
        number = from + index.saturating_sub(before);
        run.number = number;
        run.tag(tag).map_err(|breach| (number, breach))?;
    }
    run.finish().and_then(|()| run.free()).map(drop).map_err(|breach| (number, breach))
}
