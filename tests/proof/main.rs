//! The proof of hot reload: publishers and thousands of viewers, while modules are replaced again and again.
//!
//! `proof DIR_A DIR_B` alternates the modules of two directories of builds; see `run` beside this file. Prints its
//! measurements, and exits 1 if any viewer was disturbed.

mod light;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use light::{Format, Seen, watch};
use remuxd_tests::audio::read_adts;
use remuxd_tests::capture::{Capture, End};
use remuxd_tests::compare::{Coverage, compare, compare_units};
use remuxd_tests::fetch::Fetch;
use remuxd_tests::flv::{AUDIO, Tag};
use remuxd_tests::host::{Config, Host};
use remuxd_tests::module_dir::{ModuleDir, stripped};
use remuxd_tests::modules::{flawed, with_abort, with_another_layout};
use remuxd_tests::publisher::{Numbered, Pace, Publisher};
use remuxd_tests::tool::root;
use remuxd_tests::ts::{Stream, access_units, check, published_units};
use remuxd_tests::wait::poll_for;
use tokio_util::sync::CancellationToken;

const MODULES: [&str; 4] = ["flv", "websocket-flv", "ts", "aac"];
const FRAME_BYTES: usize = 400;
const END: Duration = Duration::from_secs(30);

/// Sizes of the run.
struct Plan {
    builds: [PathBuf; 2],
    publishers: usize,
    viewers: usize,
    /// Number of viewers whose stream is compared byte by byte.
    sample: usize,
    reloads: usize,
    /// Number of attempts with each kind of broken module.
    broken: usize,
    unload: bool,
}

impl Plan {
    fn read() -> Result<Plan, String> {
        let number = |name: &str, default: usize| match std::env::var(name) {
            Ok(text) => text.parse().map_err(|_| format!("{name} is {text:?}")),
            Err(_) => Ok(default),
        };
        let mut arguments = std::env::args().skip(1).map(PathBuf::from);
        let builds = [arguments.next(), arguments.next()];
        let [Some(one), Some(two)] = builds else { return Err("proof DIR_A DIR_B".into()) };
        Ok(Plan {
            builds: [one, two],
            publishers: number("PUBLISHERS", 4)?,
            viewers: number("VIEWERS", 2000)?,
            sample: number("SAMPLE", 50)?,
            reloads: number("RELOADS", 100)?,
            broken: number("BROKEN", 20)?,
            unload: number("UNLOAD", 1)? != 0,
        })
    }
}

