//! Bans, for the control socket and `remuxd bans`.

use std::fmt;
use std::time::{Duration, Instant};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::api::Page;
use crate::policy::{Access, Ban, BanError, BanTarget};
use crate::router::query_value;

/// A ban. Its value may have any characters.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub(super) struct BanStatus {
    /// `address`, `subject` or `stream`.
    pub kind: String,
    pub value: String,
    /// Seconds until it ends.
    pub seconds: u64,
}

/// A part of the list of bans, the oldest first.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub(super) struct BanList {
    /// The number of all bans.
    pub total: usize,
    /// The number of those before this part.
    pub start: usize,
    pub bans: Vec<BanStatus>,
}

/// The number of sessions that a command has ended.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub(super) struct Ended {
    pub ended: usize,
}

impl BanList {
    pub(super) fn of(access: &Access, page: Page) -> BanList {
        let (now, bans) = (Instant::now(), access.bans());
        let part = page.cut(&bans).map(|ban| BanStatus::of(ban, now)).collect();
        BanList { total: bans.len(), start: page.start, bans: part }
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
        for BanStatus { kind, value, seconds } in &self.bans {
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
    query_value(query, name).unwrap_or_default()
}
