//! Why a module was not loaded: one line for each step that can refuse it.

use std::fmt;
use std::io;
use std::time::Duration;

use remuxd_plugin_api::Transport;
use thiserror::Error;

use super::fault::ModuleFault;
use super::load::elf::{Machine, class_name, type_name};
use super::load::self_test::rules::Breach;
use super::loaded::InfoError;
use super::text::{before, signal_name};

/// One step on the way of a file into the host. Each is safe only after the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Step {
    /// Finding the file and reading it, once.
    Stage,
    /// Looking at its headers and at all that the dynamic linker follows.
    Elf,
    /// Loading it in a child process.
    Probe,
    /// Mapping it, and reading what it says of its build.
    Preflight,
    /// Comparing the types of the interface.
    Layout,
    /// Asking for its description.
    Description,
    /// Remuxing a built-in sequence of tags, in the child process.
    SelfTest,
    /// Finding its place beside the other modules.
    Registry,
}

impl Step {
    /// All steps, in their order.
    pub const ALL: [Step; 8] = [
        Step::Stage,
        Step::Elf,
        Step::Probe,
        Step::Preflight,
        Step::Layout,
        Step::Description,
        Step::SelfTest,
        Step::Registry,
    ];

    /// Its name in messages.
    pub fn name(self) -> &'static str {
        match self {
            Step::Stage => "stage",
            Step::Elf => "elf",
            Step::Probe => "probe",
            Step::Preflight => "preflight",
            Step::Layout => "layout",
            Step::Description => "description",
            Step::SelfTest => "self-test",
            Step::Registry => "registry",
        }
    }

    /// The step with this name.
    pub fn named(name: &str) -> Option<Step> {
        Step::ALL.into_iter().find(|step| step.name() == name)
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why a module was not loaded. The culprit is the module, or the operator who named it; of [`Stage`](Self::Stage) and
/// [`Probe`](Self::Probe) the host's machine. [`Display`](std::fmt::Display) is one line.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The name cannot be a module's: lower case, digits and `-`.
    #[error("{name:?} is not a name of a module (a-z, 0-9 and -)")]
    BadName {
        /// The name in `modules.load`.
        name: String,
    },
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
        /// The most that is taken.
        limit: u64,
    },
    /// The file is not an object file at all.
    #[error("not a shared library (no ELF header)")]
    NotElf,
    /// The file is of another word size.
    #[error("{}, this host is 64-bit", class_name(*found))]
    WrongClass {
        /// `e_ident[EI_CLASS]`.
        found: u8,
    },
    /// The file is for machines of the other byte order, or damaged.
    #[error("{}", order_fault(*found))]
    WrongByteOrder {
        /// `e_ident[EI_DATA]`.
        found: u8,
    },
    /// The file is for another machine.
    #[error("made for {found}, this host is {expected}")]
    WrongMachine {
        /// `e_machine`.
        found: Machine,
        /// This host's.
        expected: Machine,
    },
    /// The file is an executable, an object file or a core dump.
    #[error("{}, not a shared library", type_name(*found))]
    NotShared {
        /// `e_type`.
        found: u16,
    },
    /// The end of the file is missing.
    #[error("truncated: {len} bytes of at least {needed}")]
    Truncated {
        /// Where the file's headers say that its segments end, at least.
        needed: u64,
        /// Its length in bytes.
        len: u64,
    },
    /// What the dynamic linker would follow leads out of the file, or cannot be.
    #[error("damaged: {what} is {value:#x}")]
    Damaged {
        /// Which number is wrong.
        what: &'static str,
        /// The number.
        value: u64,
    },
    /// The private copy cannot be written.
    #[error("cannot be copied to a private directory: {0}")]
    Stage(#[source] io::Error),
    /// The child process that tries the module cannot be run.
    #[error("cannot be tried in a child process: {0}")]
    Probe(#[source] io::Error),
    /// A signal ended the child process that tried the module.
    #[error("{during} ends the process: {}", signal_name(*signal))]
    ProbeCrashed {
        /// What was tried.
        during: Trial,
        /// The signal's number.
        signal: i32,
    },
    /// The child process ended itself while it tried the module.
    #[error("{during} ends the process: exit status {status}{}", before(said))]
    ProbeExited {
        /// What was tried.
        during: Trial,
        /// The exit status.
        status: i32,
        /// The last line that it printed, if any.
        said: String,
    },
    /// The child process did not end in time.
    #[error("{during} takes longer than {limit:?}")]
    ProbeTimedOut {
        /// What was tried.
        during: Trial,
        /// How long was waited.
        limit: Duration,
    },
    /// The child process refused the module, by one of the errors below.
    #[error("{line}")]
    ProbeRefused {
        /// The step that refused it there.
        step: Step,
        /// That error.
        line: String,
    },
    /// What the module shares with all of the process is not as it was.
    #[error(
        "it changes the process that it is loaded into ({changed}); with isolation = \"process\" it has its own"
    )]
    Surroundings {
        /// What it changed.
        changed: String,
    },
    /// The dynamic linker refused the file.
    #[error("cannot be mapped: {reason}")]
    Open {
        /// The linker's own words.
        reason: String,
    },
    /// The library does not export what a module exports.
    #[error("not a remuxd module (no valid {})", remuxd_plugin_api::abi::PREFLIGHT_SYMBOL)]
    NotAModule,
    /// The library says that it is a module, and no more.
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
        /// The host's.
        host: u16,
    },
    /// A panic in the module would end the host.
    #[error("built with panic = \"abort\"; build it with panic = \"unwind\"")]
    PanicAbort,
    /// abi_stable's header is of another version, or damaged.
    #[error("abi_stable does not accept its header: {reason}")]
    Header {
        /// abi_stable's words, first line.
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
    Info(#[from] InfoError),
    /// It describes itself otherwise in the host than it did in the child process.
    #[error("it does not describe itself the same each time")]
    Unsteady,
    /// It broke a rule when a short stream was played to it.
    #[error("it fails the self-test: {0}")]
    SelfTest(#[from] Breach),
    /// The module in the file has another name than the one that was asked for.
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
        /// How the blocks travel.
        transport: Transport,
        /// The module that was loaded before.
        by: String,
    },
}

/// What the child process tried when it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trial {
    /// To load the module.
    Loading,
    /// To play the self-test to it.
    SelfTest,
}

