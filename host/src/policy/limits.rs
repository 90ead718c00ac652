//! Limits of publishers and viewers: how many there are of the host, a vhost, a stream and an address, and how much they are
//! sent.
//!
//! [`Counts`] has no lock of its own: the table of [`Sessions`](super::sessions::Sessions) checks and counts a session in one
//! step under its lock, so that no number of requests at the same time exceeds a limit.
//!
//! The bitrate of viewers is measured only while a config limits it, when one comes, from the sessions' own counters. So a
//! bitrate is that of the time between two measurements: [`WINDOW`], or more if nobody came.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Action;
use crate::conf::SessionLimits;
use crate::stream::StreamKey;

/// Least time between two measurements of what viewers are sent. A viewer's start, which comes at once, counts as if it took
/// this long.
pub(super) const WINDOW: Duration = Duration::from_secs(5);

/// Time by which a publisher may be ahead of its bitrate.
const BURST: Duration = Duration::from_secs(5);

/// The limits that hold for the sessions of a vhost.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// The limits of the host and of the vhost.
    pub scopes: [SessionLimits; 2],
    /// Whether a publisher replaces the one that is there.
    pub replaces: bool,
}

/// A limit of sessions that is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{table}.{key} is {limit}")]
pub struct LimitReached {
    /// Whether it is a limit of the client's address; else of its stream, vhost or host.
    pub of_address: bool,
    /// `limits` or `vhost.limits`.
    pub table: &'static str,
    /// The key.
    pub key: &'static str,
    /// The limit: a number of sessions, or bits per second.
    pub limit: u64,
}

/// The names of the two tables with limits.
const TABLES: [&str; 2] = ["limits", "vhost.limits"];

impl Limits {
    /// Whether they limit what viewers are sent.
    pub fn need_bitrates(&self) -> bool {
        self.scopes.iter().any(|limits| limits.max_bitrate > 0 || limits.max_bitrate_per_address > 0)
    }

    /// Returns the limit of a publisher's bitrate, in bits per second.
    pub fn publisher_bitrate(&self) -> Option<u64> {
        self.scopes.iter().map(|limits| limits.max_bitrate_per_stream).filter(|limit| *limit > 0).min()
    }
}

/// The counters that a session is part of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Counted<'a> {
    pub key: &'a StreamKey,
    pub action: Action,
    /// `None` if its address is not limited.
    pub address: Option<IpAddr>,
}

/// The numbers of sessions.
#[derive(Debug, Default)]
pub(super) struct Counts {
    host: Scope,
    vhosts: HashMap<Arc<str>, VhostCounts>,
}

/// The sessions of the host or of a vhost.
#[derive(Debug, Default)]
struct Scope {
    all: Count,
    addresses: HashMap<IpAddr, Count>,
}

#[derive(Debug, Default)]
struct VhostCounts {
    scope: Scope,
    streams: HashMap<StreamKey, StreamCount>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Count {
    viewers: u32,
    publishers: u32,
    /// Bitrate to the viewers at the last measurement, in bits per second.
    bitrate: u64,
}

#[derive(Debug, Default)]
struct StreamCount {
    viewers: u32,
    /// The addresses of its publishers: one, and those that are being replaced or refused.
    publishers: Vec<Option<IpAddr>>,
}

impl Counts {
    /// Counts a session.
    ///
    /// # Errors
    /// It is one too many; nothing is counted then.
    pub fn enter(&mut self, session: Counted<'_>, limits: &Limits) -> Result<(), LimitReached> {
        self.check(session, limits)?;
        let Counted { key, action, address } = session;
        let vhost = self.vhosts.entry(key.vhost.clone()).or_default();
        for scope in [&mut self.host, &mut vhost.scope] {
            *scope.all.of(action) += 1;
            if let Some(address) = address {
                *scope.addresses.entry(address).or_default().of(action) += 1;
            }
        }
        let stream = vhost.streams.entry(key.clone()).or_default();
        match action {
            Action::Play => stream.viewers += 1,
            Action::Publish => stream.publishers.push(address),
        }
        Ok(())
    }

    /// Returns the number of viewers of a stream.
    pub fn viewers(&self, key: &StreamKey) -> u32 {
        let streams = self.vhosts.get(&key.vhost).map(|vhost| &vhost.streams);
        streams.and_then(|streams| streams.get(key)).map_or(0, |stream| stream.viewers)
    }

