//! Answers of the router to a URL, and to a name over RTMP.

use std::sync::Arc;

use crate::conf::{Mount, Vhost};
use crate::policy::Policy;
use crate::stream::StreamKey;

/// A request's URL, resolved. The redirect comes first, then routes whose stream is live, then the file, then routes
/// whose stream may still be published.
#[derive(Debug)]
pub struct Resolved {
    /// The path, decoded.
    pub path: String,
    /// The query, as written.
    pub query: String,
    /// The redirect that answers the request. It has no routes then.
    pub redirect: Option<Redirection>,
    /// The mounts whose pattern the path matches, the best first.
    pub routes: Vec<Route>,
    /// The file that the path names, relative to the directory of static files.
    pub file: Option<String>,
}

/// The answer of a redirect rule.
#[derive(Debug, PartialEq, Eq)]
pub enum Redirection {
    /// Another URL.
    To {
        /// 301, 302, 307 or 308.
        status: u16,
        /// The new URL, in visible ASCII.
        url: String,
    },
    /// All nodes of the directory are full.
    Full,
}

/// A mount and the stream that a request asks it for.
#[derive(Debug)]
pub struct Route {
    /// The vhost of the mount.
    pub vhost: Arc<Vhost>,
    /// The vhost's policy.
    pub policy: Arc<Policy>,
    /// The mount.
    pub mount: Arc<Mount>,
    /// The stream.
    pub key: StreamKey,
}

/// The stream that a publisher or player names.
#[derive(Debug)]
pub struct Named {
    /// The vhost of the stream.
    pub vhost: Arc<Vhost>,
    /// The vhost's policy.
    pub policy: Arc<Policy>,
    /// The stream.
    pub key: StreamKey,
}
