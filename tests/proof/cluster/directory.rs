//! The scenes of the directory: two origins and two edges that find each other in Redis, while Redis fails, publishers move, and a
//! clock is wrong.

use std::time::{Duration, Instant};

use remuxd_tests::host::Host;
use remuxd_tests::wait::{poll_for, wait_until};
use rustix::process::Signal;
use tokio_util::sync::CancellationToken;

use crate::encoder::{Closed, Encoder};
use crate::light::Seen;
use crate::network::{Network, Place};
use crate::players::wait_live;
use crate::redis::{MASTER, Redis};
use crate::{KEY, node, watch_all};

/// A stream that an edge has served before, and nobody watches when Redis fails.
const KNOWN: &str = "live/k";
const LEASE: Duration = Duration::from_secs(10);
/// How long Redis is away: longer than a lease.
const AWAY: Duration = Duration::from_secs(15);
const WATCH: Duration = Duration::from_secs(6);
/// The longest gap of a viewer whose stream does not move: a GOP.
const CALM_GAP: Duration = Duration::from_secs(1);
/// The longest gap of a viewer whose publisher moves: a GOP until the new publisher's keyframe, and one until the edge has it.
const MOVE_GAP: Duration = Duration::from_secs(3);
/// Debian's libfaketime, which moves the wall clock of one process.
const PRELOAD: &str = "LD_PRELOAD=/usr/$LIB/faketime/libfaketimeMT.so.1";

/// A thing that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scene {
    /// Redis is stopped and continued: connections stay open.
    Paused,
    /// Redis is killed and started again, empty.
    Killed,
    /// The link of Redis is cut and restored.
    Partitioned,
    /// Redis is flushed.
    Flushed,
    /// The master is killed, and Sentinels make the replica the master.
    FailedOver,
    /// A publisher comes to one origin while another one has its stream, first in this order of the origins.
    Second { first: usize },
    /// The same while Redis is stopped; afterwards one of them must go.
    Apart { first: usize },
    /// The same, with the clock of the second origin off.
    Clock { offset: &'static str },
}

impl Scene {
    pub const ALL: [(&str, Scene); 11] = [
        ("paused", Scene::Paused),
        ("redis-killed", Scene::Killed),
        ("partitioned", Scene::Partitioned),
        ("flushed", Scene::Flushed),
        ("sentinel", Scene::FailedOver),
        ("second-12", Scene::Second { first: 0 }),
        ("second-21", Scene::Second { first: 1 }),
        ("apart-12", Scene::Apart { first: 0 }),
        ("apart-21", Scene::Apart { first: 1 }),
        ("clock-behind", Scene::Clock { offset: "FAKETIME=-1h" }),
        ("clock-ahead", Scene::Clock { offset: "FAKETIME=+1h" }),
    ];

    fn needs_sentinel(self) -> bool {
        self == Scene::FailedOver
    }
}

/// The places of the scenes.
pub struct Directory<'a> {
    pub network: &'a Network,
    pub origins: &'a [Place; 2],
    pub edges: [&'a Place; 2],
    /// Redis, its replica, and a third Sentinel.
    pub redis: &'a [Place; 3],
    pub viewers: usize,
}

/// The servers of a scene.
struct Running {
    edges: Vec<Host>,
    origins: Vec<Host>,
    redis: Redis,
    replica: Option<Redis>,
    _sentinels: Vec<Redis>,
    /// When frame 0 was due.
    epoch: Instant,
    /// Bytes of a video frame at each origin: another size is another encoding.
    frames: [usize; 2],
}

/// The findings of a scene.
#[derive(Default)]
struct Findings {
    facts: Vec<String>,
    faults: Vec<String>,
}

impl Findings {
    fn check(&mut self, holds: bool, fact: String) {
        if holds { &mut self.facts } else { &mut self.faults }.push(fact);
    }
}

