//! Bans, for the control socket and `remuxd bans`.

use std::fmt;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::policy::{Access, Ban, BanError, BanTarget};
use crate::router::query_pairs;

/// A ban. Its value may have any characters.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct BanStatus {
    /// `address`, `subject` or `stream`.
    pub kind: String,
    pub value: String,
    /// Seconds until it ends.
    pub seconds: u64,
}

/// The bans of a host, the oldest first.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct BanList(Vec<BanStatus>);

/// The number of sessions that a command has ended.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Ended {
    pub ended: usize,
}

impl BanList {
    pub(super) fn of(access: &Access) -> BanList {
        let now = Instant::now();
        BanList(access.bans().iter().map(|ban| BanStatus::of(ban, now)).collect())
    }
}

impl BanStatus {
    fn of(ban: &Ban, now: Instant) -> BanStatus {
        BanStatus {
            kind: ban.target.kind().to_owned(),
            value: ban.target.value(),
            seconds: ban.until.saturating_duration_since(now).as_secs(),
        }
    }
}

/// A table. The caller escapes characters that could control a terminal.
impl fmt::Display for BanList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<8} {:>8}  value", "ban", "seconds")?;
        for BanStatus { kind, value, seconds } in &self.0 {
            writeln!(f, "{kind:<8} {seconds:>8}  {}", value.replace('\n', "\\n"))?;
        }
        Ok(())
    }
}

/// Bans what the parameters `kind`, `value` and `seconds` of a query say.
pub(super) fn ban(access: &Access, query: &str) -> Result<Ended, BanError> {
    let time = parameter(query, "seconds").parse().map_err(|_| BanError::Time)?;
    let ended = access.ban(&target(query)?, Duration::from_secs(time))?;
    Ok(Ended { ended })
}

/// Lifts the ban of what the parameters `kind` and `value` say. Returns false if there is none.
pub(super) fn unban(access: &Access, query: &str) -> Result<bool, BanError> {
    Ok(access.unban(&target(query)?))
}

fn target(query: &str) -> Result<BanTarget, BanError> {
    BanTarget::parse(&parameter(query, "kind"), &parameter(query, "value"))
}

/// Returns the value of a parameter; empty if it is missing.
fn parameter(query: &str, name: &str) -> String {
    query_pairs(query).find(|(own, _)| own == name).map(|(_, value)| value.into()).unwrap_or_default()
}
