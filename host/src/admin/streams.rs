//! Streams, for the API and `remuxd status`.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::api::Page;
use crate::media::Codec;
use crate::policy::{Access, Action, Protocol, Session};
use crate::stream::{Hub, LiveMount, Stream, StreamKey};

/// A part of the list of streams that are live or whose viewers wait for the publisher, by name.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub(super) struct StreamList {
    /// The number of all streams.
    #[serde(default)]
    pub total: usize,
    /// The number of those before this part.
    #[serde(default)]
    pub start: usize,
    pub streams: Vec<StreamStatus>,
}

/// The status of one stream.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub(super) struct StreamStatus {
    /// `APP/STREAM`, after `VHOST/` on another vhost than the default one; control characters are escaped.
    pub name: String,
    pub vhost: String,
    pub app: String,
    pub stream: String,
    /// The publisher; `None` while it is away.
    pub publisher: Option<PublisherStatus>,
    /// The codec as a FourCC; empty without video.
    pub video: String,
    /// The codec as a FourCC; empty without audio.
    pub audio: String,
    /// In pixels, as the publisher's metadata have it.
    pub width: Option<u32>,
    pub height: Option<u32>,
    /// Over the last 5 s.
    pub kilobits_per_second: f64,
    pub pictures_per_second: f64,
    /// Bytes that all publishers have sent.
    pub bytes: u64,
    /// Number of viewers and RTMP players.
    pub viewers: usize,
    pub mounts: Vec<MountStatus>,
    /// Number of RTMP players.
    pub players: usize,
}

/// The publisher of a stream.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub(super) struct PublisherStatus {
    /// Seconds since it came.
    pub seconds: u64,
    /// Its session and address; `None` for a client that may not see addresses.
    pub session: Option<String>,
    pub address: Option<IpAddr>,
}

/// One format of a stream.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub(super) struct MountStatus {
    pub module: String,
    pub generation: u64,
    pub viewers: usize,
    /// How far it is behind the stream, in milliseconds.
    pub lag_ms: u64,
}

impl StreamList {
    /// Returns the streams of a page, with addresses if `trusted`.
    pub(super) fn of(hub: &Hub, access: &Access, trusted: bool, page: Page) -> StreamList {
        let mut streams = hub.streams();
        streams.sort_by_cached_key(|stream| stream.key().to_string());
        let shown: Vec<_> = page.cut(&streams).collect();
        let mut sessions: HashMap<&StreamKey, Vec<Arc<Session>>> =
            shown.iter().map(|stream| (stream.key(), Vec::new())).collect();
        for session in access.sessions() {
            if let Some(own) = sessions.get_mut(session.key()) {
                own.push(session);
            }
        }
        let status = |stream: &Arc<Stream>| StreamStatus::of(stream, &sessions[stream.key()], trusted);
        let part = shown.iter().map(|stream| status(stream)).collect();
        StreamList { total: streams.len(), start: page.start, streams: part }
    }
}

impl StreamStatus {
    fn of(stream: &Stream, sessions: &[Arc<Session>], trusted: bool) -> StreamStatus {
        let (key, stats, codecs) = (stream.key(), stream.stats(), stream.codecs());
        let name = |codec: Codec| if codec == Codec::NONE { String::new() } else { codec.to_string() };
        let mounts = stream.live_mounts();
        let mounts: Vec<_> =
            mounts.iter().filter(|mount| !mount.blocks().is_ended()).map(MountStatus::of).collect();
        let plays = |session: &&Arc<Session>| {
            session.action() == Action::Play && session.protocol() == Protocol::Rtmp
        };
        let players = sessions.iter().filter(plays).count();
        // The newest, if it has just replaced another one.
        let own = sessions.iter().rfind(|session| session.action() == Action::Publish).filter(|_| trusted);
        StreamStatus {
            name: key.to_string(),
            vhost: key.vhost.to_string(),
            app: key.app.to_string(),
            stream: key.stream.to_string(),
            publisher: stats.published.map(|published| PublisherStatus {
                seconds: published.as_secs(),
                session: own.map(|session| session.id().to_string()),
                address: own.map(|session| session.address()),
            }),
            video: name(codecs.video),
            audio: name(codecs.audio),
            width: stats.size.map(|(width, _)| width),
            height: stats.size.map(|(_, height)| height),
            kilobits_per_second: (stats.bits_per_second / 100.0).round() / 10.0,
            pictures_per_second: (stats.pictures_per_second * 10.0).round() / 10.0,
            bytes: stats.total.bytes,
            viewers: players + mounts.iter().map(|mount| mount.viewers).sum::<usize>(),
            mounts,
            players,
        }
    }

