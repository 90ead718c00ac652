//! The cluster as this node knows it: nodes, streams, leases and the state of the directory; for the API and `remuxd status --cluster`.

use std::fmt;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::api::Page;
use crate::cluster::{DirectoryFacts, Listing, NodeEntry, State, StreamEntry};
use crate::conf::DirectoryKind;

/// The cluster, with a part of the streams.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub(super) struct ClusterStatus {
    /// The name of this node.
    pub node: String,
    pub directory: DirectoryStatus,
    /// The nodes, this one first, then by name.
    pub nodes: Vec<NodeRow>,
    /// The number of all streams, up to 20,000.
    pub total: usize,
    /// The number of those before this part.
    pub start: usize,
    /// The streams, by name. Only Redis has streams; if it does not answer, those that this node has or follows.
    pub streams: Vec<StreamRow>,
}

/// The state of the directory.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub(super) struct DirectoryStatus {
    /// `none`, `static`, `http` or `redis`.
    pub kind: String,
    /// `off`; `starting`, before its first answer; `good`; or `degraded`: what it said last stays in use.
    pub state: String,
    /// Milliseconds since its last good answer; null before the first one, and for a list in the config.
    pub age_ms: Option<u64>,
    /// How often it could not be asked, or its answer could not be used.
    pub errors: u64,
    /// Entries that were refused so far: those of a list each time that it is read.
    pub refused: u64,
    pub last_error: Option<String>,
}

/// A node.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub(super) struct NodeRow {
    pub name: String,
    pub is_own: bool,
    /// 0 for origins, 1 for edges that pull from them, and so on.
    pub tier: u8,
    pub region: String,
    /// The URL from which other nodes pull its streams.
    pub pull_url: Option<String>,
    /// The base of the URLs of viewers who are redirected to it.
    pub play_url: Option<String>,
    /// The base of the URLs of players over RTMP who are redirected to it.
    pub rtmp_url: Option<String>,
    /// Media that it sends, in bit/s.
    pub bitrate: u64,
    /// The bitrate that it can send, in bit/s; 0 for no limit.
    pub max_bitrate: u64,
    /// Viewers and players.
    pub viewers: u64,
    /// How late it sends, in milliseconds.
    pub lag_ms: u64,
    /// Milliseconds until its entry is removed unless it is renewed; null for this node and for nodes of a list.
    pub lease_ms: Option<u64>,
}

/// A stream.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub(super) struct StreamRow {
    pub stream: String,
    pub vhost: String,
    /// The node that has the publisher.
    pub node: String,
    /// The publisher's id: greater is newer.
    pub id: String,
    /// `live`, or `ended`.
    pub state: String,
    /// The URL from which other nodes pull it.
    pub pull_url: String,
    /// Milliseconds until the entry is removed unless it is renewed; null if that is not known.
    pub lease_ms: Option<u64>,
}

impl ClusterStatus {
    /// Returns the state of the directory, with a part of what it lists.
    pub(super) fn of(facts: &DirectoryFacts, listing: &Listing, page: Page) -> ClusterStatus {
        let own = NodeRow { is_own: true, ..NodeRow::of(&listing.own, None) };
        let others = listing.nodes.iter().map(|(entry, lease)| NodeRow::of(entry, *lease));
        ClusterStatus {
            node: listing.own.name.clone(),
            directory: DirectoryStatus::of(facts),
            nodes: std::iter::once(own).chain(others).collect(),
            total: listing.streams.len(),
            start: page.start,
            streams: page.cut(&listing.streams).map(StreamRow::of).collect(),
        }
    }
}

impl DirectoryStatus {
    fn of(facts: &DirectoryFacts) -> DirectoryStatus {
        let (kind, has_age) = match facts.kind {
            DirectoryKind::None => ("none", false),
            DirectoryKind::Static => ("static", false),
            DirectoryKind::Http => ("http", true),
            DirectoryKind::Redis => ("redis", true),
        };
        let state = match facts.kind {
            DirectoryKind::None => "off",
            _ if facts.is_up => "good",
            _ if has_age && facts.age.is_none() => "starting",
            _ => "degraded",
        };
        DirectoryStatus {
            kind: kind.to_owned(),
            state: state.to_owned(),
            age_ms: facts.age.map(millis),
            errors: facts.errors,
            refused: facts.refused.iter().map(|(_, count)| count).sum(),
            last_error: facts.last_error.clone(),
        }
    }
}

impl NodeRow {
    fn of(entry: &NodeEntry, lease: Option<Duration>) -> NodeRow {
        let NodeEntry { name, at: _, pull_url, play_url, rtmp_url, tier, region, load } = entry.clone();
        NodeRow {
            name,
            is_own: false,
            tier,
            region,
            pull_url,
            play_url,
            rtmp_url,
            bitrate: load.bitrate,
            max_bitrate: load.max_bitrate,
            viewers: load.viewers,
            lag_ms: load.lag_ms,
            lease_ms: lease.map(millis),
        }
    }
}

