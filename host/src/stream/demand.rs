//! Demand: how soon the readers of a stream want what is published.

use std::sync::Arc;
use std::time::Duration;

/// How soon the readers of a stream want what is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Demand {
    /// Nobody reads it.
    None,
    /// They get what has come at ticks, this far apart.
    AtTicks(Duration),
    /// They get each tag at once.
    AtOnce,
}

/// The demand of a reader for each tag at once, until it is dropped. Clones are further readers.
#[derive(Clone, Debug, Default)]
pub struct Haste(Arc<()>);

impl Haste {
    /// Whether there is another one of the same stream.
    pub(super) fn is_shared(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }
}
