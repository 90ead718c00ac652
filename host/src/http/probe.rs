//! Probes of load balancers and supervisors, the same on the HTTP listener and on the API's.

use hyper::StatusCode;

use crate::lifecycle::Lifecycle;

/// Returns the status and the body for a probe; `None` if `path` is not one.
///
/// `/healthz` answers 200 as long as the host runs, `/readyz` as long as it should get new clients.
pub fn probe(path: &str, lifecycle: &Lifecycle) -> Option<(StatusCode, &'static str)> {
    match path {
        "/healthz" => Some((StatusCode::OK, "ok\n")),
        "/readyz" if lifecycle.is_ready() => Some((StatusCode::OK, "ready\n")),
        "/readyz" => Some((StatusCode::SERVICE_UNAVAILABLE, "stopping\n")),
        _ => None,
    }
}
