//! The pages of our own.

use std::sync::Arc;

use hyper::StatusCode;

use super::events::{Full, subscribe};
use super::paging::Page;
use super::reply::{EVENTS, Refused, Reply};
use super::route::Call;
use super::state::Api;
use crate::admin::bans::{self, BanList, Ended};
use crate::admin::certificates::CertificateList;
use crate::admin::cluster::ClusterStatus;
use crate::admin::faults::FaultList;
use crate::admin::host_status::HostStatus;
use crate::admin::limits::{LimitsStatus, Use};
use crate::admin::metrics::{self, Facts};
use crate::admin::mounts::MountList;
use crate::admin::process::ProcessFacts;
use crate::admin::pulls::PullList;
use crate::admin::pushes::PushList;
use crate::admin::reload::Cause;
use crate::admin::report::{ReloadList, ReloadOutcome, ReloadReport};
use crate::admin::sessions::SessionList;
use crate::admin::status::{MemoryStatus, ModuleList, ModuleStatus, module_statuses};
use crate::admin::streams::StreamList;
use crate::policy::Action;

/// The content type of metrics.
pub(super) const METRICS: &str = "text/plain; version=0.0.4";

pub(super) fn metrics(api: &Api, _: &Call) -> Result<Reply, Refused> {
    api.access.limit_series(api.config().metrics.max_series());
    let page = metrics::page(&Facts {
        modules: &modules(api),
        registry: &api.registry,
        hub: &api.hub,
        pool: &api.pool,
        budget: &api.budget,
        reloader: api.reloader.as_deref(),
        access: &api.access,
        server: &api.server,
        process: ProcessFacts::read().unwrap_or_default(),
    });
    Ok(Reply::new(StatusCode::OK, METRICS, page))
}

pub(super) fn modules(api: &Api) -> Vec<ModuleStatus> {
    module_statuses(&api.registry, &api.hub)
}

pub(super) fn memory(api: &Api, _: &Call) -> Result<MemoryStatus, Refused> {
    Ok(MemoryStatus::of(&api.budget.usage()))
}

const NO_FILE: Refused = Refused::Missing("there is no config file to reload");

pub(super) fn last_reload(api: &Api, call: &Call) -> Result<ReloadReport, Refused> {
    let reloader = api.reloader.as_ref().ok_or(NO_FILE)?;
    let mut report = reloader.last().ok_or(Refused::Missing("no reload yet"))?;
    // Access rules and proxies are lists of addresses.
    if !call.admitted.caller.sees_addresses() {
        report.hide_values();
    }
    Ok(report)
}

pub(super) async fn reload(api: Arc<Api>, call: Call) -> Result<Reply, Refused> {
    let reloader = api.reloader.as_ref().ok_or(NO_FILE)?;
    let report = reloader.reload(call.query == "dry_run=1", Cause::Operator).await;
    let refused = report.outcome == ReloadOutcome::Refused;
    Ok(Reply::json(if refused { StatusCode::CONFLICT } else { StatusCode::OK }, &report))
}

pub(super) fn host(api: &Api, _: &Call) -> Result<HostStatus, Refused> {
    let process = ProcessFacts::read().map_err(|_| Refused::Failed)?;
    Ok(HostStatus::of(&process, &api.server))
}

pub(super) fn pulls(api: &Api, call: &Call) -> Result<PullList, Refused> {
    let page = Page::of(&call.query)?;
    Ok(api.server.edge().map(|edge| PullList::of(edge, page)).unwrap_or_default())
}

pub(super) async fn cluster(api: Arc<Api>, call: Call) -> Result<Reply, Refused> {
    let page = Page::of(&call.query)?;
    let directory = api.server.directory().ok_or(Refused::Failed)?;
    let mut listing = directory.listing().await;
    // A host without a directory may have no name in its config.
    listing.own.name = api.access.node();
    Ok(Reply::json(StatusCode::OK, &ClusterStatus::of(&directory.facts(), &listing, page)))
}

pub(super) fn pushes(api: &Api, call: &Call) -> Result<PushList, Refused> {
    Ok(PushList::of(api.server.pushes(), Page::of(&call.query)?))
}

