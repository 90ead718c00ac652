//! The cluster that is simulated, the faults, and the rules of the host, which can be switched off one by one.

use std::time::Duration;

use remuxd::testing::conf::Config;

use crate::agenda::{MILLISECOND, SECOND, Time};

/// The size of the cluster, and the facts of its networks and clients. The host's own figures are in [`Limits`].
#[derive(Clone, Debug)]
pub struct Plan {
    pub origins: usize,
    pub edges: usize,
    pub regions: usize,
    pub streams: usize,
    pub viewers: usize,
    /// Bits a second of a stream on the wire.
    pub bitrate: u64,
    /// Length of what an origin sends at once when a pull begins.
    pub gop: Time,
    /// Bits a second that an origin's interface sends.
    pub origin_interface: u64,
    /// Round trips within a region and between regions.
    pub near: Time,
    pub far: Time,
    /// How long a viewer watches a stream before it turns to another one.
    pub watch_time: Time,
    /// When the fault begins, and when the run ends.
    pub fault: Time,
    pub end: Time,
    pub seed: u64,
}

/// Figures of the host, from its default config.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub connect_timeout: Time,
    pub media_timeout: Time,
    pub failover_wait: Time,
    pub idle_timeout: Time,
    pub max_pending: usize,
    pub lease: Time,
}

/// What goes wrong at [`Plan::fault`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scene {
    /// The machine of one origin stops: its connections stay open and carry nothing.
    Origin,
    /// All machines of a region stop; viewers of its edges turn to others.
    Region,
    /// Redis is away for [`REDIS_AWAY`], and has nothing when it is back.
    Redis,
    /// Redis loses everything, and stays.
    Flushed,
    /// One origin stops while Redis is away.
    Both,
}

impl Scene {
    pub const ALL: [(&str, Scene); 5] = [
        ("origin", Scene::Origin),
        ("region", Scene::Region),
        ("redis", Scene::Redis),
        ("flushed", Scene::Flushed),
        ("both", Scene::Both),
    ];

    pub fn loses_redis(self) -> bool {
        matches!(self, Scene::Redis | Scene::Both)
    }
}

/// Rules of the host that a run may do without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Renewals and pauses differ by a random part.
    pub jitter: bool,
    /// `max_pending_pulls` holds, and commands go to Redis in chunks, each after the answer to the one before.
    pub caps: bool,
}

impl Rules {
    pub const ALL: [(&str, Rules); 4] = [
        ("host", Rules { jitter: true, caps: true }),
        ("no jitter", Rules { jitter: false, caps: true }),
        ("no caps", Rules { jitter: true, caps: false }),
        ("neither", Rules { jitter: false, caps: false }),
    ];
}

pub const REDIS_AWAY: Time = 30 * SECOND;

/// A command that has waited this long at Redis has failed, and its connection is closed.
pub const REDIS_TIMEOUT: Time = 2 * SECOND;

/// When encoders whose origin has stopped publish to another one, at the earliest and the latest.
pub const ENCODER_RETURNS: (Time, Time) = (2 * SECOND, 8 * SECOND);

/// When viewers whose edge has stopped ask for the stream at another one.
pub const VIEWER_MOVES: (Time, Time) = (2 * SECOND, 6 * SECOND);

/// When viewers who were refused ask again.
pub const VIEWER_RETRIES: (Time, Time) = (SECOND, 3 * SECOND);

/// How long a name that could not be had is refused at once, as in `host/src/cluster/pulls.rs`.
pub const REFUSED: Time = 2 * SECOND;

/// Round trips from the start of a session over RTMP to its first media.
pub const ROUND_TRIPS: u64 = 5;

impl Default for Plan {
    fn default() -> Plan {
        Plan {
            origins: 40,
            edges: 100,
            regions: 4,
            streams: 10_000,
            viewers: 1_000_000,
            bitrate: 2_150_000 * 1538 / 1448,
            gop: 2 * SECOND,
            origin_interface: 25_000_000_000,
            near: 4 * MILLISECOND,
            far: 80 * MILLISECOND,
            watch_time: 300 * SECOND,
            fault: 30 * SECOND,
            end: 120 * SECOND,
            seed: 1,
        }
    }
}

impl Limits {
    /// Reads the host's defaults.
    pub fn of_host() -> Limits {
        let config = Config::parse("[vhost.\"__defaultVhost__\"]", "defaults.toml").expect("a valid config");
        let vhost = &config.vhosts[0];
        let time = |value: Duration| value.as_micros() as Time;
        Limits {
            connect_timeout: time(vhost.cluster.connect_timeout),
            media_timeout: time(vhost.cluster.media_timeout),
            failover_wait: time(vhost.cluster.failover_wait),
            idle_timeout: time(vhost.play.idle_timeout),
            max_pending: vhost.cluster.max_pending_pulls,
            lease: time(config.cluster.directory.lease),
        }
    }
}
