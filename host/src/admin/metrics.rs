//! Metrics of the host. docs/metrics.md lists them; a test compares it with the page.

use std::collections::BTreeMap;

use super::directory_metrics::directory_families;
use super::exposition::{Kind, Page};
use super::process::ProcessFacts;
use super::reload::Reloader;
use super::report::ReloadOutcome;
use super::status::ModuleStatus;
use super::stream_metrics::stream_families;
use crate::budget::{Budget, Usage};
use crate::cluster::{Edge, TransferTotals};
use crate::log::dropped_lines;
use crate::module::{ModuleCounts, Pool, Registry};
use crate::net::{CertificateFacts, Server};
use crate::policy::{Access, Action, GroupTotals, HookAction, HookCounts, HookResult, Session};
use crate::stream::Hub;

/// The facts that the metrics show.
pub(super) struct Facts<'a> {
    pub modules: &'a [ModuleStatus],
    pub registry: &'a Registry,
    pub hub: &'a Hub,
    pub pool: &'a Pool,
    pub budget: &'a Budget,
    /// `None` without a config file.
    pub reloader: Option<&'a Reloader>,
    pub access: &'a Access,
    pub server: &'a Server,
    pub process: ProcessFacts,
}

/// Returns the page of all metrics.
pub(super) fn page(facts: &Facts<'_>) -> String {
    let Facts { modules, registry, hub, pool, budget, reloader, access, server, process } = *facts;
    let mut page = Page::default();
    page.family(Kind::Gauge, "remuxd_build_info", &["version"], "1, with the host's version.")
        .add([env!("CARGO_PKG_VERSION")], 1);
    connection_families(&mut page, server);
    push_families(&mut page, server.pushes().totals());
    pull_families(&mut page, server.edge());
    directory_families(&mut page, server.directory());
    session_families(&mut page, access);
    page.gauge("remuxd_streams", hub.streams().len(), "Streams that are live or have waiting viewers.");
    page.gauge(
        "remuxd_waiting",
        hub.waiting(),
        "Viewers and players that wait for a stream to be published.",
    );
    module_families(&mut page, modules, registry);
    page.gauge("remuxd_hung_threads", pool.hung(), "Threads that hang in a module call.");
    memory_families(&mut page, &budget.usage());
    hook_families(&mut page, access.hooks().counts());
    reload_families(&mut page, reloader);
    page.counter(
        "remuxd_log_dropped_lines_total",
        dropped_lines(),
        "Lines of the log that were dropped, because it was not read.",
    );
    let mut expiries = page.family(
        Kind::Gauge,
        "remuxd_certificate_not_after_seconds",
        &["owner", "vhost"],
        "End of the validity of a certificate in use, or of one that it is signed by, in seconds since 1970.",
    );
    for CertificateFacts { owner, vhost, not_after, .. } in server.certificate_facts() {
        if let Some(not_after) = not_after {
            expiries.add([owner, &vhost], not_after);
        }
    }
    process_families(&mut page, process);
    stream_families(&mut page, hub, access);
    page.text()
}

fn connection_families(page: &mut Page, server: &Server) {
    let (connections, limit) = server.connections();
    page.gauge("remuxd_connections", connections, "Open connections on all listeners, without the API's.");
    page.gauge("remuxd_max_connections", limit, "limits.max_connections.");
    let mut viewers = page.family(
        Kind::Gauge,
        "remuxd_fanout_viewers",
        &["thread"],
        "Viewers over HTTP/1.1 and WebSocket, and RTMP players, that a fan-out thread serves.",
    );
    for (thread, count) in server.fanout().viewers().into_iter().enumerate() {
        viewers.add([&thread.to_string()], count);
    }
    let mut lags = page.family(
        Kind::Gauge,
        "remuxd_fanout_lag_seconds",
        &["thread"],
        "How late the last of a fan-out thread's viewers were sent what was due, at most in the last second or two.",
    );
    for (thread, lag) in server.access().load().lags().into_iter().enumerate() {
        lags.add([&thread.to_string()], lag.as_secs_f64());
    }
    let mut responses = page.family(
        Kind::Counter,
        "remuxd_http_responses_total",
        &["status"],
        "Responses of the HTTP listeners, without those to requests that break HTTP.",
    );
    for (status, count) in server.responses().counts() {
        responses.add([&status.to_string()], count);
    }
    let mut refusals = page.family(
        Kind::Counter,
        "remuxd_refusals_total",
        &["reason"],
        "Connections, requests, publishers and viewers that were refused.",
    );
    for (reason, count) in server.access().refusals().counts() {
        refusals.add([reason], count);
    }
}

fn push_families(page: &mut Page, totals: TransferTotals) {
    page.counter("remuxd_push_bytes_total", totals.bytes, "Bytes of media that were sent to other servers.");
    page.counter(
        "remuxd_push_dropped_gops_total",
        totals.dropped_gops,
        "GOPs that were not sent to another server because it was too slow.",
    );
    page.counter(
        "remuxd_push_failures_total",
        totals.failures,
        "Attempts to send a stream to another server that failed, and connections that broke.",
    );
}

