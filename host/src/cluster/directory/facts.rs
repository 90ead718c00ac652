//! The state of the directory, for operators.

use std::time::Duration;

use super::directory::Directory;
use super::entry::EntryError;
use super::shared::Counts;
use crate::conf::DirectoryKind;

/// The facts about the directory.
#[derive(Clone, Debug)]
pub struct DirectoryFacts {
    /// Its kind.
    pub kind: DirectoryKind,
    /// Whether it answers: within a lease, or for a list within two.
    pub is_up: bool,
    /// How long ago it has answered; `None` if it never has, or need not.
    pub age: Option<Duration>,
    /// The last error, if it has not answered since. It names no secret.
    pub last_error: Option<String>,
    /// Errors of Redis or of the list.
    pub errors: u64,
    /// Refused entries, by reason.
    pub refused: [(&'static str, u64); EntryError::REASONS.len()],
    /// Number of nodes.
    pub nodes: usize,
    /// Number of publishers at this node, and of streams that it follows.
    pub streams: (usize, usize),
    /// Counters of Redis.
    pub counts: Counts,
}

impl Directory {
    /// Returns the facts.
    pub fn facts(&self) -> DirectoryFacts {
        let config = self.0.current.config();
        let directory = &config.cluster.directory;
        let list = self.0.roster.facts();
        let (age, is_up) = self.health();
        let (counts, streams) = {
            let state = self.0.lock();
            let is_redis = directory.kind == DirectoryKind::Redis;
            let streams = if is_redis { state.book.counts() } else { (0, 0) };
            (state.counts.clone(), streams)
        };
        let is_http = directory.kind == DirectoryKind::Http;
        DirectoryFacts {
            kind: directory.kind,
            is_up,
            age,
            last_error: if is_http { list.last_error } else { counts.last_error.clone() },
            errors: if is_http { list.errors } else { counts.errors },
            refused: if is_http { list.refused } else { counts.refused }.by_reason(),
            nodes: self.0.roster.nodes().len(),
            streams,
            counts,
        }
    }

    /// Returns how long ago the directory has answered, `None` if it never has or need not, and whether that was lately enough.
    pub(super) fn health(&self) -> (Option<Duration>, bool) {
        let config = self.0.current.config();
        let lease = config.cluster.directory.lease;
        match config.cluster.directory.kind {
            DirectoryKind::None | DirectoryKind::Static => (None, true),
            DirectoryKind::Http => {
                let age = self.0.roster.facts().age;
                (age, age.is_some_and(|age| age < 2 * lease))
            }
            DirectoryKind::Redis => {
                let state = self.0.lock();
                let age = state.counts.answered.map(|at| at.elapsed());
                (age, state.link.is_some() && age.is_some_and(|age| age < lease))
            }
        }
    }
}
