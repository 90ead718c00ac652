//! Format modules: loading them, calling them, and surviving them.
//!
//! Purpose: the host's side of the interface that `remuxd-plugin-api` defines, and the host's only unsafe code.
//! The way of a file into the host: [`Stage`] (read, check, copy), [`probe`] (load it and play the self-test to it in a
//! child process), [`load`].
//!
//! Invariants: no panic crosses the interface; whatever refers to a module's code or memory holds its library; all
//! text of a module is copied. Used by `stream`, `http` and `main`; uses only `media`.

mod error;
mod fault;
mod instance;
mod intake;
mod load;
mod loaded;
mod log;
mod options;
mod process;
mod recipe;
mod registry;
pub(crate) mod text;
mod worker;

pub use error::{LoadError, Step, Trial};
pub use fault::ModuleFault;
pub use instance::{Instance, OutBlock};
pub use load::elf::Machine;
#[cfg(test)]
pub(crate) use load::loader::linked;
pub use load::loader::{Terms, load};
pub use load::probe::{PROBE_LIMIT, probe, probe_main};
pub use load::self_test::rules::{Breach, Moment, Rule};
pub use load::stage::{Origin, Stage, Staged};
pub(crate) use load::{child, self_test};
pub use loaded::{Description, InfoError, Module, OwnedOptionKind, OwnedOptionSpec};
pub use options::{OptionError, check_options, resolve_options};
#[cfg(fuzzing)]
pub use process::check_wire;
pub use process::{Allowance, WireError, module_main};
pub use recipe::Recipe;
pub use registry::{
    Candidate, Change, Generation, LoadFailure, Named, Outcome, Prepared, Quarantined, Registry, Standing,
};
pub use remuxd_plugin_api::{BlockFlags, Options, Setup, StreamFacts, Transport};
pub use worker::{CallWatch, Job, Pool, Task};

/// The version of the interface that this host has: major, minor.
pub const HOST_ABI: (u16, u16) = (remuxd_plugin_api::abi::ABI_MAJOR, remuxd_plugin_api::abi::ABI_MINOR);
