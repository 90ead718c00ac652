//! The streams that are pulled from other servers, for the API.

use schemars::JsonSchema;
use serde::Serialize;

use super::api::Page;
use crate::cluster::{Edge, OriginFacts, PullFacts};

/// A part of the list of pulls, by stream, and the origins that fail now.
#[derive(Debug, Default, Serialize, JsonSchema)]
pub(super) struct PullList {
    /// The number of all pulls.
    pub total: usize,
    /// The number of those before this part.
    pub start: usize,
    pub pulls: Vec<PullRow>,
    pub failing_origins: Vec<OriginRow>,
}

/// One stream on its way from an origin.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct PullRow {
    pub stream: String,
    pub vhost: String,
    /// The URL at the origin, without its query.
    pub origin: String,
    /// `connecting`, `receiving`, or `waiting` for an origin, while viewers stay.
    pub state: &'static str,
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
#[derive(Debug, Serialize, JsonSchema)]
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
        let all = edge.pulls();
        PullList {
            total: all.len(),
            start: page.start,
            pulls: page.cut(&all).map(PullRow::of).collect(),
            failing_origins: edge.failing_origins().iter().map(OriginRow::of).collect(),
        }
    }
}

impl PullRow {
    fn of(facts: &PullFacts) -> PullRow {
        PullRow {
            stream: facts.stream.to_string(),
            vhost: facts.stream.vhost.to_string(),
            origin: facts.origin.clone(),
            state: facts.state.name(),
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
