//! Pauses between attempts.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// The pause after the first failure.
const FIRST: Duration = Duration::from_millis(500);

/// The longest pause.
pub(super) const LONGEST: Duration = Duration::from_secs(10);

/// The pauses between attempts that fail: each is twice as long as the one before, up to [`LONGEST`], and a random part of up to
/// a half is left out, so that many do not try at the same time.
#[derive(Debug, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// Returns the pause after another failure.
    pub(crate) fn next(&mut self) -> Duration {
        // Each state of a hasher is random.
        self.next_with(RandomState::new().hash_one(self.failures))
    }

    /// Returns the pause after another failure, of which the random number decides how much is left out: 0 leaves out nothing.
    pub fn next_with(&mut self, random: u64) -> Duration {
        let whole = FIRST.saturating_mul(1 << self.failures.min(8)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        whole - whole.mul_f64((random % 1024) as f64 / 2048.0)
    }

    /// Starts again with the shortest pause.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_a_limit_and_differ() {
        let mut backoff = Backoff::default();
        for whole in [500, 1000, 2000, 4000, 8000, 10_000, 10_000] {
            let pause = backoff.next().as_millis();
            assert!(pause > whole / 2 && pause <= whole, "{pause} of {whole}");
        }
        backoff.reset();
        assert!(backoff.next() <= FIRST);
        assert_eq!([0, 512].map(|random| Backoff::default().next_with(random)), [FIRST, FIRST.mul_f64(0.75)]);
        let mut again = [(); 8].map(|()| Backoff::default().next());
        again.sort();
        assert!(again[0] < again[7], "{again:?}");
    }
}
