//! The health of origins, and the order in which they are tried.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::backoff::{Backoff, LONGEST};
use super::connector::Led;
use super::directory::{FenceId, Source};
use super::error::{ConnectError, UpstreamError};
use super::location::{Location, LocationError};
use crate::conf::{Upstream, Vhost};
use crate::stream::StreamKey;

/// The health of all origins, by server.
#[derive(Debug, Default)]
pub struct Health {
    servers: Mutex<HashMap<String, Server>>,
}

#[derive(Debug)]
struct Server {
    /// Failures in a row.
    failures: u64,
    backoff: Backoff,
    last_error: String,
    /// When it failed first, of those in a row.
    since: Instant,
    /// Until when it counts as unhealthy.
    until: Instant,
}

/// A failing origin, for operators.
#[derive(Clone, Debug)]
pub struct OriginFacts {
    /// Scheme, host and port.
    pub server: String,
    /// Failures in a row.
    pub failures: u64,
    /// The last error. It names no secret.
    pub last_error: String,
    /// How long it has been failing.
    pub since: Duration,
}

/// An origin of one stream.
#[derive(Clone, Debug)]
pub struct Origin {
    /// The server, by its entry in the config or in the directory.
    pub upstream: Upstream,
    /// Which of the two it is.
    pub led: Led,
    /// The publisher of the stream, if the directory has it at this server.
    pub publisher: Option<FenceId>,
    /// The stream there.
    pub location: Location,
    /// Scheme, host and port: what can fail.
    server: String,
}

impl Origin {
    fn of(source: &Source, led: Led, key: &StreamKey) -> Result<Origin, LocationError> {
        let Source { upstream, publisher } = source.clone();
        let location = Location::of(&upstream, key)?;
        let server = format!("{}://{}", location.scheme.name(), location.authority());
        Ok(Origin { upstream, led, publisher, location, server })
    }
}

impl Health {
    /// Returns the origins of a stream in the order in which they are to be tried: healthy ones first, among them those of the
    /// directory, then the one that had the stream last, then in the order of the config. Origins to which the name cannot be carried
    /// are left out.
    pub fn order(
        &self,
        vhost: &Vhost,
        directory: &[Source],
        key: &StreamKey,
        last: Option<&Upstream>,
        now: Instant,
    ) -> Vec<Origin> {
        let directory = directory.iter().filter_map(|source| Origin::of(source, Led::ByDirectory, key).ok());
        let config = vhost.cluster.origins.iter().filter_map(|upstream| {
            let source = Source { upstream: upstream.clone(), publisher: None };
            Origin::of(&source, Led::ByConfig, key).ok()
        });
        let servers = self.servers.lock();
        let mut ordered: Vec<(bool, bool, bool, Origin)> = Vec::new();
        for origin in directory.chain(config) {
            if ordered.iter().any(|(.., other)| other.location == origin.location) {
                continue;
            }
            let is_healthy = servers.get(&origin.server).is_none_or(|server| server.until <= now);
            let is_led = origin.led == Led::ByDirectory;
            // The directory knows better than the past where the stream is.
            let is_last = !is_led && last == Some(&origin.upstream);
            ordered.push((is_healthy, is_led, is_last, origin));
        }
        ordered.sort_by_key(|(is_healthy, is_led, is_last, _)| Reverse((*is_healthy, *is_led, *is_last)));
        ordered.into_iter().map(|(.., origin)| origin).collect()
    }

    /// Notes that an origin is about to be tried. One that has failed is unhealthy for others in the meantime.
    pub fn begin(&self, origin: &Origin, now: Instant) {
        if let Some(server) = self.servers.lock().get_mut(&origin.server) {
            server.until = now + LONGEST;
        }
    }

    /// Notes that an origin works.
    pub fn succeed(&self, origin: &Origin) {
        self.servers.lock().remove(&origin.server);
    }

