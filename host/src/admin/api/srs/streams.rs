//! Vhosts and streams.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use hyper::header::HOST;
use schemars::JsonSchema;
use serde::Serialize;

use super::super::paging::Page;
use super::super::route::Call;
use super::super::state::Api;
use super::codecs::{Audio, Video};
use super::envelope::{Code, stream_url, tc_url};
use super::tally::{Kbps, Sum, Tally};
use crate::conf::Vhost;
use crate::stream::{Stream, StreamKey};

/// The vhosts.
#[derive(Serialize, JsonSchema)]
pub(in crate::admin::api) struct Vhosts {
    vhosts: Vec<VhostFacts>,
}

/// One vhost.
#[derive(Serialize, JsonSchema)]
pub(in crate::admin::api) struct OneVhost {
    vhost: VhostFacts,
}

/// A vhost of the config.
#[derive(Serialize, JsonSchema)]
struct VhostFacts {
    id: String,
    name: String,
    enabled: bool,
    /// Number of publishers, players and viewers.
    clients: usize,
    /// Number of streams with a publisher.
    streams: usize,
    /// Bytes of media of all sessions, past ones included.
    send_bytes: u64,
    recv_bytes: u64,
    kbps: Kbps,
    /// Off: the host has no such output.
    hls: Switch,
}

/// A feature of a vhost.
#[derive(Serialize, JsonSchema)]
struct Switch {
    enabled: bool,
}

/// A list of streams.
#[derive(Serialize, JsonSchema)]
pub(in crate::admin::api) struct Streams {
    streams: Vec<StreamFacts>,
}

/// One stream.
#[derive(Serialize, JsonSchema)]
pub(in crate::admin::api) struct OneStream {
    stream: StreamFacts,
}

/// A stream that is live, or whose viewers wait for its publisher.
#[derive(Serialize, JsonSchema)]
struct StreamFacts {
    id: String,
    name: String,
    /// The id of its vhost.
    vhost: String,
    app: String,
    /// The RTMP URL of its app, on the host that the request names.
    #[serde(rename = "tcUrl")]
    tc_url: String,
    url: String,
    /// The time now, in milliseconds since 1970, as in SRS.
    live_ms: u64,
    /// Number of publishers, players and viewers.
    clients: usize,
    /// Number of pictures that were received.
    frames: u64,
    /// Bytes of media of its sessions, past ones included.
    send_bytes: u64,
    recv_bytes: u64,
    kbps: Kbps,
    publish: Publish,
    /// `null` without video.
    video: Option<Video>,
    /// `null` without audio.
    audio: Option<Audio>,
}

/// The publisher of a stream.
#[derive(Serialize, JsonSchema)]
struct Publish {
    active: bool,
    /// Its id among the clients.
    #[serde(skip_serializing_if = "Option::is_none")]
    cid: Option<String>,
}

pub(in crate::admin::api) fn vhosts(api: &Api, _: &Call) -> Result<Vhosts, Code> {
    let (tally, live) = (Tally::of(api), live(api));
    let config = api.config();
    Ok(Vhosts {
        vhosts: config.vhosts.iter().map(|vhost| VhostFacts::of(api, vhost, &tally, &live)).collect(),
    })
}

pub(in crate::admin::api) fn vhost(api: &Api, call: &Call) -> Result<OneVhost, Code> {
    let config = api.config();
    let vhost = config.vhosts.iter().find(|vhost| api.identity.vhost(&vhost.name) == call.id);
    let vhost = vhost.ok_or(Code::VhostNotFound)?;
    Ok(OneVhost { vhost: VhostFacts::of(api, vhost, &Tally::of(api), &live(api)) })
}

pub(in crate::admin::api) fn streams(api: &Api, call: &Call) -> Result<Streams, Code> {
    let mut streams = api.hub.streams();
    streams.sort_by_cached_key(|stream| stream.key().to_string());
    let (tally, page) = (Tally::of(api), Page::lenient(&call.query));
    Ok(Streams {
        streams: page.cut(&streams).map(|stream| StreamFacts::of(api, call, stream, &tally)).collect(),
    })
}

pub(in crate::admin::api) fn stream(api: &Api, call: &Call) -> Result<OneStream, Code> {
    let streams = api.hub.streams();
    let stream = streams.iter().find(|stream| api.identity.stream(stream.key()) == call.id);
    let stream = stream.ok_or(Code::StreamNotFound)?;
    Ok(OneStream { stream: StreamFacts::of(api, call, stream, &Tally::of(api)) })
}

/// Returns the names of the streams that have a publisher.
fn live(api: &Api) -> Vec<StreamKey> {
    let live = api.hub.streams().into_iter().filter(|stream| stream.is_live());
    live.map(|stream| stream.key().clone()).collect()
}

impl VhostFacts {
    fn of(api: &Api, vhost: &Arc<Vhost>, tally: &Tally, live: &[StreamKey]) -> VhostFacts {
        let Sum { clients, amount, kbps } = tally.vhost(&vhost.name);
        VhostFacts {
            id: api.identity.vhost(&vhost.name),
            name: vhost.name.clone(),
            enabled: vhost.enabled,
            clients,
            streams: live.iter().filter(|key| *key.vhost == vhost.name).count(),
            send_bytes: amount.sent,
            recv_bytes: amount.received,
            kbps,
            hls: Switch { enabled: false },
        }
    }
}

impl StreamFacts {
    fn of(api: &Api, call: &Call, stream: &Stream, tally: &Tally) -> StreamFacts {
        let (key, stats) = (stream.key(), stream.stats());
        let Sum { clients, amount, kbps } = tally.stream(key);
        let port = api.config().rtmp.listen.first().map_or(1935, |address| address.port());
        StreamFacts {
            id: api.identity.stream(key),
            name: key.stream.to_string(),
            vhost: api.identity.vhost(&key.vhost),
            app: key.app.to_string(),
            tc_url: tc_url_of(call, port, key),
            url: stream_url(key),
            live_ms: now_ms(),
            clients,
            frames: stats.total.pictures,
            send_bytes: amount.sent,
            recv_bytes: amount.received,
            kbps: Kbps { recv_30s: (stats.bits_per_second / 1000.0) as u64, ..kbps },
            publish: Publish {
                active: stats.published.is_some(),
                cid: tally.publisher(key).map(|id| id.to_string()),
            },
            video: Video::of(stream, stats.size),
            audio: Audio::of(stream),
        }
    }
}

/// Returns the RTMP URL of a stream's app on the host that a request names.
pub(super) fn tc_url_of(call: &Call, port: u16, key: &StreamKey) -> String {
    let host = call.headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    tc_url(host, port, key)
}

/// Returns the time in milliseconds since 1970.
pub(super) fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64
}
