//! Why a remuxer ended.

use std::time::Duration;

use remuxd_plugin_api::abi::{FAULT_PANIC, FAULT_POISONED, FAULT_UNSUPPORTED, RawFault};
use thiserror::Error;

use super::process::WireError;
use super::text::{before, one_line, signal_name};

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
    /// Its code answered an error.
    #[error("{message}")]
    Remux {
        /// The module's words, in one line.
        message: String,
    },
    /// The stream has nothing that its format can carry. Not counted against the module.
    #[error("{message}")]
    Unsupported {
        /// The module's words, in one line.
        message: String,
    },
    /// It made more in one call than it may.
    #[error("more than {limit} bytes of output in one call")]
    Flooded {
        /// The budget of the call, in bytes.
        limit: usize,
    },
    /// It left more to its successor than it may.
    #[error("a state of {size} bytes, {limit} at most")]
    LargeState {
        /// Its size.
        size: usize,
        /// The limit.
        limit: usize,
    },
    /// It sent a block with flags that do not exist.
    #[error("a block with flags {flags:#04x}")]
    BadFlags {
        /// The flags.
        flags: u8,
    },
    /// It sent a block of a track that does not exist.
    #[error("a block of track {track}, the last is 7")]
    BadTrack {
        /// The track.
        track: u8,
    },
    /// It sent a block with a time that none of its tags can have given it.
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
    /// A call took longer than `modules.call_timeout`, and is still under way.
    #[error("a call has taken {elapsed:?} and has not come back")]
    Hung {
        /// How long it has taken so far.
        elapsed: Duration,
    },
    /// A signal ended the process that it ran in.
    #[error("its process was ended by {}{}", signal_name(*signal), before(said))]
    Crashed {
        /// The signal's number.
        signal: i32,
        /// The last line that it printed, if any.
        said: String,
    },
    /// It ended the process that it ran in.
    #[error("its process exited with status {status}{}", before(said))]
    Exited {
        /// The exit status.
        status: i32,
        /// The last line that it printed, if any.
        said: String,
    },
    /// A call took longer than `modules.call_timeout`, and its process was ended.
    #[error("a call took longer than {limit:?}, its process was ended")]
    TimedOut {
        /// How long a call may take.
        limit: Duration,
    },
    /// What came from its process is no answer, and its process was ended.
    #[error("its process sent a {0}")]
    Wire(#[from] WireError),
    /// The process that it shared with other remuxers of its module has ended by a fault of one of them.
    #[error("its process ended by a fault of another remuxer")]
    Bystander,
    /// The process that it is to run in does not start.
    #[error("its process does not start: {reason}")]
    NoProcess {
        /// Why, in one line.
        reason: String,
    },
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
