//! Refusals: the reason for the log, and the answer to the peer.

use crate::conf::Addresses;

/// The reason why a request is refused. [`Display`](std::fmt::Display) is for the log and states facts, without secrets.
/// Culprit: peer.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// A rule denies the client's address.
    #[error("security denies {rule}")]
    AddressDenied {
        /// The rule.
        rule: Addresses,
    },
    /// No rule allows the client's address, and only listed addresses are allowed.
    #[error("security does not allow the address")]
    AddressNotAllowed,
    /// The page that embeds the player is not on one of the sites that may.
    #[error("refer allows no page of `{site}`")]
    Page {
        /// The host name of the page; empty if unknown.
        site: String,
    },
}

/// What a peer is told: no more than it could guess.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The client may not do this, whatever credentials it has: 403.
    Forbidden,
}

impl Refusal {
    /// Returns what the peer is told.
    pub fn answer(&self) -> Answer {
        match self {
            Refusal::AddressDenied { .. } | Refusal::AddressNotAllowed | Refusal::Page { .. } => {
                Answer::Forbidden
            }
        }
    }
}
