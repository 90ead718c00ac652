//! The state of the directory, for operators.

use std::time::Duration;

use super::directory::Directory;
use super::entry::EntryError;
use super::shared::Counts;
use crate::conf::DirectoryKind;

/// The facts about the directory.
#[derive(Clone, Debug)]
pub struct DirectoryFacts {
    /// Where it is kept.
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
    pub refused: Vec<(&'static str, u64)>,
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
        let (counts, streams, is_linked) = {
            let state = self.0.lock();
            let is_redis = directory.kind == DirectoryKind::Redis;
            let streams = if is_redis { state.book.counts() } else { (0, 0) };
            (state.counts.clone(), streams, state.link.is_some())
        };
        let age = match directory.kind {
            DirectoryKind::Redis => counts.answered.map(|at| at.elapsed()),
            DirectoryKind::Http => list.age,
            DirectoryKind::None | DirectoryKind::Static => None,
        };
        let is_up = match directory.kind {
            DirectoryKind::Redis => is_linked && age.is_some_and(|age| age < directory.lease),
            DirectoryKind::Http => age.is_some_and(|age| age < 2 * directory.lease),
            DirectoryKind::None | DirectoryKind::Static => true,
        };
        let is_http = directory.kind == DirectoryKind::Http;
        DirectoryFacts {
            kind: directory.kind,
            is_up,
            age,
            last_error: if is_http { list.last_error } else { counts.last_error.clone() },
            errors: if is_http { list.errors } else { counts.errors },
            refused: EntryError::REASONS
                .into_iter()
                .zip(if is_http { list.refused } else { counts.refused })
                .collect(),
            nodes: self.0.roster.nodes().len(),
            streams,
            counts,
        }
    }
}