    /// `40 flv, 3 rtmp`
    fn viewers_by_format(&self) -> String {
        let mut formats: Vec<(&str, usize)> = Vec::new();
        for (name, viewers) in self
            .mounts
            .iter()
            .map(|mount| (mount.module.as_str(), mount.viewers))
            .chain([("rtmp", self.players)])
        {
            match formats.iter_mut().find(|(format, _)| *format == name) {
                Some((_, count)) => *count += viewers,
                None => formats.push((name, viewers)),
            }
        }
        let shown =
            formats.iter().filter(|(_, count)| *count > 0).map(|(name, count)| format!("{count} {name}"));
        shown.collect::<Vec<_>>().join(", ")
    }
}

impl MountStatus {
    fn of(mount: &Arc<LiveMount>) -> MountStatus {
        let module = mount.running().unwrap_or_else(|| mount.module());
        MountStatus {
            module: module.name().to_owned(),
            generation: module.generation(),
            viewers: mount.viewers(),
            lag_ms: mount.lag().0.unsigned_abs(),
        }
    }
}

/// A table. The caller escapes characters that could control a terminal.
impl fmt::Display for StreamList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_streams(&self.streams, f)
    }
}

/// Writes the table of `streams`.
pub(super) fn write_streams(streams: &[StreamStatus], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    writeln!(
        f,
        "{:<24} {:<14} {:<6} {:>9} {:>5} {:>10} {:<15} {:>8} {:>7}  by format",
        "stream", "video", "audio", "kbit/s", "fps", "uptime", "publisher", "lag", "viewers"
    )?;
    for one in streams {
        let size = one.width.zip(one.height).map(|(width, height)| format!(" {width}x{height}"));
        let video = format!("{}{}", one.video, size.unwrap_or_default());
        let uptime = one.publisher.as_ref().map(|publisher| uptime(publisher.seconds));
        let address = one.publisher.as_ref().map(|publisher| match publisher.address {
            Some(address) => address.to_string(),
            None => "?".to_owned(),
        });
        let lag = one.mounts.iter().map(|mount| mount.lag_ms).max().unwrap_or(0);
        let line = format!(
            "{:<24} {:<14} {:<6} {:>9.1} {:>5.1} {:>10} {:<15} {:>8} {:>7}  {}",
            one.name,
            video,
            one.audio,
            one.kilobits_per_second,
            one.pictures_per_second,
            uptime.unwrap_or_else(|| "-".to_owned()),
            address.unwrap_or_else(|| "away".to_owned()),
            format!("{lag} ms"),
            one.viewers,
            one.viewers_by_format(),
        );
        writeln!(f, "{}", line.trim_end())?;
    }
    Ok(())
}

/// `1d 02:03:04`
pub(super) fn uptime(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let time = format!("{:02}:{:02}:{:02}", rest / 3600, rest / 60 % 60, rest % 60);
    if days > 0 { format!("{days}d {time}") } else { time }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(module: &str, viewers: usize) -> MountStatus {
        MountStatus { module: module.to_owned(), generation: 1, viewers, lag_ms: 3 }
    }

    fn stream(name: &str) -> StreamStatus {
        StreamStatus {
            name: format!("live/{name}"),
            vhost: "__defaultVhost__".to_owned(),
            app: "live".to_owned(),
            stream: name.to_owned(),
            publisher: None,
            video: String::new(),
            audio: "mp4a".to_owned(),
            width: None,
            height: None,
            kilobits_per_second: 0.0,
            pictures_per_second: 0.0,
            bytes: 0,
            viewers: 0,
            mounts: Vec::new(),
            players: 0,
        }
    }

    #[test]
    fn a_stream_has_one_line() {
        let film = StreamStatus {
            publisher: Some(PublisherStatus {
                seconds: 93_784,
                session: Some("00000001".to_owned()),
                address: Some([192, 0, 2, 1].into()),
            }),
            video: "avc1".to_owned(),
            width: Some(1920),
            height: Some(1080),
            kilobits_per_second: 2150.3,
            pictures_per_second: 25.0,
            viewers: 44,
            mounts: vec![mount("flv", 40), mount("ts", 0), mount("flv", 1)],
            players: 3,
            ..stream("film")
        };
        let list = StreamList { total: 2, start: 0, streams: vec![stream("away"), film] };
        let lines: Vec<_> = list.to_string().lines().skip(1).map(str::to_owned).collect();
        assert_eq!(
            lines,
            [
                "live/away                               mp4a         0.0   0.0          - away                0 ms       0",
                "live/film                avc1 1920x1080 mp4a      2150.3  25.0 1d 02:03:04 192.0.2.1           3 ms      44  41 flv, 3 rtmp",
            ]
        );
    }

    #[test]
    fn formats_uptimes() {
        for (seconds, text) in [(0, "00:00:00"), (3_661, "01:01:01"), (93_784, "1d 02:03:04")] {
            assert_eq!(uptime(seconds), text);
        }
    }
}
