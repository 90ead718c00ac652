//! The pages of our own.

use std::sync::Arc;

use hyper::StatusCode;

use super::paging::Page;
use super::reply::{Refused, Reply};
use super::route::Call;
use super::state::Api;
use crate::admin::bans::{self, BanList, Ended};
use crate::admin::metrics::{self, Facts};
use crate::admin::process::ProcessFacts;
use crate::admin::reload::Cause;
use crate::admin::report::{ReloadOutcome, ReloadReport};
use crate::admin::sessions::SessionList;
use crate::admin::status::{MemoryStatus, ModuleStatus, module_statuses};
use crate::admin::streams::StreamList;

/// The content type of metrics.
pub(super) const METRICS: &str = "text/plain; version=0.0.4";

pub(super) fn metrics(api: &Api, _: &Call) -> Result<Reply, Refused> {
    let page = metrics::page(&Facts {
        modules: &modules(api),
        hub: &api.hub,
        pool: &api.pool,
        budget: &api.budget,
        reloader: api.reloader.as_deref(),
        sessions: &api.access.sessions(),
        connections: api.server.connections(),
        hooks: api.access.hooks().counts(),
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

pub(super) fn last_reload(api: &Api, _: &Call) -> Result<ReloadReport, Refused> {
    let reloader = api.reloader.as_ref().ok_or(NO_FILE)?;
    reloader.last().ok_or(Refused::Missing("no reload yet"))
}

pub(super) async fn reload(api: Arc<Api>, call: Call) -> Result<Reply, Refused> {
    let reloader = api.reloader.as_ref().ok_or(NO_FILE)?;
    let report = reloader.reload(call.query == "dry_run=1", Cause::Operator).await;
    let refused = report.outcome == ReloadOutcome::Refused;
    Ok(Reply::json(if refused { StatusCode::CONFLICT } else { StatusCode::OK }, &report))
}

pub(super) fn streams(api: &Api, call: &Call) -> Result<StreamList, Refused> {
    Ok(StreamList::of(&api.hub, &api.access, call.caller.sees_addresses(), Page::of(&call.query)?))
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
