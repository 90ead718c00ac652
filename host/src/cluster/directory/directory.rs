//! The directory, for the rest of the host.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::carriers::asked_group;
use super::entry::{EntryError, NodeEntry, State, StreamEntry};
use super::fence::FenceId;
use super::link::{LinkError, first};
use super::resp::Value;
use super::roster::Roster;
use super::scripts::Names;
use super::select::{Origins, Place, order};
use super::shared::{Shared, own_name};
use super::targets::free_first;
use crate::conf::{Config, Current, DirectoryKind, Upstream, Vhost};
use crate::stream::StreamKey;

/// How long an answer about a stream is used again.
const FRESH: Duration = Duration::from_millis(500);

/// The directory of the cluster. Clones share it.
#[derive(Clone)]
pub struct Directory(pub(super) Arc<Shared>);

/// The servers that a stream can be pulled from, as the directory has them.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The servers, in the order in which they are to be asked.
    pub servers: Vec<Source>,
    /// Whether the directory does not answer, so that there may be others.
    pub is_unsure: bool,
}

/// A server that a stream can be pulled from.
#[derive(Clone, Debug)]
pub struct Source {
    /// Its URL.
    pub upstream: Upstream,
    /// The publisher of the stream, if it is at this server.
    pub publisher: Option<FenceId>,
}

impl Directory {
    /// Creates the directory of the config in force. It has the nodes of `roster`.
    pub fn new(current: Arc<Current>, roster: Arc<Roster>) -> Directory {
        Directory(Arc::new(Shared::new(current, roster)))
    }

    /// Returns the servers that a stream of `vhost` can be pulled from. An answer is used again for a moment; without one, what was known
    /// last counts.
    pub async fn sources(&self, vhost: &Vhost, key: &StreamKey) -> Sources {
        let config = self.0.current.config();
        match config.cluster.directory.kind {
            DirectoryKind::None => Sources::default(),
            DirectoryKind::Static | DirectoryKind::Http => self.of_list(&config, vhost, key),
            DirectoryKind::Redis => {
                let is_unsure = !self.look_up(&config, key).await;
                Sources { servers: self.of_stream(&config, vhost, key), is_unsure }
            }
        }
    }

    /// Returns the servers that take a publisher of `vhost` at an edge: nodes of tier 0 over RTMP, the least loaded first.
    pub fn takers(&self, vhost: &Vhost) -> Vec<Upstream> {
        let config = self.0.current.config();
        let nodes = self.0.roster.nodes();
        let own = own_name(&config);
        let takers = nodes.iter().filter(|node| node.tier == 0 && node.name != own);
        let ordered = free_first(takers, config.limits.max_lag);
        let upstreams = ordered.into_iter().filter_map(|node| upstream(node.pull_url.as_deref()?, vhost));
        upstreams.filter(|upstream| upstream.scheme().is_rtmp()).collect()
    }

    /// Tells the directory that this node leaves, and its publishers with it.
    pub async fn close(&self) {
        let config = self.0.current.config();
        let (ended, link) = {
            let mut state = self.0.lock();
            (state.book.take_ended(), state.link.clone())
        };
        let (Some(link), Some(secret)) = (link, &config.cluster.secret) else { return };
        let directory = &config.cluster.directory;
        let names = Names::of(directory);
        let ends = ended.iter().map(|entry| names.end(&entry.key, &entry.sign(secret)));
        let commands: Vec<_> = ends.chain([names.remove_node(own_name(&config))]).collect();
        // Otherwise the leases end.
        let _ = link.ask_all(&commands).await;
    }

    /// Reads all streams of the directory, with the rest of their leases; at most `limit`.
    ///
    /// # Errors
    /// There is no answer.
    pub async fn streams(&self, limit: usize) -> Result<Vec<(StreamEntry, Duration)>, LinkError> {
        let config = self.0.current.config();
        let link = self.0.lock().link.clone().ok_or(LinkError::Closed)?;
        let directory = &config.cluster.directory;
        let names = Names::of(directory);
        let (mut cursor, mut found) = ("0".to_owned(), Vec::new());
        loop {
            let page = first(link.ask_all(&[names.scan(&cursor)]).await?)?;
            let Some([next, Value::List(keys)]) = page.list() else { return Err(LinkError::Reply("SCAN")) };
            let keys: Vec<_> = keys.iter().filter_map(Value::text).collect();
            if !keys.is_empty() {
                let answers = first(link.ask_all(&[names.look_raw(&keys)]).await?)?;
                for answer in answers.list().unwrap_or_default() {
                    let Some([text @ Value::Text(_), left]) = answer.list() else { continue };
                    let left = u64::try_from(left.integer().unwrap_or_default()).unwrap_or_default();
                    let entry = self.0.read(&config, text, None);
                    found.extend(entry.map(|entry| (entry, Duration::from_millis(left))));
                }
            }
            cursor = String::from_utf8_lossy(next.text().unwrap_or(b"0")).into_owned();
            if cursor == "0" || found.len() >= limit {
                found.truncate(limit);
                found.sort_by_key(|(entry, _)| entry.key.to_string());
                return Ok(found);
            }
        }
    }

