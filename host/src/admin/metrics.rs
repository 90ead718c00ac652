//! Metrics in the Prometheus text format 0.0.4.

use std::collections::BTreeMap;
use std::fmt::{Display, Write};
use std::sync::Arc;

use super::process::ProcessFacts;
use super::reload::Reloader;
use super::report::ReloadOutcome;
use super::status::ModuleStatus;
use crate::budget::{Budget, Usage};
use crate::log::dropped_lines;
use crate::module::Pool;
use crate::policy::{HookAction, HookCounts, HookResult, Session};
use crate::stream::Hub;

/// The facts that the metrics show.
pub(super) struct Facts<'a> {
    pub modules: &'a [ModuleStatus],
    pub hub: &'a Hub,
    pub pool: &'a Pool,
    pub budget: &'a Budget,
    /// `None` without a config file.
    pub reloader: Option<&'a Reloader>,
    pub sessions: &'a [Arc<Session>],
    /// The number of open connections, and its limit.
    pub connections: (usize, usize),
    pub hooks: &'a HookCounts,
    pub process: ProcessFacts,
}

/// Returns the page of all metrics.
pub(super) fn page(facts: &Facts<'_>) -> String {
    let Facts { modules, hub, pool, budget, reloader, sessions, connections, hooks, process } = *facts;
    let mut page = String::new();
    let mut generations: Vec<(&str, usize)> = Vec::new();
    for module in modules {
        match generations.last_mut() {
            Some((name, count)) if *name == module.name => *count += 1,
            _ => generations.push((&module.name, 1)),
        }
    }
    family(
        &mut page,
        ("remuxd_module_generations", "gauge", "Generations of a module that are mapped."),
        generations.iter().map(|(name, count)| (format!("module=\"{name}\""), *count)),
    );
    let mut by_generation = |name, kind, help, value: fn(&ModuleStatus) -> u64| {
        let samples = modules.iter().map(|module| (labels(module), value(module)));
        family(&mut page, (name, kind, help), samples);
    };
    by_generation(
        "remuxd_module_memory_bytes",
        "gauge",
        "Address space of a generation's image.",
        |module| module.retained_bytes,
    );
    by_generation("remuxd_module_mounts", "gauge", "Live mounts that a generation remuxes.", |module| {
        module.mounts as u64
    });
    by_generation("remuxd_module_viewers", "gauge", "Viewers of a generation's mounts.", |module| {
        module.viewers as u64
    });
    by_generation("remuxd_module_faults_total", "counter", "Faults of a generation's remuxers.", |module| {
        module.faults
    });
    by_generation(
        "remuxd_module_skips_total",
        "counter",
        "Viewers of a generation's mounts that fell behind and moved to a newer keyframe.",
        |module| module.skips,
    );
    by_generation(
        "remuxd_module_lag_skips_total",
        "counter",
        "Mounts of a generation that were too slow for their stream and moved to a newer keyframe.",
        |module| module.lag_skips,
    );
    family(
        &mut page,
        (
            "remuxd_module_lag_seconds",
            "gauge",
            "Longest time that a mount of a generation is behind its stream.",
        ),
        modules.iter().map(|module| (labels(module), module.lag_ms as f64 / 1000.0)),
    );
    family(
        &mut page,
        ("remuxd_module_state", "gauge", "1 for the state that a generation is in."),
        modules.iter().map(|module| (format!("{},state=\"{}\"", labels(module), module.state), 1)),
    );
    family(
        &mut page,
        ("remuxd_hung_threads", "gauge", "Threads that hang in a module call."),
        [(String::new(), pool.hung())],
    );
    family(
        &mut page,
        ("remuxd_streams", "gauge", "Streams that are live or have waiting viewers."),
        [(String::new(), hub.streams().len())],
    );
    family(
        &mut page,
        ("remuxd_waiting", "gauge", "Viewers and players that wait for a stream to be published."),
        [(String::new(), hub.waiting())],
    );
    session_families(&mut page, sessions, connections);
    memory_families(&mut page, &budget.usage());
    family(
        &mut page,
        (
            "remuxd_log_dropped_lines_total",
            "counter",
            "Lines of the log that were dropped, because it was not read.",
        ),
        [(String::new(), dropped_lines())],
    );
    if let Some(reloader) = reloader {
        let samples = ReloadOutcome::ALL.map(|one| (format!("outcome=\"{one}\""), reloader.count(one)));
        family(&mut page, ("remuxd_reloads_total", "counter", "Reloads, without dry runs."), samples);
    }
    let version = concat!("version=\"", env!("CARGO_PKG_VERSION"), "\"").to_owned();
    family(&mut page, ("remuxd_build_info", "gauge", "1, with the host's version."), [(version, 1)]);
    hook_families(&mut page, hooks);
    process_families(&mut page, process);
    page
}

