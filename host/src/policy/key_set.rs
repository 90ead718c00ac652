//! Key sets: the public keys behind a URL (JWKS, RFC 7517), which verify tokens.
//!
//! A set is fetched when the first token needs it, again after [`REFRESH`], and when a token names a key that it does not have, at
//! most once in [`UNKNOWN_KEY`]. Only a request whose key is unknown waits for that, [`TIMEOUT`] at most; all others use the set that
//! is there. The last good set is kept until another one is fetched.
//!
//! A key is for one algorithm. Symmetric keys are no public keys: a set with one is refused.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use jsonwebtoken::{Algorithm, DecodingKey};
use parking_lot::Mutex;
use serde::Deserialize;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tracing::{debug, warn};

use super::outbound::{Outbound, OutboundError};
use crate::conf::Endpoint;

/// Time after which a set is fetched again.
const REFRESH: Duration = Duration::from_secs(600);
/// Least time between two fetches because of unknown keys.
const UNKNOWN_KEY: Duration = Duration::from_secs(60);
/// Least time between two fetches while there is no set.
const RETRY: Duration = Duration::from_secs(5);
/// Time limit of a fetch, and of the wait for one.
const TIMEOUT: Duration = Duration::from_secs(3);
/// The largest number of keys in a set: a token that names none is tried with each.
const MAX_KEYS: usize = 32;
/// Time after which a set that nobody uses is dropped, since a reload may have removed its URL.
const UNUSED: Duration = Duration::from_secs(86_400);

/// A key that verifies tokens.
pub(super) struct Key {
    /// The `kid` of its tokens; empty if it has none.
    pub id: String,
    pub algorithm: Algorithm,
    pub key: DecodingKey,
}

/// The reason why a set is not used. Culprit: operator.
#[derive(Debug, thiserror::Error)]
enum KeySetError {
    #[error(transparent)]
    Outbound(#[from] OutboundError),
    #[error("the answer has status {status}")]
    Status { status: u16 },
    #[error("the answer is no key set")]
    NotASet,
    #[error("it has a symmetric key, which everybody can read")]
    Symmetric,
    #[error("it has no key for RS256 or ES256")]
    Empty,
    #[error("it has more than {MAX_KEYS} keys")]
    TooMany,
}

/// The sets of the host, by URL. They outlive a reload.
#[derive(Debug, Default)]
pub(super) struct KeySets {
    client: Arc<OnceLock<Outbound>>,
    sets: Mutex<HashMap<Endpoint, Arc<KeySet>>>,
}

impl KeySets {
    /// Returns the keys behind a URL, for a token of the key `id`; none if there was no set yet.
    pub async fn keys(&self, endpoint: &Endpoint, id: Option<&str>) -> Arc<[Key]> {
        let set = self.set(endpoint);
        // Before the state is read, so that the end of a fetch is not missed.
        let mut fetched = set.fetched.subscribe();
        let (keys, step) = set.state.lock().step(id, Instant::now());
        if step.fetches {
            tokio::spawn(fetch(set.clone(), endpoint.clone(), self.client.clone()));
        }
        if !step.waits {
            return keys;
        }
        let _ = timeout(TIMEOUT, fetched.changed()).await;
        set.state.lock().keys.clone()
    }

