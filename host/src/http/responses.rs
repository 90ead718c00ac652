//! Counters of responses.

use std::sync::atomic::{AtomicU64, Ordering};

use hyper::StatusCode;

/// Number of responses of the host by status. A response counts when its status line is known.
#[derive(Debug)]
pub struct Responses([AtomicU64; STATUSES]);

/// Statuses are 100 to 599.
const FIRST: u16 = 100;
const STATUSES: usize = 500;

impl Default for Responses {
    fn default() -> Responses {
        Responses([const { AtomicU64::new(0) }; STATUSES])
    }
}

impl Responses {
    /// Counts a response.
    pub(super) fn count(&self, status: StatusCode) {
        let index = status.as_u16().checked_sub(FIRST).map(usize::from);
        if let Some(count) = index.and_then(|index| self.0.get(index)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Returns the statuses that there were, with their numbers.
    pub fn counts(&self) -> impl Iterator<Item = (u16, u64)> {
        let counts = self.0.iter().map(|count| count.load(Ordering::Relaxed));
        (FIRST..).zip(counts).filter(|(_, count)| *count > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_counted() {
        let responses = Responses::default();
        for status in [200, 404, 200, 101, 599, 999] {
            responses.count(StatusCode::from_u16(status).unwrap());
        }
        assert!(responses.counts().eq([(101, 1), (200, 2), (404, 1), (599, 1)]));
    }
}
