//! An observer of the streams of a hub.

use std::fmt::Debug;
use std::sync::Arc;

use super::stream::Stream;

/// An observer of the streams of a [`Hub`](super::Hub).
pub trait StreamObserver: Debug + Send + Sync {
    /// A stream has begun: it has its first publisher, who has sent nothing yet. No lock is held. The ring of its tags ends with
    /// it.
    fn began(&self, stream: &Arc<Stream>);
}
