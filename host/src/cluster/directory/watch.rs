//! Followed streams, of whose publishers the directory notifies this node.

use std::fmt;

use tokio::sync::watch;

use super::directory::Directory;
use super::entry::State;
use super::fence::FenceId;
use crate::stream::StreamKey;

/// A stream that is followed. The directory notifies this node of its publishers until this is dropped.
pub struct Watch {
    directory: Directory,
    key: StreamKey,
    changed: watch::Receiver<()>,
}

impl Directory {
    /// Follows a stream.
    pub fn watch(&self, key: &StreamKey) -> Watch {
        let changed = self.0.lock().watch(key);
        self.0.wake.notify_one();
        Watch { directory: self.clone(), key: key.clone(), changed }
    }
}

impl Watch {
    /// Waits until a newer publisher of the stream than `followed` is at another node.
    pub async fn moved(&mut self, followed: &FenceId) {
        loop {
            self.changed.borrow_and_update();
            if self.has_moved(followed) {
                return;
            }
            if self.changed.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Asks the directory whether a newer publisher of the stream than `followed` is at another node. A node whose publisher has lost
    /// the stream ends it, and that may be known here before the notification.
    pub async fn ask_moved(&self, followed: &FenceId) -> bool {
        self.has_moved(followed) || (self.directory.ask(&self.key).await && self.has_moved(followed))
    }

    /// Notes that the stream is left for a newer publisher.
    pub fn count_move(&self) {
        self.directory.0.lock().counts.moves += 1;
    }

    fn has_moved(&self, followed: &FenceId) -> bool {
        let state = self.directory.0.lock();
        let seen = state.book.seen(&self.key).filter(|seen| seen.state == State::Live);
        seen.is_some_and(|seen| seen.id > *followed && seen.id.node != followed.node)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.directory.0.lock().unwatch(&self.key);
        self.directory.0.wake.notify_one();
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("key", &self.key).finish_non_exhaustive()
    }
}
