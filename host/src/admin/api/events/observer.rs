//! The observer: the task that looks at the host for subscribers.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::json;
use tokio::time::{MissedTickBehavior, interval};

use super::super::state::Api;
use super::change::frames;
use super::feed::Full;
use super::frame::frame;
use super::observed::Observed;
use super::subscription::Subscription;

/// Time between two looks at the host.
const INTERVAL: Duration = Duration::from_secs(1);

/// Subscribes, and has the host observed.
///
/// # Errors
/// [`Full`].
pub(in crate::admin::api) fn subscribe(api: &Arc<Api>) -> Result<Subscription, Full> {
    let hello = frame("hello", &json!({ "interval_ms": INTERVAL.as_millis() as u64 }));
    let (subscription, starts) = api.feed.add(hello)?;
    if starts {
        tokio::spawn(observe(api.clone()));
    }
    Ok(subscription)
}

/// Observes the host as long as there are subscribers.
async fn observe(api: Arc<Api>) {
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut before = None;
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = api.lifecycle.stopping() => return api.feed.end_all(),
        }
        let (observer, previous) = (api.clone(), before.take());
        let observed = tokio::task::spawn_blocking(move || {
            let now = Observed::of(&observer, previous.as_ref());
            // The first look has nothing to compare with.
            let frames = Bytes::from(frames(previous.as_ref().unwrap_or(&now), &now).concat());
            (now, frames)
        });
        let Ok((now, frames)) = observed.await else { return api.feed.end_all() };
        before = Some(now);
        if !api.feed.send(&frames) {
            return;
        }
    }
}
