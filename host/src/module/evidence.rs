//! Evidence against a generation: the streams on which it has failed.

use std::time::{Duration, Instant};

/// Number of streams that are several.
const SEVERAL: usize = 3;
/// Period in which faults on several streams cause another self-test, and shortest interval of two of these.
const PERIOD: Duration = Duration::from_secs(60);

/// Why a generation is switched off.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OffReason {
    /// It is worse than the generation before it. Culprit: module.
    #[error("it failed on {streams} streams that the generation before it serves")]
    Worse {
        /// The number of streams.
        streams: usize,
    },
    /// It failed the self-test that it had passed when it was loaded. Culprit: module.
    #[error("it failed the self-test that several faults caused: {reason}")]
    SelfTest {
        /// The error, in one line.
        reason: String,
    },
}

/// The evidence against one generation. Bounded: no list is longer than [`SEVERAL`].
#[derive(Debug, Default)]
pub(super) struct Evidence {
    /// Streams on which it failed and the generation before it works.
    worse_on: Vec<String>,
    /// Streams with a fault in the last [`PERIOD`], with the time of the newest.
    faulted: Vec<(String, Instant)>,
    /// When the last self-test was repeated.
    tested: Option<Instant>,
}

impl Evidence {
    /// Adds a stream on which the generation before it works. Returns the reason to switch it off if there is one now.
    pub fn add_worse(&mut self, stream: &str) -> Option<OffReason> {
        if self.worse_on.len() < SEVERAL && !self.worse_on.iter().any(|one| one == stream) {
            self.worse_on.push(stream.to_owned());
        }
        let streams = self.worse_on.len();
        (streams >= SEVERAL).then_some(OffReason::Worse { streams })
    }

    /// Adds a fault on a stream. Returns whether the self-test must be repeated now.
    pub fn add_fault(&mut self, stream: &str, now: Instant) -> bool {
        let recent = |since: Instant| now.saturating_duration_since(since) < PERIOD;
        self.faulted.retain(|(one, at)| one != stream && recent(*at));
        self.faulted.push((stream.to_owned(), now));
        if self.faulted.len() < SEVERAL {
            return false;
        }
        self.faulted.remove(0);
        if self.tested.is_some_and(recent) {
            return false;
        }
        self.tested = Some(now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_streams_that_the_generation_before_serves_switch_it_off() {
        let mut evidence = Evidence::default();
        let reasons = ["a", "a", "b", "b", "c"].map(|stream| evidence.add_worse(stream));
        assert_eq!(reasons, [None, None, None, None, Some(OffReason::Worse { streams: 3 })]);
    }

    #[test]
    fn faults_on_several_streams_repeat_the_self_test_once_a_minute() {
        let began = Instant::now();
        let rows = [
            (0, "a", false),
            (1, "a", false),
            (2, "b", false),
            (3, "a", false),
            (4, "c", true),
            (5, "d", false),
            (63, "e", false),
            // Two of the last three are older than a minute.
            (124, "f", false),
            (125, "g", false),
            (126, "h", true),
        ];
        let mut evidence = Evidence::default();
        for (second, stream, repeated) in rows {
            let now = began + Duration::from_secs(second);
            assert_eq!(evidence.add_fault(stream, now), repeated, "{second} s");
        }
        assert!(evidence.faulted.len() < SEVERAL);
    }
}
