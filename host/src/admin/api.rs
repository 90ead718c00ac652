//! The API: what the host says of itself in JSON, and the request to reload.
//!
//! | request | answer |
//! |---|---|
//! | `GET /api/v1/modules` | every generation of every module that is mapped |
//! | `GET /api/v1/reload` | how the last reload went; 404 before the first |
//! | `POST /api/v1/reload[?dry_run=1]` | reloads, and how that went; over the control socket only |
//! | `GET /metrics` | numbers for Prometheus |

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use serde::{Deserialize, Serialize};

use super::reload::{Cause, Reloader};
use super::{Verdict, metrics};
use crate::module::{Generation, Pool, Registry, Standing, Transport};
use crate::stream::Hub;

/// Answers requests about the host.
#[derive(Debug)]
pub struct Api {
    pub(super) registry: Arc<Registry>,
    pub(super) hub: Arc<Hub>,
    pub(super) pool: Arc<Pool>,
    /// `None` without a config file.
    pub(super) reloader: Option<Arc<Reloader>>,
}

/// A generation of a module.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub(super) struct ModuleStatus {
    pub name: String,
    pub version: String,
    /// The version of the interface that it was built for.
    pub abi: String,
    pub generation: u64,
    /// `current`; `fallback`, which takes over if the current one is quarantined; `quarantined`; `draining`; or `retained`:
    /// mapped and used by nobody.
    pub state: String,
    pub extensions: Vec<String>,
    /// `http`, `websocket` or both, the primary one first.
    pub transports: Vec<String>,
    /// Live mounts that it remuxes.
    pub mounts: usize,
    /// Viewers of these.
    pub viewers: usize,
    /// Faults of its remuxers so far.
    pub faults: u64,
    pub file: String,
    /// When it was loaded.
    pub since: String,
    /// Bytes of address space that its image takes.
    pub retained_bytes: u64,
}

type Answer = Response<Full<Bytes>>;

impl Api {
    /// An API over these.
    pub fn new(
        registry: Arc<Registry>,
        hub: Arc<Hub>,
        pool: Arc<Pool>,
        reloader: Option<Arc<Reloader>>,
    ) -> Arc<Api> {
        Arc::new(Api { registry, hub, pool, reloader })
    }

    /// Answers a request; one that changes something only if it `may_change`.
    pub async fn respond<B>(&self, request: &Request<B>, may_change: bool) -> Answer {
        let (method, path) = (request.method(), request.uri().path());
        let reads = *method == Method::GET || *method == Method::HEAD;
        match path {
            "/api/v1/modules" if reads => json(StatusCode::OK, &self.modules()),
            "/metrics" if reads => text("text/plain; version=0.0.4", metrics::page(self)),
            "/api/v1/reload" => match &self.reloader {
                None => refusal(StatusCode::NOT_FOUND, "there is no config file to reload"),
                Some(reloader) if reads => match reloader.last() {
                    Some(report) => json(StatusCode::OK, &report),
                    None => refusal(StatusCode::NOT_FOUND, "nothing was reloaded yet"),
                },
                Some(reloader) if *method == Method::POST && may_change => {
                    let dry_run = request.uri().query().is_some_and(|query| query == "dry_run=1");
                    let report = reloader.reload(dry_run, Cause::Operator).await;
                    let refused = report.verdict == Verdict::Refused;
                    json(if refused { StatusCode::CONFLICT } else { StatusCode::OK }, &report)
                }
                Some(_) if *method == Method::POST => {
                    refusal(StatusCode::FORBIDDEN, "only the control socket takes this")
                }
                Some(_) => wrong_method("GET, HEAD, POST"),
            },
            "/api/v1/modules" | "/metrics" => wrong_method("GET, HEAD"),
            _ => refusal(StatusCode::NOT_FOUND, "no such page"),
        }
    }

    /// Every generation that is mapped, by name and age.
    pub(super) fn modules(&self) -> Vec<ModuleStatus> {
        let mut generations = self.registry.generations();
        generations.sort_by(|one, other| (&one.name, one.number).cmp(&(&other.name, other.number)));
        let mounts: Vec<_> = self
            .hub
            .streams()
            .iter()
            .flat_map(|stream| stream.live_mounts())
            .filter(|mount| !mount.blocks().is_ended())
            .collect();
        let used = |number| {
            let by = |mount: &&Arc<crate::stream::LiveMount>| {
                mount.running().unwrap_or_else(|| mount.module()).generation() == number
            };
            let mounts: Vec<_> = mounts.iter().filter(by).collect();
            (mounts.len(), mounts.iter().map(|mount| mount.blocks().reader_count()).sum())
        };
        generations.into_iter().map(|generation| status(generation, used)).collect()
    }
}

fn status(generation: Generation, used: impl Fn(u64) -> (usize, usize)) -> ModuleStatus {
    let (mounts, viewers) = used(generation.number);
    let state = match generation.standing {
        Standing::Current => "current",
        Standing::Quarantined => "quarantined",
        _ if mounts > 0 => "draining",
        Standing::Fallback => "fallback",
        Standing::Superseded => "retained",
    };
    let name = |&transport: &Transport| if transport == Transport::HTTP { "http" } else { "websocket" };
    let transports = generation.transports.iter().map(|transport| name(transport).to_owned()).collect();
    ModuleStatus {
        name: generation.name,
        version: generation.version,
        abi: format!("{}.{}", generation.abi.0, generation.abi.1),
        generation: generation.number,
        state: state.to_owned(),
        extensions: generation.extensions,
        transports,
        mounts,
        viewers,
        faults: generation.faults,
        file: generation.file.display().to_string(),
        since: jiff::Timestamp::try_from(generation.since).map(|time| time.to_string()).unwrap_or_default(),
        retained_bytes: generation.memory,
    }
}

fn answer(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

fn text(content_type: &'static str, body: String) -> Answer {
    answer(StatusCode::OK, content_type, body)
}

fn json(status: StatusCode, value: &impl Serialize) -> Answer {
    // Strings, numbers and lists of them: nothing that JSON cannot say.
    answer(status, "application/json", serde_json::to_vec(value).unwrap_or_default())
}

fn refusal(status: StatusCode, reason: &'static str) -> Answer {
    answer(status, "text/plain; charset=utf-8", format!("{reason}\n"))
}

fn wrong_method(allowed: &'static str) -> Answer {
    let mut response = refusal(StatusCode::METHOD_NOT_ALLOWED, "this method is not allowed here");
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    response
}
