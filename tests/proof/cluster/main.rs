//! The proof of clusters: viewers of three edges, while origins die, stall, lie and are cut off.
//!
//! A publisher sends to a host that forwards to two origins, and each edge pulls from these. In each scene all viewers watch while one
//! thing goes wrong; the last scene measures what an edge costs. See `run` beside this file. Prints a line for each scene, and exits 1 if
//! a bar is missed.

mod directory;
mod encoder;
#[path = "../light.rs"]
mod light;
mod network;
mod players;
mod redis;
mod servers;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::thread::{JoinHandle, sleep};
use std::time::Duration;

use directory::Directory;
use light::{Format, Seen, watch};
use network::{Network, Place};
use players::Player;
use remuxd_tests::host::{Config, Host};
use remuxd_tests::publisher::{Numbered, Publisher};
use rustix::process::Signal;
use tokio_util::sync::CancellationToken;

const KEY: &str = "live/p";
/// Bytes of a video frame of the scenes with faults.
const FRAME_BYTES: usize = 400;
/// How long viewers watch before and after what goes wrong.
const BEFORE: Duration = Duration::from_secs(6);
const AFTER: Duration = Duration::from_secs(12);
/// The longest gap when another origin has the same stream.
const MATCHED_GAP: Duration = Duration::from_secs(2);
/// The longest gap when none has: a GOP more.
const UNMATCHED_GAP: Duration = Duration::from_secs(3);
/// RTMP players of each edge.
const PLAYERS: usize = 4;
/// The edge behind the slow link.
const DISTANT: usize = 2;
/// Bytes of a video frame of the scene of costs: 2 Mbit/s.
const COST_FRAME_BYTES: usize = 10_000;
const COST_TIME: Duration = Duration::from_secs(20);
const COST_RATIO: f64 = 1.3;
const ADDED_LATENCY_MS: f64 = 5.0;

/// A thing that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scene {
    /// Nothing.
    Quiet,
    /// An origin is killed.
    Killed,
    /// An origin is stopped: its connections stay open and carry nothing.
    Stopped,
    /// The link of an origin is cut.
    Cut,
    /// An origin is killed, and the other one has another encoding of the stream.
    Other,
}

impl Scene {
    const ALL: [(&str, Scene); 5] = [
        ("quiet", Scene::Quiet),
        ("killed", Scene::Killed),
        ("stopped", Scene::Stopped),
        ("cut", Scene::Cut),
        ("other", Scene::Other),
    ];

    /// Returns the longest gap, and whether frames may be missing, for an edge that is `distant` or not. An origin that is silent
    /// before another one is tried, or a connection that takes long to open, leaves a hole of more than the rest of a GOP.
    fn bar(self, distant: bool) -> (Duration, bool) {
        match self {
            Scene::Quiet => (MATCHED_GAP, false),
            Scene::Killed if !distant => (MATCHED_GAP, false),
            Scene::Stopped | Scene::Cut if !distant => (MATCHED_GAP, true),
            _ => (UNMATCHED_GAP, true),
        }
    }
}

/// The places of a cluster.
struct Cluster {
    network: Network,
    ingest: Place,
    origins: [Place; 2],
    edges: [Place; 3],
    /// Servers that serve nothing useful.
    bad: [String; 2],
}

