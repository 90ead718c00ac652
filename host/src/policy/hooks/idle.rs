//! Streams that are live, and that nobody watches.

use std::sync::Arc;

use tokio::time::{Instant, sleep_until};

use super::event::stream_event;
use super::{HookAction, Hooks, VhostHooks};
use crate::stream::StreamKey;

/// Limit of streams that may be idle; further ones are not told.
const MAX_WATCHED: usize = 16_384;

impl VhostHooks {
    /// Notes that a stream may be idle from now on, since it was published or somebody left it. The hooks are told if it has
    /// neither viewers nor players after `play.idle_timeout`.
    pub(super) fn may_be_idle(self: &Arc<Self>, hooks: &Arc<Hooks>, key: &StreamKey) {
        let Some(runtime) = hooks.runtime.as_ref().filter(|_| !self.config.on_stream_idle.is_empty()) else {
            return;
        };
        let is_new = {
            let mut since = self.idle_since.lock();
            let has_room = since.len() < MAX_WATCHED || since.contains_key(key);
            has_room && since.insert(key.clone(), Instant::now()).is_none()
        };
        if is_new {
            hooks.tasks.spawn_on(watch(self.clone(), hooks.clone(), key.clone()), runtime);
        }
    }

    /// Returns when a stream will have been idle long enough; forgets the stream, and returns `None`, if that is now.
    fn idle_until(&self, key: &StreamKey) -> Option<Instant> {
        let mut idle = self.idle_since.lock();
        let until = *idle.get(key)? + self.idle_timeout;
        if until > Instant::now() {
            return Some(until);
        }
        idle.remove(key);
        None
    }
}

async fn watch(vhost: Arc<VhostHooks>, hooks: Arc<Hooks>, key: StreamKey) {
    while let Some(until) = vhost.idle_until(&key) {
        tokio::select! {
            () = sleep_until(until) => {}
            () = hooks.stopping.cancelled() => return,
        }
    }
    let (publishers, watchers) = hooks.sessions.count(&key);
    if publishers > 0 && watchers == 0 {
        let idle = serde_json::json!({ "idle": vhost.idle_timeout.as_secs_f64() });
        hooks.tell(&vhost.client, &vhost.config.on_stream_idle, HookAction::StreamIdle, |sender| {
            stream_event(sender, HookAction::StreamIdle, &key, idle)
        });
    }
}
