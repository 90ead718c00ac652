//! Errors of a remuxer.

use std::fmt;

use crate::{Codec, Full};

/// The reason that a remuxer cannot continue. It ends that remuxer only.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RemuxError {
    /// The publisher's data violate the codec's syntax.
    Malformed {
        /// The malformed structure, for instance `AudioSpecificConfig`.
        what: &'static str,
        /// Offset in the tag's payload, in bytes.
        offset: usize,
    },
    /// The stream has no track, or no longer a track, that the format can carry. The codec is that of the track dropped last.
    /// For properties that the declared codecs do not cover, such as an AAC object type. The host does not count it as a
    /// fault: waiting viewers get HTTP 415, others a clean end of the response. Since 1.3; an older host treats it as an
    /// error.
    Unsupported(Codec),
    /// The call exceeded its byte budget.
    Full,
    /// Any other reason: one line for the operator's log.
    Other(String),
}

impl From<Full> for RemuxError {
    fn from(Full: Full) -> Self {
        RemuxError::Full
    }
}

impl fmt::Display for RemuxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RemuxError::Malformed { what, offset } => write!(f, "malformed {what} at byte {offset}"),
            RemuxError::Unsupported(codec) => write!(f, "the format cannot carry codec {codec}"),
            RemuxError::Full => f.write_str("more output in one call than the host allows"),
            RemuxError::Other(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for RemuxError {}
