//! The name of a stream.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, LazyLock};

/// Keys the hash that stands for a stream key in logs: the same within one run, unknown to readers of the log.
static LOG_HASH: LazyLock<RandomState> = LazyLock::new(RandomState::new);

/// vhost, app and stream key.
///
/// [`Display`](fmt::Display) and [`Debug`] are for logs: they show a hash in place of the stream key, which is
/// a password to many encoders.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct StreamKey {
    /// The name of the vhost as configured.
    pub vhost: Arc<str>,
    /// The app.
    pub app: Arc<str>,
    /// The stream key.
    pub stream: Arc<str>,
}

impl StreamKey {
    /// The stream `stream` of `app` on `vhost`.
    pub fn new(vhost: &str, app: &str, stream: &str) -> StreamKey {
        StreamKey { vhost: vhost.into(), app: app.into(), stream: stream.into() }
    }
}

impl fmt::Display for StreamKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hash = LOG_HASH.hash_one(&self.stream) as u32;
        write!(f, "{}/{}/#{hash:08x}", self.vhost, self.app)
    }
}

impl fmt::Debug for StreamKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_no_stream_key() {
        let key = StreamKey::new("__defaultVhost__", "live", "secret");
        let shown = format!("{key} {key:?}");
        assert!(shown.contains("__defaultVhost__/live/#") && !shown.contains("secret"), "{shown}");
        assert_eq!(key.to_string(), key.clone().to_string());
        assert_ne!(key.to_string(), StreamKey::new("__defaultVhost__", "live", "other").to_string());
    }
}