    /// Notes an error of an origin that was asked for a stream, or to take one, if it says something about the origin's health. Returns
    /// whether it means that the origin does not have the stream.
    pub fn judge(&self, origin: &Origin, error: &UpstreamError, now: Instant) -> bool {
        match error {
            UpstreamError::NotFound | UpstreamError::Dropped => {
                self.succeed(origin);
                true
            }
            // The stream comes from here, or the server may wait for a publisher.
            UpstreamError::Loop | UpstreamError::Silent { .. } => true,
            // What it redirects to, or refuses, says nothing of the origin.
            UpstreamError::Refused { .. }
            | UpstreamError::Redirects { .. }
            | UpstreamError::Location(_)
            | UpstreamError::InvalidRequest
            | UpstreamError::Connect(ConnectError::NotAllowed { .. } | ConnectError::Foreign { .. }) => false,
            _ => {
                self.fail(origin, error, now);
                false
            }
        }
    }

    /// Notes that an origin has failed.
    pub fn fail(&self, origin: &Origin, error: &UpstreamError, now: Instant) {
        let mut servers = self.servers.lock();
        let server = servers.entry(origin.server.clone()).or_insert_with(|| Server {
            failures: 0,
            backoff: Backoff::default(),
            last_error: String::new(),
            since: now,
            until: now,
        });
        server.failures += 1;
        server.last_error = error.to_string();
        server.until = now + server.backoff.next();
    }

    /// Returns the servers that fail now.
    pub fn failing(&self) -> Vec<OriginFacts> {
        let servers = self.servers.lock();
        let mut facts: Vec<_> = servers
            .iter()
            .map(|(name, server)| OriginFacts {
                server: name.clone(),
                failures: server.failures,
                last_error: server.last_error.clone(),
                since: server.since.elapsed(),
            })
            .collect();
        facts.sort_by(|one, other| one.server.cmp(&other.server));
        facts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conf::Config;

    #[test]
    fn healthy_origins_come_first_then_the_last_one_then_the_order_of_the_config() {
        let config = "[vhost.\"v\".cluster]\nmode = \"edge\"\norigin = [\"a\", \"b\", \"http://c\"]\n";
        let vhost = Config::parse(config, "remuxd.toml").unwrap().vhosts[0].clone();
        let (health, now, key) = (Health::default(), Instant::now(), StreamKey::new("v", "live", "x"));
        let origins = health.order(&vhost, &[], &key, None, now);
        let [a, b, c] = &origins[..] else { panic!("{origins:?}") };
        let names = |last: Option<&Origin>, at| {
            let ordered = health.order(&vhost, &[], &key, last.map(|one| &one.upstream), at);
            ordered.iter().map(|one| one.location.host.clone()).collect::<String>()
        };
        assert_eq!([names(None, now), names(Some(b), now), names(Some(c), now)], ["abc", "bac", "cab"]);
        let source = |host: &str| Source { upstream: Upstream::parse(host, "v").unwrap(), publisher: None };
        let led = health.order(&vhost, &[source("d"), source("b")], &key, Some(&c.upstream), now);
        let led: String = led.iter().map(|one| one.location.host.clone()).collect();
        assert_eq!(led, "dbca", "those of the directory come first, and each server once");
        health.fail(b, &UpstreamError::Closed, now);
        assert_eq!([names(None, now), names(Some(b), now)], ["acb", "acb"]);
        assert_eq!(health.failing()[0].server, "rtmp://b");
        let later = now + Duration::from_secs(1);
        assert_eq!(names(Some(b), later), "bac", "after its pause it may be tried again");
        health.begin(b, later);
        assert_eq!(names(Some(b), later), "acb", "by one stream at a time");
        health.succeed(b);
        assert_eq!(names(Some(b), later), "bac");
        assert!(health.failing().is_empty());
        let key = StreamKey::new("v", "live", "x y");
        let hosts: Vec<_> =
            health.order(&vhost, &[], &key, None, now).into_iter().map(|one| one.location.host).collect();
        assert_eq!(hosts, ["c"], "RTMP cannot carry the name");
        let _ = a;
    }
}