    fn set(&self, endpoint: &Endpoint) -> Arc<KeySet> {
        let mut sets = self.sets.lock();
        if let Some(set) = sets.get(endpoint) {
            return set.clone();
        }
        sets.retain(|_, set| set.state.lock().used.elapsed() < UNUSED);
        sets.entry(endpoint.clone()).or_default().clone()
    }
}

/// The keys behind one URL.
#[derive(Debug, Default)]
struct KeySet {
    state: Mutex<State>,
    /// Notified at the end of each fetch.
    fetched: watch::Sender<()>,
}

struct State {
    /// The last good set; empty before there is one.
    keys: Arc<[Key]>,
    /// When the last fetch began.
    tried: Option<Instant>,
    fetching: bool,
    used: Instant,
}

/// The effect of a request for keys.
#[derive(Debug, PartialEq, Eq)]
struct Step {
    fetches: bool,
    waits: bool,
}

impl Default for State {
    fn default() -> State {
        State { keys: Arc::new([]), tried: None, fetching: false, used: Instant::now() }
    }
}

impl State {
    fn step(&mut self, id: Option<&str>, now: Instant) -> (Arc<[Key]>, Step) {
        let is_known = self.keys.iter().any(|key| id.is_none_or(|id| key.id == id));
        let pause = match is_known {
            true => REFRESH,
            false if self.keys.is_empty() => RETRY,
            false => UNKNOWN_KEY,
        };
        let is_due = self.tried.is_none_or(|tried| now.saturating_duration_since(tried) >= pause);
        let fetches = is_due && !self.fetching;
        if fetches {
            (self.tried, self.fetching) = (Some(now), true);
        }
        self.used = now;
        (self.keys.clone(), Step { fetches, waits: self.fetching && !is_known })
    }
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").field("keys", &self.keys.len()).finish_non_exhaustive()
    }
}

/// Fetches a set. A task of its own, so that it ends also if the request that began it does not wait.
async fn fetch(set: Arc<KeySet>, endpoint: Endpoint, client: Arc<OnceLock<Outbound>>) {
    // The first client of a process reads the system's certificates.
    let client = tokio::task::spawn_blocking(move || client.get_or_init(|| Outbound::new(TIMEOUT)).clone());
    let result = match client.await {
        Ok(client) => get(&client, &endpoint).await,
        Err(_) => Err(KeySetError::NotASet),
    };
    {
        let mut state = set.state.lock();
        state.fetching = false;
        if let Ok(keys) = &result {
            state.keys = keys.clone();
        }
    }
    set.fetched.send_replace(());
    match result {
        Ok(keys) => debug!(url = %endpoint, keys = keys.len(), "key set fetched"),
        Err(error) => warn!(url = %endpoint, %error, "key set not fetched; the last one stays"),
    }
}

async fn get(client: &Outbound, endpoint: &Endpoint) -> Result<Arc<[Key]>, KeySetError> {
    let answer = client.get(endpoint, TIMEOUT).await?;
    match answer.status {
        200 => Ok(parse(&answer.body)?.into()),
        status => Err(KeySetError::Status { status }),
    }
}

#[derive(Deserialize)]
struct Document {
    keys: Vec<serde_json::Value>,
}

