//! The nodes and streams of the directory, for operators.

use std::time::Duration;

use super::directory::Directory;
use super::entry::{NodeEntry, StreamEntry};
use super::shared::own_name;
use crate::conf::DirectoryKind;

/// Limit of the streams in a listing.
pub const MAX_STREAMS: usize = 20_000;

/// The nodes and streams of the directory.
#[derive(Clone, Debug)]
pub struct Listing {
    /// This node.
    pub own: NodeEntry,
    /// The other nodes, by name, each with how long its entry holds unless it is renewed; `None` for a node of a list.
    pub nodes: Vec<(NodeEntry, Option<Duration>)>,
    /// The streams, by name, each with how long its entry holds unless it is renewed; `None` if the directory does not answer: then only
    /// those that this node has or follows are there.
    pub streams: Vec<(StreamEntry, Option<Duration>)>,
}

impl Directory {
    /// Returns the nodes and the streams, [`MAX_STREAMS`] at most.
    pub async fn listing(&self) -> Listing {
        let config = self.0.current.config();
        let (directory, name) = (&config.cluster.directory, own_name(&config));
        let nodes = self.0.roster.nodes();
        let others = nodes.iter().filter(|node| node.name != name);
        let nodes = others.map(|node| (node.clone(), self.0.roster.lease(node, directory.lease)));
        let nodes = nodes.collect();
        let streams = match directory.kind {
            DirectoryKind::Redis => match self.streams(MAX_STREAMS).await {
                Ok(streams) => streams.into_iter().map(|(entry, lease)| (entry, Some(lease))).collect(),
                Err(_) => self.known(),
            },
            DirectoryKind::None | DirectoryKind::Static | DirectoryKind::Http => Vec::new(),
        };
        Listing { own: self.0.roster.own(directory, name), nodes, streams }
    }

    /// Returns the streams that this node has or follows.
    fn known(&self) -> Vec<(StreamEntry, Option<Duration>)> {
        let state = self.0.lock();
        let mut used = state.book.used();
        used.sort_by_key(ToString::to_string);
        let entries = used.iter().filter_map(|key| state.book.own(key).or_else(|| state.book.seen(key)));
        entries.take(MAX_STREAMS).map(|entry| (entry.clone(), None)).collect()
    }
}