impl Directory<'_> {
    /// Plays a scene, and prints a line. Returns whether all facts hold.
    pub fn play(&self, scene: Scene, name: &str) -> Result<bool, String> {
        let mut running = self.start(scene)?;
        let mut findings = Findings::default();
        match scene {
            Scene::Second { first } | Scene::Apart { first } => {
                self.two(scene, first, &mut running, &mut findings)?
            }
            Scene::Clock { .. } => self.two(scene, 0, &mut running, &mut findings)?,
            _ => self.without_redis(scene, &mut running, &mut findings)?,
        }
        let good = findings.faults.is_empty();
        println!("{name:12} {}: {}", findings.facts.join("; "), if good { "good" } else { "MISSED" });
        findings.faults.iter().for_each(|fault| println!("             MISSED: {fault}"));
        if !good {
            running.origins.iter().chain(&running.edges).for_each(|host| eprintln!("{}", host.log()));
        }
        Ok(good)
    }

    fn start(&self, scene: Scene) -> Result<Running, String> {
        // Two encoders that send at the same time have the same stream, as a pair of redundant ones.
        let frames = if let Scene::Apart { .. } = scene { [400; 2] } else { [400, 440] };
        let [first, second, third] = self.redis;
        let redis = Redis::master(first)?;
        let (mut replica, mut sentinels) = (None, Vec::new());
        let mut source = format!("url = \"redis://{}\"\n", redis.address());
        if scene.needs_sentinel() {
            replica = Some(Redis::replica(second, &redis)?);
            for place in [first, second, third] {
                sentinels.push(Redis::sentinel(place, &redis)?);
            }
            let urls: Vec<_> = sentinels.iter().map(|one| format!("redis://{}", one.address())).collect();
            source = format!("url = {urls:?}\nsentinel = \"{MASTER}\"\n");
        }
        let config = |name: &str, more: &str| {
            node().play("idle_timeout", "\"1s\"").tables(&format!(
                "[cluster]\nnode = \"{name}\"\nsecret = \"the secret of all nodes of this proof\"\nallow = [\"10.77.0.0/16\"]\n\
                 [cluster.directory]\nkind = \"redis\"\n{source}lease = \"{}s\"\n{more}",
                LEASE.as_secs()
            ))
        };
        let mut origins = Vec::new();
        for (number, place) in self.origins.iter().enumerate() {
            let own =
                config(&format!("o{}", number + 1), &format!("pull_url = \"rtmp://{}\"\n", place.rtmp()));
            let clock = match scene {
                Scene::Clock { offset } if number == 1 => {
                    &["env", PRELOAD, offset, "FAKETIME_DONT_FAKE_MONOTONIC=1"][..]
                }
                _ => &[],
            };
            origins.push(place.start_by(clock, &own));
        }
        let edge = "tier = 1\n[vhost.\"__defaultVhost__\".cluster]\nmode = \"edge\"\n";
        let edges: Vec<Host> = (0..2)
            .map(|number| self.edges[number].start(&config(&format!("e{}", number + 1), edge)))
            .collect();
        wait_until(LEASE, "the nodes are in Redis", || redis.keys("remuxd:node:*").len() == 4);
        Ok(Running { redis, replica, _sentinels: sentinels, origins, edges, epoch: Instant::now(), frames })
    }

    fn encode(&self, origin: usize, key: &str, running: &Running) -> Result<Encoder, String> {
        Encoder::start(self.origins[origin].rtmp(), key, running.epoch, running.frames[origin])
            .map_err(|error| format!("origin {}: {error}", origin + 1))
    }

    fn wait_at_edges(&self, key: &str) -> Result<(), String> {
        self.edges
            .iter()
            .try_for_each(|edge| wait_live(edge.rtmp(), key).map_err(|error| format!("{key}: {error}")))
    }

    /// Redis fails while viewers watch, then comes back; then the publisher moves.
    fn without_redis(
        &self,
        scene: Scene,
        running: &mut Running,
        findings: &mut Findings,
    ) -> Result<(), String> {
        let encoder = self.encode(0, KEY, running)?;
        let known = self.encode(0, KNOWN, running)?;
        self.wait_at_edges(KNOWN)?;
        self.wait_at_edges(KEY)?;
        let edges = self.edges.map(Place::http);
        let stop = CancellationToken::new();
        let watching = watch_all(&edges, self.viewers, &stop);
        std::thread::sleep(WATCH);
        self.fail(scene, running)?;
        let failed = Instant::now();
        if scene == Scene::Flushed {
            let back =
                poll_for(LEASE / 2, || (running.redis.keys("remuxd:stream:*").len() == 2).then_some(()));
            findings.check(
                back.is_some(),
                format!("the streams are back after {:.1} s", failed.elapsed().as_secs_f64()),
            );
        }
        if !matches!(scene, Scene::Flushed | Scene::FailedOver) {
            let degraded =
                poll_for(LEASE, || ready(&running.edges[0]).filter(|text| text.contains("degraded")));
            findings.check(
                degraded.is_some(),
                format!("/readyz says degraded after {:.1} s", failed.elapsed().as_secs_f64()),
            );
        }
        std::thread::sleep(WATCH);
        let asked = Instant::now();
        let answered = wait_live(self.edges[1].rtmp(), KNOWN);
        findings.check(
            answered.is_ok(),
            format!("a known stream begins after {:.1} s without Redis", asked.elapsed().as_secs_f64()),
        );
        std::thread::sleep(AWAY.saturating_sub(failed.elapsed()));
        self.restore(scene, running)?;
        let restored = Instant::now();
        let store = running.replica.as_ref().filter(|_| scene.needs_sentinel()).unwrap_or(&running.redis);
        let back = poll_for(2 * LEASE, || {
            (store.keys("remuxd:node:*").len() == 4 && store.keys("remuxd:stream:*").len() == 2).then_some(())
        });
        findings.check(
            back.is_some(),
            format!("all keys are there {:.1} s later", restored.elapsed().as_secs_f64()),
        );
        let ready = poll_for(LEASE, || ready(&running.edges[0]).filter(|text| text.trim() == "ready"));
        findings.check(ready.is_some(), "/readyz says ready".into());
        stop.cancel();
        report("until then", &watching.join().map_err(|_| "the viewers panicked")?, CALM_GAP, 0, findings);
        let stop = CancellationToken::new();
        let watching = watch_all(&edges, self.viewers, &stop);
        std::thread::sleep(Duration::from_secs(2));
        self.replace(encoder, 1, running, LEASE, findings)?.stop();
        stop.cancel();
        report("after a move", &watching.join().map_err(|_| "the viewers panicked")?, MOVE_GAP, 2, findings);
        known.stop();
        Ok(())
    }

    fn fail(&self, scene: Scene, running: &mut Running) -> Result<(), String> {
        match scene {
            Scene::Paused | Scene::Apart { .. } => running.redis.signal(Signal::STOP),
            Scene::Killed | Scene::FailedOver => running.redis.kill(),
            Scene::Partitioned => self.network.cut(&self.redis[0], true)?,
            _ => {
                running.redis.ask(&["FLUSHALL"]).map_err(|error| error.to_string())?;
            }
        }
        Ok(())
    }

    fn restore(&self, scene: Scene, running: &mut Running) -> Result<(), String> {
        match scene {
            Scene::Paused | Scene::Apart { .. } => running.redis.signal(Signal::CONT),
            Scene::Killed => running.redis.restart()?,
            Scene::Partitioned => self.network.cut(&self.redis[0], false)?,
            _ => {}
        }
        Ok(())
    }

    /// A publisher comes while another one has the stream, and later a third one where the first one was.
    fn two(
        &self,
        scene: Scene,
        first: usize,
        running: &mut Running,
        findings: &mut Findings,
    ) -> Result<(), String> {
        if let Scene::Clock { .. } = scene {
            // The day and the hour of the first line of the log.
            let [one, other] =
                [0, 1].map(|origin| running.origins[origin].log().chars().take(13).collect::<String>());
            findings.check(one != other, format!("the clocks say {one} and {other}"));
        }
        let encoder = self.encode(first, KEY, running)?;
        self.wait_at_edges(KEY)?;
        let stop = CancellationToken::new();
        let watching = watch_all(&self.edges.map(Place::http), self.viewers, &stop);
        std::thread::sleep(WATCH);
        let second = if let Scene::Apart { .. } = scene {
            self.fail(scene, running)?;
            let second = self.encode(1 - first, KEY, running)?;
            std::thread::sleep(AWAY);
            findings
                .check(!encoder.is_closed() && !second.is_closed(), "both are accepted without Redis".into());
            self.restore(scene, running)?;
            self.wait_closed(encoder, 2 * LEASE, findings)?;
            second
        } else {
            self.replace(encoder, 1 - first, running, Duration::from_secs(2), findings)?
        };
        std::thread::sleep(WATCH);
        let third = self.replace(second, first, running, Duration::from_secs(2), findings)?;
        std::thread::sleep(WATCH);
        findings.check(!third.is_closed(), "the last publisher stays".into());
        third.stop();
        stop.cancel();
        report("over all", &watching.join().map_err(|_| "the viewers panicked")?, MOVE_GAP, 4, findings);
        Ok(())
    }

    /// Publishes at `origin` while `encoder` has the stream elsewhere, which must be closed with a reason.
    fn replace(
        &self,
        encoder: Encoder,
        origin: usize,
        running: &Running,
        within: Duration,
        findings: &mut Findings,
    ) -> Result<Encoder, String> {
        let next = self.encode(origin, KEY, running)?;
        self.wait_closed(encoder, within, findings)?;
        std::thread::sleep(WATCH);
        Ok(next)
    }

    fn wait_closed(&self, encoder: Encoder, within: Duration, findings: &mut Findings) -> Result<(), String> {
        let began = Instant::now();
        let closed = poll_for(within, || encoder.is_closed().then_some(())).is_some();
        let end = encoder.stop();
        let reason = end.as_ref().map_or("", |Closed { reason, .. }| reason.as_str());
        let told = !reason.is_empty() && !reason.starts_with("NetStream.Publish.Start");
        let after = end.as_ref().map_or(began.elapsed(), |closed| closed.at.saturating_duration_since(began));
        findings.check(
            closed && told,
            format!("the older publisher is closed after {:.1} s: {reason:?}", after.as_secs_f64()),
        );
        Ok(())
    }
}

