//! The feed: the subscribers.

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::time::{Instant, sleep};
use tracing::info;

use super::subscription::{END_TIME, MAX_TIME, Reason, Subscriber, Subscription, subscription};

/// The largest number of subscriptions.
const MAX_SUBSCRIBERS: usize = 16;

/// The subscribers of a host.
#[derive(Debug, Default)]
pub(in crate::admin::api) struct Feed(Mutex<Subscribers>);

#[derive(Debug, Default)]
struct Subscribers {
    /// Each with its end.
    all: Vec<(Subscriber, Instant)>,
    /// A task observes the host.
    is_running: bool,
}

/// There are as many subscriptions as there may be.
#[derive(Debug)]
pub(in crate::admin::api) struct Full;

impl Feed {
    /// Adds a subscription, which begins with `first`. Also returns whether the host must be observed from now on.
    ///
    /// # Errors
    /// [`Full`].
    pub(super) fn add(&self, first: Bytes) -> Result<(Subscription, bool), Full> {
        let (subscriber, subscription) = subscription(first);
        let mut subscribers = self.0.lock();
        if subscribers.all.len() >= MAX_SUBSCRIBERS {
            return Err(Full);
        }
        subscribers.all.push((subscriber, Instant::now() + MAX_TIME));
        let starts = !std::mem::replace(&mut subscribers.is_running, true);
        Ok((subscription, starts))
    }

    /// Sends what has been seen to all. Returns false if nobody is left: the host need not be observed any longer.
    pub(super) fn send(&self, frames: &Bytes) -> bool {
        let now = Instant::now();
        let mut ended = Vec::new();
        let is_running = {
            let mut subscribers = self.0.lock();
            for (subscriber, end) in std::mem::take(&mut subscribers.all) {
                match subscriber.send(frames) {
                    Ok(()) if now < end => subscribers.all.push((subscriber, end)),
                    Ok(()) => ended.push((subscriber, Reason::Time)),
                    Err(Some(reason)) => ended.push((subscriber, reason)),
                    Err(None) => {}
                }
            }
            subscribers.is_running = !subscribers.all.is_empty();
            subscribers.is_running
        };
        ended.into_iter().for_each(|(subscriber, reason)| end(subscriber, reason));
        is_running
    }

    /// Ends all subscriptions.
    pub(super) fn end_all(&self) {
        let all = {
            let mut subscribers = self.0.lock();
            subscribers.is_running = false;
            std::mem::take(&mut subscribers.all)
        };
        all.into_iter().for_each(|(subscriber, _)| end(subscriber, Reason::Stopping));
    }
}

/// Ends a subscription, and closes its connection a little later.
fn end(subscriber: Subscriber, reason: Reason) {
    if reason == Reason::Slow {
        info!("a subscriber of events is dropped: it does not read them fast enough");
    }
    let close = subscriber.close.clone();
    subscriber.end(reason);
    tokio::spawn(async move {
        sleep(END_TIME).await;
        close.cancel();
    });
}
