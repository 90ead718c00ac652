//! The proof of clusters: viewers of three edges, while origins die, stall, lie and are cut off.
//!
//! A publisher sends to a host that forwards to two origins, and each edge pulls from these. In each scene all viewers watch while one
//! thing goes wrong; see `run` beside this file. Prints a line for each scene, and exits 1 if a bar is missed.

#[path = "../light.rs"]
mod light;
mod network;
mod players;
mod servers;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use light::{Format, Seen, watch};
use network::{Network, Place};
use players::Player;
use remuxd_tests::host::{Config, Host};
use remuxd_tests::publisher::{Numbered, Publisher};
use rustix::process::Signal;
use tokio_util::sync::CancellationToken;

/// Bytes of a video frame.
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
    /// The other origin has another encoding of the stream.
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

    fn longest_gap(self) -> Duration {
        if self == Scene::Other { UNMATCHED_GAP } else { MATCHED_GAP }
    }
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
    let mut network = Network::new()?;
    let ingest = network.place("in", 10)?;
    let origins = [network.place("o1", 11)?, network.place("o2", 12)?];
    let edges = [network.place("e1", 21)?, network.place("e2", 22)?];
    let (distant, _link) = network.distant_place("e3", 100, 2)?;
    let edges = [edges[0].clone(), edges[1].clone(), distant];
    let bad = [servers::rubbish()?, servers::redirects()?];
    let mut good = true;
    for (name, scene) in Scene::ALL {
        if wanted.is_empty() || wanted.split_whitespace().any(|wanted| wanted == name) {
            good &= play(scene, name, viewers, &network, &ingest, &origins, &edges, &bad)?;
        }
    }
    Ok(good)
}

/// Plays one scene. Returns whether all bars are met.
#[expect(clippy::too_many_arguments, reason = "the places of one cluster")]
fn play(
    scene: Scene,
    name: &str,
    viewers: usize,
    network: &Network,
    ingest: &Place,
    origins: &[Place; 2],
    edges: &[Place; 3],
    bad: &[String; 2],
) -> Result<bool, String> {
    let mut origin_hosts: Vec<Host> = origins.iter().map(|place| place.start(&node())).collect();
    let forwards: Vec<String> = match scene {
        Scene::Other => vec![format!("{:?}", origins[0].rtmp().to_string())],
        _ => origins.iter().map(|place| format!("{:?}", place.rtmp().to_string())).collect(),
    };
    let forward = format!("forward = [{}]\n", forwards.join(", "));
    let ingest_host = ingest.start(&node().tables(&format!("[vhost.\"__defaultVhost__\"]\n{forward}")));
    let sources = format!("{:?}, {:?}", origins[0].rtmp().to_string(), origins[1].rtmp().to_string());
    let edge_hosts: Vec<Host> = edges
        .iter()
        .enumerate()
        .map(|(number, place)| {
            // One edge has two servers before them that serve nothing useful.
            let first = if number == 1 { format!("{:?}, {:?}, ", bad[0], bad[1]) } else { String::new() };
            place.start(&node().tables(&format!(
                "[cluster]\nallow = [\"10.77.0.0/16\"]\n[vhost.\"__defaultVhost__\".cluster]\nmode = \"edge\"\norigin = [{first}{sources}]\n"
            )))
        })
        .collect();

    let publisher = Publisher::open(ingest.rtmp(), "live/p").pace(Numbered::new(FRAME_BYTES));
    // The other encoding has later numbers, so that no number comes twice.
    let other = (scene == Scene::Other).then(|| {
        Publisher::open(origins[1].rtmp(), "live/p")
            .pace(Numbered::new(FRAME_BYTES + 32).starting_at(1_000_000))
    });

    let stop = CancellationToken::new();
    let addresses: Vec<SocketAddr> = edges.iter().map(Place::http).collect();
    let watching = watch_all(viewers, addresses, stop.clone());
    let players: Vec<Player> =
        edges.iter().flat_map(|edge| (0..PLAYERS).map(|_| Player::start(edge.rtmp(), "live/p"))).collect();
    std::thread::sleep(BEFORE);
    let began = Instant::now();
    match scene {
        Scene::Quiet => {}
        Scene::Killed | Scene::Other => origin_hosts[0].kill(),
        Scene::Stopped => origin_hosts[0].signal(Signal::STOP),
        Scene::Cut => network.cut(&origins[0], true)?,
    }
    std::thread::sleep(AFTER);
    stop.cancel();
    let mut seen = watching.join().map_err(|_| "the viewers panicked")?;
    seen.extend(players.into_iter().map(Player::stop));
    match scene {
        Scene::Stopped => origin_hosts[0].signal(Signal::CONT),
        Scene::Cut => network.cut(&origins[0], false)?,
        _ => {}
    }
    drop(publisher);
    drop(other);
    let good = report(scene, name, &seen, began.elapsed());
    if !good {
        edge_hosts.iter().for_each(|host| eprintln!("{}", host.log()));
        eprintln!("{}", ingest_host.log());
    }
    Ok(good)
}

/// The settings that all nodes have in common.
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

fn watch_all(
    viewers: usize,
    edges: Vec<SocketAddr>,
    stop: CancellationToken,
) -> std::thread::JoinHandle<Vec<Seen>> {
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime starts").block_on(async {
            let mut tasks = tokio::task::JoinSet::new();
            for number in 0..viewers {
                let (format, edge) = (Format::ALL[number % 4], edges[number / 4 % edges.len()]);
                tasks.spawn(watch(edge, format, "live/p".to_owned(), stop.clone()));
            }
            tasks.join_all().await
        })
    })
}

/// Prints what the viewers saw. Returns whether all bars are met.
fn report(scene: Scene, name: &str, seen: &[Seen], took: Duration) -> bool {
    let mut waits: Vec<Duration> = seen.iter().map(|seen| seen.longest_wait).collect();
    waits.sort_unstable();
    let (median, longest) = (waits[waits.len() / 2], waits[waits.len() - 1]);
    let faults: Vec<String> =
        seen.iter().filter_map(|seen| Some(format!("{:?}: {}", seen.format, seen.fault.as_ref()?))).collect();
    let missing: u64 = seen.iter().map(|seen| seen.missing).sum();
    let idle = seen.iter().filter(|seen| seen.checked == 0).count();
    let checked: u64 = seen.iter().map(|seen| seen.checked).sum();
    let good = faults.is_empty()
        && idle == 0
        && longest <= scene.longest_gap()
        && (missing == 0 || scene == Scene::Other);
    println!(
        "{name:8} {} viewers, {checked} units in order, {missing} missing; longest gap of each: median {median:?}, longest {longest:?} \
         (bar {:?}); {} faults, {idle} without media; {took:?}: {}",
        seen.len(),
        scene.longest_gap(),
        faults.len(),
        if good { "good" } else { "MISSED" }
    );
    faults.iter().take(3).for_each(|fault| println!("         {fault}"));
    good
}
