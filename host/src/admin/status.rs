//! Status of the loaded modules and of the memory, for the API, the metrics and `remuxd status`.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::budget::Usage;
use crate::module::{Generation, Registry, Standing, Transport};
use crate::stream::{Hub, LiveMount};

/// The status of one generation of a module.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(super) struct ModuleStatus {
    pub name: String,
    pub version: String,
    /// The ABI version that it was built for: `MAJOR.MINOR`.
    pub abi: String,
    pub generation: u64,
    pub state: ModuleState,
    pub extensions: Vec<String>,
    /// `http`, `websocket` or both, the primary one first.
    pub transports: Vec<String>,
    /// Number of live mounts that it remuxes.
    pub mounts: usize,
    /// Number of viewers of these mounts.
    pub viewers: usize,
    /// Number of faults of its remuxers so far.
    pub faults: u64,
    /// Number of times that a viewer of its mounts fell behind and moved to a newer keyframe.
    pub skips: u64,
    /// The longest lag of its mounts behind their streams, in milliseconds.
    #[serde(default)]
    pub lag_ms: u64,
    /// Number of times that one of its mounts was too slow for its stream and moved to a newer keyframe.
    #[serde(default)]
    pub lag_skips: u64,
    pub file: PathBuf,
    /// The time when it was loaded.
    pub since: String,
    /// Bytes of address space that its image takes.
    pub retained_bytes: u64,
    /// Why it is switched off, or runs in another way than the config says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A part of the list of mapped generations, by name and age.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct ModuleList {
    /// The number of all generations.
    pub total: usize,
    /// The number of those before this part.
    pub start: usize,
    pub modules: Vec<ModuleStatus>,
}

/// The state of a generation.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(super) enum ModuleState {
    /// New viewers get it.
    Current,
    /// It serves the streams on which the current generation fails, and takes over if that is switched off.
    Fallback,
    /// It was worse than the generation before it, which took over again.
    #[serde(rename = "rolled-back")]
    RolledBack,
    /// It is switched off, since its self-test failed.
    Off,
    /// It was replaced, and mounts still use it.
    Draining,
    /// It was replaced and is unused, but still mapped.
    Retained,
}

impl fmt::Display for ModuleState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            ModuleState::Current => "current",
            ModuleState::Fallback => "fallback",
            ModuleState::RolledBack => "rolled-back",
            ModuleState::Off => "off",
            ModuleState::Draining => "draining",
            ModuleState::Retained => "retained",
        })
    }
}

/// The memory that the host keeps for peers, in bytes.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema)]
pub(super) struct MemoryStatus {
    /// `limits.max_memory`.
    pub limit: u64,
    pub connections: u64,
    pub messages: u64,
    pub output: u64,
    /// Number of new publishers, viewers and mounts that were refused.
    pub refused: u64,
    /// Number of times that a peer needed more than its share.
    pub exceeded: u64,
}

impl MemoryStatus {
    pub(super) fn of(usage: &Usage) -> MemoryStatus {
        let [connections, messages, output] = usage.used.map(|(_, bytes)| bytes as u64);
        let Usage { limit, refused, exceeded, .. } = *usage;
        MemoryStatus { limit: limit as u64, connections, messages, output, refused, exceeded }
    }
}

impl fmt::Display for MemoryStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |bytes: u64| bytes >> 20;
        let MemoryStatus { limit, connections, messages, output, refused, exceeded } = *self;
        let used = connections + messages + output;
        write!(f, "memory for peers: {} MiB of {} MiB (connections ", mib(used), mib(limit))?;
        write!(f, "{}, messages {}, output {}), ", mib(connections), mib(messages), mib(output))?;
        write!(f, "{refused} newcomers refused, {exceeded} times a share was exceeded")
    }
}

/// Returns the status of every mapped generation, by name and age.
pub(super) fn module_statuses(registry: &Registry, hub: &Hub) -> Vec<ModuleStatus> {
    let mut generations = registry.generations();
    generations.sort_by(|one, other| (&one.name, one.number).cmp(&(&other.name, other.number)));
    let streams = hub.streams();
    let mounts = streams.iter().flat_map(|stream| stream.live_mounts());
    let mounts: Vec<_> = mounts.filter(|mount| !mount.blocks().is_ended()).collect();
    generations.into_iter().map(|generation| status(generation, &mounts)).collect()
}

fn status(generation: Generation, mounts: &[Arc<LiveMount>]) -> ModuleStatus {
    let uses = |mount: &&Arc<LiveMount>| {
        mount.running().unwrap_or_else(|| mount.module()).generation() == generation.number
    };
    let users: Vec<_> = mounts.iter().filter(uses).collect();
    let state = match generation.standing {
        Standing::Current => ModuleState::Current,
        Standing::RolledBack => ModuleState::RolledBack,
        Standing::Off => ModuleState::Off,
        _ if !users.is_empty() => ModuleState::Draining,
        Standing::Fallback => ModuleState::Fallback,
        Standing::Superseded => ModuleState::Retained,
    };
    let name = |&transport: &Transport| if transport == Transport::HTTP { "http" } else { "websocket" };
    ModuleStatus {
        mounts: users.len(),
        lag_ms: users.iter().map(|mount| mount.lag().0.unsigned_abs()).max().unwrap_or(0),
        lag_skips: generation.lag_skips,
        viewers: users.iter().map(|mount| mount.viewers()).sum(),
        name: generation.name,
        version: generation.version,
        abi: format!("{}.{}", generation.abi.0, generation.abi.1),
        generation: generation.number,
        state,
        extensions: generation.extensions,
        transports: generation.transports.iter().map(|transport| name(transport).to_owned()).collect(),
        faults: generation.faults,
        skips: generation.skips,
        file: generation.file,
        since: jiff::Timestamp::try_from(generation.since).map(|time| time.to_string()).unwrap_or_default(),
        retained_bytes: generation.memory,
        reason: generation.reason,
    }
}
