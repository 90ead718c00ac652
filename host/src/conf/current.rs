//! The config in force.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;

use super::config::Config;

/// The config in force, which a reload replaces as a whole. Connections and requests read it once, when they begin, so that what
/// they do fits together.
pub struct Current(ArcSwap<Config>);

/// Names no value, since users of it are printed as a whole.
impl fmt::Debug for Current {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Current").finish_non_exhaustive()
    }
}

impl Current {
    /// Puts the first config in force.
    pub fn new(config: Config) -> Arc<Current> {
        Arc::new(Current(ArcSwap::from_pointee(config)))
    }

    /// Returns the config.
    pub fn config(&self) -> Arc<Config> {
        self.0.load_full()
    }

    /// Replaces the config.
    pub fn replace(&self, config: Arc<Config>) {
        self.0.store(config);
    }
}
