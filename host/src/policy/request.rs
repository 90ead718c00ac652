//! The request to publish or play, as rules see it.

use std::fmt;
use std::net::IpAddr;
use std::time::Instant;

use super::ids::ConnectionId;
use crate::stream::StreamKey;

/// Length that a text of a client is cut to where it is kept, in bytes.
pub(super) const MAX_TEXT: usize = 256;

/// A request to publish or play. It has no `Debug`: name and parameters may be secrets.
pub struct Request {
    /// The action that the client asks for.
    pub action: Action,
    /// How the client is connected.
    pub protocol: Protocol,
    /// Its connection.
    pub connection: ConnectionId,
    /// When it came.
    pub arrived: Instant,
    /// The stream, after routing: the name of the vhost as configured, the stream without the extension of a mount.
    pub key: StreamKey,
    /// The client's address. Behind trusted proxies, the address that they report.
    pub address: IpAddr,
    /// The page that embeds the player: `pageUrl` over RTMP, else `Referer`; empty if unknown.
    pub page_url: String,
    /// The client's name: `flashVer` over RTMP, else `User-Agent`; empty if unknown.
    pub user_agent: String,
    /// `tcUrl` over RTMP, as sent; else what SRS makes of the URL, `rtmp://VHOST/APP`.
    pub tc_url: String,
    /// The path of the URL, decoded; over RTMP `/APP/STREAM`, as sent.
    pub path: String,
    /// The token of `Authorization: Bearer`, if there is one.
    pub bearer: Option<String>,
    /// The extension of the mount; empty over RTMP.
    pub format: String,
    /// The pairs of the query, decoded.
    pub parameters: Vec<(String, String)>,
    /// The nodes that the stream has passed, by a property or header of the request; empty if none.
    pub hops: String,
    /// The query of the URL, or over RTMP of tcUrl and stream name together, as sent, without the `?`.
    pub query: String,
}

impl Request {
    /// Returns the value of a query parameter, the first if there are several.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    /// Returns everything by which a publisher is known again at another node: the name as it was sent, which may be a secret, and the
    /// parameters but those of nodes and of the vhost, in the order of their names.
    pub fn credential(&self) -> Vec<String> {
        let is_own = |name: &str| !name.starts_with("remuxd_") && name != "vhost" && name != "domain";
        let own = self.parameters.iter().filter(|(name, _)| is_own(name));
        let mut parameters: Vec<_> = own.map(|(name, value)| format!("{name}={value}")).collect();
        parameters.sort_unstable();
        std::iter::once(self.path.clone()).chain(parameters).collect()
    }
}

/// An action on a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// Send it.
    Publish,
    /// Receive it.
    Play,
}

/// The protocol of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// RTMP, also over TLS.
    Rtmp,
    /// HTTP, also over TLS.
    Http,
    /// WebSocket, also over TLS.
    WebSocket,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Action::Publish => "publish",
            Action::Play => "play",
        })
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Protocol::Rtmp => "rtmp",
            Protocol::Http => "http",
            Protocol::WebSocket => "websocket",
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Returns a request over HTTP from 127.0.0.1 without parameters.
    pub fn request(action: Action, vhost: &str, app: &str, stream: &str) -> Request {
        Request {
            action,
            protocol: Protocol::Http,
            connection: ConnectionId::NONE,
            arrived: Instant::now(),
            key: StreamKey::new(vhost, app, stream),
            address: [127, 0, 0, 1].into(),
            page_url: String::new(),
            user_agent: String::new(),
            tc_url: String::new(),
            path: format!("/{app}/{stream}.flv"),
            bearer: None,
            format: "flv".to_owned(),
            parameters: Vec::new(),
            hops: String::new(),
            query: String::new(),
        }
    }

    #[test]
    fn a_credential_is_the_name_and_the_parameters_of_the_client() {
        let mut request = request(Action::Publish, "v", "live", "x");
        assert_eq!(request.credential(), ["/live/x.flv"]);
        let parameters =
            [("token", "t"), ("remuxd_node", "1"), ("vhost", "v"), ("a", "1"), ("remuxd_hops", "n/v")];
        let pair = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        request.parameters = parameters.map(pair).into();
        assert_eq!(request.credential(), ["/live/x.flv", "a=1", "token=t"]);
    }
}
