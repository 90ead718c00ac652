//! Load errors: one line for each reason to refuse a module.

use std::io;
use std::time::Duration;

use remuxd_plugin_api::Transport;
use thiserror::Error;

use super::description::{DescriptionError, transport_name};
use super::fault::ModuleFault;
use super::load::elf::ElfError;
use super::load::self_test::rules::Breach;
use super::step::{Step, Trial};
use super::text::{after, signal_name};

/// Why a module was not loaded. The culprit is the module, or the operator who named it; for [`Stage`](Self::Stage) and
/// [`Probe`](Self::Probe) the host's machine. [`Display`](std::fmt::Display) is one line.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The name is not a valid module name: lower case, digits and `-`.
    #[error("{name:?} is not a name of a module (a-z, 0-9 and -)")]
    BadName {
        /// The name in `modules.load`.
        name: String,
    },
    /// The directory of modules cannot be read.
    #[error("the directory of modules cannot be read: {0}")]
    Directory(io::Error),
    /// There is no file for this module.
    #[error("not found, nor {other} beside it, nor the module in another lib*.so there")]
    NotFound {
        /// The other file name that it could have.
        other: String,
    },
    /// The file cannot be read.
    #[error("cannot be read: {0}")]
    Read(#[source] io::Error),
    /// The file is larger than any module.
    #[error("{len} bytes long, the limit is {limit}")]
    TooLarge {
        /// Its length in bytes.
        len: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// The file is not a whole shared library for this machine.
    #[error(transparent)]
    Elf(#[from] ElfError),
    /// The private copy cannot be written.
    #[error("cannot be copied to a private directory: {0}")]
    Stage(#[source] io::Error),
    /// The child process for the trial cannot be run.
    #[error("cannot be tried in a child process: {0}")]
    Probe(#[source] io::Error),
    /// A signal ended the child process.
    #[error("{during} ends the process: {}", signal_name(*signal))]
    ProbeCrashed {
        /// The step that the child process was in.
        during: Trial,
        /// The signal's number.
        signal: i32,
    },
    /// The child process exited before the end of the trial.
    #[error("{during} ends the process: exit status {status}{}", after(said))]
    ProbeExited {
        /// The step that the child process was in.
        during: Trial,
        /// The exit status.
        status: i32,
        /// The last line that it printed, if any.
        said: String,
    },
    /// The child process did not end in time.
    #[error("{during} takes longer than {limit:?}")]
    ProbeTimedOut {
        /// The step that the child process was in.
        during: Trial,
        /// The time limit.
        limit: Duration,
    },
    /// The child process refused the module, by one of the errors below.
    #[error("{line}")]
    ProbeRefused {
        /// The step that refused it.
        step: Step,
        /// The message of that error.
        line: String,
    },
    /// It changed state that all code of the process shares.
    #[error(
        "it changes the process that it is loaded into ({changed}); with isolation = \"process\" it has its own"
    )]
    Surroundings {
        /// Names of the changes.
        changed: String,
    },
    /// The dynamic linker refused the file.
    #[error("cannot be mapped: {reason}")]
    Open {
        /// The linker's message.
        reason: String,
    },
    /// The library exports no valid preflight symbol.
    #[error("not a remuxd module (no valid {})", remuxd_plugin_api::abi::PREFLIGHT_SYMBOL)]
    NotAModule,
    /// The library exports a preflight symbol and no format.
    #[error(
        "it exports no format: neither {}, as modules in C do, nor what export_format! writes in Rust",
        remuxd_plugin_api::abi::c::FORMAT_SYMBOL
    )]
    NoFormat,
    /// The module was made for another major version of the interface.
    #[error("made for ABI {module}, this host has {host}")]
    AbiMajor {
        /// The module's major version.
        module: u16,
        /// The host's major version.
        host: u16,
    },
    /// A panic in the module would end the host.
    #[error("built with panic = \"abort\"; build it with panic = \"unwind\"")]
    PanicAbort,
    /// abi_stable's header is of another version, or damaged.
    #[error("abi_stable does not accept its header: {reason}")]
    Header {
        /// abi_stable's message, in one line.
        reason: String,
    },
    /// A type of the interface has another layout than in the host.
    #[error("its interface differs from the host's: {difference}")]
    Layout {
        /// The first difference.
        difference: String,
    },
    /// The module failed when it was asked to describe its format.
    #[error("it cannot describe its format: {0}")]
    Fault(#[from] ModuleFault),
    /// The description breaks the rules.
    #[error("its description is wrong: {0}")]
    Description(#[from] DescriptionError),
    /// Its description in the host differs from that in the child process.
    #[error("it does not describe itself the same each time")]
    Unsteady,
    /// It broke a rule in the self-test.
    #[error("it fails the self-test: {0}")]
    SelfTest(#[from] Breach),
    /// The module in the file has another name than the requested one.
    #[error("the module in it is named {found:?}")]
    NameMismatch {
        /// The name that it declares.
        found: String,
    },
    /// Another module answers the same extension over the same transport.
    #[error("it answers .{extension} over {}, as module {by} does", transport_name(*transport))]
    Taken {
        /// The mount extension.
        extension: String,
        /// The transport.
        transport: Transport,
        /// The name of that module.
        by: String,
    },
}

impl LoadError {
    /// The step that refused the module.
    pub fn step(&self) -> Step {
        match self {
            LoadError::BadName { .. }
            | LoadError::Directory(_)
            | LoadError::NotFound { .. }
            | LoadError::Read(_)
            | LoadError::TooLarge { .. }
            | LoadError::Stage(_) => Step::Stage,
            LoadError::Elf(_) => Step::Elf,
            LoadError::ProbeCrashed { during: Trial::SelfTest, .. }
            | LoadError::ProbeExited { during: Trial::SelfTest, .. }
            | LoadError::ProbeTimedOut { during: Trial::SelfTest, .. }
            | LoadError::SelfTest(_) => Step::SelfTest,
            LoadError::Probe(_)
            | LoadError::ProbeCrashed { .. }
            | LoadError::ProbeExited { .. }
            | LoadError::ProbeTimedOut { .. }
            | LoadError::Surroundings { .. } => Step::Probe,
            LoadError::ProbeRefused { step, .. } => *step,
            LoadError::Open { .. }
            | LoadError::NotAModule
            | LoadError::AbiMajor { .. }
            | LoadError::PanicAbort => Step::Preflight,
            LoadError::NoFormat | LoadError::Header { .. } | LoadError::Layout { .. } => Step::Layout,
            LoadError::Fault(_) | LoadError::Description(_) | LoadError::Unsteady => Step::Description,
            LoadError::NameMismatch { .. } | LoadError::Taken { .. } => Step::Registry,
        }
    }

    /// Writes the error for the process that started this one.
    pub(super) fn to_wire(&self) -> String {
        format!("{}: {self}", self.step())
    }

    /// Reads an error that a child process [wrote](Self::to_wire).
    pub(super) fn from_wire(text: &str) -> Option<LoadError> {
        let (step, line) = text.split_once(": ")?;
        Some(LoadError::ProbeRefused { step: Step::by_name(step)?, line: line.to_owned() })
    }

    /// Whether the file may still be being written.
    pub fn may_be_unfinished(&self) -> bool {
        matches!(
            self,
            LoadError::NotFound { .. }
                | LoadError::Read(_)
                | LoadError::Elf(ElfError::NotElf | ElfError::Truncated { .. })
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_readable() {
        let rows = [
            (
                LoadError::ProbeCrashed { during: Trial::Loading, signal: 11 },
                "loading it ends the process: SIGSEGV",
            ),
            (
                LoadError::ProbeCrashed { during: Trial::Loading, signal: 40 },
                "loading it ends the process: signal 40",
            ),
            (
                LoadError::ProbeExited { during: Trial::Loading, status: 3, said: String::new() },
                "loading it ends the process: exit status 3",
            ),
            (
                LoadError::ProbeExited {
                    during: Trial::Loading,
                    status: 127,
                    said: "Assertion failed!".into(),
                },
                "loading it ends the process: exit status 127, after \"Assertion failed!\"",
            ),
            (
                LoadError::ProbeTimedOut { during: Trial::Loading, limit: Duration::from_millis(1500) },
                "loading it takes longer than 1.5s",
            ),
            (
                LoadError::ProbeTimedOut { during: Trial::SelfTest, limit: Duration::from_millis(1500) },
                "playing the self-test to it takes longer than 1.5s",
            ),
            (
                LoadError::Taken {
                    extension: "flv".into(),
                    transport: Transport::WEBSOCKET,
                    by: "websocket-flv".into(),
                },
                "it answers .flv over WebSocket, as module websocket-flv does",
            ),
            (LoadError::TooLarge { len: 9, limit: 8 }, "9 bytes long, the limit is 8"),
            (
                LoadError::BadName { name: "../x".into() },
                "\"../x\" is not a name of a module (a-z, 0-9 and -)",
            ),
        ];
        for (error, line) in rows {
            assert_eq!(error.to_string(), line);
        }
    }
}
