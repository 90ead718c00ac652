//! Changes of the config, as the report of a reload shows them.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::conf::{Difference, DifferenceKind, Shown};

/// A key of the config that has another value, or a table that was added or removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ChangeReport {
    /// The path of the key or table: `vhost."example.com".play.wait`.
    pub key: String,
    /// The kind of change.
    pub change: ChangeKind,
    /// The value before; without both values, they are secrets that differ.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old: Option<String>,
    /// The value now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new: Option<String>,
    /// When and for whom it takes effect.
    pub effect: Effect,
    /// Why it needs a restart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Number of clients that the effect touches.
    #[serde(flatten)]
    pub touched: Touched,
}

/// The kind of a change of a key or table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ChangeKind {
    /// The table is new.
    Added,
    /// The table is gone.
    Removed,
    /// The key has another value.
    Changed,
}

/// When a change takes effect, and for whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Effect {
    /// At once, and nobody who is connected notices.
    AtOnce,
    /// For connections and sessions that begin later. Those that are there keep the old value.
    NewClients,
    /// At once, also for clients that are there.
    Live,
    /// Clients move to a new remuxer at the next keyframe.
    HandedOver,
    /// Clients stay with what they have until they leave; mounts for `modules.drain_timeout` at most.
    Drained,
    /// By new generations of the modules, which the report lists.
    Generations,
    /// At the next start only.
    NextStart,
}

/// A number of clients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Touched {
    /// Viewers and players.
    pub viewers: usize,
    /// Publishers.
    pub publishers: usize,
}

impl ChangeReport {
    /// Returns the report of a difference.
    pub(super) fn of(difference: &Difference, effect: Effect, touched: Touched) -> ChangeReport {
        let text = |value: &Option<Shown>| value.as_ref().map(ToString::to_string);
        let (change, old, new) = match &difference.kind {
            DifferenceKind::Added => (ChangeKind::Added, None, None),
            DifferenceKind::Removed => (ChangeKind::Removed, None, None),
            // Values that look the same differ in what is not shown.
            DifferenceKind::Changed { old, new } if text(old) == text(new) => {
                (ChangeKind::Changed, None, None)
            }
            DifferenceKind::Changed { old, new } => (ChangeKind::Changed, text(old), text(new)),
        };
        ChangeReport { key: difference.path.to_string(), change, old, new, effect, reason: None, touched }
    }
}

/// Formats one line: `limits.send_timeout: 30s -> 10s; for new clients, not for 2 viewers`.
impl fmt::Display for ChangeReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ChangeReport { key, change, old, new, effect, reason, touched } = self;
        write!(f, "{key}: ")?;
        match (change, old, new) {
            (ChangeKind::Added, ..) => f.write_str("added")?,
            (ChangeKind::Removed, ..) => f.write_str("removed")?,
            (ChangeKind::Changed, None, None) => f.write_str("changed")?,
            (ChangeKind::Changed, old, new) => {
                let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "not set".to_owned());
                write!(f, "{} -> {}", text(old), text(new))?;
            }
        }
        let anybody = *touched != Touched::default();
        match effect {
            Effect::AtOnce => f.write_str("; at once"),
            Effect::NewClients if anybody => write!(f, "; for new clients, not for {touched}"),
            Effect::NewClients => f.write_str("; for new clients"),
            Effect::Live if anybody => write!(f, "; at once, for {touched}"),
            Effect::Live => f.write_str("; at once"),
            Effect::HandedOver => write!(f, "; at the next keyframe, for {touched}"),
            Effect::Drained if anybody => write!(f, "; not for {touched}, until they leave"),
            Effect::Drained => f.write_str("; at once"),
            Effect::Generations => f.write_str("; by new generations of the modules"),
            Effect::NextStart => {
                write!(f, "; takes effect at the next start: {}", reason.as_deref().unwrap_or_default())
            }
        }
    }
}

/// Formats `2 viewers and 1 publisher`.
impl fmt::Display for Touched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counted = |count: usize, name: &str| match count {
            1 => format!("1 {name}"),
            _ => format!("{count} {name}s"),
        };
        let (viewers, publishers) = (counted(self.viewers, "viewer"), counted(self.publishers, "publisher"));
        match self.publishers {
            0 => f.write_str(&viewers),
            _ if self.viewers == 0 => f.write_str(&publishers),
            _ => write!(f, "{viewers} and {publishers}"),
        }
    }
}

impl std::ops::Add for Touched {
    type Output = Touched;

    fn add(self, other: Touched) -> Touched {
        Touched { viewers: self.viewers + other.viewers, publishers: self.publishers + other.publishers }
    }
}
