//! Pacer: the clock of the rings.
//!
//! A ring without a clock cannot merge writes. One task a stream and one a live mount wait until something was
//! pushed, then flush on the next beat; without viewers they sleep.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::stream::{Entry, LiveMount, Ring, Stream};

/// Flushes `ring` on a beat of `every` while something is pushed, until the ring ends.
pub async fn pace<E: Entry>(ring: &Ring<E>, every: Duration) {
    let mut beat = beat(every);
    while poll_fn(|cx| ring.poll_dirty(cx)).await {
        beat.tick().await;
        ring.flush();
    }
}

/// Paces the ring of tags of a stream, for its RTMP players.
pub async fn pace_stream(stream: Arc<Stream>) {
    pace(stream.tags(), stream.vhost().play.merge_write).await;
}

/// Paces the blocks of a live mount, and stops it when it had no viewer for the vhost's `idle_timeout`.
pub(super) async fn pace_mount(stream: Arc<Stream>, mount: Arc<LiveMount>) {
    let play = &stream.vhost().play;
    let mut beat = beat(play.merge_write);
    let blocks = mount.blocks();
    let mut idle = false;
    loop {
        // Without viewers a ring is never dirty, so that the timeout runs.
        match tokio::time::timeout(play.idle_timeout, poll_fn(|cx| blocks.poll_dirty(cx))).await {
            Ok(false) => break,
            Ok(true) => {
                beat.tick().await;
                blocks.flush();
                idle = false;
            }
            Err(_) if idle && stream.stop_idle(&mount) => return,
            Err(_) => idle = blocks.reader_count() == 0,
        }
    }
    stream.stop_idle(&mount);
}

fn beat(every: Duration) -> Interval {
    let mut beat = interval(every.max(Duration::from_millis(1)));
    beat.set_missed_tick_behavior(MissedTickBehavior::Skip);
    beat
}