pub(super) fn streams(api: &Api, call: &Call) -> Result<StreamList, Refused> {
    Ok(StreamList::of(&api.hub, &api.access, call.admitted.caller.sees_addresses(), Page::of(&call.query)?))
}

pub(super) fn sessions(api: &Api, call: &Call) -> Result<SessionList, Refused> {
    Ok(SessionList::of(&api.access, Page::of(&call.query)?))
}

pub(super) fn kick(api: &Api, call: &Call) -> Result<Ended, Refused> {
    match call.id.parse() {
        Ok(id) if api.access.kick(id) => Ok(Ended { ended: 1 }),
        _ => Err(Refused::Missing("there is no such session")),
    }
}

pub(super) fn bans(api: &Api, call: &Call) -> Result<BanList, Refused> {
    Ok(BanList::of(&api.access, Page::of(&call.query)?))
}

pub(super) fn ban(api: &Api, call: &Call) -> Result<Ended, Refused> {
    bans::ban(&api.access, &call.query).map_err(|error| Refused::Parameter(error.to_string()))
}

pub(super) fn unban(api: &Api, call: &Call) -> Result<Ended, Refused> {
    match bans::unban(&api.access, &call.query) {
        Ok(true) => Ok(Ended { ended: 0 }),
        Ok(false) => Err(Refused::Missing("there is no such ban")),
        Err(error) => Err(Refused::Parameter(error.to_string())),
    }
}

pub(super) fn module_list(api: &Api, call: &Call) -> Result<ModuleList, Refused> {
    let (modules, page) = (modules(api), Page::of(&call.query)?);
    let total = modules.len();
    Ok(ModuleList { total, start: page.start, modules: page.cut(modules).collect() })
}

pub(super) fn mounts(api: &Api, call: &Call) -> Result<MountList, Refused> {
    Ok(MountList::of(&api.hub, &api.registry, Page::of(&call.query)?))
}

pub(super) fn faults(api: &Api, call: &Call) -> Result<FaultList, Refused> {
    Ok(api.faults.list(Page::of(&call.query)?))
}

pub(super) fn reloads(api: &Api, call: &Call) -> Result<ReloadList, Refused> {
    let page = Page::of(&call.query)?;
    let mut reports = api.reloader.as_ref().map(|reloader| reloader.reports_since(0).1).unwrap_or_default();
    if !call.admitted.caller.sees_addresses() {
        reports.iter_mut().for_each(|entry| entry.report.hide_values());
    }
    let total = reports.len();
    Ok(ReloadList { total, start: page.start, reloads: page.cut(reports.into_iter().rev()).collect() })
}

pub(super) fn certificates(api: &Api, call: &Call) -> Result<CertificateList, Refused> {
    let (page, now) = (Page::of(&call.query)?, jiff::Timestamp::now());
    Ok(CertificateList::of(api.server.certificate_facts(), page, now))
}

pub(super) fn limits(api: &Api, _: &Call) -> Result<LimitsStatus, Refused> {
    let (config, sessions) = (api.config(), api.access.sessions());
    let limits = &config.limits.sessions;
    let (connections, max_connections) = api.server.connections();
    let count = |action, limit: u32| {
        let sessions = sessions.iter().filter(|session| session.action() == action);
        Use::of(sessions.count(), limit)
    };
    Ok(LimitsStatus {
        connections: Use::of(connections, max_connections as u64),
        descriptors: Use::of_descriptors(),
        memory: MemoryStatus::of(&api.budget.usage()),
        viewers: count(Action::Play, limits.max_viewers),
        publishers: count(Action::Publish, limits.max_publishers),
        waiting: api.hub.waiting(),
        hung_threads: api.pool.hung(),
    })
}

pub(super) async fn events(api: Arc<Api>, call: Call) -> Result<Reply, Refused> {
    if call.is_head {
        return Ok(Reply::new(StatusCode::OK, EVENTS, ""));
    }
    subscribe(&api).map(Reply::events).map_err(|Full| Refused::Busy)
}
