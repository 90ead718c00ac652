//! The streams that are sent to other servers, for the API.

use schemars::JsonSchema;
use serde::Serialize;

use super::api::Page;
use crate::cluster::{PushFacts, Pushes};

/// A part of the list of pushes, by stream and destination.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct PushList {
    /// The number of all pushes.
    pub total: usize,
    /// The number of those before this part.
    pub start: usize,
    pub pushes: Vec<PushRow>,
}

/// One stream on its way to one server.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct PushRow {
    pub stream: String,
    pub vhost: String,
    /// The URL of the destination, without its query.
    pub destination: String,
    /// `forward`, or `relay` for a publisher of an edge.
    pub kind: &'static str,
    /// `connecting`, `sending`, or `waiting` for the next attempt.
    pub state: &'static str,
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
    pub(super) fn of(pushes: &Pushes, page: Page) -> PushList {
        let all = pushes.list();
        let pushes = page.cut(&all).map(PushRow::of).collect();
        PushList { total: all.len(), start: page.start, pushes }
    }
}

impl PushRow {
    fn of(facts: &PushFacts) -> PushRow {
        PushRow {
            stream: facts.stream.to_string(),
            vhost: facts.stream.vhost.to_string(),
            destination: facts.destination.clone(),
            kind: facts.kind.name(),
            state: facts.state.name(),
            since_ms: facts.since.as_millis() as u64,
            bytes: facts.bytes,
            dropped_gops: facts.dropped_gops,
            failures: facts.failures,
            last_error: facts.last_error.clone(),
        }
    }
}