fn session_families(page: &mut String, sessions: &[Arc<Session>], (connections, limit): (usize, usize)) {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for session in sessions {
        let labels = format!("action=\"{}\",protocol=\"{}\"", session.action(), session.protocol());
        *counts.entry(labels).or_default() += 1;
    }
    family(page, ("remuxd_sessions", "gauge", "Publishers, players and viewers."), counts);
    let samples = [(String::new(), connections)];
    family(
        page,
        ("remuxd_connections", "gauge", "Open connections on all listeners, without the API's."),
        samples,
    );
    family(page, ("remuxd_max_connections", "gauge", "limits.max_connections."), [(String::new(), limit)]);
}

/// The metrics of the process that every client library of Prometheus has.
fn process_families(page: &mut String, process: ProcessFacts) {
    let mut metric = |name, kind, help, value: &dyn Display| {
        family(page, (name, kind, help), [(String::new(), value)]);
    };
    let ProcessFacts { cpu_seconds, threads, start_seconds, .. } = process;
    metric("process_cpu_seconds_total", "counter", "User and system time.", &cpu_seconds);
    metric("process_threads", "gauge", "Threads.", &threads);
    metric("process_start_time_seconds", "gauge", "Start, in seconds since 1970.", &start_seconds);
    let ProcessFacts { virtual_bytes, resident_bytes, open_files, max_files, .. } = process;
    metric("process_virtual_memory_bytes", "gauge", "Address space.", &virtual_bytes);
    metric("process_resident_memory_bytes", "gauge", "Resident memory.", &resident_bytes);
    metric("process_open_fds", "gauge", "Open file descriptors.", &open_files);
    metric("process_max_fds", "gauge", "Limit of open file descriptors.", &max_files);
}

/// The metrics of HTTP hooks. Hooks that were never called have no samples.
fn hook_families(page: &mut String, counts: &HookCounts) {
    let results = |action| HookResult::ALL.map(|result| (action, result, counts.requests(action, result)));
    let called = HookAction::ALL.into_iter().flat_map(results).filter(|(.., count)| *count > 0);
    family(
        page,
        (
            "remuxd_hook_requests_total",
            "counter",
            "Requests to HTTP hooks, and decisions by a kept allowance.",
        ),
        called.map(|(action, result, count)| {
            (format!("action=\"{action}\",result=\"{}\"", result.name()), count)
        }),
    );
    let name = "remuxd_hook_seconds";
    // Writing to a string cannot fail.
    let _ = writeln!(page, "# HELP {name} Time of requests to HTTP hooks.\n# TYPE {name} histogram");
    for action in HookAction::ALL {
        let latency = counts.latency(action);
        let count = latency.count();
        if count == 0 {
            continue;
        }
        for (bound, below) in latency.buckets() {
            let _ = writeln!(page, "{name}_bucket{{action=\"{action}\",le=\"{bound}\"}} {below}");
        }
        let _ = writeln!(page, "{name}_bucket{{action=\"{action}\",le=\"+Inf\"}} {count}");
        let _ = writeln!(page, "{name}_sum{{action=\"{action}\"}} {}", latency.sum());
        let _ = writeln!(page, "{name}_count{{action=\"{action}\"}} {count}");
    }
    let lost = [("dropped", counts.dropped()), ("given_up", counts.given_up())];
    family(
        page,
        ("remuxd_hook_events_lost_total", "counter", "Events that did not reach their HTTP hook."),
        lost.map(|(reason, count)| (format!("reason=\"{reason}\""), count)),
    );
}

fn memory_families(page: &mut String, usage: &Usage) {
    let without_labels = |value: u64| [(String::new(), value)];
    family(
        page,
        ("remuxd_memory_budget_bytes", "gauge", "limits.max_memory: memory for peers, all together."),
        without_labels(usage.limit as u64),
    );
    family(
        page,
        ("remuxd_memory_used_bytes", "gauge", "Memory that the host keeps for peers."),
        usage.used.map(|(kind, bytes)| (format!("kind=\"{}\"", kind.name()), bytes)),
    );
    family(
        page,
        (
            "remuxd_memory_refused_total",
            "counter",
            "New publishers, viewers and mounts that were refused because memory was short.",
        ),
        without_labels(usage.refused),
    );
    family(
        page,
        (
            "remuxd_memory_exceeded_total",
            "counter",
            "Times that a peer needed more memory than its share, which ended its connection or a remuxer.",
        ),
        without_labels(usage.exceeded),
    );
}

/// Returns the labels that identify a generation. Module names and numbers need no escaping.
fn labels(module: &ModuleStatus) -> String {
    let ModuleStatus { name, generation, .. } = module;
    format!("module=\"{name}\",generation=\"{generation}\"")
}

fn family(
    page: &mut String,
    (name, kind, help): (&str, &str, &str),
    samples: impl IntoIterator<Item = (String, impl Display)>,
) {
    // Writing to a string cannot fail.
    let _ = writeln!(page, "# HELP {name} {help}\n# TYPE {name} {kind}");
    for (labels, value) in samples {
        let _ = match labels.as_str() {
            "" => writeln!(page, "{name} {value}"),
            _ => writeln!(page, "{name}{{{labels}}} {value}"),
        };
    }
}
