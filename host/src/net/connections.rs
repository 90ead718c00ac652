//! Connections: how many are open, against `limits.max_connections`.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

/// The number of open connections.
#[derive(Debug, Default)]
pub(super) struct Connections {
    open: AtomicUsize,
    /// Notified when the last one closes.
    none: Notify,
}

/// A connection, which counts as open until this is dropped.
#[derive(Debug)]
pub(super) struct ConnectionSlot(Arc<Connections>);

impl Connections {
    /// Counts a new connection; `None` if `limit` are open.
    pub fn enter(self: &Arc<Self>, limit: usize) -> Option<ConnectionSlot> {
        let more = |open| (open < limit).then_some(open + 1);
        let entered = self.open.fetch_update(Ordering::AcqRel, Ordering::Acquire, more);
        entered.ok().map(|_| ConnectionSlot(self.clone()))
    }

    /// Number of open connections.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Acquire)
    }

    /// Waits until there is none.
    pub async fn idle(&self) {
        loop {
            let none = self.none.notified();
            if self.open() == 0 {
                return;
            }
            none.await;
        }
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        if self.0.open.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.none.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_limit_counts_those_that_are_open_whatever_it_was_before() {
        let connections = Arc::<Connections>::default();
        let mut open: Vec<_> = (0..3).map(|_| connections.enter(3).unwrap()).collect();
        assert!(connections.enter(3).is_none() && connections.enter(2).is_none());
        open.push(connections.enter(4).unwrap());
        open.truncate(2);
        assert!(connections.enter(2).is_none(), "lowered below what is open");
        assert_eq!(connections.open(), 2);
        let idle = tokio::spawn({
            let connections = connections.clone();
            async move { connections.idle().await }
        });
        tokio::task::yield_now().await;
        assert!(!idle.is_finished());
        drop(open);
        idle.await.unwrap();
    }
}
