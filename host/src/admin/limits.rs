//! The use of what is limited, for the API.

use rustix::process::{Resource, getrlimit};
use schemars::JsonSchema;
use serde::Serialize;

use super::status::MemoryStatus;

/// The use of what is limited.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct LimitsStatus {
    /// Open connections on all listeners, without the API's: `limits.max_connections`.
    pub connections: Use,
    /// Open files: the limit of the process.
    pub descriptors: Use,
    /// Bytes of memory for peers: `limits.max_memory`.
    pub memory: MemoryStatus,
    /// `limits.max_viewers`.
    pub viewers: Use,
    /// `limits.max_publishers`.
    pub publishers: Use,
    /// Viewers and players that wait for a stream to be published.
    pub waiting: usize,
    /// Threads that hang in a module call.
    pub hung_threads: usize,
}

/// How much there is of something, and how much there may be.
#[derive(Clone, Copy, Debug, Serialize, JsonSchema)]
pub(super) struct Use {
    pub used: u64,
    /// 0: there is no limit.
    pub limit: u64,
}

impl Use {
    pub(super) fn of(used: usize, limit: impl Into<u64>) -> Use {
        Use { used: used as u64, limit: limit.into() }
    }

    /// Returns that of the open files of this process.
    pub(super) fn of_descriptors() -> Use {
        let used = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
        Use::of(used, getrlimit(Resource::Nofile).current.unwrap_or(0))
    }
}
