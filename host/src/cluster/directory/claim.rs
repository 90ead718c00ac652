//! Claims: publishers of this node in the directory.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use hmac::Mac;
use tokio::sync::oneshot;

use super::directory::Directory;
use super::entry::StreamEntry;
use super::link::{LinkError, TIMEOUT};
use super::resp::{Value, shown};
use super::scripts::{Names, Put};
use super::shared::{Lost, own_name, wall_ms};
use crate::conf::{Config, DirectoryKind, Secret};
use crate::policy::mac_of;
use crate::stream::StreamKey;

/// The most attempts of a publisher to get an id that is great enough.
const ATTEMPTS: usize = 5;

/// The longest time of all attempts.
const LONGEST_CLAIM: Duration = Duration::from_secs(4);

/// A publisher that has the stream in the directory. It leaves it when this is dropped.
pub struct Claim {
    directory: Directory,
    key: StreamKey,
    lost: oneshot::Receiver<Lost>,
}

/// The stream is published at another node, with another credential. Culprit: peer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the stream is published at {node}")]
pub struct BusyElsewhere {
    /// The other node.
    pub node: String,
}

/// The outcome of an attempt to claim a stream.
enum Claimed {
    Held,
    /// The directory has a greater id.
    Again,
    /// The directory has said nothing that can be used.
    Unknown,
}

impl Directory {
    /// Returns the longest time that [`Directory::claim`] takes.
    pub fn longest_claim(&self) -> Duration {
        let is_redis = self.0.current.config().cluster.directory.kind == DirectoryKind::Redis;
        if is_redis { LONGEST_CLAIM } else { Duration::ZERO }
    }

    /// Claims a stream for a publisher at this node, before it is accepted. `credential` is everything by which the publisher is
    /// known: the same one takes the stream over from another node, whose publisher ends. A second publisher of this node shares the
    /// claim of the first, unless it `replaces` that. Without an answer of the directory the publisher is accepted; then the greatest
    /// id decides when the directory is back. Returns `None` if this node is in no directory of streams.
    ///
    /// # Errors
    /// Another credential has the stream, at another node.
    pub async fn claim(
        &self,
        key: &StreamKey,
        credential: &[String],
        replaces: bool,
    ) -> Result<Option<Claim>, BusyElsewhere> {
        let config = self.0.current.config();
        let directory = &config.cluster.directory;
        let (DirectoryKind::Redis, Some(pull_url), Some(secret)) =
            (directory.kind, &directory.pull_url, &config.cluster.secret)
        else {
            return Ok(None);
        };
        let publisher = credential_hash(secret, credential);
        if let Some(claim) = self.join(key, &publisher, replaces) {
            return Ok(Some(claim));
        }
        let names = Names::of(directory);
        let begun = Instant::now();
        for _ in 0..ATTEMPTS {
            if begun.elapsed() + TIMEOUT > LONGEST_CLAIM {
                break;
            }
            let (draft, link) = {
                let state = self.0.lock();
                let draft = state.book.draft(key, own_name(&config), pull_url, &publisher, wall_ms());
                (draft, state.link.clone())
            };
            let Some(link) = link else { break };
            let command = names.put(key, &draft.sign(secret), Put::Claim);
            match link.ask_all(&[command]).await {
                Ok(replies) => match self.on_claim(&config, key, replies.first())? {
                    Claimed::Held => return Ok(Some(self.hold(draft, true))),
                    Claimed::Again => {}
                    Claimed::Unknown => break,
                },
                Err(error) => {
                    self.0.fail(&error);
                    break;
                }
            }
        }
        let draft = self.0.lock().book.draft(key, own_name(&config), pull_url, &publisher, wall_ms());
        Ok(Some(self.hold(draft, false)))
    }

    /// Returns a share in the claim that a publisher of this node has already.
    fn join(&self, key: &StreamKey, publisher: &str, replaces: bool) -> Option<Claim> {
        let mut state = self.0.lock();
        let own = state.book.own(key)?;
        if replaces && own.publisher != publisher {
            return None;
        }
        let lost = state.join(key);
        Some(Claim { directory: self.clone(), key: key.clone(), lost })
    }

    fn hold(&self, entry: StreamEntry, is_known: bool) -> Claim {
        let key = entry.key.clone();
        let lost = {
            let mut state = self.0.lock();
            state.counts.claims += 1;
            state.counts.local_claims += u64::from(!is_known);
            if is_known {
                state.answered();
            }
            state.hold(entry)
        };
        self.0.wake.notify_one();
        Claim { directory: self.clone(), key, lost }
    }

    /// Takes the reply to a claim.
    fn on_claim(
        &self,
        config: &Config,
        key: &StreamKey,
        reply: Option<&Value>,
    ) -> Result<Claimed, BusyElsewhere> {
        let Some([Value::Text(code), rest @ ..]) = reply.and_then(Value::list) else {
            if let Some(Value::Error(error)) = reply {
                self.0.fail(&LinkError::Refused(shown(error).to_string()));
            }
            return Ok(Claimed::Unknown);
        };
        if &code[..] == b"ok" {
            return Ok(Claimed::Held);
        }
        // An entry that no node has signed refuses nobody.
        let entry = rest.first().and_then(|text| self.0.read(config, text, Some(key)));
        let Some(entry) = entry else { return Ok(Claimed::Unknown) };
        let node = entry.node().to_owned();
        let mut state = self.0.lock();
        let offered = state.book.offer(entry, Instant::now());
        state.follow(key, offered);
        if &code[..] == b"busy" {
            state.counts.busy += 1;
            return Err(BusyElsewhere { node });
        }
        Ok(Claimed::Again)
    }
}

impl Claim {
    /// Polls for the loss of the stream to a publisher at another node: this one must end.
    pub fn poll_lost(&mut self, cx: &mut Context<'_>) -> Poll<Lost> {
        match Pin::new(&mut self.lost).poll(cx) {
            Poll::Ready(Ok(lost)) => Poll::Ready(lost),
            Poll::Ready(Err(_)) | Poll::Pending => Poll::Pending,
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.lost.close();
        self.directory.0.lock().leave(&self.key);
        self.directory.0.wake.notify_one();
    }
}

/// Returns the hash by which the nodes of a cluster know a publisher again.
fn credential_hash(secret: &Secret, credential: &[String]) -> String {
    let mac = mac_of(secret, std::iter::once("publisher").chain(credential.iter().map(String::as_str)));
    BASE64URL.encode(mac.finalize().into_bytes())
}

impl fmt::Debug for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Claim").field("key", &self.key).finish_non_exhaustive()
    }
}