impl StreamRow {
    fn of((entry, lease): &(StreamEntry, Option<Duration>)) -> StreamRow {
        let state = match entry.state {
            State::Live => "live",
            State::Ended => "ended",
        };
        StreamRow {
            stream: entry.key.to_string(),
            vhost: entry.key.vhost.to_string(),
            node: entry.node().to_owned(),
            id: entry.id.to_string(),
            state: state.to_owned(),
            pull_url: entry.pull_url.clone(),
            lease_ms: lease.map(millis),
        }
    }
}

/// Lines about the directory, a table of nodes and one of streams. The caller escapes characters that could control a terminal.
impl fmt::Display for ClusterStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let DirectoryStatus { kind, state, age_ms, errors, refused, last_error } = &self.directory;
        write!(f, "directory: {kind}, {state}")?;
        if let Some(age) = age_ms {
            write!(f, ", answered {} ago", seconds(*age))?;
        }
        writeln!(f, ", {errors} errors, {refused} entries refused")?;
        if let Some(error) = last_error {
            writeln!(f, "last error: {error}")?;
        }
        writeln!(
            f,
            "\n{:<24} {:>4} {:<12} {:>10} {:>10} {:>8} {:>8} {:>8}  pulled from",
            "node", "tier", "region", "Mbit/s", "of", "viewers", "lag", "lease"
        )?;
        for row in &self.nodes {
            let name = if row.is_own { format!("{} (here)", row.name) } else { row.name.clone() };
            let of = if row.max_bitrate == 0 { "-".to_owned() } else { megabits(row.max_bitrate) };
            let region: &str = if row.region.is_empty() { "-" } else { &row.region };
            let (lag, lease) = (format!("{} ms", row.lag_ms), row.lease_ms.map_or("-".to_owned(), seconds));
            let from = row.pull_url.as_deref().unwrap_or("-");
            writeln!(
                f,
                "{name:<24} {:>4} {region:<12} {:>10} {of:>10} {:>8} {lag:>8} {lease:>8}  {from}",
                row.tier,
                megabits(row.bitrate),
                row.viewers
            )?;
        }
        if self.streams.is_empty() {
            return Ok(());
        }
        writeln!(f, "\n{:<32} {:<16} {:<6} {:<32} {:>8}", "stream", "node", "state", "id", "lease")?;
        for StreamRow { stream, node, state, id, lease_ms, .. } in &self.streams {
            let lease = lease_ms.map_or("-".to_owned(), seconds);
            writeln!(f, "{stream:<32} {node:<16} {state:<6} {id:<32} {lease:>8}")?;
        }
        Ok(())
    }
}

fn millis(time: Duration) -> u64 {
    time.as_millis() as u64
}

fn seconds(millis: u64) -> String {
    format!("{}.{} s", millis / 1000, millis % 1000 / 100)
}

fn megabits(bits: u64) -> String {
    format!("{}.{}", bits / 1_000_000, bits % 1_000_000 / 100_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_nodes_and_streams_in_tables() {
        let node = |name: &str, is_own, lease_ms| NodeRow {
            name: name.to_owned(),
            is_own,
            tier: 1,
            region: if is_own { "eu" } else { "" }.to_owned(),
            pull_url: is_own.then(|| "rtmp://10.0.0.1".to_owned()),
            play_url: None,
            rtmp_url: None,
            bitrate: 12_345_678,
            max_bitrate: if is_own { 1_000_000_000 } else { 0 },
            viewers: 7,
            lag_ms: 3,
            lease_ms,
        };
        let directory = DirectoryStatus {
            kind: "redis".to_owned(),
            state: "degraded".to_owned(),
            age_ms: Some(12_340),
            errors: 2,
            refused: 1,
            last_error: Some("no answer".to_owned()),
        };
        let stream = StreamRow {
            stream: "live/film".to_owned(),
            vhost: "v".to_owned(),
            node: "origin1".to_owned(),
            id: "5@origin1".to_owned(),
            state: "live".to_owned(),
            pull_url: "rtmp://10.0.0.2".to_owned(),
            lease_ms: Some(9_000),
        };
        let nodes = vec![node("edge1", true, None), node("edge2", false, Some(8_250))];
        let status = ClusterStatus {
            node: "edge1".to_owned(),
            directory,
            nodes,
            total: 1,
            start: 0,
            streams: vec![stream],
        };
        let shown = status.to_string();
        let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>().join(" ");
        let lines: Vec<_> = shown.lines().map(words).collect();
        assert_eq!(
            lines,
            [
                "directory: redis, degraded, answered 12.3 s ago, 2 errors, 1 entries refused",
                "last error: no answer",
                "",
                "node tier region Mbit/s of viewers lag lease pulled from",
                "edge1 (here) 1 eu 12.3 1000.0 7 3 ms - rtmp://10.0.0.1",
                "edge2 1 - 12.3 - 7 3 ms 8.2 s -",
                "",
                "stream node state id lease",
                "live/film origin1 live 5@origin1 9.0 s",
            ]
        );
    }
}
