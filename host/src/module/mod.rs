//! Format modules: loading them, calling them, and surviving them.
//!
//! Purpose: the host's side of the interface that `remuxd-plugin-api` defines, and the host's only unsafe code.
//! The way of a file into the host: [`Stage`] (read, check, copy), [`probe`] (load it and play the self-test to it in a
//! child process), [`load`].
//!
//! Invariants: no panic crosses the interface; whatever refers to a module's code or memory holds its library; all
//! text of a module is copied. Used by `stream`, `http` and `main`; uses only `media`.

mod c_abi;
mod child;
mod conformance;
mod elf;
mod error;
mod fault;
mod instance;
mod intake;
mod layout;
mod linked;
mod loader;
mod log;
mod module;
mod options;
mod probe;
mod process;
mod recipe;
mod registry;
mod stage;
mod surroundings;
mod worker;

pub use conformance::{Breach, Moment, Rule, Verdict, check_main, checks, run_check};
pub use elf::Machine;
pub use error::{LoadError, Step, Trial};
pub use fault::ModuleFault;
pub use instance::{Instance, OutBlock};
#[cfg(test)]
pub(crate) use loader::linked;
pub use loader::{Terms, load};
pub use module::{Description, InfoError, Module, OwnedOptionKind, OwnedOptionSpec};
pub use options::{OptionError, check_options, resolve_options};
pub use probe::{PROBE_LIMIT, probe, probe_main};
#[cfg(fuzzing)]
pub use process::check_wire;
pub use process::{Allowance, WireError, module_main};
pub use recipe::Recipe;
pub use registry::{
    Candidate, Change, Generation, LoadFailure, Named, Outcome, Prepared, Quarantined, Registry, Standing,
};
pub use remuxd_plugin_api::{BlockFlags, Options, Setup, StreamFacts, Transport};
pub use stage::{Origin, Stage, Staged};
pub use worker::{CallWatch, Job, Pool, Task};

/// The version of the interface that this host has: major, minor.
pub const HOST_ABI: (u16, u16) = (remuxd_plugin_api::abi::ABI_MAJOR, remuxd_plugin_api::abi::ABI_MINOR);

/// The longest text of a module that goes on to the log, in characters.
const MAX_LINE: usize = 1024;

/// Whether a character does something to the text around it, or to a terminal, instead of being seen: control characters, and
/// those that turn the direction of a line.
fn is_hidden(c: char) -> bool {
    let turns =
        matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}');
    c.is_control() || turns
}

/// A module's or a library's text, made fit for one line of the log: every run of white space and hidden characters a
/// space.
fn one_line(text: &str) -> String {
    let mut line = String::new();
    let words = text.split(|c: char| c.is_whitespace() || is_hidden(c)).filter(|word| !word.is_empty());
    for word in words.take(MAX_LINE) {
        if !line.is_empty() {
            line.push(' ');
        }
        line.extend(word.chars().take(MAX_LINE));
        if line.len() > MAX_LINE {
            break;
        }
    }
    line
}
