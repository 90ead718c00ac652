//! The roster: the nodes that the directory has, this one among them, and how it came by them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tracing::{info, warn};

use super::entry::{Load, NodeEntry, RefusedEntries};
use super::list::{List, ListError};
use super::targets::own_entry;
use crate::conf::Directory;
use crate::log::LineLimit;

/// The nodes of a list. Nodes of Redis come with their leases.
#[derive(Debug, Default)]
pub struct Roster {
    nodes: ArcSwap<Vec<NodeEntry>>,
    own: Mutex<Load>,
    /// When each node was heard of last, with the time in its entry.
    heard: Mutex<HashMap<String, (u64, Instant)>>,
    asked: Mutex<Asked>,
}

/// The results of asking for a list.
#[derive(Debug, Default)]
struct Asked {
    answered: Option<Instant>,
    errors: u64,
    refused: RefusedEntries,
    last_error: Option<String>,
    lines: LineLimit,
}

/// The results of asking for a list, for operators.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListFacts {
    /// How long ago the last good list came; `None` before the first one.
    pub age: Option<Duration>,
    /// How often it could not be had or used.
    pub errors: u64,
    /// Numbers of its nodes that were left out so far.
    pub refused: RefusedEntries,
    /// The last error. It names no secret. `None` if the last answer was good.
    pub last_error: Option<String>,
}

impl Roster {
    /// Returns the nodes.
    pub fn nodes(&self) -> Arc<Vec<NodeEntry>> {
        self.nodes.load_full()
    }

    /// Returns the entry of this node.
    pub fn own(&self, directory: &Directory, name: &str) -> NodeEntry {
        own_entry(directory, name, &self.nodes.load(), *self.own.lock())
    }

    /// Sets the load of this node.
    pub fn set_load(&self, load: Load) {
        *self.own.lock() = load;
    }

    /// Replaces the nodes.
    pub fn replace(&self, nodes: Vec<NodeEntry>) {
        let now = Instant::now();
        let mut heard = self.heard.lock();
        let mut renewed = HashMap::with_capacity(nodes.len());
        for NodeEntry { name, at, .. } in nodes.iter().filter(|node| node.at > 0) {
            let last = heard.remove(name).filter(|(last, _)| last == at);
            renewed.insert(name.clone(), last.unwrap_or((*at, now)));
        }
        *heard = renewed;
        drop(heard);
        if **self.nodes.load() != nodes {
            self.nodes.store(Arc::new(nodes));
        }
    }

    /// Returns how long the entry of a node holds, whose leases are `lease`, unless the node renews it; `None` for a node of a list. By the
    /// own clock: when this node learned of the last renewal.
    pub fn lease(&self, node: &NodeEntry, lease: Duration) -> Option<Duration> {
        let (_, at) = *self.heard.lock().get(&node.name)?;
        Some(lease.saturating_sub(at.elapsed()))
    }

    /// Takes the result of asking for a list. One that cannot be used leaves the last one in force.
    pub fn take(&self, asked: Result<List, ListError>, now: Instant) {
        let mut state = self.asked.lock();
        let (error, nodes) = match asked {
            Ok(List { nodes, refused }) => {
                state.answered = Some(now);
                refused.iter().for_each(|(_, error)| state.refused.count(error));
                let error =
                    refused.first().map(|(place, error)| format!("node {place} is left out: {error}"));
                (error, Some(nodes))
            }
            Err(error) => {
                state.errors += 1;
                (Some(error.to_string()), None)
            }
        };
        state.last_error.clone_from(&error);
        let line = error.as_ref().and_then(|_| state.lines.line(now));
        drop(state);
        if let (Some(error), Some(before)) = (error, line) {
            warn!(%error, before, "the list of nodes has errors; what was good stays in use");
        }
        if let Some(nodes) = nodes {
            if **self.nodes.load() != nodes {
                info!(nodes = nodes.len(), "the list of nodes is read");
            }
            self.replace(nodes);
        }
    }

    /// Returns the results of asking for a list.
    pub fn facts(&self) -> ListFacts {
        let asked = self.asked.lock();
        ListFacts {
            age: asked.answered.map(|at| at.elapsed()),
            errors: asked.errors,
            refused: asked.refused,
            last_error: asked.last_error.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::directory::list::read;

    #[test]
    fn an_error_is_counted_and_leaves_the_last_good_list() {
        let (roster, now) = (Roster::default(), Instant::now());
        let names = |roster: &Roster| roster.nodes().iter().map(|node| node.name.clone()).collect::<String>();
        roster.take(read(br#"[{"name":"a"},{"name":"b"},{"name":"c d"}]"#, &[]), now);
        let ListFacts { age, errors, refused, last_error } = roster.facts();
        assert_eq!(
            (names(&roster), errors, refused.by_reason().iter().map(|(_, count)| count).sum()),
            ("ab".to_owned(), 0, 1_u64)
        );
        assert!(age.is_some() && last_error.is_some_and(|error| error.contains("node 2")));
        for broken in ["", "[]", "{}"] {
            roster.take(read(broken.as_bytes(), &[]), now);
        }
        let ListFacts { errors, last_error, .. } = roster.facts();
        assert_eq!((names(&roster), errors), ("ab".to_owned(), 3));
        assert_eq!(last_error.as_deref(), Some("it is no list of nodes"));
        roster.take(read(br#"[{"name":"c"}]"#, &[]), now);
        assert_eq!((names(&roster), roster.facts().last_error), ("c".to_owned(), None));
    }
}
