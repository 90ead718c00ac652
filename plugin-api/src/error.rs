//! Why a remuxer ended.

use std::fmt;

use crate::{Codec, Full};

/// Why a remuxer cannot go on. It ends that remuxer only.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RemuxError {
    /// The publisher's data break the codec's own rules.
    Malformed {
        /// The structure that is broken, for instance `AudioSpecificConfig`.
        what: &'static str,
        /// Where in the tag's payload.
        offset: usize,
    },
    /// The stream has nothing that the format can carry, or nothing more: this codec was its last hope, in the form that it
    /// has here. What the declared codecs do not tell, such as an AAC object type, a remuxer finds out. No fault: viewers
    /// who wait are told so (HTTP 415), those who were served get a clean end. Since 1.3; an older host takes it for an
    /// error.
    Unsupported(Codec),
    /// The call made more than its byte budget.
    Full,
    /// Something else; one line for the operator's log.
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
