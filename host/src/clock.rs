//! Clock: tokio's time for the pacers of `stream`, which is free of tokio.

use std::future::Future;
use std::time::Duration;

use tokio::time::{Interval, MissedTickBehavior, interval, sleep};

use crate::stream::Clock;

/// An interval of tokio.
#[derive(Debug)]
pub struct TokioClock(Interval);

impl Clock for TokioClock {
    fn new(every: Duration) -> TokioClock {
        let mut interval = interval(every.max(Duration::from_millis(1)));
        interval.set_missed_tick_behavior(MissedTickBehavior::Skip);
        TokioClock(interval)
    }

    async fn tick(&mut self) {
        self.0.tick().await;
    }

    fn sleep(delay: Duration) -> impl Future<Output = ()> + Send {
        sleep(delay)
    }
}
