//! Redirect rules: URL patterns whose requests are sent to another host.

use super::pattern::MountPattern;
use super::target::RedirectTarget;

/// `[[vhost."NAME".redirect]]`: a URL pattern whose requests are redirected.
#[derive(Clone, Debug, PartialEq)]
pub struct Redirect {
    /// `path`: a pattern as of a mount, default `[vhost]/[app]/[stream].flv`.
    pub pattern: MountPattern,
    /// `to`.
    pub to: RedirectTo,
    /// `status`: 301, 302, 307 or 308, default 302.
    pub status: u16,
}

/// The target of a rule.
#[derive(Clone, Debug, PartialEq)]
pub enum RedirectTo {
    /// The same URL for all.
    Url(RedirectTarget),
    /// A node of the directory.
    Node {
        /// `least-loaded` or `nearest`.
        order: NodeOrder,
        /// `rtmp`: players over RTMP. Default `serve`, since few follow.
        rtmp: Players,
        /// `websocket`: viewers over WebSocket. Default `serve`, since browsers do not follow.
        websocket: Players,
    },
}

/// The treatment of players that may not follow a redirect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Players {
    /// They are served here.
    Serve,
    /// They are redirected.
    Redirect,
}

/// The order of the nodes to which a viewer may be redirected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeOrder {
    /// The least loaded first.
    LeastLoaded,
    /// Those of the viewer's region first, the least loaded of them first.
    Nearest,
}

impl RedirectTo {
    /// Returns whether a request may be served here after all.
    pub fn is_node(&self) -> bool {
        matches!(self, RedirectTo::Node { .. })
    }
}