fn pull_families(page: &mut Page, edge: Option<&Edge>) {
    let totals = edge.map(|edge| edge.pulls().totals()).unwrap_or_default();
    page.gauge(
        "remuxd_pulls",
        edge.map_or(0, |edge| edge.pulls().list().len()),
        "Streams that are pulled from origins.",
    );
    page.gauge(
        "remuxd_failing_origins",
        edge.map_or(0, |edge| edge.failing_origins().len()),
        "Origins that could not be reached, or broke off, when they were tried last.",
    );
    page.counter("remuxd_pull_bytes_total", totals.bytes, "Bytes of media that were received from origins.");
    page.counter(
        "remuxd_pull_failures_total",
        totals.failures,
        "Origins that could not be reached or refused a stream, and connections that broke or stalled.",
    );
    page.counter(
        "remuxd_pull_failovers_total",
        totals.failovers,
        "Streams that went on at another origin, or at the same one again.",
    );
}

fn session_families(page: &mut Page, access: &Access) {
    let mut sessions: BTreeMap<(String, String), usize> = BTreeMap::new();
    for session in access.sessions() {
        let key = |session: &Session| (session.action().to_string(), session.protocol().to_string());
        *sessions.entry(key(&session)).or_default() += 1;
    }
    let labels = &["action", "protocol"];
    let mut family = page.family(
        Kind::Gauge,
        "remuxd_sessions",
        labels,
        "Publishers, players and viewers, also those that wait for a stream.",
    );
    for ((action, protocol), count) in sessions {
        family.add([&action, &protocol], count);
    }
    let (totals, ends) = access.groups();
    let (publishers, viewers): (Vec<_>, Vec<_>) =
        totals.iter().partition(|totals| totals.group.action == Action::Publish);
    let mut family = page.family(Kind::Gauge, "remuxd_publishers", &["vhost"], "Publishers.");
    for totals in &publishers {
        family.add([&totals.group.vhost], totals.open);
    }
    let mut family = page.family(
        Kind::Counter,
        "remuxd_received_bytes_total",
        &["vhost"],
        "Bytes of media from publishers.",
    );
    for totals in &publishers {
        family.add([&totals.group.vhost], totals.done.bytes);
    }
    let labels = &["vhost", "format"];
    let mut by_format = |kind, name, help, value: fn(&GroupTotals) -> u64| {
        let mut family = page.family(kind, name, labels, help);
        for totals in &viewers {
            family.add([&totals.group.vhost, &totals.group.format], value(totals));
        }
    };
    by_format(
        Kind::Gauge,
        "remuxd_viewers",
        "Viewers that get media, and players as format rtmp.",
        |totals| totals.open as u64,
    );
    by_format(
        Kind::Counter,
        "remuxd_sent_bytes_total",
        "Bytes of media to viewers, without the framing of the transport.",
        |totals| totals.done.bytes,
    );
    by_format(Kind::Counter, "remuxd_joins_total", "Viewers that have got their first byte.", |totals| {
        totals.group.first_byte.count()
    });
    by_format(
        Kind::Counter,
        "remuxd_skips_total",
        "Times that a viewer fell behind and moved to a newer keyframe.",
        |totals| totals.done.skips,
    );
    let mut family = page.family(
        Kind::Histogram,
        "remuxd_first_byte_seconds",
        labels,
        "Time from the request of a viewer to its first byte.",
    );
    for totals in &viewers {
        family.add_histogram([&totals.group.vhost, &totals.group.format], &totals.group.first_byte);
    }
    let mut family = page.family(
        Kind::Counter,
        "remuxd_sessions_ended_total",
        &["action", "outcome"],
        "Sessions that have ended.",
    );
    for (action, outcome, count) in ends {
        family.add([&action.to_string(), outcome], count);
    }
}

