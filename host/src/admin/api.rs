//! The API: status as JSON, metrics, reload requests, kicks and bans. Peers of the control socket are users who operate; over TCP
//! the [guard](super::guard) knows them.
//!
//! | request | response |
//! |---|---|
//! | `GET /api/v1/modules` | every mapped generation of every module |
//! | `GET /api/v1/memory` | limit and use of the memory for peers, in bytes |
//! | `GET /api/v2/streams` | the streams with their publishers, codecs, rates and viewers; addresses for users of the API |
//! | `GET /api/v2/sessions` | the oldest 10000 sessions; for users |
//! | `DELETE /api/v2/sessions/ID` | ends a session; for users who operate |
//! | `GET /api/v2/bans` | the bans |
//! | `POST /api/v2/bans?kind=KIND&value=VALUE&seconds=N` | bans an `address`, a `subject` or a `stream`, and ends its sessions |
//! | `DELETE /api/v2/bans?kind=KIND&value=VALUE` | lifts a ban |
//! | `GET /api/v1/reload` | the report of the last reload; 404 before the first |
//! | `POST /api/v1/reload[?dry_run=1]` | reloads and returns the report; for users who operate |
//! | `GET /healthz`, `GET /readyz` | 200 as long as the host runs, or should get new clients |
//! | `GET /metrics` | metrics in the Prometheus text format |

use std::fmt::Display;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use hyper::{Method, Request, Response, StatusCode};
use serde::Serialize;

use super::bans::{BanList, Ended, ban, unban};
use super::guard::{Caller, Denial};
use super::metrics::{self, Facts};
use super::process::ProcessFacts;
use super::reload::{Cause, Reloader};
use super::report::ReloadOutcome;
use super::sessions::SessionList;
use super::status::{MemoryStatus, module_statuses};
use super::streams::StreamList;
use crate::budget::Budget;
use crate::http::probe;
use crate::lifecycle::Lifecycle;
use crate::module::{Pool, Registry};
use crate::net::Server;
use crate::policy::Access;
use crate::stream::Hub;

/// The handler of API requests.
pub struct Api {
    registry: Arc<Registry>,
    hub: Arc<Hub>,
    pool: Arc<Pool>,
    budget: Budget,
    access: Arc<Access>,
    server: Arc<Server>,
    /// `None` without a config file.
    reloader: Option<Arc<Reloader>>,
    lifecycle: Lifecycle,
}

impl Api {
    /// Returns the API; `reloader` is `None` without a config file.
    pub fn new(
        registry: Arc<Registry>,
        hub: Arc<Hub>,
        pool: Arc<Pool>,
        budget: Budget,
        server: Arc<Server>,
        reloader: Option<Arc<Reloader>>,
    ) -> Arc<Api> {
        let (access, lifecycle) = (server.access().clone(), server.lifecycle().clone());
        Arc::new(Api { registry, hub, pool, budget, access, server, reloader, lifecycle })
    }

    /// Answers a probe; `None` for other requests.
    pub(super) fn probe<B>(&self, request: &Request<B>) -> Option<Response<Full<Bytes>>> {
        let (status, body) =
            probe(request.uri().path(), &self.lifecycle).filter(|_| reads(request.method()))?;
        Some(answer(status, "text/plain; charset=utf-8", body))
    }

    /// Answers a request, with what `caller` may see and do.
    pub(super) async fn respond<B>(&self, request: &Request<B>, caller: Caller) -> Response<Full<Bytes>> {
        if let Some(response) = self.probe(request) {
            return response;
        }
        let (method, path) = (request.method(), request.uri().path());
        let reads = reads(method);
        match path {
            "/api/v1/modules" if reads => json(StatusCode::OK, &module_statuses(&self.registry, &self.hub)),
            "/api/v1/memory" if reads => json(StatusCode::OK, &MemoryStatus::of(&self.budget.usage())),
            "/api/v2/streams" if reads => {
                json(StatusCode::OK, &StreamList::of(&self.hub, &self.access, caller.sees_addresses()))
            }
            _ if path.starts_with("/api/v2/sessions") || path == "/api/v2/bans" => {
                let may = if reads { caller.sees_addresses() } else { caller.operates() };
                if !may {
                    return forbidden();
                }
                self.sessions(method, path, request.uri().query().unwrap_or_default())
            }
            "/metrics" if reads => {
                // Many open files take the kernel milliseconds to list.
                let process = tokio::task::spawn_blocking(ProcessFacts::read).await;
                let process = process.ok().and_then(Result::ok).unwrap_or_default();
                answer(StatusCode::OK, "text/plain; version=0.0.4", self.metrics(process))
            }
            "/api/v1/reload" => match &self.reloader {
                None => refusal(StatusCode::NOT_FOUND, "there is no config file to reload"),
                Some(reloader) if reads => match reloader.last() {
                    Some(report) => json(StatusCode::OK, &report),
                    None => refusal(StatusCode::NOT_FOUND, "no reload yet"),
                },
                Some(reloader) if *method == Method::POST && caller.operates() => {
                    let dry_run = request.uri().query().is_some_and(|query| query == "dry_run=1");
                    let report = reloader.reload(dry_run, Cause::Operator).await;
                    let refused = report.outcome == ReloadOutcome::Refused;
                    json(if refused { StatusCode::CONFLICT } else { StatusCode::OK }, &report)
                }
                Some(_) if *method == Method::POST => forbidden(),
                Some(_) => wrong_method("GET, HEAD, POST"),
            },
            "/api/v1/modules" | "/api/v1/memory" | "/api/v2/streams" | "/metrics" => {
                wrong_method("GET, HEAD")
            }
            _ => refusal(StatusCode::NOT_FOUND, "no such page"),
        }
    }

