//! Why a publisher or a viewer is turned away.

use crate::module::OptionError;

/// Why a stream cannot be published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// Another publisher is live. Culprit: peer.
    #[error("the stream is live already")]
    Busy,
}

/// Why a live mount cannot go over to another generation of its module. Culprit: module.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HandoverError {
    /// It has other options.
    #[error("{0}")]
    Options(#[from] OptionError),
    /// It answers less, over another transport, or carries other tracks.
    #[error("it answers other requests")]
    OtherFormat,
}

/// Why a mount cannot be watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MountError {
    /// Viewers asked for too many different variants. Culprit: peer.
    #[error("{limit} variants of this mount are live already")]
    TooManyVariants {
        /// How many may be.
        limit: usize,
    },
    /// The module failed too often. Culprit: module.
    #[error("the format module failed too often")]
    Quarantined,
}
