//! Asking hooks whether a client may connect, publish or play.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout_at};

use super::answer::{Verdict, verdict};
use super::ending::Ending;
use super::event::client_event;
use super::{HookAction, HookRefusal, HookResult, Hooks, VhostHooks};
use crate::conf::{Endpoint, OnFailure};
use crate::policy::outbound::OutboundError;

/// Pauses before further attempts to connect; nothing was sent then.
const PAUSES: [Duration; 2] = [Duration::from_millis(100), Duration::from_millis(400)];

/// A question about one session or connection, asked in a task of its own.
struct Question {
    hooks: Arc<Hooks>,
    vhost: Arc<VhostHooks>,
    action: HookAction,
    body: Bytes,
    deadline: Instant,
    asker: oneshot::Sender<Result<Ending, HookRefusal>>,
}

/// Asks the hooks of `action` about the session of `ending`, and returns it with the debt of an end, or drops it. Without
/// such a hook the session owes its end too.
///
/// # Errors
/// [`HookRefusal`] if a hook refuses, or fails and `on_failure` is `deny`.
pub(in crate::policy) async fn ask(mut ending: Ending, action: HookAction) -> Result<Ending, HookRefusal> {
    let (hooks, vhost) = ending.hooks();
    let now = std::time::Instant::now();
    if vhost.urls(action).is_empty() {
        ending.owe();
        return Ok(ending);
    }
    if vhost.is_allowed(action, ending.facts(), now) {
        hooks.counts().add(action, HookResult::Cached);
        return Ok(ending);
    }
    let Some(runtime) = &hooks.runtime else { return Err(HookRefusal::Stopping) };
    let event_id = hooks.next_event();
    let body = client_event(hooks.sender(&event_id), action, ending.facts(), None);
    let (asker, answer) = oneshot::channel();
    let deadline = Instant::now() + vhost.client.timeout;
    let question = Question { hooks: hooks.clone(), vhost, action, body, deadline, asker };
    hooks.tasks.spawn_on(question.run(ending), runtime);
    answer.await.unwrap_or(Err(HookRefusal::Stopping))
}

impl Question {
    /// Decides, and gives the answer to the asker. If it is gone, the ending is dropped here.
    async fn run(mut self, mut ending: Ending) {
        let decided = match self.decide(&mut ending).await {
            Ok(()) => Ok(ending),
            Err(refusal) => Err(refusal),
        };
        let _ = self.asker.send(decided);
    }

    async fn decide(&mut self, ending: &mut Ending) -> Result<(), HookRefusal> {
        let vhost = self.vhost.clone();
        let slot = tokio::select! {
            slot = timeout_at(self.deadline, vhost.client.asking.acquire()) => slot,
            // Nothing was sent.
            () = self.asker.closed() => return Err(HookRefusal::Stopping),
        };
        let Ok(Ok(_slot)) = slot else {
            let endpoint = &vhost.urls(self.action)[0];
            self.fail(HookRefusal::Busy { action: self.action }, endpoint, "too many requests wait")?;
            ending.owe();
            return Ok(());
        };
        let mut all_allowed = true;
        for endpoint in vhost.urls(self.action) {
            // Boxed for the sake of the task's size.
            match Box::pin(self.ask_one(endpoint)).await {
                Ok(Verdict::Allowed) => {
                    self.hooks.counts().add(self.action, HookResult::Ok);
                    ending.owe();
                }
                Ok(Verdict::Refused(reason)) => {
                    self.hooks.counts().add(self.action, HookResult::Refused);
                    let (action, endpoint) = (self.action, endpoint.clone());
                    return Err(HookRefusal::Refused { action, endpoint, reason });
                }
                Ok(Verdict::Failed { status }) => {
                    all_allowed = false;
                    ending.owe();
                    let (action, of) = (self.action, endpoint.clone());
                    let problem = format!("status {status}");
                    self.fail(HookRefusal::Status { action, endpoint: of, status }, endpoint, &problem)?;
                }
                Err(error) => {
                    all_allowed = false;
                    // A server that may have the request may have allowed it.
                    if error.was_sent() {
                        ending.owe();
                    }
                    let (action, of) = (self.action, endpoint.clone());
                    let problem = error.to_string();
                    self.fail(HookRefusal::NoAnswer { action, endpoint: of, error }, endpoint, &problem)?;
                }
            }
            if self.asker.is_closed() {
                return Ok(());
            }
        }
        ending.owe();
        if all_allowed {
            vhost.keep_allowance(self.action, ending.facts(), std::time::Instant::now());
        }
        Ok(())
    }

    /// Asks one URL. Only connecting is tried again.
    async fn ask_one(&self, endpoint: &Endpoint) -> Result<Verdict, OutboundError> {
        let client = &self.vhost.client;
        let began = Instant::now();
        let mut pauses = PAUSES.into_iter();
        loop {
            let left = self.deadline.saturating_duration_since(Instant::now());
            let answered = client.post(endpoint, self.body.clone(), left).await;
            let pause = match &answered {
                Err(error) if !error.was_sent() => pauses.next(),
                _ => None,
            };
            match pause.filter(|pause| Instant::now() + *pause < self.deadline) {
                Some(pause) => sleep(pause).await,
                None => {
                    self.hooks.counts().time(self.action, began.elapsed());
                    return answered.map(|answered| verdict(&answered));
                }
            }
        }
    }

    /// A failure: an error if it means a refusal.
    fn fail(&self, failure: HookRefusal, endpoint: &Endpoint, problem: &str) -> Result<(), HookRefusal> {
        self.hooks.counts().add(self.action, HookResult::Failed);
        self.hooks.report(self.action, endpoint, problem);
        match self.vhost.config.on_failure {
            OnFailure::Deny => Err(failure),
            OnFailure::Allow => Ok(()),
        }
    }
}