fn main() -> ExitCode {
    match prove() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn prove() -> Result<bool, String> {
    let viewers = std::env::var("VIEWERS").map_or(Ok(300), |text| text.parse().map_err(|_| "VIEWERS"))?;
    let wanted = std::env::var("SCENES").unwrap_or_default();
    let is_wanted = |name: &str| wanted.is_empty() || wanted.split_whitespace().any(|wanted| wanted == name);
    let mut network = Network::new()?;
    let ingest = network.place("in", 10)?;
    let origins = [network.place("o1", 11)?, network.place("o2", 12)?];
    let near = [network.place("e1", 21)?, network.place("e2", 22)?];
    // 200 ms for each round trip, and 2 % loss.
    let (distant, _link) = network.distant_place("e3", 100, 2)?;
    let [first, second] = near;
    let edges = [first, second, distant];
    let bad = [servers::rubbish()?, servers::redirects()?];
    let redis = [network.place("r1", 31)?, network.place("r2", 32)?, network.place("r3", 33)?];
    let cluster = Cluster { network, ingest, origins, edges, bad };
    let mut good = true;
    for (name, scene) in Scene::ALL {
        if is_wanted(name) {
            good &= cluster.play(scene, name, viewers)?;
        }
    }
    if is_wanted("cost") {
        good &= cluster.cost();
    }
    let [near, other, _] = &cluster.edges;
    let directory = Directory {
        network: &cluster.network,
        origins: &cluster.origins,
        edges: [near, other],
        redis: &redis,
        viewers: viewers / 4,
    };
    for (name, scene) in directory::Scene::ALL {
        if is_wanted(name) {
            good &= directory.play(scene, name)?;
        }
    }
    Ok(good)
}

impl Cluster {
    /// Plays one scene. Returns whether all bars are met.
    fn play(&self, scene: Scene, name: &str, viewers: usize) -> Result<bool, String> {
        let mut origins: Vec<Host> = self.origins.iter().map(|place| place.start(&node())).collect();
        let destinations = if scene == Scene::Other { &self.origins[..1] } else { &self.origins[..] };
        let ingest = self.ingest.start(&node().tables(&forward_to(destinations)));
        let edges: Vec<Host> = self
            .edges
            .iter()
            .enumerate()
            .map(|(number, place)| {
                // One edge has two servers before the origins that serve nothing useful.
                let bad = if number == 1 { &self.bad[..] } else { &[] };
                place.start(&node().tables(&edge_of(bad, &self.origins)))
            })
            .collect();
        let publisher = Publisher::open(self.ingest.rtmp(), KEY).pace(Numbered::new(FRAME_BYTES));
        // The other encoding has later numbers, so that no number comes twice.
        let other = (scene == Scene::Other).then(|| {
            let media = Numbered::new(FRAME_BYTES + 32).starting_at(1_000_000);
            Publisher::open(self.origins[1].rtmp(), KEY).pace(media)
        });
        // An edge tells viewers at once that no origin has the stream.
        for origin in &self.origins {
            players::wait_live(origin.rtmp(), KEY).map_err(|error| error.to_string())?;
        }
        let stop = CancellationToken::new();
        let watching = watch_all(&self.edges.each_ref().map(Place::http), viewers, &stop);
        let players: Vec<(usize, Player)> = (0..self.edges.len() * PLAYERS)
            .map(|number| {
                (number % self.edges.len(), Player::start(self.edges[number % self.edges.len()].rtmp(), KEY))
            })
            .collect();
        sleep(BEFORE);
        match scene {
            Scene::Quiet => {}
            Scene::Killed | Scene::Other => origins[0].kill(),
            Scene::Stopped => origins[0].signal(Signal::STOP),
            Scene::Cut => self.network.cut(&self.origins[0], true)?,
        }
        sleep(AFTER);
        stop.cancel();
        let mut seen = watching.join().map_err(|_| "the viewers panicked")?;
        seen.extend(players.into_iter().map(|(edge, player)| (edge, player.stop().0)));
        match scene {
            Scene::Stopped => origins[0].signal(Signal::CONT),
            Scene::Cut => self.network.cut(&self.origins[0], false)?,
            _ => {}
        }
        publisher.stop();
        other.map(|other| other.stop());
        let good = report(scene, name, &seen);
        if !good {
            edges.iter().for_each(|host| eprintln!("{}", host.log()));
            eprintln!("{}", ingest.log());
        }
        Ok(good)
    }

    /// Compares an edge that has one player with an origin that has one. Returns whether all bars are met.
    fn cost(&self) -> bool {
        let fast = || node().play("min_latency", "true");
        let origins: Vec<Host> = self.origins.iter().map(|place| place.start(&fast())).collect();
        let _ingest = self.ingest.start(&fast().tables(&forward_to(&self.origins)));
        let edge = self.edges[0].start(&fast().tables(&edge_of(&[], &self.origins[1..])));
        let publisher = Publisher::open(self.ingest.rtmp(), KEY).pace(Numbered::new(COST_FRAME_BYTES));
        for origin in &self.origins {
            if let Err(error) = players::wait_live(origin.rtmp(), KEY) {
                println!("cost     no stream: {error}");
                return false;
            }
        }
        let at_origin = Player::start(self.origins[0].rtmp(), KEY);
        let at_edge = Player::start(self.edges[0].rtmp(), KEY);
        sleep(BEFORE);
        let before = [origins[0].cpu_time(), edge.cpu_time()];
        sleep(COST_TIME);
        let [origin, edge] = [origins[0].cpu_time() - before[0], edge.cpu_time() - before[1]];
        let ((_, at_origin), (_, at_edge)) = (at_origin.stop(), at_edge.stop());
        publisher.stop();
        let mut added: Vec<f64> = at_edge
            .iter()
            .filter_map(|(number, at)| {
                let first = at_origin.get(number)?;
                let later = at.saturating_duration_since(*first).as_secs_f64();
                Some((later - first.saturating_duration_since(*at).as_secs_f64()) * 1000.0)
            })
            .collect();
        added.sort_by(f64::total_cmp);
        let at = |share: f64| {
            added.get(((added.len().max(1) - 1) as f64 * share) as usize).copied().unwrap_or(f64::NAN)
        };
        let ratio = edge.as_secs_f64() / origin.as_secs_f64();
        let good = ratio <= COST_RATIO && at(0.99) <= ADDED_LATENCY_MS && added.len() > 400;
        println!(
            "cost     CPU of an edge with one player {edge:?}, of an origin {origin:?} in {COST_TIME:?}: {ratio:.2} x (bar {COST_RATIO}); added \
             latency of {} frames: median {:.2} ms, 99 % {:.2} ms (bar {ADDED_LATENCY_MS}): {}",
            added.len(),
            at(0.5),
            at(0.99),
            if good { "good" } else { "MISSED" }
        );
        good
    }
}

/// Starts viewers of all formats, spread over the edges. Returns the number of the edge of each, and what it saw.
fn watch_all(
    edges: &[SocketAddr],
    viewers: usize,
    stop: &CancellationToken,
) -> JoinHandle<Vec<(usize, Seen)>> {
    let (stop, edges) = (stop.clone(), edges.to_vec());
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime starts").block_on(async {
            let mut tasks = tokio::task::JoinSet::new();
            for number in 0..viewers {
                let (format, edge) = (Format::ALL[number % 4], number / 4 % edges.len());
                let watched = watch(edges[edge], format, KEY.to_owned(), stop.clone());
                tasks.spawn(async move { (edge, watched.await) });
            }
            tasks.join_all().await
        })
    })
}

