//! HTTP hooks: the URLs that the host asks or tells about events.

use std::time::Duration;

use super::access::Secret;
use super::endpoint::Endpoint;

/// `[vhost."NAME".http_hooks]`: the hooks of a vhost. Each of the URLs of a hook is asked.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpHooks {
    /// `enabled`, default false.
    pub enabled: bool,
    /// `on_connect`: asked before an RTMP connection is accepted. Default none, as of all URLs.
    pub on_connect: Vec<Endpoint>,
    /// `on_close`: told when an RTMP connection ends.
    pub on_close: Vec<Endpoint>,
    /// `on_publish`: asked before a publisher is accepted.
    pub on_publish: Vec<Endpoint>,
    /// `on_unpublish`: told when a publisher ends.
    pub on_unpublish: Vec<Endpoint>,
    /// `on_play`: asked before a player or viewer is accepted.
    pub on_play: Vec<Endpoint>,
    /// `on_stop`: told when a player or viewer ends.
    pub on_stop: Vec<Endpoint>,
    /// `on_stream_wanted`: told when somebody waits for a stream that is not live.
    pub on_stream_wanted: Vec<Endpoint>,
    /// `on_stream_idle`: told when a live stream had neither viewers nor players for `play.idle_timeout`.
    pub on_stream_idle: Vec<Endpoint>,
    /// How its requests are made.
    pub requests: HookRequests,
    /// `on_failure`: the decision if a hook does not decide. Default `deny`.
    pub on_failure: OnFailure,
    /// `cache_ttl`: how long an allowance holds for the same action, address, stream and parameters. Default 0: not at all.
    pub cache_ttl: Duration,
}

/// `[http_hooks]`: the hooks of the host.
#[derive(Clone, Debug, PartialEq)]
pub struct HostHooks {
    /// `enabled`, default false.
    pub enabled: bool,
    /// `on_fault`: told when a module fails on a stream. Default none.
    pub on_fault: Vec<Endpoint>,
    /// `on_reload`: told after a reload. Default none.
    pub on_reload: Vec<Endpoint>,
    /// How its requests are made.
    pub requests: HookRequests,
}

/// The keys that both tables of hooks have.
#[derive(Clone, Debug, PartialEq)]
pub struct HookRequests {
    /// `secret`: the key of the signature in a header, at least [`MIN_SECRET`](super::MIN_SECRET) bytes. Default none.
    pub secret: Option<Secret>,
    /// `timeout`: of a request that tells, and of all requests together that ask about one session. Default 3 s.
    pub timeout: Duration,
}

/// The decision about a session if a hook gives none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFailure {
    /// It is refused.
    Deny,
    /// It is accepted.
    Allow,
}

impl HttpHooks {
    /// Returns whether it has no URL at all.
    pub fn is_empty(&self) -> bool {
        let lists = [
            &self.on_connect,
            &self.on_close,
            &self.on_publish,
            &self.on_unpublish,
            &self.on_play,
            &self.on_stop,
            &self.on_stream_wanted,
            &self.on_stream_idle,
        ];
        lists.iter().all(|list| list.is_empty())
    }
}
