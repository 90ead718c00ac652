//! Bans: addresses, subjects and streams that an operator has shut out for a time. They are kept in memory alone.
//!
//! [`Bans`] has no lock of its own: the table of [`Sessions`](super::sessions::Sessions) checks a session and adds it in one step,
//! and bans and looks for those that match in one step, so that no session slips through between the two.

use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use ipnet::IpNet;

use super::limits::subscriber;
use super::request::MAX_TEXT;
use crate::module::text::push_visible;
use crate::stream::StreamKey;

/// The largest number of bans. Each costs time when a session starts.
const MAX_BANS: usize = 1000;

/// The longest time of a ban.
const MAX_TIME: Duration = Duration::from_secs(366 * 86_400);

/// The target of a ban.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BanTarget {
    /// The clients of a network.
    Address(IpNet),
    /// The holder of credentials: the `sub` of tokens, or the id of the key of signed URLs.
    Subject(String),
    /// Publishers and viewers of a stream, by its public name as the log shows it: `live/film`, after `VHOST/` for another vhost than
    /// the default one.
    Stream(String),
}

/// A ban.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ban {
    /// The target.
    pub target: BanTarget,
    /// When it ends.
    pub until: Instant,
}

/// The reason why something cannot be banned. Culprit: operator.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BanError {
    /// It is none of the kinds.
    #[error("a ban is of an address, a subject or a stream")]
    Kind,
    /// It is no address.
    #[error("neither an address nor a CIDR block")]
    NotAnAddress,
    /// The subject or stream is empty or too long.
    #[error("must have 1 to {MAX_TEXT} bytes")]
    Length,
    /// The time is out of range.
    #[error("a ban lasts 1 s to {} days", MAX_TIME.as_secs() / 86_400)]
    Time,
    /// A trusted proxy stands for all of its clients.
    #[error(
        "{network} of proxy.trusted has proxies, which cannot be banned: ban the addresses of their clients"
    )]
    Proxy {
        /// The network of proxies.
        network: IpNet,
    },
    /// There are too many bans.
    #[error("there are {MAX_BANS} bans already")]
    TooMany,
}

impl BanTarget {
    /// Reads a target: its kind is `address`, `subject` or `stream`. A single IPv6 address stands for its /64, as in limits.
    ///
    /// # Errors
    /// The value is not of its kind.
    pub fn parse(kind: &str, value: &str) -> Result<BanTarget, BanError> {
        let text = || {
            if (1..=MAX_TEXT).contains(&value.len()) { Ok(value.to_owned()) } else { Err(BanError::Length) }
        };
        match kind {
            "address" => {
                let network = match value.parse::<IpAddr>() {
                    Ok(address) => Some(match subscriber(address) {
                        IpAddr::V6(network) => IpNet::V6(ipnet::Ipv6Net::new_assert(network, 64)),
                        address => address.into(),
                    }),
                    Err(_) => value.parse::<IpNet>().ok().map(|network| network.trunc()),
                };
                network.map(BanTarget::Address).ok_or(BanError::NotAnAddress)
            }
            "subject" => text().map(BanTarget::Subject),
            "stream" => text().map(BanTarget::Stream),
            _ => Err(BanError::Kind),
        }
    }

    /// The kind: `address`, `subject` or `stream`.
    pub fn kind(&self) -> &'static str {
        match self {
            BanTarget::Address(_) => "address",
            BanTarget::Subject(_) => "subject",
            BanTarget::Stream(_) => "stream",
        }
    }

    /// The value, as [`BanTarget::parse`] reads it. It may have any characters.
    pub fn value(&self) -> String {
        match self {
            BanTarget::Address(network) if network.prefix_len() == network.max_prefix_len() => {
                network.addr().to_string()
            }
            BanTarget::Address(network) => network.to_string(),
            BanTarget::Subject(text) | BanTarget::Stream(text) => text.clone(),
        }
    }

    /// Whether it covers a session.
    pub(super) fn covers(&self, address: IpAddr, subject: &str, key: &StreamKey) -> bool {
        match self {
            BanTarget::Address(network) => network.contains(&address.to_canonical()),
            BanTarget::Subject(banned) => banned == subject,
            BanTarget::Stream(banned) => *banned == key.to_string(),
        }
    }
}

/// For logs: kind and value, on one line.
impl fmt::Display for BanTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.kind())?;
        self.value().chars().try_for_each(|character| push_visible(f, character))
    }
}

/// The bans of the host.
#[derive(Debug, Default)]
pub(super) struct Bans {
    list: Vec<Ban>,
}

impl Bans {
    /// Adds a ban, or replaces that of the same target.
    ///
    /// # Errors
    /// [`BanError`]: the time is out of range, it has one of the networks of proxies `trusted`, or there are too many.
    pub fn add(
        &mut self,
        target: BanTarget,
        time: Duration,
        trusted: &[IpNet],
        now: Instant,
    ) -> Result<(), BanError> {
        if time < Duration::from_secs(1) || time > MAX_TIME {
            return Err(BanError::Time);
        }
        if let BanTarget::Address(banned) = &target {
            let overlaps = |network: &&IpNet| network.contains(banned) || banned.contains(*network);
            if let Some(network) = trusted.iter().find(overlaps) {
                return Err(BanError::Proxy { network: *network });
            }
        }
        self.list.retain(|ban| ban.until > now && ban.target != target);
        if self.list.len() >= MAX_BANS {
            return Err(BanError::TooMany);
        }
        self.list.push(Ban { target, until: now + time });
        Ok(())
    }

    /// Removes a ban. Returns whether there was one.
    pub fn remove(&mut self, target: &BanTarget, now: Instant) -> bool {
        let before = self.current(now).count();
        self.list.retain(|ban| ban.until > now && ban.target != *target);
        self.list.len() < before
    }

