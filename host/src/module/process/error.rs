//! Errors of the protocol between the host and a module's process.

use thiserror::Error;

/// Why a frame is refused. The culprit is the module in the other process.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum WireError {
    /// The frame is longer than frames may be at this point.
    #[error("frame of {len} bytes, {limit} at most")]
    TooLong {
        /// Its length in bytes.
        len: usize,
        /// The limit.
        limit: usize,
    },
    /// The frame's kind is not expected at this point.
    #[error("frame of kind {kind} out of place")]
    Kind {
        /// The kind.
        kind: u8,
    },
    /// The frame follows a response and answers no request.
    #[error("frame without a request")]
    Unasked,
    /// The body ends too early or holds an invalid value.
    #[error("malformed {what}")]
    Malformed {
        /// The field.
        what: &'static str,
    },
}
