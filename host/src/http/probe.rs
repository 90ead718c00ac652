//! Probes of load balancers and supervisors, on the HTTP listener and on the API's.

use hyper::StatusCode;
use serde_json::json;

use super::{Page, Version};
use crate::lifecycle::Lifecycle;

/// Returns the status and the body for a probe; `None` if `path` is not one.
///
/// `/healthz` answers 200 as long as the host runs, `/readyz` as long as it should get new clients; the body of that says `degraded`
/// while the directory of the cluster does not answer.
pub fn probe(path: &str, lifecycle: &Lifecycle) -> Option<(StatusCode, &'static str)> {
    match path {
        "/healthz" => Some((StatusCode::OK, "ok\n")),
        "/readyz" if lifecycle.is_ready() && lifecycle.is_degraded() => {
            Some((StatusCode::OK, "degraded: the directory does not answer\n"))
        }
        "/readyz" if lifecycle.is_ready() => Some((StatusCode::OK, "ready\n")),
        "/readyz" => Some((StatusCode::SERVICE_UNAVAILABLE, "stopping\n")),
        _ => None,
    }
}

/// Returns the page with which SRS's HTTP listener answers health checks; `None` if `path` is not its path. It tells nothing but the
/// version, which `Server` tells too; that of the API says more.
pub(super) fn versions(path: &str) -> Option<Page> {
    let body = || json!({ "code": 0, "data": Version::of_host() }).to_string().into();
    (path == "/api/v1/versions").then(|| Page { content_type: "application/json", body: body() })
}
