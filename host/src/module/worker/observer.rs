//! Observation of faults by an upper layer.

use std::fmt;
use std::sync::OnceLock;

/// Told about each fault of a module, on the thread that called it. Must not block.
pub type FaultObserver = Box<dyn Fn(&FaultNote<'_>) + Send + Sync>;

/// A fault of a module on a stream.
#[derive(Clone, Copy)]
pub struct FaultNote<'a> {
    /// The vhost of the stream.
    pub vhost: &'a str,
    /// The app of the stream.
    pub app: &'a str,
    /// The name of the stream.
    pub stream: &'a str,
    /// The name of the module.
    pub module: &'a str,
    /// Its generation.
    pub generation: u64,
    /// The fault.
    pub fault: &'a dyn fmt::Display,
}

/// The observer of a pool, if there is one.
#[derive(Default)]
pub struct FaultWatch(OnceLock<FaultObserver>);

impl FaultWatch {
    /// Sets the observer; a second one is ignored.
    pub fn observe(&self, observer: FaultObserver) {
        let _ = self.0.set(observer);
    }

    /// Tells the observer about a fault.
    pub fn tell(&self, note: &FaultNote<'_>) {
        if let Some(observer) = self.0.get() {
            observer(note);
        }
    }
}

impl fmt::Debug for FaultWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultWatch").field("is_observed", &self.0.get().is_some()).finish()
    }
}
