//! Resources of the machine: memory for peers, and open files.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::{info, warn};

use crate::budget::machine_memory;
use crate::conf::Limits;

/// Memory of a machine that does not report it, in bytes.
const UNKNOWN_MEMORY: u64 = 1 << 30;

/// Returns the memory that peers may make the host keep, in bytes.
pub fn memory_limit(limits: &Limits) -> usize {
    let memory = machine_memory().unwrap_or_else(|| {
        warn!(assumed = UNKNOWN_MEMORY, "the kernel does not report the size of the memory");
        UNKNOWN_MEMORY
    });
    let limit = limits.max_memory.of(memory);
    info!(limit, memory, "memory for peers");
    limit
}

/// Raises the soft limit of open files to the hard limit, and warns if the connections do not fit.
pub fn raise_descriptor_limit(limits: &Limits) {
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        warn!(%error, "cannot raise the limit of open files");
    }
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let max_connections = limits.max_connections;
    if limit < max_connections as u64 {
        warn!(
            limit,
            max_connections,
            "fewer open files than limits.max_connections are allowed (ulimit -n, LimitNOFILE)"
        );
    }
}
