//! The client of one table of hooks.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use sha2::Sha256;
use tokio::sync::Semaphore;

use crate::conf::{Endpoint, HookRequests, Secret};
use crate::policy::grant::seconds;
use crate::policy::outbound::{Answered, Outbound, OutboundError};

/// Time to connect, TLS included: less than the shortest useful timeout of a request.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(1500);

/// Limit of requests that ask at the same time; others wait, within their timeout.
const MAX_ASKING: usize = 256;
/// Limit of requests that tell at the same time.
const MAX_TELLING: usize = 32;
/// Limit of events that wait to be told, each for one URL; further ones are dropped and counted. Enough for all viewers of a stream
/// that ends; some 50 MiB if a server is dead.
pub(super) const MAX_QUEUED: usize = 32_768;

const TIMESTAMP: HeaderName = HeaderName::from_static("remuxd-timestamp");
const SIGNATURE: HeaderName = HeaderName::from_static("remuxd-signature");

/// The client of one table of hooks. One vhost's slow servers do not delay the requests of another.
#[derive(Debug)]
pub(super) struct Client {
    outbound: Outbound,
    secret: Option<Secret>,
    /// See [`HookRequests::timeout`].
    pub timeout: Duration,
    pub asking: Semaphore,
    pub telling: Semaphore,
    pub queue: Arc<Semaphore>,
}

impl Client {
    pub fn new(config: &HookRequests) -> Client {
        Client {
            outbound: Outbound::new(CONNECT_TIMEOUT),
            secret: config.secret.clone(),
            timeout: config.timeout,
            asking: Semaphore::new(MAX_ASKING),
            telling: Semaphore::new(MAX_TELLING),
            queue: Arc::new(Semaphore::new(MAX_QUEUED)),
        }
    }

    /// Sends an event, signed with the current time.
    pub async fn post(
        &self,
        endpoint: &Endpoint,
        body: Bytes,
        timeout: Duration,
    ) -> Result<Answered, OutboundError> {
        let mut headers = HeaderMap::new();
        if let Some(secret) = &self.secret {
            let timestamp = seconds(SystemTime::now());
            headers.insert(TIMESTAMP, timestamp.into());
            if let Ok(value) = HeaderValue::try_from(signature(secret, timestamp, &body)) {
                headers.insert(SIGNATURE, value);
            }
        }
        self.outbound.post_json(endpoint, headers, body, timeout).await
    }
}

/// Returns `v1=` and the HMAC-SHA256 over timestamp, point and body, in hexadecimal digits.
fn signature(secret: &Secret, timestamp: u64, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.bytes()).expect("HMAC takes keys of any length");
    mac.update(format!("{timestamp}.").as_bytes());
    mac.update(body);
    let digits = mac.finalize().into_bytes();
    digits.iter().fold("v1=".to_owned(), |text, byte| text + &format!("{byte:02x}"))
}