/// Judges what viewers saw: no fault, nothing out of order, no gap longer than `longest`, at most `gops` missing.
fn report(when: &str, seen: &[(usize, Seen)], longest: Duration, gops: u64, findings: &mut Findings) {
    let gap = seen.iter().map(|(_, seen)| seen.longest_wait).max().unwrap_or_default();
    // An FLV viewer counts pictures and audio: three frames in 40 ms.
    let missing = seen.iter().map(|(_, seen)| seen.missing).max().unwrap_or(0);
    let idle = seen.iter().filter(|(_, seen)| seen.checked == 0).count();
    let faults: Vec<_> = seen.iter().filter_map(|(_, seen)| seen.fault.as_ref()).collect();
    let good = gap <= longest && missing <= gops * 75 && idle == 0 && faults.is_empty() && !seen.is_empty();
    let units: u64 = seen.iter().map(|(_, seen)| seen.checked).sum();
    findings.check(
        good,
        format!(
            "{when} {} viewers, {units} units in order, at most {missing} missing for a viewer, longest gap {:.2} s, {idle} without media, {} \
             faults{}",
            seen.len(),
            gap.as_secs_f64(),
            faults.len(),
            faults.first().map_or(String::new(), |fault| format!(" ({fault})"))
        ),
    );
}

/// Returns what a host's control socket answers to `/readyz`.
fn ready(host: &Host) -> Option<String> {
    use std::io::{Read, Write};
    let mut socket = std::os::unix::net::UnixStream::connect(host.control_socket()).ok()?;
    socket.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").ok()?;
    let mut text = String::new();
    socket.read_to_string(&mut text).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    head.starts_with("HTTP/1.1 200").then(|| body.to_owned())
}
