//! Grants: the results of credentials, and functions that several kinds of them use.

use std::time::{Duration, SystemTime};

use sha2::{Digest, Sha256};

use crate::stream::StreamKey;

/// The facts about a session in its credentials.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Grant {
    /// The stream by its public name, if the client named another one.
    pub key: Option<StreamKey>,
    /// The holder of the credentials, if they name one.
    pub subject: Option<String>,
    /// When the session must end.
    pub ends: Option<SystemTime>,
}

impl Grant {
    /// Returns the grant of the credentials of `subject` that expire, `expires` seconds after 1970.
    pub fn until(expires: u64, enforce: bool, subject: Option<String>) -> Grant {
        let ends =
            enforce.then(|| SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(expires))).flatten();
        Grant { key: None, subject, ends }
    }
}

/// Returns seconds since 1970; 0 before.
pub(super) fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Returns the start of the SHA-256 of a secret, by which a log may name it.
pub(super) fn short_hash(secret: &str) -> String {
    Sha256::digest(secret).iter().take(4).map(|byte| format!("{byte:02x}")).collect()
}
