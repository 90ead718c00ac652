//! The cost of a tag in a module that runs in the host, and in a process of its own.
//!
//! `calls PROGRAM NAME [COUNT]`: loads the module NAME from beside the host's program both ways, feeds it COUNT tags of
//! three sizes, and prints the mean time that a worker thread waits for a call. Build everything with `--release` to
//! measure.

#![expect(clippy::unwrap_used, reason = "a measurement that fails is of no use")]

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use remuxd::testing::conf::Config;
use remuxd::testing::media::{Millis, Tag, TagKind};
use remuxd::testing::module::{Registry, Setup};

fn main() {
    let arguments: Vec<_> = std::env::args().collect();
    let [_, program, name, rest @ ..] = &arguments[..] else {
        eprintln!("usage: calls PROGRAM NAME [COUNT]");
        std::process::exit(2);
    };
    let count = rest.first().map_or(20_000, |count| count.parse().unwrap());
    println!("{:>10} {:>12} {:>12} {:>12}", "isolation", "200 B", "5 KB", "50 KB");
    for isolation in ["none", "process"] {
        let (registry, load) = open(Path::new(program), name, isolation);
        let costs = [200, 5_000, 50_000].map(|bytes| feed(&registry, bytes, count));
        let costs = costs.map(|cost| format!("{:>9} ns", cost.as_nanos()));
        println!("{isolation:>10} {}   loaded in {load:.1?}{}", costs.join(" "), memory());
    }
}

fn open(program: &Path, name: &str, isolation: &str) -> (Registry, Duration) {
    let config = format!("[modules]\nload = [{name:?}]\n[module.{name:?}]\nisolation = {isolation:?}\n");
    let config = Config::parse(&config, "calls.toml").unwrap();
    let start = Instant::now();
    let (registry, failures) = Registry::load(&config.modules, program.parent().unwrap(), program);
    assert!(failures.is_empty(), "{}", failures[0]);
    (registry, start.elapsed())
}

/// Returns the mean time of a call with a picture of `bytes`, after a hundred calls.
fn feed(registry: &Registry, bytes: usize, count: u32) -> Duration {
    let module = registry.modules().remove(0);
    let mut remuxer = module.remuxer(&Setup::default()).unwrap();
    let record = b"\x17\0\0\0\0\x01\x64\0\x1f\xff\xe1\0\x02\x67\x01\x01\0\x01\x68";
    let mut out = Vec::new();
    remuxer.tag(&Tag::new(TagKind::VIDEO, Millis(0), record.to_vec().into()), &mut out).unwrap();
    let nal_unit = (bytes - 9) as u32;
    let mut picture = b"\x27\x01\0\0\0".to_vec();
    picture.extend_from_slice(&nal_unit.to_be_bytes());
    picture.push(0x41);
    picture.resize(bytes, 0x55);
    let picture = bytes::Bytes::from(picture);
    let mut call = |n: i64| {
        remuxer.tag(&Tag::new(TagKind::VIDEO, Millis(n * 40), picture.clone()), &mut out).unwrap();
        out.clear();
    };
    (0..100).for_each(&mut call);
    let start = Instant::now();
    (100..100 + i64::from(count)).for_each(&mut call);
    start.elapsed() / count
}

/// Returns the resident memory of a module's process, if there is one: total, and not shared with the host's program.
fn memory() -> String {
    let own = std::process::id();
    let children = fs::read_to_string(format!("/proc/{own}/task/{own}/children")).unwrap_or_default();
    let tasks = fs::read_dir("/proc/self/task").unwrap().flatten();
    let children = tasks
        .filter_map(|task| fs::read_to_string(task.path().join("children")).ok())
        .fold(children, |all, one| all + &one);
    let Some(child) = children.split_whitespace().next() else { return String::new() };
    let rollup = fs::read_to_string(format!("/proc/{child}/smaps_rollup")).unwrap_or_default();
    let field = |name: &str| {
        let line = rollup.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
        line.trim().trim_start_matches(':').trim().to_owned()
    };
    format!(", process: {} resident, {} of its own", field("Rss:"), field("Private_Dirty:"))
}
