//! Faults: the reasons for which a remuxer ends.

use std::time::Duration;

use remuxd_plugin_api::abi::{FAULT_PANIC, FAULT_POISONED, FAULT_UNSUPPORTED, RawFault};
use thiserror::Error;

use super::process::error::WireError;
use super::text::{after, one_line, signal_name};
use crate::budget::OverBudget;

/// Why a remuxer ended. The culprit is the module, or the publisher's data through it.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum ModuleFault {
    /// Its code panicked.
    #[error("panicked: {message}")]
    Panicked {
        /// The panic's message, in one line.
        message: String,
    },
    /// Its code returned an error.
    #[error("{message}")]
    Remux {
        /// The module's message, in one line.
        message: String,
    },
    /// The stream has no track that its format can carry. Not counted against the module.
    #[error("{message}")]
    Unsupported {
        /// The module's message, in one line.
        message: String,
    },
    /// The memory of its output exceeds the share of the stream's publisher. Culprit: that publisher; not counted.
    #[error(transparent)]
    OverBudget(#[from] OverBudget),
    /// It made more output in one call than its budget.
    #[error("more than {limit} bytes of output in one call")]
    Flooded {
        /// The budget of the call, in bytes.
        limit: usize,
    },
    /// It left a larger state to its successor than the limit.
    #[error("a state of {size} bytes, {limit} at most")]
    LargeState {
        /// Size of the state in bytes.
        size: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// It sent a block with flags that do not exist.
    #[error("a block with flags {flags:#04x}")]
    BadFlags {
        /// The flags.
        flags: u8,
    },
    /// It sent a block for a track that does not exist.
    #[error("a block of track {track}, the last is 7")]
    BadTrack {
        /// The track.
        track: u8,
    },
    /// It sent a block with a time outside those of the tags that may be in it.
    #[error("a block at {dts} ms, made of tags from {oldest} to {newest} ms")]
    BadTime {
        /// The block's time, in milliseconds of the stream's timeline.
        dts: i64,
        /// The oldest tag that may be in it.
        oldest: i64,
        /// The newest tag that it got.
        newest: i64,
    },
    /// An earlier call failed.
    #[error("called after a fault")]
    Poisoned,
    /// A call has taken longer than `modules.call_timeout` and has not returned.
    #[error("a call has taken {elapsed:?} and has not come back")]
    Hung {
        /// Duration of the call so far.
        elapsed: Duration,
    },
    /// A signal ended its process.
    #[error("its process was ended by {}{}", signal_name(*signal), after(said))]
    Crashed {
        /// The signal's number.
        signal: i32,
        /// The last line that it printed, if any.
        said: String,
    },
    /// Its process exited.
    #[error("its process exited with status {status}{}", after(said))]
    Exited {
        /// The exit status.
        status: i32,
        /// The last line that it printed, if any.
        said: String,
    },
    /// A call took longer than `modules.call_timeout`, and its process was ended.
    #[error("a call took longer than {limit:?}, its process was ended")]
    TimedOut {
        /// `modules.call_timeout`.
        limit: Duration,
    },
    /// Its process sent an invalid response and was killed.
    #[error("its process sent a {0}")]
    Wire(#[from] WireError),
    /// The process that it shared with other remuxers of its module was ended by a fault of one of them.
    #[error("its process ended by a fault of another remuxer")]
    Bystander,
    /// Its process does not start.
    #[error("its process does not start: {reason}")]
    NoProcess {
        /// The reason, in one line.
        reason: String,
    },
}

impl ModuleFault {
    /// Whether it is a call that exceeded `modules.call_timeout`, in this process or in one of the module.
    pub fn is_hung_call(&self) -> bool {
        matches!(self, ModuleFault::Hung { .. } | ModuleFault::TimedOut { .. })
    }

    /// Whether it ended the process that its remuxer shares with others, or holds a thread of this one for good.
    pub fn ends_process(&self) -> bool {
        matches!(
            self,
            ModuleFault::Hung { .. }
                | ModuleFault::Crashed { .. }
                | ModuleFault::Exited { .. }
                | ModuleFault::TimedOut { .. }
                | ModuleFault::Wire(_)
        )
    }
}

impl From<RawFault> for ModuleFault {
    fn from(raw: RawFault) -> ModuleFault {
        let message = one_line(&raw.message);
        match raw.kind {
            FAULT_PANIC => ModuleFault::Panicked { message },
            FAULT_POISONED => ModuleFault::Poisoned,
            FAULT_UNSUPPORTED => ModuleFault::Unsupported { message },
            _ => ModuleFault::Remux { message },
        }
    }
}