/// The metrics of modules. Counters are those of all generations, so that a reload begins no new series.
fn module_families(page: &mut Page, modules: &[ModuleStatus], registry: &Registry) {
    let mut info = page.family(
        Kind::Gauge,
        "remuxd_module_info",
        &["module", "generation", "version", "state"],
        "1, for each generation of a module that is mapped.",
    );
    for ModuleStatus { name, generation, version, state, .. } in modules {
        info.add([name, &generation.to_string(), version, &state.to_string()], 1);
    }
    let mut names: Vec<&str> = modules.iter().map(|module| module.name.as_str()).collect();
    names.dedup();
    let mut gauge = |name, help, value: fn(&[&ModuleStatus]) -> f64| {
        let mut family = page.family(Kind::Gauge, name, &["module"], help);
        for module in &names {
            let own: Vec<_> = modules.iter().filter(|one| one.name == *module).collect();
            family.add([module], value(&own));
        }
    };
    gauge("remuxd_module_generations", "Generations of a module that are mapped.", |own| own.len() as f64);
    gauge("remuxd_module_memory_bytes", "Address space of a module's images.", |own| {
        own.iter().map(|module| module.retained_bytes).sum::<u64>() as f64
    });
    gauge("remuxd_module_mounts", "Live mounts that a module remuxes.", |own| {
        own.iter().map(|module| module.mounts).sum::<usize>() as f64
    });
    gauge("remuxd_module_viewers", "Viewers of a module's mounts.", |own| {
        own.iter().map(|module| module.viewers).sum::<usize>() as f64
    });
    gauge(
        "remuxd_module_lag_seconds",
        "Longest time that a mount of a module is behind its stream.",
        |own| own.iter().map(|module| module.lag_ms).max().unwrap_or(0) as f64 / 1000.0,
    );
    let totals = registry.counts();
    let mut counter = |name, help, value: fn(&ModuleCounts) -> u64| {
        let mut family = page.family(Kind::Counter, name, &["module"], help);
        for (module, counts) in &totals {
            family.add([module], value(counts));
        }
    };
    counter("remuxd_module_faults_total", "Faults of a module's remuxers.", |counts| counts.faults);
    counter(
        "remuxd_module_hung_calls_total",
        "Calls of a module that took longer than modules.call_timeout.",
        |counts| counts.hung_calls,
    );
    counter(
        "remuxd_module_skips_total",
        "Times that a viewer of a module's mounts fell behind and moved to a newer keyframe.",
        |counts| counts.skips,
    );
    counter(
        "remuxd_module_lag_skips_total",
        "Times that a mount of a module was too slow for its stream and moved to a newer keyframe.",
        |counts| counts.lag_skips,
    );
}

fn reload_families(page: &mut Page, reloader: Option<&Reloader>) {
    let labels = &["outcome"];
    let mut family = page.family(Kind::Counter, "remuxd_reloads_total", labels, "Reloads, without dry runs.");
    for outcome in ReloadOutcome::ALL.into_iter().filter(|_| reloader.is_some()) {
        family.add([&outcome.to_string()], reloader.map_or(0, |reloader| reloader.count(outcome)));
    }
}

/// The metrics of the process that every client library of Prometheus has.
fn process_families(page: &mut Page, process: ProcessFacts) {
    let ProcessFacts { cpu_seconds, threads, start_seconds, .. } = process;
    page.counter("process_cpu_seconds_total", cpu_seconds, "User and system time.");
    page.gauge("process_threads", threads, "Threads.");
    page.gauge("process_start_time_seconds", start_seconds, "Start, in seconds since 1970.");
    let ProcessFacts { virtual_bytes, resident_bytes, open_files, max_files, .. } = process;
    page.gauge("process_virtual_memory_bytes", virtual_bytes, "Address space.");
    page.gauge("process_resident_memory_bytes", resident_bytes, "Resident memory.");
    page.gauge("process_open_fds", open_files, "Open file descriptors.");
    page.gauge("process_max_fds", max_files, "Limit of open file descriptors.");
}

/// The metrics of HTTP hooks. Hooks that were never called have no samples.
fn hook_families(page: &mut Page, counts: &HookCounts) {
    let mut requests = page.family(
        Kind::Counter,
        "remuxd_hook_requests_total",
        &["action", "result"],
        "Requests to HTTP hooks, and decisions by a kept allowance.",
    );
    for action in HookAction::ALL {
        for result in HookResult::ALL.into_iter().filter(|result| counts.requests(action, *result) > 0) {
            requests.add([&action.to_string(), result.name()], counts.requests(action, result));
        }
    }
    let mut times =
        page.family(Kind::Histogram, "remuxd_hook_seconds", &["action"], "Time of requests to HTTP hooks.");
    for action in HookAction::ALL {
        times.add_histogram([&action.to_string()], counts.latency(action));
    }
    page.family(
        Kind::Counter,
        "remuxd_hook_events_lost_total",
        &["reason"],
        "Events that did not reach their HTTP hook.",
    )
    .add(["dropped"], counts.dropped())
    .add(["given_up"], counts.given_up());
}

fn memory_families(page: &mut Page, usage: &Usage) {
    page.gauge(
        "remuxd_memory_budget_bytes",
        usage.limit,
        "limits.max_memory: memory for peers, all together.",
    );
    let mut used = page.family(
        Kind::Gauge,
        "remuxd_memory_used_bytes",
        &["kind"],
        "Memory that the host keeps for peers.",
    );
    for (kind, bytes) in usage.used {
        used.add([kind.name()], bytes);
    }
    page.counter(
        "remuxd_memory_refused_total",
        usage.refused,
        "New publishers, viewers and mounts that were refused because memory was short.",
    );
    page.counter(
        "remuxd_memory_exceeded_total",
        usage.exceeded,
        "Times that a peer needed more memory than its share, which ended its connection or a remuxer.",
    );
}