    /// Asks Redis for a stream, unless it has answered a moment ago. Returns whether it has.
    async fn look_up(&self, config: &Config, key: &StreamKey) -> bool {
        {
            let state = self.0.lock();
            let now = Instant::now();
            // What the directory tells of streams that are followed has no carriers.
            let has_carrier =
                asked_group(&config.cluster.directory).is_none() || state.carriers.is_fresh(key, FRESH, now);
            if has_carrier && state.book.is_fresh(key, FRESH, now) {
                return state.link.is_some();
            }
        }
        self.ask_redis(config, key).await
    }

    /// Asks for a stream, whenever it was asked for before. Returns whether there is an answer.
    pub(super) async fn ask(&self, key: &StreamKey) -> bool {
        let config = self.0.current.config();
        config.cluster.directory.kind == DirectoryKind::Redis && self.ask_redis(&config, key).await
    }

    async fn ask_redis(&self, config: &Config, key: &StreamKey) -> bool {
        let link = {
            let mut state = self.0.lock();
            state.counts.lookups += 1;
            state.link.clone()
        };
        let Some(link) = link else { return false };
        let directory = &config.cluster.directory;
        let names = Names::of(directory);
        let mut commands = vec![names.look(std::slice::from_ref(key))];
        commands.extend(asked_group(directory).map(|group| names.carrier(group, key)));
        let replies = link.ask_all(&commands).await;
        let carrier = replies.as_ref().ok().and_then(|replies| replies.get(1)).cloned();
        match replies.and_then(first) {
            Ok(answer) => {
                {
                    let mut state = self.0.lock();
                    state.answered();
                    state.carriers.answer(key, carrier.as_ref(), Instant::now());
                }
                self.0.on_look(
                    config,
                    key,
                    answer.list().and_then(|list| list.first()).unwrap_or(&Value::Null),
                );
                true
            }
            Err(error) => {
                self.0.fail(&error);
                false
            }
        }
    }

    /// Returns the servers of a stream: those of nearer tiers, then the one with its publisher.
    fn of_stream(&self, config: &Config, vhost: &Vhost, key: &StreamKey) -> Vec<Source> {
        let seen = self.0.lock().book.seen(key).cloned();
        let Some(entry) = seen.filter(|entry| entry.state == State::Live) else { return Vec::new() };
        if entry.node() == own_name(config) {
            self.0.refuse(&EntryError::OwnNode, Some(key.to_string()));
            return Vec::new();
        }
        let nodes = self.0.roster.nodes();
        let parents = self.parents(config, key, &nodes, Origins::Node(entry.node()));
        let parents = parents.into_iter().filter(|node| node.tier > 0 && node.name != entry.node());
        let parents = parents.filter_map(|node| {
            Some(Source { upstream: upstream(node.pull_url.as_deref()?, vhost)?, publisher: None })
        });
        let origin = upstream(&entry.pull_url, vhost);
        let origin = origin.map(|upstream| Source { upstream, publisher: Some(entry.id.clone()) });
        parents.chain(origin).collect()
    }

    fn of_list(&self, config: &Config, vhost: &Vhost, key: &StreamKey) -> Sources {
        let nodes = self.0.roster.nodes();
        let parents = self.parents(config, key, &nodes, Origins::Any);
        let servers = parents.into_iter().filter_map(|node| {
            Some(Source { upstream: upstream(node.pull_url.as_deref()?, vhost)?, publisher: None })
        });
        Sources { servers: servers.collect(), is_unsure: nodes.is_empty() }
    }

    fn parents<'a>(
        &self,
        config: &Config,
        key: &StreamKey,
        nodes: &'a [NodeEntry],
        origins: Origins<'_>,
    ) -> Vec<&'a NodeEntry> {
        let own = self.0.roster.own(&config.cluster.directory, own_name(config));
        let places: Vec<_> = nodes.iter().map(place).collect();
        let carrier = self.0.lock().carriers.of(key).map(str::to_owned);
        let carries = |name: &str| carrier.as_deref() == Some(name);
        let ordered = order(place(&own), &key.to_string(), &places, origins, carries);
        ordered.into_iter().filter_map(|index| nodes.get(index)).collect()
    }
}

fn place(node: &NodeEntry) -> Place<'_> {
    Place { name: &node.name, tier: node.tier, region: &node.region }
}

/// Returns a server for streams of `vhost`. The text was checked when its entry was.
fn upstream(url: &str, vhost: &Vhost) -> Option<Upstream> {
    Upstream::parse(url, &vhost.name).ok()
}

impl fmt::Debug for Directory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Directory").finish_non_exhaustive()
    }
}
