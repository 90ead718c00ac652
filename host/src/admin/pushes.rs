//! The streams that are sent to other servers, for the API.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::api::Page;
use super::streams::uptime;
use crate::cluster::{TransferFacts, Transfers};

/// A part of the list of pushes, by stream and destination.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub(super) struct PushList {
    /// The number of all pushes.
    pub total: usize,
    /// The number of those before this part.
    pub start: usize,
    pub pushes: Vec<PushRow>,
}

/// One stream on its way to one server.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub(super) struct PushRow {
    pub stream: String,
    pub vhost: String,
    /// The URL of the destination, without its query.
    pub destination: String,
    /// `forward`, or `relay` for a publisher of an edge.
    pub kind: String,
    /// `connecting`, `sending`, or `waiting` for the next attempt.
    pub state: String,
    /// How long it has been in that state, in milliseconds.
    pub since_ms: u64,
    /// Bytes of media that were sent.
    pub bytes: u64,
    /// GOPs that were dropped because the server was too slow.
    pub dropped_gops: u64,
    /// Attempts that failed, and connections that broke.
    pub failures: u64,
    pub last_error: Option<String>,
}

impl PushList {
    pub(super) fn of(pushes: &Transfers, page: Page) -> PushList {
        let all = pushes.list();
        let pushes = page.cut(&all).map(PushRow::of).collect();
        PushList { total: all.len(), start: page.start, pushes }
    }
}

impl PushRow {
    fn of(facts: &TransferFacts) -> PushRow {
        PushRow {
            stream: facts.stream.to_string(),
            vhost: facts.stream.vhost.to_string(),
            destination: facts.server.clone(),
            kind: facts.kind.name().to_owned(),
            state: facts.state_name().to_owned(),
            since_ms: facts.since.as_millis() as u64,
            bytes: facts.totals.bytes,
            dropped_gops: facts.totals.dropped_gops,
            failures: facts.totals.failures,
            last_error: facts.last_error.clone(),
        }
    }
}

/// A table; nothing if there are no pushes. The caller escapes characters that could control a terminal.
impl fmt::Display for PushList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.pushes.is_empty() {
            writeln!(
                f,
                "\n{:<24} {:<40} {:<8} {:<10} {:>10} {:>12} {:>12} {:>8}  last error",
                "sent", "to", "kind", "state", "for", "bytes", "dropped GOPs", "failures"
            )?;
        }
        for row in &self.pushes {
            let PushRow { stream, destination, kind, state, since_ms, bytes, dropped_gops, failures, .. } =
                row;
            let (time, error) = (uptime(since_ms / 1000), row.last_error.as_deref().unwrap_or_default());
            let line = format!(
                "{stream:<24} {destination:<40} {kind:<8} {state:<10} {time:>10} {bytes:>12} {dropped_gops:>12} {failures:>8}  {error}"
            );
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}
