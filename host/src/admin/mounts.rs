//! The mounts of the streams, for the API.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::Serialize;

use super::api::Page;
use crate::conf::Mount;
use crate::module::{Module, Registry, Transport};
use crate::stream::{Codecs, Hub, LiveMount, Stream};

/// A part of the list of mounts: for each stream, by name, each format that its vhost mounts.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct MountList {
    /// The number of all mounts.
    pub total: usize,
    /// The number of those before this part.
    pub start: usize,
    pub mounts: Vec<MountRow>,
}

/// One format of one stream.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct MountRow {
    pub stream: String,
    pub vhost: String,
    /// The path of its URL.
    pub url: String,
    /// `http` or `websocket`.
    pub transport: &'static str,
    pub module: String,
    /// The module's current generation.
    pub generation: u64,
    pub content_type: String,
    /// Whether the format can carry one of the tracks that the stream has now.
    pub carries: bool,
    /// Number of variants that a remuxer fills now; without viewers there is none.
    pub live: usize,
    pub viewers: usize,
    /// The longest lag of the variants behind the stream, in milliseconds.
    pub lag_ms: u64,
}

impl MountList {
    pub(super) fn of(hub: &Hub, registry: &Registry, page: Page) -> MountList {
        let mut streams = hub.streams();
        streams.sort_by_cached_key(|stream| stream.key().to_string());
        let rows: Vec<_> = streams.iter().flat_map(|stream| formats(stream, registry)).collect();
        let mounts = page.cut(&rows).map(|format| MountRow::of(format)).collect();
        MountList { total: rows.len(), start: page.start, mounts }
    }
}

/// A module that answers a mount of a stream.
struct Format<'a> {
    stream: &'a Stream,
    mount: Arc<Mount>,
    transport: Transport,
    module: Arc<Module>,
}

fn formats<'a>(stream: &'a Stream, registry: &'a Registry) -> impl Iterator<Item = Format<'a>> {
    let mounts = stream.vhost().mounts.clone();
    mounts.into_iter().flat_map(move |mount| {
        [Transport::HTTP, Transport::WEBSOCKET].into_iter().filter_map(move |transport| {
            let module = registry.find(&mount.pattern.extension, transport)?;
            Some(Format { stream, mount: mount.clone(), transport, module })
        })
    })
}

impl MountRow {
    fn of(Format { stream, mount, transport, module }: &Format<'_>) -> MountRow {
        let (key, Codecs { video, audio }) = (stream.key(), stream.codecs());
        let own = |live: &Arc<LiveMount>| {
            !live.blocks().is_ended()
                && live.module().name() == module.name()
                && live.pattern() == mount.pattern.text
        };
        let live: Vec<_> = stream.live_mounts().into_iter().filter(own).collect();
        MountRow {
            stream: key.to_string(),
            vhost: key.vhost.to_string(),
            url: mount.pattern.url_path(&key.app, &key.stream),
            transport: if *transport == Transport::HTTP { "http" } else { "websocket" },
            module: module.name().to_owned(),
            generation: module.generation(),
            content_type: module.content_type().to_owned(),
            carries: module.carries(video, audio),
            live: live.len(),
            viewers: live.iter().map(|mount| mount.viewers()).sum(),
            lag_ms: live.iter().map(|mount| mount.lag().0.unsigned_abs()).max().unwrap_or(0),
        }
    }
}