/// Returns the table that forwards to the origins.
fn forward_to(origins: &[Place]) -> String {
    format!("[vhost.\"__defaultVhost__\"]\nforward = {:?}\n", addresses(origins))
}

/// Returns the tables of an edge that pulls from `bad` first, then from the origins.
fn edge_of(bad: &[String], origins: &[Place]) -> String {
    let all = [bad, &addresses(origins)].concat();
    format!(
        "[cluster]\nallow = [\"10.77.0.0/16\"]\n[vhost.\"__defaultVhost__\".cluster]\nmode = \"edge\"\norigin = {all:?}\n"
    )
}

fn addresses(places: &[Place]) -> Vec<String> {
    places.iter().map(|place| place.rtmp().to_string()).collect()
}

/// Returns the settings that all nodes have in common.
fn node() -> Config {
    Config::live()
        .rtmp("listen", &format!("[{}]", network::RTMP))
        .http("listen", &network::HTTP.to_string())
        .limits("max_connections_per_address", "0")
        .limits("accept_rate", "0")
        .limits("receive_rate", "0")
        .mount("mount = \"/[app]/[stream].flv\"")
        .mount("mount = \"/[app]/[stream].ts\"")
        .mount("mount = \"/[app]/[stream].aac\"")
}

/// Prints what the viewers of each edge saw. Returns whether all bars are met.
fn report(scene: Scene, name: &str, seen: &[(usize, Seen)]) -> bool {
    let mut good = true;
    for edge in 0..=DISTANT {
        let own: Vec<&Seen> = seen.iter().filter(|(of, _)| *of == edge).map(|(_, seen)| seen).collect();
        let mut waits: Vec<Duration> = own.iter().map(|seen| seen.longest_wait).collect();
        waits.sort_unstable();
        let (median, longest) = (waits[waits.len() / 2], waits[waits.len() - 1]);
        let faults: Vec<_> =
            own.iter().filter_map(|seen| Some((seen.format, seen.fault.as_ref()?))).collect();
        let missing: u64 = own.iter().map(|seen| seen.missing).sum();
        let idle = own.iter().filter(|seen| seen.checked == 0).count();
        let checked: u64 = own.iter().map(|seen| seen.checked).sum();
        let (bar, may_miss) = scene.bar(edge == DISTANT);
        let is_good = faults.is_empty() && idle == 0 && longest <= bar && (missing == 0 || may_miss);
        println!(
            "{name:8} edge {}: {} viewers, {checked} units in order, {missing} missing; longest gap of each: median {:.3} s, longest {:.3} s \
             (bar {} s); {} faults, {idle} without media: {}",
            edge + 1,
            own.len(),
            median.as_secs_f64(),
            longest.as_secs_f64(),
            bar.as_secs(),
            faults.len(),
            if is_good { "good" } else { "MISSED" }
        );
        faults.iter().take(3).for_each(|(format, fault)| println!("         {format:?}: {fault}"));
        good &= is_good;
    }
    good
}
