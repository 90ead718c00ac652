//! Errors of publishing, watching and handing over.

use std::time::Duration;

use crate::budget::OverBudget;
use crate::module::OptionError;

/// Why a stream cannot be published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// Another publisher is live. Culprit: peer.
    #[error("the stream is live already")]
    Busy,
}

/// Why another generation of its module cannot continue a live mount. Culprit: module.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HandoverError {
    /// It has other options.
    #[error("{0}")]
    Options(#[from] OptionError),
    /// It answers fewer extensions or other transports, or carries other tracks.
    #[error("it answers other requests")]
    OtherFormat,
    /// The mount's options select another track, which has a ring of its own. Culprit: none.
    #[error("it is of track {track}")]
    OtherTrack {
        /// The number of the track.
        track: u8,
    },
}

/// Why a mount cannot be watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MountError {
    /// Viewers watch too many different variants. Culprit: peer.
    #[error("{limit} other variants of this format are being watched")]
    TooManyVariants {
        /// The largest number of variants, without the default.
        limit: usize,
    },
    /// The track ended while the viewer attached. Culprit: none.
    #[error("the stream has no track {track}")]
    NoTrack {
        /// The number of the track.
        track: u8,
    },
    /// The module failed too often on this stream. Culprit: module, or the publisher's data through it.
    #[error("the format failed too often on this stream")]
    Faults {
        /// When the next attempt is permitted.
        retry_after: Duration,
    },
    /// The stream's publisher has no memory left for another mount. Culprit: peer.
    #[error(transparent)]
    NoMemory(#[from] OverBudget),
    /// The module is switched off. Culprit: module.
    #[error("the format module is switched off")]
    SwitchedOff,
}