    /// Returns the bans that have not ended, the oldest first.
    pub fn current(&self, now: Instant) -> impl Iterator<Item = &Ban> {
        self.list.iter().filter(move |ban| ban.until > now)
    }

    /// Returns the ban of an address.
    pub fn of_address(&self, address: IpAddr, now: Instant) -> Option<&BanTarget> {
        let mut bans = self.current(now).map(|ban| &ban.target);
        bans.find(|target| matches!(target, BanTarget::Address(network) if network.contains(&address.to_canonical())))
    }

    /// Returns the ban that covers a session.
    pub fn of_session(
        &self,
        address: IpAddr,
        subject: &str,
        key: &StreamKey,
        now: Instant,
    ) -> Option<&BanTarget> {
        self.current(now).map(|ban| &ban.target).find(|target| target.covers(address, subject, key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(kind: &str, value: &str) -> Result<String, BanError> {
        BanTarget::parse(kind, value).map(|target| target.to_string())
    }

    #[test]
    fn targets_are_addresses_subjects_and_streams() {
        let long = "x".repeat(MAX_TEXT + 1);
        let rows: &[(&str, &str, Result<&str, BanError>)] = &[
            ("address", "192.0.2.7", Ok("address 192.0.2.7")),
            ("address", "::ffff:192.0.2.7", Ok("address 192.0.2.7")),
            ("address", "192.0.2.7/24", Ok("address 192.0.2.0/24")),
            ("address", "2001:db8:1:2:3::4", Ok("address 2001:db8:1:2::/64")),
            ("address", "2001:db8::1/128", Ok("address 2001:db8::1")),
            ("address", "localhost", Err(BanError::NotAnAddress)),
            ("address", "192.0.2.0/33", Err(BanError::NotAnAddress)),
            ("address", "", Err(BanError::NotAnAddress)),
            ("subject", "alice\n", Ok("subject alice\\n")),
            ("subject", "", Err(BanError::Length)),
            ("subject", &long, Err(BanError::Length)),
            ("stream", "live/film", Ok("stream live/film")),
            ("viewer", "x", Err(BanError::Kind)),
        ];
        for (kind, value, expected) in rows {
            assert_eq!(parse(kind, value), expected.clone().map(str::to_owned), "{kind} {value}");
        }
    }

    #[test]
    fn a_ban_covers_what_it_names_until_it_ends() {
        let target = |kind, value| BanTarget::parse(kind, value).unwrap();
        let start = Instant::now();
        let (second, network) = (Duration::from_secs(1), "192.0.2.0/24");
        let mut bans = Bans::default();
        for (kind, value, time) in [
            ("address", network, 2 * second),
            ("subject", "alice", second),
            ("stream", "w/live/film", second),
        ] {
            bans.add(target(kind, value), time, &[], start).unwrap();
        }
        let rows = [
            ("192.0.2.9", "", "v", 0, Some("address")),
            ("::ffff:192.0.2.9", "", "v", 0, Some("address")),
            ("198.51.100.1", "alice", "v", 0, Some("subject")),
            ("198.51.100.1", "alic", "v", 0, None),
            ("198.51.100.1", "", "w", 0, Some("stream")),
            ("198.51.100.1", "", "v", 0, None),
            ("198.51.100.1", "alice", "w", 1, None),
            ("192.0.2.9", "", "v", 1, Some("address")),
            ("192.0.2.9", "", "v", 2, None),
        ];
        for (address, subject, vhost, seconds, expected) in rows {
            let (key, now) = (StreamKey::new(vhost, "live", "film"), start + seconds * second);
            let found = bans.of_session(address.parse().unwrap(), subject, &key, now);
            assert_eq!(found.map(BanTarget::kind), expected, "{address} {subject} {vhost} {seconds}");
            let found = bans.of_address(address.parse().unwrap(), now);
            assert_eq!(found.is_some(), expected == Some("address"), "{address} {seconds}");
        }
        assert!(bans.remove(&target("address", network), start));
        assert!(!bans.remove(&target("address", network), start), "there is none any more");
        assert!(!bans.remove(&target("subject", "alice"), start + second), "it has ended");
    }

    #[test]
    fn the_number_of_bans_and_their_time_are_bounded() {
        let (mut bans, now) = (Bans::default(), Instant::now());
        let mut add = |subject: &str, seconds| {
            bans.add(BanTarget::Subject(subject.to_owned()), Duration::from_secs(seconds), &[], now)
        };
        for number in 0..MAX_BANS {
            add(&number.to_string(), 10).unwrap();
        }
        assert_eq!(add("0", 20), Ok(()), "the same again");
        assert_eq!(add("x", 10), Err(BanError::TooMany));
        assert_eq!((add("0", 0), add("0", 400 * 86_400)), (Err(BanError::Time), Err(BanError::Time)));
        let later = now + Duration::from_secs(10);
        assert_eq!(bans.add(BanTarget::Subject("x".to_owned()), Duration::from_secs(1), &[], later), Ok(()));
        assert_eq!(bans.current(later).count(), 2);
    }

    #[test]
    fn proxies_cannot_be_banned() {
        let trusted: Vec<IpNet> = vec!["10.0.0.0/8".parse().unwrap(), "fd00::1/128".parse().unwrap()];
        for (banned, allowed) in [
            ("10.1.2.3", false),
            ("0.0.0.0/0", false),
            ("fd00::2", false),
            ("11.0.0.0/8", true),
            ("::1", true),
        ] {
            let target = BanTarget::parse("address", banned).unwrap();
            let added = Bans::default().add(target, Duration::from_secs(1), &trusted, Instant::now());
            assert_eq!(added.is_ok(), allowed, "{banned}");
        }
    }
}
