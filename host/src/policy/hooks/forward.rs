//! Asking hooks where a stream is to be sent: `backend` of a vhost's `forward`.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;
use tokio::time::Instant;

use super::answer::{Verdict, verdict};
use super::client::Client;
use super::event::forward_event;
use super::{HookAction, HookRefusal, HookResult, Hooks};
use crate::conf::{Endpoint, HookRequests};
use crate::policy::Action;
use crate::policy::outbound::Answered;
use crate::policy::session::Session;
use crate::stream::StreamKey;

/// Limit of the URLs of one stream.
const MAX_URLS: usize = 32;

/// The part of an answer with the URLs, as SRS has it.
#[derive(Deserialize)]
struct Object {
    data: Option<Data>,
}

#[derive(Deserialize)]
struct Data {
    #[serde(default)]
    urls: Vec<String>,
}

impl Hooks {
    /// Asks each of `backends` where the stream `key` is to be sent, as `requests` says. Returns the URLs that they name, at most
    /// [`MAX_URLS`]. They may have secrets.
    ///
    /// # Errors
    /// A backend refuses or fails.
    pub async fn destinations(
        &self,
        key: &StreamKey,
        backends: &[Endpoint],
        requests: &HookRequests,
    ) -> Result<Vec<String>, HookRefusal> {
        let client = Client::new(requests);
        let deadline = Instant::now() + client.timeout;
        let mut urls = Vec::new();
        for endpoint in backends {
            let event_id = self.next_event();
            let publisher = self.publisher(key);
            let body = forward_event(self.sender(&event_id), key, publisher.as_deref());
            let left = deadline.saturating_duration_since(Instant::now());
            urls.extend(self.ask_backend(&client, endpoint, body, left).await?);
        }
        urls.truncate(MAX_URLS);
        Ok(urls)
    }

    async fn ask_backend(
        &self,
        client: &Client,
        endpoint: &Endpoint,
        body: Bytes,
        limit: Duration,
    ) -> Result<Vec<String>, HookRefusal> {
        const ACTION: HookAction = HookAction::Forward;
        let began = Instant::now();
        let answered = client.post(endpoint, body, limit).await;
        self.counts().time(ACTION, began.elapsed());
        let endpoint = endpoint.clone();
        let (result, decided) = match answered.map(|answered| (verdict(&answered), answered)) {
            Ok((Verdict::Allowed, answered)) => (HookResult::Ok, Ok(urls_of(&answered))),
            Ok((Verdict::Refused(reason), _)) => {
                (HookResult::Refused, Err(HookRefusal::Refused { action: ACTION, endpoint, reason }))
            }
            Ok((Verdict::Failed { status }, _)) => {
                (HookResult::Failed, Err(HookRefusal::Status { action: ACTION, endpoint, status }))
            }
            Err(error) => {
                (HookResult::Failed, Err(HookRefusal::NoAnswer { action: ACTION, endpoint, error }))
            }
        };
        self.counts().add(ACTION, result);
        decided
    }

    /// The record of the publisher of a stream.
    fn publisher(&self, key: &StreamKey) -> Option<Arc<Session>> {
        let sessions = self.sessions.list();
        sessions.into_iter().find(|one| one.action() == Action::Publish && one.key() == key)
    }
}

/// Returns the URLs of an answer that allows; none if it has none.
fn urls_of(answered: &Answered) -> Vec<String> {
    let object = serde_json::from_slice(&answered.body);
    object.ok().and_then(|Object { data }| data).map(|data| data.urls).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_urls_of_an_answer() {
        for (body, expected) in [
            (
                r#"{"code":0,"data":{"urls":["rtmp://a/b/c","rtmp://d/e/f"]}}"#,
                &["rtmp://a/b/c", "rtmp://d/e/f"][..],
            ),
            (r#"{"code":0,"data":{"urls":[]}}"#, &[]),
            (r#"{"code":0,"data":{}}"#, &[]),
            (r#"{"code":0,"data":null}"#, &[]),
            (r#"{"code":0}"#, &[]),
            (r#"{"code":0,"data":{"urls":"rtmp://a/b/c"}}"#, &[]),
            ("0", &[]),
        ] {
            assert_eq!(urls_of(&Answered { status: 200, body: body.into() }), expected, "{body}");
        }
    }
}
