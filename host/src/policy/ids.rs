//! Ids of connections and sessions.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::num::ParseIntError;
use std::str::FromStr;
use std::sync::atomic::{AtomicU32, Ordering};

/// The id of a session: unique in this process, and most likely among all processes. Shown as 16 hexadecimal digits. Later
/// sessions have larger ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(u64);

/// The id of a connection, of the same form. Hooks know the client of an RTMP connection by it. No session has the same id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionId(u64);

impl FromStr for SessionId {
    type Err = ParseIntError;

    fn from_str(text: &str) -> Result<SessionId, ParseIntError> {
        u64::from_str_radix(text, 16).map(SessionId)
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl ConnectionId {
    /// The id of no connection, for tests.
    pub const NONE: ConnectionId = ConnectionId(0);
}

/// The source of ids.
#[derive(Debug)]
pub(super) struct Ids {
    /// Random for each process, so that an id of an earlier process names nothing of this one.
    process: u32,
    next: AtomicU32,
}

impl Ids {
    pub fn new() -> Ids {
        Ids { process: RandomState::new().hash_one(()) as u32, next: AtomicU32::new(1) }
    }

    /// Returns a name for this process.
    pub fn process(&self) -> String {
        format!("{:08x}", self.process)
    }

    pub fn session(&self) -> SessionId {
        SessionId(self.next())
    }

    pub fn connection(&self) -> ConnectionId {
        ConnectionId(self.next())
    }

    fn next(&self) -> u64 {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        u64::from(self.process) << 32 | u64::from(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_unique_and_of_one_length() {
        let ids = Ids::new();
        let shown = [ids.session().to_string(), ids.connection().to_string(), ids.session().to_string()];
        assert!(shown.iter().all(|id| id.len() == 16), "{shown:?}");
        assert!(shown[0] != shown[1] && shown[1] != shown[2], "{shown:?}");
    }
}
