//! Groups of sessions, whose metrics have the same labels.

use std::sync::Arc;

use super::Action;
use super::histogram::Histogram;

/// Upper bounds of the buckets of the time to the first byte, in seconds. A vhost's `wait` is among it.
const FIRST_BYTE: [f64; 11] = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// The sessions of one action, vhost and format.
#[derive(Debug)]
pub struct Group {
    /// The action.
    pub action: Action,
    /// The vhost.
    pub vhost: Arc<str>,
    /// The extension of the mount, for RTMP players `rtmp`; empty for publishers.
    pub format: Box<str>,
    /// The time from request to first byte.
    pub first_byte: Histogram<{ FIRST_BYTE.len() }>,
}

impl Group {
    pub(super) fn new(action: Action, vhost: Arc<str>, format: Box<str>) -> Group {
        Group { action, vhost, format, first_byte: Histogram::new(&FIRST_BYTE) }
    }
}
