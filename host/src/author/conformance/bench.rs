//! Bench: the module under test and the streams that are played to it.

use remuxd_plugin_api::{Options, Setup, StreamFacts};

use super::history::facts;
use super::sequences;
use super::threads::Threads;
use crate::media::Tag;
use crate::module::self_test::rules::Breach;
use crate::module::self_test::run::carries;
use crate::module::self_test::sequence::Sequence;
use crate::module::{Module, OptionError, resolve_options};

/// The result of a check. The text is one line for the author.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CheckResult {
    /// The module passes.
    Pass(String),
    /// The check cannot be made.
    Skip(String),
    /// The module fails.
    Fail(String),
    /// The module fails in a way that makes further checks pointless and a danger to the machine.
    Stop(String),
}

/// The module under test, its options, and the sequences.
pub struct Bench<'a> {
    pub module: &'a Module,
    pub options: Options,
    /// Sound sequences that the module can carry.
    pub carried: Vec<Sequence>,
    /// Sound sequences that it cannot carry.
    pub foreign: Vec<Sequence>,
    pub unsound: Vec<Sequence>,
    /// The threads of this process before the module was loaded.
    pub threads: Threads,
}

impl<'a> Bench<'a> {
    /// Creates a bench for `module`, before which there were these threads, with these options, and defaults for the others.
    pub fn new(
        module: &'a Module,
        threads: Threads,
        set: &[(String, String)],
    ) -> Result<Bench<'a>, OptionError> {
        let options = resolve_options(module.options(), set, std::iter::empty())?;
        let (sound, unsound): (Vec<_>, Vec<_>) =
            sequences::all().into_iter().partition(|sequence| sequence.sound);
        let (carried, foreign) =
            sound.into_iter().partition(|one| one.tags.is_empty() || carries(module, &one.tags));
        Ok(Bench { module, options, carried, foreign, unsound, threads })
    }

    pub fn fresh(&self) -> Setup {
        Setup::new(self.options.clone(), StreamFacts::default())
    }

    /// Returns a setup for a remuxer that starts at tag `from`.
    pub fn later(&self, tags: &[Tag], from: usize) -> Setup {
        Setup::new(self.options.clone(), facts(tags, from))
    }

    /// The first carried sequence with tags; the kit has the richest first.
    pub fn main(&self) -> Option<&Sequence> {
        self.carried.iter().find(|sequence| !sequence.tags.is_empty())
    }
}

pub const CARRIES_NONE: &str = "none of the kit's codecs is declared";

/// Formats a breach with the name of its sequence.
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
