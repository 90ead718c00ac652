//! The hooks of one vhost.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::HookAction;
use super::client::Client;
use super::event::Facts;
use crate::conf::{Endpoint, HttpHooks, Vhost};
use crate::stream::StreamKey;

/// Limit of allowances that are kept.
const MAX_CACHED: usize = 10_000;
/// Limit of streams that are wanted within [`WANTED_AGAIN`]; further ones are not told.
const MAX_WANTED: usize = 256;
/// Time after which hooks are told again that a stream is wanted.
const WANTED_AGAIN: Duration = Duration::from_secs(10);

/// The hooks of one vhost, from one config. A reload replaces them; sessions keep theirs to their end.
#[derive(Debug)]
pub(in crate::policy) struct VhostHooks {
    pub(super) config: HttpHooks,
    pub(super) client: Arc<Client>,
    /// See [`crate::conf::Play::idle_timeout`].
    pub(super) idle_timeout: Duration,
    /// The streams that may be idle, each with the time since when. Each has a task.
    pub(super) idle_since: Mutex<HashMap<StreamKey, tokio::time::Instant>>,
    allowed: Mutex<HashMap<Allowance, Instant>>,
    wanted: Mutex<HashMap<StreamKey, Instant>>,
}

/// The key of an allowance. It has no `Debug`: parameters may be secrets.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Allowance {
    action: &'static str,
    address: IpAddr,
    key: StreamKey,
    param: String,
}

impl std::fmt::Debug for Allowance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Allowance").field("key", &self.key).finish_non_exhaustive()
    }
}

impl VhostHooks {
    /// Returns the hooks of a vhost, if they are enabled.
    pub fn new(vhost: &Vhost) -> Option<Arc<VhostHooks>> {
        let config = &vhost.http_hooks;
        let hooks = || VhostHooks {
            client: Arc::new(Client::new(&config.requests)),
            config: config.clone(),
            idle_timeout: vhost.play.idle_timeout,
            idle_since: Mutex::default(),
            allowed: Mutex::default(),
            wanted: Mutex::default(),
        };
        (config.enabled && !config.is_empty()).then(|| Arc::new(hooks()))
    }

    /// The URLs of a hook.
    pub fn urls(&self, action: HookAction) -> &[Endpoint] {
        match action {
            HookAction::Connect => &self.config.on_connect,
            HookAction::Close => &self.config.on_close,
            HookAction::Publish => &self.config.on_publish,
            HookAction::Unpublish => &self.config.on_unpublish,
            HookAction::Play => &self.config.on_play,
            HookAction::Stop => &self.config.on_stop,
            HookAction::StreamWanted => &self.config.on_stream_wanted,
            HookAction::StreamIdle => &self.config.on_stream_idle,
            // They are asked and told by other tables.
            HookAction::Forward | HookAction::Fault | HookAction::Reload => &[],
        }
    }

    /// Returns whether a session like this was allowed less than `cache_ttl` ago.
    pub fn is_allowed(&self, action: HookAction, facts: &Facts, now: Instant) -> bool {
        if self.config.cache_ttl.is_zero() {
            return false;
        }
        self.allowed.lock().get(&Allowance::of(action, facts)).is_some_and(|until| now < *until)
    }

    /// Keeps an allowance for `cache_ttl`. If there are too many, the expired ones go, or else all.
    pub fn keep_allowance(&self, action: HookAction, facts: &Facts, now: Instant) {
        if self.config.cache_ttl.is_zero() {
            return;
        }
        let mut allowed = self.allowed.lock();
        if allowed.len() >= MAX_CACHED {
            allowed.retain(|_, until| now < *until);
        }
        if allowed.len() >= MAX_CACHED {
            allowed.clear();
        }
        allowed.insert(Allowance::of(action, facts), now + self.config.cache_ttl);
    }

    /// Returns whether hooks are to be told now that a stream is wanted.
    pub fn is_newly_wanted(&self, key: &StreamKey, now: Instant) -> bool {
        let mut wanted = self.wanted.lock();
        wanted.retain(|_, told| now.duration_since(*told) < WANTED_AGAIN);
        if wanted.contains_key(key) || wanted.len() >= MAX_WANTED {
            return false;
        }
        wanted.insert(key.clone(), now);
        true
    }
}

impl Allowance {
    fn of(action: HookAction, facts: &Facts) -> Allowance {
        let Facts { address, key, param, .. } = facts;
        let action = match action {
            HookAction::Connect => "connect",
            HookAction::Publish => "publish",
            _ => "play",
        };
        Allowance { action, address: *address, key: key.clone(), param: param.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conf::Config;

    fn hooks(keys: &str) -> Arc<VhostHooks> {
        let text = format!("[vhost.v.http_hooks]\nenabled = true\non_play = \"http://127.0.0.1/\"\n{keys}");
        VhostHooks::new(&Config::parse(&text, "text").unwrap().vhosts[0]).unwrap()
    }

    fn facts(stream: &str, query: &str) -> Facts {
        Facts {
            client_id: "1".to_owned(),
            session_id: "1".to_owned(),
            protocol: "http".to_owned(),
            address: [127, 0, 0, 1].into(),
            key: StreamKey::new("v", "live", stream),
            tc_url: String::new(),
            param: query.to_owned(),
            page_url: String::new(),
            user_agent: String::new(),
            format: "flv".to_owned(),
        }
    }

    #[test]
    fn allowances_are_for_what_they_were_given_and_end() {
        let hooks = hooks("cache_ttl = 10");
        let now = Instant::now();
        hooks.keep_allowance(HookAction::Play, &facts("film", "a=1"), now);
        let later = |seconds| now + Duration::from_secs(seconds);
        for (action, stream, query, at, expected) in [
            (HookAction::Play, "film", "a=1", later(9), true),
            (HookAction::Play, "film", "a=1", later(10), false),
            (HookAction::Play, "film", "a=2", now, false),
            (HookAction::Play, "news", "a=1", now, false),
            (HookAction::Publish, "film", "a=1", now, false),
        ] {
            let found = hooks.is_allowed(action, &facts(stream, query), at);
            assert_eq!(found, expected, "{action} {stream} {query}");
        }
        let other = Facts { address: [127, 0, 0, 2].into(), ..facts("film", "a=1") };
        assert!(!hooks.is_allowed(HookAction::Play, &other, now));
    }

    #[test]
    fn allowances_are_bounded_and_off_by_default() {
        let (kept, off) = (hooks("cache_ttl = 10"), hooks(""));
        let now = Instant::now();
        for number in 0..=MAX_CACHED {
            kept.keep_allowance(HookAction::Play, &facts("film", &number.to_string()), now);
        }
        assert!(kept.allowed.lock().len() <= MAX_CACHED);
        off.keep_allowance(HookAction::Play, &facts("film", ""), now);
        assert!(!off.is_allowed(HookAction::Play, &facts("film", ""), now));
    }

    #[test]
    fn a_stream_is_wanted_once_in_a_while() {
        let hooks = hooks("");
        let now = Instant::now();
        let key = |number: usize| StreamKey::new("v", "live", &number.to_string());
        assert!(hooks.is_newly_wanted(&key(0), now));
        assert!(!hooks.is_newly_wanted(&key(0), now + Duration::from_secs(9)));
        assert!(hooks.is_newly_wanted(&key(0), now + WANTED_AGAIN));
        let told = (0..1000).filter(|number| hooks.is_newly_wanted(&key(*number), now + 3 * WANTED_AGAIN));
        assert_eq!(told.count(), MAX_WANTED);
    }
}