    /// Checks whether there may be one more session. The publishers of a stream that it replaces do not count.
    fn check(&self, session: Counted<'_>, limits: &Limits) -> Result<(), LimitReached> {
        let Counted { key, action, address } = session;
        let [of_host, of_vhost] = &limits.scopes;
        let none = VhostCounts::default();
        let vhost = self.vhosts.get(&key.vhost).unwrap_or(&none);
        let (host, vhost, stream) = (&self.host, &vhost.scope, vhost.streams.get(key));
        let own = [host, vhost].map(|scope| scope.count(address));
        match action {
            Action::Play => {
                let viewers = stream.map_or(0, |stream| stream.viewers);
                let of_host = of_viewer(of_host, host, TABLES[0], viewers, own[0]);
                let of_vhost = of_viewer(of_vhost, vhost, TABLES[1], viewers, own[1]);
                check(of_host.iter().chain(&of_vhost))
            }
            Action::Publish => {
                let replaced =
                    stream.filter(|_| limits.replaces).map_or(&[][..], |stream| &stream.publishers);
                let own_replaced = replaced.iter().filter(|publisher| **publisher == address);
                let replaced = [replaced.len() as u32, own_replaced.count() as u32];
                let of_host = of_publisher(of_host, host, TABLES[0], replaced, own[0]);
                let of_vhost = of_publisher(of_vhost, vhost, TABLES[1], replaced, own[1]);
                check(of_host.iter().chain(&of_vhost))
            }
        }
    }

    /// Removes a session that was counted.
    pub fn leave(&mut self, Counted { key, action, address }: Counted<'_>) {
        let Some(vhost) = self.vhosts.get_mut(&key.vhost) else { return };
        self.host.leave(action, address);
        vhost.scope.leave(action, address);
        if let Some(stream) = vhost.streams.get_mut(key) {
            match action {
                Action::Play => stream.viewers -= 1,
                Action::Publish => {
                    let one = stream.publishers.iter().position(|publisher| *publisher == address);
                    one.map(|index| stream.publishers.swap_remove(index));
                }
            }
            if stream.viewers == 0 && stream.publishers.is_empty() {
                vhost.streams.remove(key);
            }
        }
        if vhost.streams.is_empty() {
            self.vhosts.remove(&key.vhost);
        }
    }

    /// Whether nobody is counted.
    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        let Scope { all, addresses } = &self.host;
        self.vhosts.is_empty() && addresses.is_empty() && all.viewers == 0 && all.publishers == 0
    }

    /// Replaces the bitrates by those of these viewers, in bits per second.
    pub fn measure<'a>(&mut self, viewers: impl Iterator<Item = (Counted<'a>, u64)>) {
        let scopes =
            [&mut self.host].into_iter().chain(self.vhosts.values_mut().map(|vhost| &mut vhost.scope));
        for scope in scopes {
            scope.all.bitrate = 0;
            scope.addresses.values_mut().for_each(|count| count.bitrate = 0);
        }
        for (Counted { key, address, .. }, bitrate) in viewers {
            let Some(vhost) = self.vhosts.get_mut(&key.vhost) else { continue };
            for scope in [&mut self.host, &mut vhost.scope] {
                scope.all.bitrate += bitrate;
                let count = address.and_then(|address| scope.addresses.get_mut(&address));
                count.into_iter().for_each(|count| count.bitrate += bitrate);
            }
        }
    }
}

impl Scope {
    fn leave(&mut self, action: Action, address: Option<IpAddr>) {
        *self.all.of(action) -= 1;
        let Some(address) = address else { return };
        if let Some(count) = self.addresses.get_mut(&address) {
            *count.of(action) -= 1;
            if count.viewers == 0 && count.publishers == 0 {
                self.addresses.remove(&address);
            }
        }
    }

    /// The count of an address; 0 if it has none or is not limited.
    fn count(&self, address: Option<IpAddr>) -> Count {
        address.and_then(|address| self.addresses.get(&address)).copied().unwrap_or_default()
    }
}

impl Count {
    fn of(&mut self, action: Action) -> &mut u32 {
        match action {
            Action::Play => &mut self.viewers,
            Action::Publish => &mut self.publishers,
        }
    }
}

/// A limit, and how much of it is used.
struct Use {
    limit: LimitReached,
    used: u64,
}

/// The limits of one more viewer in a scope with the limits `of`, whose table is `table`.
fn of_viewer(of: &SessionLimits, scope: &Scope, table: &'static str, stream: u32, own: Count) -> [Use; 5] {
    let all = scope.all;
    [
        Use::of_address(table, "max_viewers_per_address", own.viewers, of.max_viewers_per_address),
        Use::of_address(table, "max_bitrate_per_address", own.bitrate, of.max_bitrate_per_address),
        Use::of_all(table, "max_viewers_per_stream", stream, of.max_viewers_per_stream),
        Use::of_all(table, "max_viewers", all.viewers, of.max_viewers),
        Use::of_all(table, "max_bitrate", all.bitrate, of.max_bitrate),
    ]
}

