//! Notifications for systemd, where it supervises the host: ready, reloading, stopping, and the watchdog (sd_notify(3)).
//!
//! A supervisor that does not read delays nothing for longer than [`PATIENCE`].

use std::io;
use std::sync::LazyLock;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use sd_notify::{NotifyState, notify, watchdog_enabled};
use tokio::sync::oneshot;
use tokio::time::{interval, timeout};
use tracing::warn;

/// How long a notification may take.
const PATIENCE: Duration = Duration::from_secs(1);

/// Limit of notifications that wait to be sent.
const MAX_QUEUED: usize = 8;

/// Reports that the host serves: after its start and after each reload.
pub async fn ready() {
    send(vec![NotifyState::Ready]).await;
}

/// Reports that a reload begins. [`ready`] must follow.
pub async fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => send(vec![NotifyState::Reloading, now]).await,
        Err(error) => warn!(%error, "the clock cannot be read"),
    }
}

/// Reports that the host stops.
pub async fn stopping() {
    send(vec![NotifyState::Stopping]).await;
}

/// Reports that the host runs, twice in each interval of the watchdog. Runs on the network threads, so that a host whose threads
/// hang is restarted. Returns at once without a watchdog.
pub async fn keep_alive() {
    let Some(watchdog) = watchdog_enabled() else { return };
    let mut ticks = interval(watchdog / 2);
    loop {
        ticks.tick().await;
        send(vec![NotifyState::Watchdog]).await;
    }
}

/// Does nothing unless a supervisor asks for it.
async fn send(states: Vec<NotifyState<'static>>) {
    let (done, sent) = oneshot::channel();
    let queued = SENDER.try_send(Notification { states, done });
    match timeout(PATIENCE, sent).await {
        Ok(Ok(Err(error))) => warn!(%error, "systemd cannot be notified"),
        Ok(Ok(Ok(()))) if queued.is_ok() => {}
        _ => warn!("systemd does not read its notifications"),
    }
}

struct Notification {
    states: Vec<NotifyState<'static>>,
    done: oneshot::Sender<io::Result<()>>,
}

/// The queue of a thread that sends, and that nothing waits for: the socket's own queue may be full.
static SENDER: LazyLock<SyncSender<Notification>> = LazyLock::new(|| {
    let (sender, queue) = sync_channel::<Notification>(MAX_QUEUED);
    std::thread::spawn(move || {
        for Notification { states, done } in queue {
            // Nobody waits if it took too long.
            let _ = done.send(notify(&states));
        }
    });
    sender
});