fn main() -> ExitCode {
    match Plan::read().and_then(|plan| prove(&plan)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// A viewer whose stream is compared byte by byte.
enum Sampled {
    Flv(Capture),
    Raw(Format, Fetch),
}

fn prove(plan: &Plan) -> Result<(), String> {
    let library = |dir: &Path, name: &str| dir.join(format!("libremuxd_{}.so", name.replace('-', "_")));
    let builds: Vec<Vec<Vec<u8>>> = plan
        .builds
        .iter()
        .enumerate()
        .map(|(number, dir)| {
            MODULES.iter().map(|name| stripped(&library(dir, name), &format!("{name}-{number}.so"))).collect()
        })
        .collect();
    let modules = ModuleDir::with(&[]);
    let put = |build: usize| {
        MODULES.iter().zip(&builds[build % 2]).for_each(|(name, bytes)| modules.put(name, bytes));
    };
    put(0);
    let config = Config::live()
        .limits("max_connections_per_address", "0")
        .limits("accept_rate", "0")
        .limits("receive_rate", "0")
        .play("queue_length", "\"5s\"")
        .mount("mount = \"/[app]/[stream].flv\"")
        .mount("mount = \"/[app]/[stream].ts\"")
        .mount("mount = \"/[app]/[stream].aac\"")
        .tables(&modules.table(&MODULES, &format!("unload = {}", plan.unload)));
    let host = Host::start(&config);
    let keys: Vec<_> = (0..plan.publishers).map(|number| host.key(&format!("p{number}"))).collect();
    let publishers: Vec<Pace> =
        keys.iter().map(|key| Publisher::open(host.rtmp, key).pace(Numbered::new(FRAME_BYTES))).collect();

    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
    let (address, light) = (host.http, plan.viewers.saturating_sub(plan.sample));
    let all: Vec<_> =
        (0..light).map(|number| (Format::ALL[number % 4], keys[number / 4 % keys.len()].clone())).collect();
    let watching = std::thread::spawn(move || {
        runtime.block_on(async {
            let mut tasks = tokio::task::JoinSet::new();
            for (number, (format, key)) in all.into_iter().enumerate() {
                tasks.spawn(watch(address, format, key, CancellationToken::new()));
                if number % 50 == 49 {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
            tasks.join_all().await
        })
    });
    let sampled: Vec<_> = (0..plan.sample)
        .map(|number| {
            let (format, key) = (Format::ALL[number % 4], &keys[number / 4 % keys.len()]);
            let viewer = match format {
                Format::Flv => Sampled::Flv(Capture::http(&host, key)),
                Format::WebSocketFlv => Sampled::Flv(Capture::websocket(&host, key)),
                raw => Sampled::Raw(raw, Fetch::start(&host, &raw.path(key))),
            };
            (number / 4 % keys.len(), viewer)
        })
        .collect();
    wait_viewers(&host, plan.viewers)?;
    println!(
        "{} publishers, {} viewers, {} of them compared byte by byte",
        keys.len(),
        plan.viewers,
        plan.sample
    );

    let broken = broken(&modules, &builds[0][0]);
    let mut memory = vec![host.resident()];
    let mut loads = Vec::new();
    let mut refusals = 0;
    let every = (plan.reloads / plan.broken.max(1)).max(1);
    for reload in 1..=plan.reloads {
        put(reload);
        let began = Instant::now();
        let printed = host.reload();
        loads.push(began.elapsed());
        if printed.matches(" loaded ").count() != MODULES.len() {
            return Err(format!("reload {reload}: {printed}"));
        }
        wait_handovers(&host)?;
        if reload % every == 0 && reload / every <= plan.broken {
            for (kind, step, bytes) in &broken {
                modules.put("flv", bytes);
                let output = host.command(&["reload"]);
                let printed = String::from_utf8_lossy(&output.stdout);
                if output.status.code() != Some(1) || !printed.contains(&format!("refused    at {step}: ")) {
                    return Err(format!("{kind} was not refused at {step}: {printed}"));
                }
                refusals += 1;
            }
        }
        memory.push(host.resident());
        if reload % 10 == 0 {
            println!("{reload} reloads, {refusals} refusals, {} MiB resident", host.resident() >> 20);
        }
    }

    let frames: Vec<u32> = publishers.into_iter().map(Pace::stop).collect();
    let published: Vec<Vec<Tag>> =
        frames.iter().map(|count| Numbered::new(FRAME_BYTES).frames(*count)).collect();
    let seen = watching.join().map_err(|_| "the viewers panicked")?;
    let fault = |seen: &Seen| {
        let missing = (seen.missing > 0).then(|| format!("{} frames are missing", seen.missing));
        seen.fault.clone().or(missing).map(|fault| format!("{:?}: {fault}", seen.format))
    };
    let mut faults: Vec<String> = seen.iter().filter_map(fault).collect();
    for (publisher, viewer) in sampled {
        faults.extend(compare_sampled(viewer, &published[publisher]).err());
    }
    let log = host.log();
    report(plan, &seen, &loads, &memory, refusals, &log);
    match faults.first() {
        None => Ok(()),
        Some(first) => Err(format!("{} viewers were disturbed; the first: {first}", faults.len())),
    }
}

fn compare_sampled(viewer: Sampled, published: &[Tag]) -> Result<(), String> {
    match viewer {
        Sampled::Flv(capture) => {
            let recording = capture.finish(END);
            if recording.end != End::Clean {
                return Err(format!("{:?}", recording.end));
            }
            compare(published, &recording.tags, Coverage::FromKeyframe).map(drop)
        }
        Sampled::Raw(Format::Ts, download) => {
            let served = download.outcome(END);
            let stream = Stream::read(&served.bytes);
            check(&stream).map_err(|faults| format!("{faults:?}"))?;
            let units = access_units(&stream)?;
            compare_units(&published_units(published), &units, Coverage::FromKeyframe).map(drop)
        }
        Sampled::Raw(_, download) => {
            let served = download.outcome(END);
            let frames: Vec<_> = read_adts(&served.bytes).into_iter().map(|frame| frame.data).collect();
            let all: Vec<_> = published
                .iter()
                .filter(|tag| tag.kind == AUDIO)
                .map(|tag| tag.payload[2..].to_vec())
                .collect();
            let tail = all.len().checked_sub(frames.len()).map(|start| &all[start..]);
            if served.whole && !frames.is_empty() && tail == Some(&frames[..]) {
                Ok(())
            } else {
                Err("AAC differs".into())
            }
        }
    }
}

/// Returns libraries that must be refused, with their kind and the step that refuses them.
fn broken(modules: &ModuleDir, good: &[u8]) -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let compiled = |source: &str| {
        modules.put_c("broken", &root().join("tests/modules/c").join(source));
        let bytes = std::fs::read(modules.file("broken")).unwrap_or_default();
        let _ = std::fs::remove_file(modules.file("broken"));
        bytes
    };
    let mut kinds = vec![
        ("a script", "elf", b"#!/bin/sh\n".to_vec()),
        ("an empty file", "elf", Vec::new()),
        ("half a file", "elf", good[..good.len() / 2].to_vec()),
        ("panics that abort", "preflight", with_abort("good")),
        ("another layout", "layout", with_another_layout()),
        ("a failed self-test", "self-test", flawed("has two roles")),
    ];
    let sources = [
        ("no module", "preflight", "plain.c"),
        ("another ABI", "preflight", "major.c"),
        ("a missing symbol", "preflight", "unresolved.c"),
        ("no header", "layout", "bare.c"),
        ("a crash", "probe", "crashes.c"),
        ("a late crash", "probe", "crashes_late.c"),
        ("an exit", "probe", "exits.c"),
        ("a hang", "probe", "hangs.c"),
    ];
    kinds.extend(sources.map(|(kind, step, source)| (kind, step, compiled(source))));
    kinds
}

fn wait_viewers(host: &Host, count: usize) -> Result<(), String> {
    let viewers = || host.count("viewers", None);
    poll_for(Duration::from_secs(120), || (viewers() == count as u64).then_some(()))
        .ok_or_else(|| format!("{} of {count} viewers came", viewers()))
}

/// Waits until the newest generations remux all mounts.
fn wait_handovers(host: &Host) -> Result<(), String> {
    let draining = || {
        let modules = host.api_json("/api/v1/modules");
        modules.as_array().expect("a list of modules").iter().any(|module| module["state"] == "draining")
    };
    poll_for(Duration::from_secs(30), || (!draining()).then_some(()))
        .ok_or_else(|| "an old generation still remuxes a mount".to_owned())
}

fn report(plan: &Plan, seen: &[Seen], loads: &[Duration], memory: &[u64], refusals: usize, log: &str) {
    let spread = |mut values: Vec<Duration>| {
        values.sort_unstable();
        let at = |share: f64| values[((values.len() - 1) as f64 * share) as usize];
        if values.is_empty() {
            return "none".to_owned();
        }
        format!("median {:?}, 99 % {:?}, longest {:?}", at(0.5), at(0.99), at(1.0))
    };
    let took = |line: &str| {
        let text = line.split("took=").nth(1)?.split_whitespace().next()?;
        let (number, unit) = text.split_at(text.find(|c: char| c.is_alphabetic() || c == 'µ')?);
        let unit = match unit {
            "ns" => 1e-9,
            "µs" => 1e-6,
            "ms" => 1e-3,
            _ => 1.0,
        };
        Some(Duration::from_secs_f64(number.parse::<f64>().ok()? * unit))
    };
    let handovers: Vec<_> =
        log.lines().filter(|line| line.contains("mount handed over")).filter_map(took).collect();
    println!("reloads            {}, and {refusals} refusals", loads.len());
    println!("reload command     {} ({} modules)", spread(loads.to_vec()), MODULES.len());
    println!("handover of mounts {}: {}", handovers.len(), spread(handovers));
    for format in Format::ALL {
        let of = || seen.iter().filter(|seen| seen.format == format);
        let checked: u64 = of().map(|seen| seen.checked).sum();
        let waits = spread(of().map(|seen| seen.longest_wait).collect());
        println!(
            "{format:?}: {} viewers, {checked} units in order; longest wait of each: {waits}",
            of().count()
        );
    }
    let half = memory.len() / 2;
    let (first, middle, last) = (memory[0], memory[half], memory[memory.len() - 1]);
    let later = memory.len() - 1 - half;
    let each = last.saturating_sub(middle) / (later.max(1) * MODULES.len()) as u64;
    println!(
        "memory             {} KiB, {} KiB, {} KiB at the start, half-way and in the end; unload = {}; {} KiB a generation",
        first >> 10,
        middle >> 10,
        last >> 10,
        plan.unload,
        each >> 10
    );
}
