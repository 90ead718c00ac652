//! Supply: the source of streams that nobody publishes here.

use std::fmt::Debug;
use std::net::IpAddr;

use super::key::StreamKey;

/// A client that waits for a stream.
#[derive(Clone, Copy, Debug)]
pub struct Waiting<'a> {
    /// Its address.
    pub address: IpAddr,
    /// The nodes between it and this host, as its hop list names them; empty unless the client is another node.
    pub hops: &'a str,
}

/// A source of streams that other servers have. The hub tells it which streams clients wait for; it publishes them into the hub,
/// or reports by [`Hub::fail`](super::Hub::fail) that it cannot.
pub trait Supply: Debug + Send + Sync {
    /// Learns that a client waits for a stream that is not live. Called for each client, so that it must be cheap for a stream that
    /// is on its way. It may call the hub. Returns false if streams of this vhost do not come from here.
    ///
    /// # Errors
    /// It is known already that the stream cannot be had.
    fn want(&self, key: &StreamKey, client: Waiting<'_>) -> Result<bool, SupplyError>;
}

/// Why a stream cannot be had from other servers. Its text tells a client no more than it may know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SupplyError {
    /// No server has it. Culprit: peer.
    #[error("this stream is not live")]
    NotFound,
    /// None of the servers that may have it can be reached, or serves it. Culprit: operator.
    #[error("no server that may have this stream can be reached; try again later")]
    Unreachable,
    /// Too many streams are on their way. Culprit: peer.
    #[error("too many streams are being fetched; try again later")]
    TooMany,
}

impl SupplyError {
    /// Returns the name of its kind, in metrics.
    pub fn name(self) -> &'static str {
        match self {
            SupplyError::NotFound => "not_live",
            SupplyError::Unreachable => "origin",
            SupplyError::TooMany => "pending_pulls",
        }
    }
}
