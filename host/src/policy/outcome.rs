//! Outcomes: why sessions end.

use std::time::Duration;

/// The reason for which a session ended, as its access line has it.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Outcome {
    /// The client left.
    #[error("the client left")]
    ClientLeft,
    /// The stream ended, or the format ended its responses, or the host stops.
    #[error("the stream ended")]
    StreamEnded,
    /// A rule or an operator ended it.
    #[error(transparent)]
    Ended(End),
    /// Another publisher took its place.
    #[error("another publisher replaced it")]
    Replaced,
    /// It asked whether the stream can be played, and was answered.
    #[error("answered, without media")]
    Answered,
    /// It was admitted, and got nothing.
    #[error("not served: {reason}")]
    NotServed {
        /// The status of the HTTP response; over RTMP, the one that HTTP would give.
        status: u16,
        /// The reason.
        reason: String,
    },
    /// Its client accepted no byte for `limits.send_timeout`.
    #[error("closed: no progress for {} s (limits.send_timeout)", limit.as_secs_f64())]
    Stalled {
        /// `limits.send_timeout`.
        limit: Duration,
    },
    /// Its connection broke, or broke the rules of the protocol.
    #[error("{reason}")]
    Broken {
        /// The reason.
        reason: String,
    },
}

/// The reason why a session ends before its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum End {
    /// Its credentials have expired.
    #[error("its credentials have expired")]
    Expired,
    /// It publishes more than it may.
    #[error("it sends more than max_bitrate_per_stream, {limit} bit/s")]
    Bitrate {
        /// The limit, in bits per second.
        limit: u64,
    },
    /// An operator ends it.
    #[error(transparent)]
    Order(#[from] Order),
}

/// The reason for which an operator ends a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Order {
    /// By its id.
    #[error("an operator has ended it")]
    Kick,
    /// By a ban.
    #[error("an operator has banned its address, its subject or the stream")]
    Ban,
}

impl Outcome {
    /// Returns the name of its kind, for programs that read the log, and in metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Outcome::ClientLeft => "client_left",
            Outcome::StreamEnded => "stream_ended",
            Outcome::Ended(End::Expired) => "expired",
            Outcome::Ended(End::Bitrate { .. }) => "bitrate",
            Outcome::Ended(End::Order(Order::Kick)) => "kicked",
            Outcome::Ended(End::Order(Order::Ban)) => "banned",
            Outcome::Replaced => "replaced",
            Outcome::Answered => "answered",
            Outcome::NotServed { .. } => "not_served",
            Outcome::Stalled { .. } => "stalled",
            Outcome::Broken { .. } => "broken",
        }
    }

    /// Returns the status that a log in the format of HTTP servers shows.
    pub fn status(&self) -> u16 {
        match self {
            Outcome::NotServed { status, .. } => *status,
            _ => 200,
        }
    }
}
