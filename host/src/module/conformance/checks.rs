//! Checks: one for each thing that an author can get wrong.

mod cost;
mod handover;
mod joins;
mod same;
mod streams;

use remuxd_plugin_api::{Options, Setup, StreamFacts};

use super::history::facts;
use super::rules::Breach;
use super::run::carries;
use super::sequences::{self, Sequence};
use crate::media::Tag;
use crate::module::{Module, OptionError, resolve_options};

/// What came of a check. The text is one line for the author.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The module does it right.
    Pass(String),
    /// It cannot be told.
    Skip(String),
    /// The module does it wrong.
    Fail(String),
}

/// One check: its name, and what it tries.
pub(super) struct Check {
    pub name: &'static str,
    pub run: fn(&Bench<'_>) -> Verdict,
}

/// All checks, in the order in which an author wants to know.
pub(super) const CHECKS: [Check; 13] = [
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
    Check { name: "memory", run: cost::memory },
    Check { name: "time of a call", run: cost::call_time },
];

/// What checks work with.
pub(super) struct Bench<'a> {
    module: &'a Module,
    options: Options,
    /// Sound sequences that the host would hand to the module.
    carried: Vec<Sequence>,
    /// The sound ones that it would not.
    foreign: Vec<Sequence>,
    unsound: Vec<Sequence>,
}

impl<'a> Bench<'a> {
    /// A bench for remuxers of `module` with these options, else the defaults.
    pub fn new(module: &'a Module, set: &[(String, String)]) -> Result<Bench<'a>, OptionError> {
        let options = resolve_options(module.options(), set, std::iter::empty())?;
        let (sound, unsound): (Vec<_>, Vec<_>) =
            sequences::all().into_iter().partition(|sequence| sequence.sound);
        let (carried, foreign) =
            sound.into_iter().partition(|one| one.tags.is_empty() || carries(module, &one.tags));
        Ok(Bench { module, options, carried, foreign, unsound })
    }

    fn fresh(&self) -> Setup {
        Setup::new(self.options.clone(), StreamFacts::default())
    }

    /// A setup for a remuxer that starts at tag `from`.
    fn later(&self, tags: &[Tag], from: usize) -> Setup {
        Setup::new(self.options.clone(), facts(tags, from))
    }

    /// The carried sequence with most to lose: the first, by the order of the kit.
    fn main(&self) -> Option<&Sequence> {
        self.carried.iter().find(|sequence| !sequence.tags.is_empty())
    }
}

const CARRIES_NONE: &str = "none of the kit's codecs is declared";

/// Fails with a sequence's breach.
fn blame(sequence: &Sequence) -> impl Fn(Breach) -> String {
    let name = sequence.name;
    move |breach| format!("{name}: {breach}")
}

fn verdict(outcome: Result<String, String>) -> Verdict {
    match outcome {
        Ok(note) => Verdict::Pass(note),
        Err(reason) => Verdict::Fail(reason),
    }
}
