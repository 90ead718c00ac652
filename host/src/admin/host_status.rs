//! The host itself, for the console.

use std::net::SocketAddr;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use super::process::ProcessFacts;
use crate::conf::ListenerKind;
use crate::net::Server;

/// The host itself.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct HostStatus {
    /// Its version.
    pub version: &'static str,
    /// The id of its process.
    pub pid: u32,
    /// Seconds since its start.
    pub uptime_seconds: u64,
    /// The open listeners, in the order of the config.
    pub listeners: Vec<ListenerStatus>,
}

/// An open listener.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct ListenerStatus {
    /// `rtmp`, `rtmps`, `http`, `https`, `http_api` or `https_api`.
    pub kind: String,
    #[schemars(with = "String")]
    pub address: SocketAddr,
}

impl HostStatus {
    pub(super) fn of(process: &ProcessFacts, server: &Server) -> HostStatus {
        let listener =
            |(kind, address): (ListenerKind, _)| ListenerStatus { kind: kind.to_string(), address };
        let uptime = Timestamp::now().as_millisecond() as f64 / 1e3 - process.start_seconds;
        HostStatus {
            version: env!("CARGO_PKG_VERSION"),
            pid: std::process::id(),
            uptime_seconds: uptime.max(0.0) as u64,
            listeners: server.listening().into_iter().map(listener).collect(),
        }
    }
}