/// The limits of one more publisher, which replaces some: `replaced` in all, and of its address.
fn of_publisher(
    of: &SessionLimits,
    scope: &Scope,
    table: &'static str,
    replaced: [u32; 2],
    own: Count,
) -> [Use; 2] {
    let [all, own] = [scope.all.publishers - replaced[0], own.publishers - replaced[1]];
    [
        Use::of_address(table, "max_publishers_per_address", own, of.max_publishers_per_address),
        Use::of_all(table, "max_publishers", all, of.max_publishers),
    ]
}

impl Use {
    fn of_address<T: Into<u64>>(table: &'static str, key: &'static str, used: T, limit: T) -> Use {
        Use { limit: LimitReached { of_address: true, table, key, limit: limit.into() }, used: used.into() }
    }

    fn of_all<T: Into<u64>>(table: &'static str, key: &'static str, used: T, limit: T) -> Use {
        Use { limit: LimitReached { of_address: false, table, key, limit: limit.into() }, used: used.into() }
    }
}

/// Returns the limit that is reached, if one is. Those of the address come first: a client that takes too much is told so, also
/// while others are refused too.
fn check<'a>(uses: impl Iterator<Item = &'a Use>) -> Result<(), LimitReached> {
    let reached = uses.filter(|one| one.limit.limit > 0 && one.used >= one.limit.limit);
    reached.min_by_key(|one| !one.limit.of_address).map_or(Ok(()), |one| Err(one.limit))
}

/// Returns the address that is limited: the address, or the /64 network of an IPv6 address, which is what one subscriber gets
/// (RFC 6177).
pub fn subscriber(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        address => address,
    }
}

/// The bitrate of a publisher against its limit. In any period it may send what the limit allows in this period and 5 seconds
/// more, so that neither a keyframe nor the start of an encoder that has saved some seconds exceeds it.
#[derive(Debug)]
pub(super) struct Bitrate {
    /// In bits per second.
    limit: u64,
    /// Bits by which the publisher is ahead of the limit, at the time `at`.
    ahead: u64,
    at: Instant,
}

impl Bitrate {
    pub fn new(limit: u64, now: Instant) -> Bitrate {
        Bitrate { limit, ahead: 0, at: now }
    }

    /// Counts bytes that were received. Returns the limit, in bits per second, if it is exceeded.
    pub fn add(&mut self, bytes: usize, now: Instant) -> Result<(), u64> {
        const NANOS: u128 = 1_000_000_000;
        let passed = now.saturating_duration_since(self.at).as_nanos();
        let allowed = passed * u128::from(self.limit) / NANOS;
        // Only the time of whole bits, so that nothing is lost between tags.
        self.at += Duration::from_nanos((allowed * NANOS / u128::from(self.limit)) as u64);
        self.ahead = self.ahead.saturating_sub(u64::try_from(allowed).unwrap_or(u64::MAX));
        self.ahead += bytes as u64 * 8;
        if self.ahead > self.limit * BURST.as_secs() { Err(self.limit) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_an_ipv4_address_or_an_ipv6_64() {
        for (address, expected) in [
            ("192.0.2.1", "192.0.2.1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ] {
            assert_eq!(subscriber(address.parse().unwrap()).to_string(), expected);
        }
    }

    /// The limit is 1 Mbit/s. Rows: bytes and milliseconds after the start; whether the last is too much.
    #[test]
    fn a_publisher_may_be_ahead_by_five_seconds() {
        let rows: &[(&[(usize, u64)], bool)] = &[
            // A keyframe of 4 s of its limit at once, every 4 s.
            (&[(500_000, 0), (500_000, 4000), (500_000, 8000), (500_000, 12_000)], false),
            // 5 s at once at the start, then steady.
            (&[(625_000, 0), (125_000, 1000), (125_000, 2000), (125_000, 3000)], false),
            (&[(625_001, 0)], true),
            // Twice the limit.
            (&[(250_000, 0), (250_000, 1000), (250_000, 2000), (250_000, 3000)], false),
            (&[(250_000, 0), (250_000, 1000), (250_000, 2000), (250_000, 3000), (250_000, 4000)], true),
            // What it did not send it may not send later.
            (&[(0, 0), (625_001, 3_600_000)], true),
        ];
        for (sent, expected) in rows {
            let start = Instant::now();
            let mut bitrate = Bitrate::new(1_000_000, start);
            let mut results = Vec::new();
            for (bytes, at) in *sent {
                results.push(bitrate.add(*bytes, start + Duration::from_millis(*at)).is_err());
            }
            let last = results.pop();
            assert!(!results.contains(&true), "{sent:?}");
            assert_eq!(last, Some(*expected), "{sent:?}");
        }
    }

    /// Many small tags in short intervals must not be rounded to more than was sent.
    #[test]
    fn a_steady_publisher_at_its_limit_stays() {
        let start = Instant::now();
        let mut bitrate = Bitrate::new(6400, start);
        for number in 0..200_000_u64 {
            assert_eq!(bitrate.add(1, start + Duration::from_micros(number * 1250)), Ok(()), "{number}");
        }
    }
}
