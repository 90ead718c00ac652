//! What floods cost: the CPU time and memory of the host, and the added latency of a neighbour.
//!
//! `floods [SECONDS]` for each flood; see `floods` beside this file. Two attackers of one address repeat rounds of a flood as fast
//! as the host lets them; its limits are the default ones. They run at the lowest priority of the scheduler, since they share
//! the machine with the host and the neighbour. The neighbour gets 50 pictures a second over HTTP; a picture's latency is the time
//! from before its write to after its read. Exits 1 if a picture is missing.

use std::io::{self, Read};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use remuxd_tests::floods::{FLOODS, Flood, Target};
use remuxd_tests::flv::Reader;
use remuxd_tests::host::{Config, Host};
use remuxd_tests::http::Request;
use remuxd_tests::publisher::{Numbered, Publisher};
use remuxd_tests::tls::{Certificate, Files};
use rustix::process::setpriority_process;

const ATTACKERS: usize = 2;
/// Time between pictures.
const STEP: Duration = Duration::from_millis(20);

fn main() -> ExitCode {
    let seconds = std::env::args().nth(1).map_or(Ok(10), |text| text.parse());
    let Ok(seconds) = seconds else {
        eprintln!("floods [SECONDS]");
        return ExitCode::FAILURE;
    };
    let files = Files::of(&Certificate::of(&["127.0.0.1"]));
    let config = Config::live().play("min_latency", "true").limits("accept_rate", "1000");
    let host = Host::start(&config.tables(&files.listeners()));
    let neighbour = Neighbour::start(&host);
    let target = Target::of(&host);
    let idle = Flood { name: "nothing", round: rest };
    println!("| flood | rounds/s | refused | host CPU | memory | latency p50 | p99 | added p99 |");
    println!("|---|---|---|---|---|---|---|---|");
    let base = measure(&host, &neighbour, &target, &idle, Duration::from_secs(seconds), None);
    for (_, floods) in FLOODS {
        for flood in *floods {
            measure(&host, &neighbour, &target, flood, Duration::from_secs(seconds), Some(base));
        }
    }
    match neighbour.finish() {
        Ok(pictures) => println!("{pictures} pictures, none missing"),
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

/// What an attacker does for the row without a flood.
fn rest(_: &Target) -> io::Result<()> {
    thread::sleep(Duration::from_millis(10));
    Ok(())
}

/// Runs a flood, prints its row, and returns the 99th percentile of latency.
fn measure(
    host: &Host,
    neighbour: &Neighbour,
    target: &Target,
    flood: &Flood,
    time: Duration,
    base: Option<Duration>,
) -> Duration {
    neighbour.take_latencies();
    let (resident, cpu, began) = (host.resident(), host.cpu_time(), Instant::now());
    let (rounds, refused, peak) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(resident));
    thread::scope(|scope| {
        for _ in 0..ATTACKERS {
            scope.spawn(|| {
                // Of this thread alone. A kernel that refuses makes the measurement worse, not better.
                let _ = setpriority_process(Some(rustix::thread::gettid()), 19);
                while began.elapsed() < time {
                    rounds.fetch_add(1, Ordering::Relaxed);
                    refused.fetch_add(u64::from((flood.round)(target).is_err()), Ordering::Relaxed);
                }
            });
        }
        while began.elapsed() < time {
            peak.fetch_max(host.resident(), Ordering::Relaxed);
            thread::sleep(Duration::from_millis(100));
        }
    });
    let (elapsed, cpu) = (began.elapsed().as_secs_f64(), host.cpu_time() - cpu);
    let latencies = neighbour.take_latencies();
    let at = |share: f64| latencies[((latencies.len() - 1) as f64 * share) as usize];
    let (p50, p99) = (at(0.5), at(0.99));
    let added =
        base.map_or("".to_owned(), |base| format!("{:.1} ms", p99.saturating_sub(base).as_secs_f64() * 1e3));
    println!(
        "| {} | {:.0} | {} % | {:.2} cores | +{:.1} MiB | {:.2} ms | {:.2} ms | {added} |",
        flood.name,
        rounds.load(Ordering::Relaxed) as f64 / elapsed,
        refused.load(Ordering::Relaxed) * 100 / rounds.load(Ordering::Relaxed).max(1),
        cpu.as_secs_f64() / elapsed,
        (peak.load(Ordering::Relaxed) - resident) as f64 / f64::from(1 << 20),
        p50.as_secs_f64() * 1e3,
        p99.as_secs_f64() * 1e3,
    );
    p99
}

/// A healthy stream with a viewer that measures.
struct Neighbour {
    stops: Arc<AtomicBool>,
    /// Time from before the write to after the read, of each picture since the last look.
    latencies: Arc<Mutex<Vec<Duration>>>,
    publisher: thread::JoinHandle<u32>,
    viewer: thread::JoinHandle<Result<u32, String>>,
}

impl Neighbour {
    fn start(host: &Host) -> Neighbour {
        let key = host.key("good");
        let (stops, latencies) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let sent = Arc::new(Mutex::new(Vec::<Instant>::new()));
        let mut publisher = Publisher::open(host.rtmp, &key);
        let viewer = {
            let (sent, latencies, address, path) =
                (sent.clone(), latencies.clone(), host.http, host.path(&key));
            thread::spawn(move || watch(address, &path, &sent, &latencies))
        };
        let publisher = {
            let stops = stops.clone();
            thread::spawn(move || {
                let mut media = Numbered::new(2000);
                publisher.send(&media.headers());
                let began = Instant::now();
                while !stops.load(Ordering::SeqCst) {
                    let due = began + STEP * media.number();
                    thread::sleep(due.saturating_duration_since(Instant::now()));
                    let tags = media.frame();
                    sent.lock().expect("no holder panics").push(Instant::now());
                    publisher.send(&tags);
                }
                media.number()
            })
        };
        thread::sleep(Duration::from_secs(2));
        Neighbour { stops, latencies, publisher, viewer }
    }

    /// Returns the latencies since the last call, in order of size.
    fn take_latencies(&self) -> Vec<Duration> {
        let mut latencies = std::mem::take(&mut *self.latencies.lock().expect("no holder panics"));
        latencies.sort_unstable();
        latencies
    }

    fn finish(self) -> Result<u32, String> {
        self.stops.store(true, Ordering::SeqCst);
        let sent = self.publisher.join().map_err(|_| "the publisher failed")?;
        let seen = self.viewer.join().map_err(|_| "the viewer failed")??;
        if seen == sent { Ok(sent) } else { Err(format!("{seen} of {sent} pictures")) }
    }
}

/// Reads to the end of the stream, and returns the number of pictures, of which none may be missing.
fn watch(
    address: std::net::SocketAddr,
    path: &str,
    sent: &Mutex<Vec<Instant>>,
    latencies: &Mutex<Vec<Duration>>,
) -> Result<u32, String> {
    let mut response = Request::get(path).send(address).map_err(|error| error.to_string())?;
    let (mut reader, mut buffer, mut next) = (Reader::default(), vec![0; 65536], 0);
    loop {
        let length = response.body.read(&mut buffer).map_err(|error| error.to_string())?;
        let now = Instant::now();
        if length == 0 {
            return Ok(next);
        }
        reader.push(&buffer[..length])?;
        for number in Numbered::numbers(&reader.take()) {
            if number != next {
                return Err(format!("picture {number} instead of {next}"));
            }
            next += 1;
            let at = sent.lock().expect("no holder panics")[number as usize];
            latencies.lock().expect("no holder panics").push(now - at);
        }
    }
}
