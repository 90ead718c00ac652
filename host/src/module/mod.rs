//! Format modules: loading them, calling them, and surviving them.
//!
//! Purpose: the host's side of the interface that `remuxd-plugin-api` defines. Rooms: [`load`] (from a file to a module,
//! with the host's unsafe code), `process` (modules in processes of their own), [`registry`] (the loaded generations),
//! [`worker`] (the threads that call modules). The other files are the module as the rest of the host sees it.
//!
//! Invariants: no panic crosses the interface; everything that refers to a module's code or memory holds its library; all
//! text of a module is copied. Used by `stream`, `http`, `admin`, `author` and `main`; uses only `media`, `budget` and `conf`.

mod call_time;
mod description;
mod error;
mod evidence;
mod fault;
mod generation;
mod judgement;
mod load;
mod loaded;
mod log;
mod options;
mod outcome;
mod output;
mod process;
mod process_size;
mod recipe;
mod registry;
mod remuxer;
mod step;
mod terms;
pub(crate) mod text;
mod worker;

pub use description::{Description, transport_name};
pub use error::LoadError;
pub use fault::ModuleFault;
pub use generation::{Generation, ModuleCounts, Standing};
#[cfg(any(test, fuzzing))]
pub use load::loader::linked;
pub use load::loader::load_module;
pub use load::probe::{probe, probe_main};
pub use load::stage::{Stage, Staged};
pub(crate) use load::{child, self_test};
pub use loaded::{Module, OwnProcess};
pub use options::{OptionError, OptionKind, OptionSpec, check_options, resolve_options};
pub use outcome::{Change, OffFile, Outcome, Prepared};
pub use output::OutBlock;
#[cfg(fuzzing)]
pub use process::check_wire;
pub use process::{Allowance, CrashNote, CrashNotes, module_main};
pub use recipe::Recipe;
pub use registry::Registry;
pub use remuxd_plugin_api::{BlockFlags, Options, Setup, StreamFacts, Transport};
pub use remuxer::Remuxer;
pub use step::Step;
pub use terms::Terms;
pub use worker::{CallWatch, FaultNote, FaultObserver, Job, Pool, Task};

/// This host's version of the interface: major, minor.
pub const HOST_ABI: (u16, u16) = (remuxd_plugin_api::abi::ABI_MAJOR, remuxd_plugin_api::abi::ABI_MINOR);
