//! Telling hooks about events: a bounded queue, retries with pauses that grow, order.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep};
use tracing::debug;

use super::client::{Client, MAX_QUEUED};
use super::event::Sender;
use super::{Connected, HookAction, HookResult, Hooks};
use crate::conf::Endpoint;

/// Pauses before the attempts.
const PAUSES: [Duration; 7] = [
    Duration::ZERO,
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
    Duration::from_secs(8),
    Duration::from_secs(16),
    Duration::from_secs(32),
];

/// An event on its way to one URL.
struct Delivery {
    hooks: Arc<Hooks>,
    client: Arc<Client>,
    endpoint: Endpoint,
    action: HookAction,
    body: Bytes,
    /// The connection whose end must come after this event.
    _before: Option<Arc<Connected>>,
}

impl Hooks {
    /// Queues an event to each of `urls`. The end of nothing has to wait for it.
    pub(super) fn tell(
        self: &Arc<Self>,
        client: &Arc<Client>,
        urls: &[Endpoint],
        action: HookAction,
        event: impl FnOnce(Sender) -> Bytes,
    ) {
        self.tell_before(client, urls, action, event, None);
    }

    /// Queues an event to each of `urls`. The end of the connection `before` waits until it is delivered or given up.
    pub(super) fn tell_before(
        self: &Arc<Self>,
        client: &Arc<Client>,
        urls: &[Endpoint],
        action: HookAction,
        event: impl FnOnce(Sender) -> Bytes,
        before: Option<Arc<Connected>>,
    ) {
        let (Some(runtime), false) = (&self.runtime, urls.is_empty()) else { return };
        let event_id = self.next_event();
        let body = event(self.sender(&event_id));
        for endpoint in urls {
            let Ok(room) = client.queue.clone().try_acquire_owned() else {
                self.counts().drop_event();
                self.report(action, endpoint, &format!("an event is dropped: {MAX_QUEUED} wait already"));
                continue;
            };
            let delivery = Delivery {
                hooks: self.clone(),
                client: client.clone(),
                endpoint: endpoint.clone(),
                action,
                body: body.clone(),
                _before: before.clone(),
            };
            let task = async move {
                delivery.run().await;
                drop(room);
            };
            self.tasks.spawn_on(task, runtime);
        }
    }
}

impl Delivery {
    async fn run(self) {
        let mut last = false;
        let mut problem = String::new();
        for pause in PAUSES {
            tokio::select! {
                () = sleep(pause) => {}
                () = self.hooks.stopping.cancelled() => last = true,
            }
            // Boxed, since most events wait most of the time.
            match Box::pin(self.attempt()).await {
                Ok(()) => return,
                Err(why) => problem = why,
            }
            if last {
                break;
            }
        }
        self.hooks.counts().give_up();
        self.hooks.report(self.action, &self.endpoint, &format!("an event is given up: {problem}"));
    }

    /// Sends the event once. Returns the problem if it should be sent again.
    async fn attempt(&self) -> Result<(), String> {
        let Ok(_slot) = self.client.telling.acquire().await else { return Ok(()) };
        let (counts, began) = (self.hooks.counts(), Instant::now());
        let answered = self.client.post(&self.endpoint, self.body.clone(), self.client.timeout).await;
        counts.time(self.action, began.elapsed());
        let problem = match answered {
            Ok(answered) if (200..300).contains(&answered.status) => {
                counts.add(self.action, HookResult::Ok);
                return Ok(());
            }
            Ok(answered) if answered.status < 500 && answered.status != 429 => {
                counts.add(self.action, HookResult::Refused);
                let problem = format!("the event is not taken: status {}", answered.status);
                self.hooks.report(self.action, &self.endpoint, &problem);
                return Ok(());
            }
            Ok(answered) => format!("status {}", answered.status),
            Err(error) => error.to_string(),
        };
        counts.add(self.action, HookResult::Failed);
        debug!(action = %self.action, url = %self.endpoint, problem, "an event waits for another attempt");
        Err(problem)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conf::{Config, Current};
    use crate::policy::sessions::Sessions;

    #[tokio::test]
    async fn events_beyond_the_limit_are_dropped_and_counted() {
        let hooks = Hooks::new("1".to_owned(), Sessions::new(Current::new(Config::default())));
        // Nobody answers: the listener accepts none.
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let text = format!("[http_hooks]\nenabled = true\non_reload = [\"{url}\", \"{url}\"]");
        hooks.set_host(&Config::parse(&text, "text").unwrap().http_hooks);
        let facts = super::super::ReloadFacts { outcome: "applied".into(), took_ms: 1, modules: Vec::new() };
        (0..MAX_QUEUED / 2).for_each(|_| hooks.reloaded(&facts));
        assert_eq!(hooks.counts().dropped(), 0);
        hooks.reloaded(&facts);
        assert_eq!(hooks.counts().dropped(), 2);
    }
}
