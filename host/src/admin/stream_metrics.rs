//! Metrics of each stream, if `[metrics]` asks for them.
//!
//! A stream's series stay ten minutes after its end. Streams above `metrics.max_series` are one stream without a name, with
//! `overflow="true"`.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use super::exposition::{Kind, Page};
use crate::policy::{Access, FormatTotals, StreamTotals};
use crate::stream::{Hub, Stream, StreamKey};

/// The labels that name a stream.
const LABELS: &[&str] = &["vhost", "app", "stream", "overflow"];
/// The labels of one of its formats.
const FORMAT_LABELS: &[&str] = &["vhost", "app", "stream", "overflow", "format"];

/// The present state of a stream, which the metrics show beside its totals.
#[derive(Clone, Copy, Debug, Default)]
struct Now {
    bytes_per_second: f64,
    lag_seconds: f64,
    idle_seconds: f64,
}

impl Now {
    /// Returns the facts about a stream that is there.
    fn of(stream: &Stream) -> Now {
        let stats = stream.stats();
        let lags = stream.live_mounts().into_iter().map(|mount| mount.lag().0.unsigned_abs());
        Now {
            bytes_per_second: stats.bits_per_second / 8.0,
            lag_seconds: lags.max().unwrap_or(0) as f64 / 1000.0,
            idle_seconds: stats.idle.as_secs_f64(),
        }
    }

    /// Adds another stream: the largest lag and time count.
    fn add(&mut self, other: Now) {
        self.bytes_per_second += other.bytes_per_second;
        self.lag_seconds = self.lag_seconds.max(other.lag_seconds);
        self.idle_seconds = self.idle_seconds.max(other.idle_seconds);
    }
}

/// Writes the metrics of each stream.
pub(super) fn stream_families(page: &mut Page, hub: &Hub, access: &Access) {
    let streams = with_now(access.streams(), hub);
    let mut gauge = |name, help, value: fn(&StreamTotals, &Now) -> f64| {
        let mut family = page.family(Kind::Gauge, name, LABELS, help);
        for (stream, now) in &streams {
            family.add(labels(stream), value(stream, now));
        }
    };
    gauge("remuxd_stream_publishers", "Publishers of a stream.", |stream, _| stream.publishers as f64);
    gauge(
        "remuxd_stream_bytes_per_second",
        "What the publisher of a stream sends, over the last 5 s.",
        |_, now| now.bytes_per_second,
    );
    gauge("remuxd_stream_lag_seconds", "Longest time that a mount of a stream is behind it.", |_, now| {
        now.lag_seconds
    });
    gauge(
        "remuxd_stream_idle_seconds",
        "Time since the last media of a stream's publisher, or since it left.",
        |_, now| now.idle_seconds,
    );
    let mut family = page.family(
        Kind::Counter,
        "remuxd_stream_received_bytes_total",
        LABELS,
        "Bytes of media from the publishers of a stream.",
    );
    for (stream, _) in &streams {
        family.add(labels(stream), stream.received);
    }
    let mut by_format = |kind, name, help, value: fn(&FormatTotals) -> u64| {
        let mut family = page.family(kind, name, FORMAT_LABELS, help);
        for (stream, _) in &streams {
            let [vhost, app, name, overflow] = labels(stream);
            for (format, totals) in &stream.formats {
                family.add([vhost, app, name, overflow, format], value(totals));
            }
        }
    };
    by_format(
        Kind::Gauge,
        "remuxd_stream_viewers",
        "Viewers that get media of a stream, and players as format rtmp.",
        |totals| totals.viewers as u64,
    );
    by_format(
        Kind::Counter,
        "remuxd_stream_sent_bytes_total",
        "Bytes of media to the viewers of a stream.",
        |totals| totals.done.bytes,
    );
    by_format(
        Kind::Counter,
        "remuxd_stream_skips_total",
        "Times that a viewer of a stream fell behind and moved to a newer keyframe.",
        |totals| totals.done.skips,
    );
}

/// Returns the values of [`LABELS`].
fn labels(stream: &StreamTotals) -> [&str; 4] {
    match &stream.key {
        Some(StreamKey { vhost, app, stream }) => [vhost, app, stream, ""],
        None => ["", "", "", "true"],
    }
}

/// Adds to each stream what the hub knows of it. Live streams that have no series of their own count together.
fn with_now(totals: Vec<StreamTotals>, hub: &Hub) -> Vec<(StreamTotals, Now)> {
    if totals.is_empty() {
        return Vec::new();
    }
    let streams = hub.streams();
    let mut live: HashMap<&StreamKey, &Arc<Stream>> = streams.iter().map(|one| (one.key(), one)).collect();
    let now = Instant::now();
    let own = |stream: &StreamTotals, live: &mut HashMap<_, &Arc<Stream>>| {
        let left = stream.left.map_or(0.0, |left| now.saturating_duration_since(left).as_secs_f64());
        let known = stream.key.as_ref().and_then(|key| live.remove(key)).map(|stream| Now::of(stream));
        known.unwrap_or(Now { idle_seconds: left, ..Now::default() })
    };
    let mut named: Vec<_> = totals
        .into_iter()
        .map(|stream| {
            let now = own(&stream, &mut live);
            (stream, now)
        })
        .collect();
    if let Some((_, together)) = named.iter_mut().find(|(stream, _)| stream.key.is_none()) {
        live.values().for_each(|stream| together.add(Now::of(stream)));
    }
    named
}