/// The members of a key that matter here (RFC 7517, 4; RFC 7518, 6).
#[derive(Deserialize)]
struct Member {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    purpose: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

/// Reads a set. Keys for other algorithms and purposes are left out.
fn parse(json: &[u8]) -> Result<Vec<Key>, KeySetError> {
    let document: Document = serde_json::from_slice(json).map_err(|_| KeySetError::NotASet)?;
    let members = document.keys.into_iter().filter_map(|key| serde_json::from_value(key).ok());
    let members: Vec<Member> = members.collect();
    if members.iter().any(|member| member.kty == "oct") {
        return Err(KeySetError::Symmetric);
    }
    let keys: Vec<_> = members.into_iter().filter_map(Member::key).collect();
    match keys.len() {
        0 => Err(KeySetError::Empty),
        1..=MAX_KEYS => Ok(keys),
        _ => Err(KeySetError::TooMany),
    }
}

impl Member {
    fn key(self) -> Option<Key> {
        if self.purpose.is_some_and(|purpose| purpose != "sig") {
            return None;
        }
        let (algorithm, key) = match (&*self.kty, self.crv.as_deref(), self.alg.as_deref()) {
            ("RSA", _, None | Some("RS256")) => {
                (Algorithm::RS256, DecodingKey::from_rsa_components(&self.n?, &self.e?))
            }
            ("EC", Some("P-256"), None | Some("ES256")) => {
                (Algorithm::ES256, DecodingKey::from_ec_components(&self.x?, &self.y?))
            }
            _ => return None,
        };
        Some(Key { id: self.kid.unwrap_or_default(), algorithm, key: key.ok()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EC: &str = r#"{"kty":"EC","crv":"P-256","kid":"e","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}"#;
    const RSA: &str =
        r#"{"kty":"RSA","kid":"r","alg":"RS256","use":"sig","n":"0vx7agoebGcQSuuPiLJXZptN","e":"AQAB"}"#;

    #[test]
    fn a_set_has_public_keys_of_known_algorithms() {
        let oct = r#"{"kty":"oct","kid":"o","k":"AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T"}"#;
        let rows: Vec<(String, Result<&str, &str>)> = vec![
            (format!("[{EC},{RSA}]"), Ok("e ES256, r RS256")),
            (format!("[{}]", EC.replace("\"kid\":\"e\",", "")), Ok(" ES256")),
            (format!("[{EC},{oct}]"), Err("it has a symmetric key, which everybody can read")),
            (format!("[{EC},{{\"kty\":\"OKP\",\"crv\":\"Ed25519\"}},{{\"kid\":1}},7]"), Ok("e ES256")),
            (format!("[{EC},{}]", RSA.replace("RS256", "PS256")), Ok("e ES256")),
            (format!("[{EC},{}]", RSA.replace("sig", "enc")), Ok("e ES256")),
            (format!("[{RSA},{}]", EC.replace("P-256", "P-384")), Ok("r RS256")),
            (format!("[{RSA},{}]", EC.replace("\"x\"", "\"z\"")), Ok("r RS256")),
            ("[]".to_owned(), Err("it has no key for RS256 or ES256")),
            (format!("[{}]", [EC; MAX_KEYS + 1].join(",")), Err("it has more than 32 keys")),
            ("{}".to_owned(), Err("the answer is no key set")),
        ];
        for (keys, expected) in rows {
            let parsed = parse(format!("{{\"keys\":{keys}}}").as_bytes());
            let shown = parsed.map_err(|error| error.to_string()).map(|keys| {
                let keys: Vec<_> = keys.iter().map(|key| format!("{} {:?}", key.id, key.algorithm)).collect();
                keys.join(", ")
            });
            assert_eq!(shown, expected.map(str::to_owned).map_err(str::to_owned), "{keys}");
        }
        assert!(parse(b"<html>").is_err());
    }

    /// Steps of one set: seconds, the key that is asked for, whether a fetch ends well before, and what follows.
    #[test]
    fn a_set_is_fetched_when_it_is_due() {
        let mut state = State::default();
        let start = Instant::now();
        let (none, fetch, wait, both) = ([false, false], [true, false], [false, true], [true, true]);
        let rows = [
            (0, Some("e"), None, both),
            (1, Some("e"), None, wait),
            // It failed: again after 5 s.
            (3, Some("e"), Some(false), none),
            (5, Some("e"), None, both),
            (6, Some("e"), Some(true), none),
            (6, None, None, none),
            // Unknown keys: at most once in 60 s.
            (7, Some("x"), None, none),
            (65, Some("x"), None, both),
            (65, Some("e"), None, none),
            (66, Some("x"), Some(true), none),
            // The set is refreshed, and used meanwhile.
            (664, Some("e"), None, none),
            (665, Some("e"), None, fetch),
            (666, None, None, none),
            (666, Some("x"), None, wait),
            (667, Some("e"), Some(false), none),
            (667, Some("x"), None, none),
        ];
        for (seconds, id, ended, expected) in rows {
            if let Some(good) = ended {
                state.fetching = false;
                if good {
                    state.keys = parse(format!("{{\"keys\":[{EC}]}}").as_bytes()).unwrap().into();
                }
            }
            let (_, Step { fetches, waits }) = state.step(id, start + Duration::from_secs(seconds));
            assert_eq!([fetches, waits], expected, "{seconds} {id:?}");
        }
    }
}
