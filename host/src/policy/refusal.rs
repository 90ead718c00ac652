//! Refusals: the reason for the log, and the answer to the peer.

use std::time::Duration;

use super::bans::BanTarget;
use super::hooks::HookRefusal;
use super::limits::LimitReached;
use super::origin_check::OriginRefusal;
use crate::conf::Addresses;

/// The reason why a request is refused. [`Display`](std::fmt::Display) is for the log and states facts, without secrets.
/// Culprit: peer.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// An operator has banned the address, the subject of the credentials or the stream.
    #[error("banned: {target}")]
    Banned {
        /// The target of the ban.
        target: BanTarget,
    },
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
    /// Credentials are needed, and the request has none.
    #[error("it has no credentials")]
    NoCredentials,
    /// The signature of the URL is refused.
    #[error("signature: {0}")]
    Signature(SignatureError),
    /// The token is refused.
    #[error("token: {0}")]
    Token(TokenError),
    /// The signature for nginx's `secure_link` is refused.
    #[error("secure_link: {0}")]
    Link(SignatureError),
    /// Nothing may be published under this name.
    #[error("no publish_key has this name, whose hash begins with {hash}")]
    UnknownPublishName {
        /// The start of the name's SHA-256.
        hash: String,
    },
    /// Somebody plays the name of a publish key.
    #[error("it plays the secret name of a publish_key")]
    SecretName,
    /// The credential of another node is refused.
    #[error("remuxd_node: {0}")]
    Node(SignatureError),
    /// An origin does not allow the viewer.
    #[error(transparent)]
    Origin(#[from] OriginRefusal),
    /// The stream has passed this vhost already.
    #[error("a loop: the stream comes from here")]
    Loop,
    /// The stream has passed too many nodes.
    #[error("the stream has passed {count} nodes, more than {limit}")]
    Hops {
        /// Their number.
        count: usize,
        /// The maximum.
        limit: usize,
    },
    /// A hook refuses, or fails.
    #[error("hook: {0}")]
    Hook(Box<HookRefusal>),
    /// There are too many sessions, or they are sent too much.
    #[error(transparent)]
    Limit(#[from] LimitReached),
    /// The host sends too late to serve more viewers. Culprit: operator.
    #[error("viewers are served {} ms late, more than {} ms (limits.max_lag)", lag.as_millis(), limit.as_millis())]
    Late {
        /// How late.
        lag: Duration,
        /// The maximum.
        limit: Duration,
    },
}

/// The reason why a token is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// It is no token.
    #[error("it is no token")]
    Malformed,
    /// No key has its `kid`.
    #[error("it is signed with an unknown key")]
    UnknownKey,
    /// The signature is wrong, or of another algorithm than the key's.
    #[error("its signature is wrong")]
    Signature,
    /// Claims are missing, of a wrong type, or of another issuer or audience.
    #[error("its claims are not those that are required")]
    Claims,
    /// It has expired.
    #[error("it expired {ago} s ago")]
    Expired {
        /// Seconds since then.
        ago: u64,
    },
    /// It is not valid yet.
    #[error("it is not valid yet")]
    Early,
    /// It is for another action.
    #[error("it is for another action")]
    Action,
    /// It is for another vhost, app or stream.
    #[error("it is for another {part}")]
    Name {
        /// `vhost`, `app` or `stream`.
        part: &'static str,
    },
}

/// The reason why a signature is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// It has another form.
    #[error("its form is unknown")]
    Malformed,
    /// No key has its id.
    #[error("it is made with an unknown key")]
    UnknownKey,
    /// It is of another key, action, vhost, app, stream, expiry or address.
    #[error("it is of another key, action, name, expiry or address")]
    Wrong,
    /// It has expired.
    #[error("it expired {ago} s ago")]
    Expired {
        /// Seconds since then.
        ago: u64,
    },
}

/// The answer to a peer, which says no more than the peer could guess.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The client shows no credentials that allow this: 401.
    Unauthorized,
    /// The client may not do this, whatever credentials it has: 403.
    Forbidden,
    /// The client's address has too many sessions: 429.
    TooMany,
    /// The stream, the vhost or the host has too many sessions: 503.
    Full,
}

impl From<HookRefusal> for Refusal {
    fn from(refusal: HookRefusal) -> Refusal {
        Refusal::Hook(Box::new(refusal))
    }
}

impl Refusal {
    /// Returns the name of its kind, in metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Refusal::Banned { .. } => "banned",
            Refusal::AddressDenied { .. } | Refusal::AddressNotAllowed => "security",
            Refusal::Page { .. } => "refer",
            Refusal::NoCredentials => "no_credentials",
            Refusal::Signature(_) => "signed_url",
            Refusal::Token(_) => "jwt",
            Refusal::Link(_) => "secure_link",
            Refusal::UnknownPublishName { .. } | Refusal::SecretName => "publish_key",
            Refusal::Node(_) => "node",
            Refusal::Origin(_) => "origin",
            Refusal::Loop | Refusal::Hops { .. } => "loop",
            Refusal::Hook(_) => "hook",
            Refusal::Limit(_) => "session_limit",
            Refusal::Late { .. } => "overload",
        }
    }

    /// Returns what the peer is told.
    pub fn answer(&self) -> Answer {
        match self {
            Refusal::Banned { .. }
            | Refusal::AddressDenied { .. }
            | Refusal::AddressNotAllowed
            | Refusal::Page { .. }
            | Refusal::Loop
            | Refusal::Hops { .. }
            | Refusal::Origin(OriginRefusal::Refused { .. })
            | Refusal::Hook(_) => Answer::Forbidden,
            Refusal::Limit(LimitReached { of_address: true, .. }) => Answer::TooMany,
            Refusal::Limit(_) | Refusal::Late { .. } | Refusal::Origin(OriginRefusal::NoAnswer { .. }) => {
                Answer::Full
            }
            _ => Answer::Unauthorized,
        }
    }
}
