//! What floods cost: the CPU time and memory of the host, and the added latency of a neighbour.
//!
//! `floods [SECONDS]` for each flood; see `floods` beside this file. Two attackers of one address repeat rounds of a flood as fast
//! as the host lets them; its limits are the default ones. They run at the lowest priority of the scheduler, since they share
//! the machine with the host and the neighbour. The neighbour gets 50 pictures a second over HTTP; a picture's latency is the time
//! from before its write to after its read. Exits 1 if a picture is missing.
//!
//! A control gets as many messages of the same length over a relay of its own, of two sockets and a thread. What the machine and
//! the kernel's network cost it is no cost of the host: the added latency is the neighbour's above the control's, in the same time.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
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
    let control = match control() {
        Ok(control) => control,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    println!(
        "| flood | rounds/s | refused | host CPU | memory | latency p50 | p99 | control p50 | p99 | added p99 |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    for flood in std::iter::once(&idle).chain(FLOODS.iter().flat_map(|(_, floods)| *floods)) {
        measure(&host, &neighbour, &control, &target, flood, Duration::from_secs(seconds));
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

/// Runs a flood, and prints its row.
fn measure(
    host: &Host,
    neighbour: &Neighbour,
    control: &Latencies,
    target: &Target,
    flood: &Flood,
    time: Duration,
) {
    control.take();
    neighbour.latencies.take();
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
    let ([p50, p99], [control_p50, control_p99]) = (neighbour.latencies.take(), control.take());
    println!(
        "| {} | {:.0} | {} % | {:.2} cores | +{:.1} MiB | {p50:.2} ms | {p99:.2} ms | {control_p50:.2} ms | {control_p99:.2} ms | {:.1} ms |",
        flood.name,
        rounds.load(Ordering::Relaxed) as f64 / elapsed,
        refused.load(Ordering::Relaxed) * 100 / rounds.load(Ordering::Relaxed).max(1),
        cpu.as_secs_f64() / elapsed,
        (peak.load(Ordering::Relaxed) - resident) as f64 / f64::from(1 << 20),
        (p99 - control_p99).max(0.0),
    );
}

/// Latencies since the last look.
#[derive(Clone, Default)]
struct Latencies(Arc<Mutex<Vec<Duration>>>);

impl Latencies {
    fn push(&self, latency: Duration) {
        self.0.lock().expect("no holder panics").push(latency);
    }

    /// Removes all, and returns the median and the 99th percentile in milliseconds; NaN if there are none.
    fn take(&self) -> [f64; 2] {
        let mut all = std::mem::take(&mut *self.0.lock().expect("no holder panics"));
        all.sort_unstable();
        [50, 99].map(|percent| {
            all.get(all.len().saturating_sub(1) * percent / 100)
                .map_or(f64::NAN, |latency| latency.as_secs_f64() * 1e3)
        })
    }
}

/// Starts the control, which runs until the program ends.
fn control() -> io::Result<Latencies> {
    let latencies = Latencies::default();
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let connect = || -> io::Result<(TcpStream, TcpStream)> {
        let near = TcpStream::connect(listener.local_addr()?)?;
        let (far, _) = listener.accept()?;
        near.set_nodelay(true)?;
        far.set_nodelay(true)?;
        Ok((near, far))
    };
    let ((mut sender, mut relay_in), (mut relay_out, mut receiver)) = (connect()?, connect()?);
    let (began, sink) = (Instant::now(), latencies.clone());
    thread::spawn(move || io::copy(&mut relay_in, &mut relay_out));
    thread::spawn(move || -> io::Result<()> {
        let mut message = [0; 2048];
        for number in 1.. {
            thread::sleep((began + STEP * number).saturating_duration_since(Instant::now()));
            message[..8].copy_from_slice(&(began.elapsed().as_nanos() as u64).to_be_bytes());
            sender.write_all(&message)?;
        }
        Ok(())
    });
    thread::spawn(move || -> io::Result<()> {
        let mut message = [0; 2048];
        loop {
            receiver.read_exact(&mut message)?;
            let sent = message.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes));
            sink.push(began.elapsed().saturating_sub(Duration::from_nanos(sent)));
        }
    });
    Ok(latencies)
}

/// A healthy stream with a viewer that measures.
struct Neighbour {
    stops: Arc<AtomicBool>,
    /// Time from before the write to after the read, of each picture.
    latencies: Latencies,
    publisher: thread::JoinHandle<u32>,
    viewer: thread::JoinHandle<Result<u32, String>>,
}

impl Neighbour {
    fn start(host: &Host) -> Neighbour {
        let key = host.key("good");
        let (stops, latencies) = (Arc::new(AtomicBool::new(false)), Latencies::default());
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
    latencies: &Latencies,
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
            latencies.push(now - at);
        }
    }
}