impl fmt::Display for Trial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Trial::Loading => "loading it",
            Trial::SelfTest => "playing the self-test to it",
        })
    }
}

impl LoadError {
    /// The step that refused the module.
    pub fn step(&self) -> Step {
        match self {
            LoadError::BadName { .. }
            | LoadError::NotFound { .. }
            | LoadError::Read(_)
            | LoadError::TooLarge { .. }
            | LoadError::Stage(_) => Step::Stage,
            LoadError::NotElf
            | LoadError::WrongClass { .. }
            | LoadError::WrongByteOrder { .. }
            | LoadError::WrongMachine { .. }
            | LoadError::NotShared { .. }
            | LoadError::Truncated { .. }
            | LoadError::Damaged { .. } => Step::Elf,
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
            LoadError::Fault(_) | LoadError::Info(_) | LoadError::Unsteady => Step::Description,
            LoadError::NameMismatch { .. } | LoadError::Taken { .. } => Step::Registry,
        }
    }

    /// How a child process tells it.
    pub(super) fn told(&self) -> String {
        format!("{}: {self}", self.step())
    }

    /// What a child process has [told](Self::told).
    pub(super) fn heard(words: &str) -> Option<LoadError> {
        let (step, line) = words.split_once(": ")?;
        Some(LoadError::ProbeRefused { step: Step::named(step)?, line: line.to_owned() })
    }

    /// Whether the file may be one that is still being written.
    pub fn may_be_unfinished(&self) -> bool {
        matches!(
            self,
            LoadError::NotFound { .. } | LoadError::Read(_) | LoadError::NotElf | LoadError::Truncated { .. }
        )
    }
}

fn order_fault(order: u8) -> String {
    match order {
        1 | 2 => "made for a machine of the other byte order".into(),
        other => format!("damaged: byte order is {other:#x}"),
    }
}

fn transport_name(transport: Transport) -> &'static str {
    if transport == Transport::WEBSOCKET { "WebSocket" } else { "HTTP" }
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