    /// Answers a request about sessions and bans.
    fn sessions(&self, method: &Method, path: &str, query: &str) -> Response<Full<Bytes>> {
        let access = &self.access;
        let id = path.strip_prefix("/api/v2/sessions/");
        match (path, method.as_str()) {
            ("/api/v2/sessions", "GET" | "HEAD") => json(StatusCode::OK, &SessionList::of(access)),
            ("/api/v2/sessions", _) => wrong_method("GET, HEAD"),
            ("/api/v2/bans", "GET" | "HEAD") => json(StatusCode::OK, &BanList::of(access)),
            ("/api/v2/bans", "POST") => match ban(access, query) {
                Ok(ended) => json(StatusCode::OK, &ended),
                Err(error) => refusal(StatusCode::BAD_REQUEST, error),
            },
            ("/api/v2/bans", "DELETE") => match unban(access, query) {
                Ok(true) => json(StatusCode::OK, &Ended { ended: 0 }),
                Ok(false) => refusal(StatusCode::NOT_FOUND, "there is no such ban"),
                Err(error) => refusal(StatusCode::BAD_REQUEST, error),
            },
            ("/api/v2/bans", _) => wrong_method("GET, HEAD, POST, DELETE"),
            (_, "DELETE") if id.is_some() => match id.and_then(|id| id.parse().ok()) {
                Some(id) if access.kick(id) => json(StatusCode::OK, &Ended { ended: 1 }),
                _ => refusal(StatusCode::NOT_FOUND, "there is no such session"),
            },
            _ if id.is_some() => wrong_method("DELETE"),
            _ => refusal(StatusCode::NOT_FOUND, "no such page"),
        }
    }
}

impl Api {
    fn metrics(&self, process: ProcessFacts) -> String {
        metrics::page(&Facts {
            modules: &module_statuses(&self.registry, &self.hub),
            hub: &self.hub,
            pool: &self.pool,
            budget: &self.budget,
            reloader: self.reloader.as_deref(),
            sessions: &self.access.sessions(),
            connections: self.server.connections(),
            hooks: self.access.hooks().counts(),
            process,
        })
    }
}

fn answer(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

fn json(status: StatusCode, value: &impl Serialize) -> Response<Full<Bytes>> {
    // Strings, numbers and lists of them always serialize.
    answer(status, "application/json", serde_json::to_vec(value).unwrap_or_default())
}

fn refusal(status: StatusCode, reason: impl Display) -> Response<Full<Bytes>> {
    answer(status, "text/plain; charset=utf-8", format!("{reason}\n"))
}

fn forbidden() -> Response<Full<Bytes>> {
    refusal(StatusCode::FORBIDDEN, "allowed on the control socket, and to a user of the API who may do this")
}

/// Returns the response to a request that the guard refuses.
pub(super) fn denied(denial: Denial) -> Response<Full<Bytes>> {
    let status = match denial {
        Denial::Host => StatusCode::MISDIRECTED_REQUEST,
        Denial::Credentials => StatusCode::UNAUTHORIZED,
        Denial::Failures { .. } => StatusCode::TOO_MANY_REQUESTS,
        Denial::Origin => StatusCode::FORBIDDEN,
    };
    let mut response = refusal(status, denial);
    let headers = response.headers_mut();
    match denial {
        Denial::Credentials => {
            headers.append(
                WWW_AUTHENTICATE,
                HeaderValue::from_static("Basic realm=\"remuxd\", charset=\"UTF-8\""),
            );
            headers.append(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        Denial::Failures { retry_after } => {
            headers.insert(RETRY_AFTER, HeaderValue::from(retry_after.as_secs() + 1));
        }
        Denial::Host | Denial::Origin => {}
    }
    response
}

/// Whether a request of this method changes nothing.
fn reads(method: &Method) -> bool {
    *method == Method::GET || *method == Method::HEAD
}

fn wrong_method(allowed: &'static str) -> Response<Full<Bytes>> {
    let mut response = refusal(StatusCode::METHOD_NOT_ALLOWED, "this method is not allowed here");
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    response
}
