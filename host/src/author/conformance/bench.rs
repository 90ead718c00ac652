//! Bench: the module under test and the streams that are played to it.

use remuxd_plugin_api::{Options, Setup, StreamFacts};

use super::history::facts;
use super::sequences;
use crate::media::Tag;
use crate::module::self_test::rules::Breach;
use crate::module::self_test::run::carries;
use crate::module::self_test::sequence::Sequence;
use crate::module::{Module, OptionError, resolve_options};

/// What came of a check. The text is one line for the author.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CheckResult {
    /// The module does it right.
    Pass(String),
    /// It cannot be told.
    Skip(String),
    /// The module does it wrong.
    Fail(String),
}

/// What checks work with.
pub struct Bench<'a> {
    pub module: &'a Module,
    pub options: Options,
    /// Sound sequences that the host would hand to the module.
    pub carried: Vec<Sequence>,
    /// The sound ones that it would not.
    pub foreign: Vec<Sequence>,
    pub unsound: Vec<Sequence>,
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

    pub fn fresh(&self) -> Setup {
        Setup::new(self.options.clone(), StreamFacts::default())
    }

    /// A setup for a remuxer that starts at tag `from`.
    pub fn later(&self, tags: &[Tag], from: usize) -> Setup {
        Setup::new(self.options.clone(), facts(tags, from))
    }

    /// The carried sequence with most to lose: the first, by the order of the kit.
    pub fn main(&self) -> Option<&Sequence> {
        self.carried.iter().find(|sequence| !sequence.tags.is_empty())
    }
}

pub const CARRIES_NONE: &str = "none of the kit's codecs is declared";

/// Fails with a sequence's breach.
pub fn blame(sequence: &Sequence) -> impl Fn(Breach) -> String {
    let name = sequence.name;
    move |breach| format!("{name}: {breach}")
}

pub fn result(outcome: Result<String, String>) -> CheckResult {
    match outcome {
        Ok(note) => CheckResult::Pass(note),
        Err(reason) => CheckResult::Fail(reason),
    }
}
