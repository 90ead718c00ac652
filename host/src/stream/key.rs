//! The name of a stream.

use std::fmt;
use std::sync::Arc;

use crate::conf::DEFAULT_VHOST;
use crate::module::text::push_visible;

/// vhost, app and name of a stream.
///
/// [`Display`](fmt::Display) is for logs: `app/stream`, after `vhost/` for another vhost than the default one. Control
/// characters are escaped, so that a peer cannot forge a line of the log. Query parameters and tokens are no part of it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct StreamKey {
    /// The name of the vhost as configured.
    pub vhost: Arc<str>,
    /// The app.
    pub app: Arc<str>,
    /// The stream.
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
        if &*self.vhost != DEFAULT_VHOST {
            write!(f, "{}/", self.vhost)?;
        }
        for character in self.app.chars().chain(['/']).chain(self.stream.chars()) {
            push_visible(f, character)?;
        }
        Ok(())
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
    fn is_shown_by_name_on_one_line() {
        let rows = [
            ("__defaultVhost__", "live", "film", "live/film"),
            ("a.example", "live", "film", "a.example/live/film"),
            ("__defaultVhost__", "a/b", "f\u{e9}", "a/b/f\u{e9}"),
            ("__defaultVhost__", "a\n", "\x1b[31m\r\0", "a\\n/\\u{1b}[31m\\r\\u{0}"),
            ("__defaultVhost__", "a", "\u{202e}\u{85}", "a/\\u{202e}\\u{85}"),
        ];
        for (vhost, app, stream, shown) in rows {
            let key = StreamKey::new(vhost, app, stream);
            assert_eq!((format!("{key}"), format!("{key:?}")), (shown.to_owned(), shown.to_owned()));
        }
    }
}
