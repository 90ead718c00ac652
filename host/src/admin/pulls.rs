//! The streams that are pulled from other servers, for the API.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::api::Page;
use super::streams::uptime;
use crate::cluster::{Edge, OriginFacts, TransferFacts};

/// A part of the list of pulls, by stream, and the origins that fail now.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
pub(super) struct PullList {
    /// The number of all pulls.
    pub total: usize,
    /// The number of those before this part.
    pub start: usize,
    pub pulls: Vec<PullRow>,
    pub failing_origins: Vec<OriginRow>,
}

/// One stream on its way from an origin.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub(super) struct PullRow {
    pub stream: String,
    pub vhost: String,
    /// The URL at the origin, without its query.
    pub origin: String,
    /// `connecting`, `receiving`, or `waiting` for an origin, while viewers stay.
    pub state: String,
    /// How long it has been in that state, in milliseconds.
    pub since_ms: u64,
    /// Bytes of media that were received.
    pub bytes: u64,
    /// Origins that could not be reached or refused, and connections that broke or stalled.
    pub failures: u64,
    /// How often it went on at another origin, or at the same one again.
    pub failovers: u64,
    pub last_error: Option<String>,
}

/// An origin that fails.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub(super) struct OriginRow {
    /// Scheme, host and port.
    pub server: String,
    /// Failures in a row.
    pub failures: u64,
    /// How long it has been failing, in milliseconds.
    pub since_ms: u64,
    pub last_error: String,
}

impl PullList {
    pub(super) fn of(edge: &Edge, page: Page) -> PullList {
        let all = edge.pulls().list();
        PullList {
            total: all.len(),
            start: page.start,
            pulls: page.cut(&all).map(PullRow::of).collect(),
            failing_origins: edge.failing_origins().iter().map(OriginRow::of).collect(),
        }
    }
}

impl PullRow {
    fn of(facts: &TransferFacts) -> PullRow {
        PullRow {
            stream: facts.stream.to_string(),
            vhost: facts.stream.vhost.to_string(),
            origin: facts.server.clone(),
            state: facts.state_name().to_owned(),
            since_ms: facts.since.as_millis() as u64,
            bytes: facts.totals.bytes,
            failures: facts.totals.failures,
            failovers: facts.totals.failovers,
            last_error: facts.last_error.clone(),
        }
    }
}

impl OriginRow {
    fn of(facts: &OriginFacts) -> OriginRow {
        OriginRow {
            server: facts.server.clone(),
            failures: facts.failures,
            since_ms: facts.since.as_millis() as u64,
            last_error: facts.last_error.clone(),
        }
    }
}

/// A table of the pulls, and a line for each origin that fails; nothing if there are none. The caller escapes characters that could
/// control a terminal.
impl fmt::Display for PullList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.pulls.is_empty() {
            writeln!(
                f,
                "\n{:<24} {:<40} {:<10} {:>10} {:>12} {:>8} {:>9}  last error",
                "pulled", "from", "state", "for", "bytes", "failures", "failovers"
            )?;
        }
        for PullRow { stream, origin, state, since_ms, bytes, failures, failovers, last_error, .. } in
            &self.pulls
        {
            let (time, error) = (uptime(since_ms / 1000), last_error.as_deref().unwrap_or_default());
            let line = format!(
                "{stream:<24} {origin:<40} {state:<10} {time:>10} {bytes:>12} {failures:>8} {failovers:>9}  {error}"
            );
            writeln!(f, "{}", line.trim_end())?;
        }
        for OriginRow { server, failures, since_ms, last_error } in &self.failing_origins {
            let time = uptime(since_ms / 1000);
            writeln!(f, "origin {server} fails since {time}, {failures} times: {last_error}")?;
        }
        Ok(())
    }
}
