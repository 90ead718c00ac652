//! What the host uses, and whether that grows.

use std::collections::BTreeSet;
use std::fmt;

use remuxd_tests::host::Host;

/// States of generations when no viewer needs an older one.
const SETTLED: [&str; 2] = ["current", "fallback"];

/// What the host uses at the end of a cycle.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    /// Resident memory in bytes.
    pub resident: u64,
    /// Memory that is charged on peers, in bytes.
    pub charged: u64,
    pub descriptors: u64,
    pub threads: u64,
    /// Number of generations of all modules in the API.
    pub generations: u64,
    /// Whether no older generation is in use.
    pub is_settled: bool,
}

impl Usage {
    pub fn read(host: &Host) -> Usage {
        let kinds = ["connections", "messages", "output"];
        let charged = kinds
            .iter()
            .map(|kind| host.metric(&format!("remuxd_memory_used_bytes{{kind=\"{kind}\"}}")))
            .sum();
        let list = host.api_json("/api/v1/modules");
        let list = list.as_array().map_or(&[][..], Vec::as_slice);
        let states =
            list.iter().filter_map(|module| Some((module["name"].as_str()?, module["state"].as_str()?)));
        let states: BTreeSet<_> = states.collect();
        let tasks = std::fs::read_dir(format!("/proc/{}/task", host.pid())).map_or(0, Iterator::count);
        Usage {
            resident: host.resident(),
            charged,
            descriptors: host.descriptors() as u64,
            threads: tasks as u64,
            generations: list.len() as u64,
            // A current one of each module, and one to fall back to of each that was reloaded.
            is_settled: states.len() == list.len() && states.iter().all(|(_, state)| SETTLED.contains(state)),
        }
    }
}

impl fmt::Display for Usage {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Usage { resident, charged, descriptors, threads, generations, .. } = self;
        let mib = |bytes: &u64| *bytes as f64 / f64::from(1 << 20);
        write!(
            out,
            "{:.1} MiB resident, {:.1} MiB charged, {descriptors} descriptors, {threads} threads, {generations} generations",
            mib(resident),
            mib(charged)
        )
    }
}

/// Compares the last third of the cycles with the third before: the median of each use may be higher by a tenth, and by 8 MiB,
/// 4 descriptors and 4 threads. Fewer than 9 cycles are not judged, since the first fill caches.
pub fn judge(usages: &[Usage]) -> Result<(), String> {
    let third = usages.len() / 3;
    if third < 3 {
        println!("growth         not judged: {} cycles", usages.len());
        return Ok(());
    }
    let (middle, last) = (&usages[third..2 * third], &usages[2 * third..]);
    let median = |of: &[Usage], value: fn(&Usage) -> u64| {
        let mut values: Vec<u64> = of.iter().map(value).collect();
        values.sort_unstable();
        values[values.len() / 2]
    };
    let mut grown = Vec::new();
    let mut compare = |name: &'static str, value: fn(&Usage) -> u64, slack: u64| {
        let (before, now) = (median(middle, value), median(last, value));
        println!("{name:<16} median {before} in the middle third, {now} in the last");
        if now > before + before / 10 + slack {
            grown.push(name);
        }
    };
    compare("resident memory", |usage| usage.resident, 8 << 20);
    compare("charged memory", |usage| usage.charged, 8 << 20);
    compare("descriptors", |usage| usage.descriptors, 4);
    compare("threads", |usage| usage.threads, 4);
    compare("generations", |usage| usage.generations, 4);
    if grown.is_empty() { Ok(()) } else { Err(format!("grows: {}", grown.join(", "))) }
}
