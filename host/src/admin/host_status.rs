//! The host itself, for the console and `remuxd status`.

use std::fmt;
use std::net::SocketAddr;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::process::ProcessFacts;
use crate::conf::ListenerKind;
use crate::net::Server;

/// The lag from which it is shown, in milliseconds.
const LATE: u64 = 100;

/// The host itself.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub(super) struct HostStatus {
    /// Its version.
    pub version: String,
    /// The id of its process.
    pub pid: u32,
    /// Seconds since its start.
    pub uptime_seconds: u64,
    /// The open listeners, in the order of the config.
    pub listeners: Vec<ListenerStatus>,
    /// How late viewers are sent what is due, on the thread that is the least late, in milliseconds. New viewers are refused while it
    /// exceeds `limits.max_lag`.
    #[serde(default)]
    pub lag_ms: u64,
}

/// An open listener.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
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
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            uptime_seconds: uptime.max(0.0) as u64,
            listeners: server.listening().into_iter().map(listener).collect(),
            lag_ms: server.access().load().least().as_millis() as u64,
        }
    }
}

/// The open listeners and the lag, in one line.
impl fmt::Display for HostStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let listener = |ListenerStatus { kind, address }: &ListenerStatus| format!("{kind} {address}");
        let listeners: Vec<_> = self.listeners.iter().map(listener).collect();
        let listeners = if listeners.is_empty() { "nowhere".to_owned() } else { listeners.join(", ") };
        write!(f, "listening: {listeners}")?;
        if self.lag_ms >= LATE { write!(f, "; viewers are served {} ms late", self.lag_ms) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_its_listeners_and_its_lag_in_a_line() {
        let listener = |(kind, address): (&str, &str)| ListenerStatus {
            kind: kind.to_owned(),
            address: address.parse().unwrap(),
        };
        let rows: [(&[_], u64, &str); 3] = [
            (
                &[("rtmp", "0.0.0.0:1935"), ("http", "[::]:8080")],
                0,
                "listening: rtmp 0.0.0.0:1935, http [::]:8080",
            ),
            (&[], 99, "listening: nowhere"),
            (&[], 100, "listening: nowhere; viewers are served 100 ms late"),
        ];
        for (listeners, lag_ms, line) in rows {
            let listeners = listeners.iter().copied().map(listener).collect();
            let host = HostStatus { version: String::new(), pid: 1, uptime_seconds: 0, listeners, lag_ms };
            assert_eq!(host.to_string(), line);
        }
    }
}
