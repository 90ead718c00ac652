//! Listeners: the addresses that a config listens on, and what for.

use std::fmt;
use std::net::SocketAddr;

use super::config::{Accept, Config};
use super::source::KeyPath;

/// The protocol of a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListenerKind {
    /// RTMP.
    Rtmp,
    /// RTMP over TLS.
    Rtmps,
    /// HTTP.
    Http,
    /// HTTP over TLS.
    Https,
    /// The API.
    HttpApi,
    /// The API over TLS.
    HttpsApi,
}

impl ListenerKind {
    /// Whether it is for the API.
    pub fn is_api(self) -> bool {
        matches!(self, ListenerKind::HttpApi | ListenerKind::HttpsApi)
    }
}

/// A listener that a config enables.
#[derive(Clone, Debug)]
pub struct ListenerConfig {
    /// Its protocol.
    pub kind: ListenerKind,
    /// Its address; with port 0 any free port.
    pub address: SocketAddr,
    /// The path of the key with the address, whose first step is its table.
    pub path: KeyPath,
    /// How it accepts.
    pub accept: Accept,
}

impl Config {
    /// Returns the listeners that are enabled.
    pub fn listeners(&self) -> Vec<ListenerConfig> {
        let Config { rtmp, rtmps, http_server: http, http_api: api, .. } = self;
        let rtmp_at = |(index, address): (usize, &SocketAddr)| ListenerConfig {
            kind: ListenerKind::Rtmp,
            address: *address,
            path: KeyPath::of("rtmp").key("listen").index(index),
            accept: rtmp.accept.clone(),
        };
        let plain = Accept { proxy_protocol: false, reuse_port: false };
        let api_table = KeyPath::of("http_api");
        let (http_table, https) = (KeyPath::of("http_server"), &http.https);
        let others = [
            (http.enabled, ListenerKind::Http, http.listen, http_table.clone(), &http.accept),
            (api.enabled, ListenerKind::HttpApi, api.listen, api_table.clone(), &plain),
            (api.https.enabled, ListenerKind::HttpsApi, api.https.listen, api_table.key("https"), &plain),
            (https.enabled, ListenerKind::Https, https.listen, http_table.key("https"), &https.accept),
            (rtmps.enabled, ListenerKind::Rtmps, rtmps.listen, KeyPath::of("rtmps"), &rtmps.accept),
        ];
        let others = others.into_iter().filter(|(enabled, ..)| *enabled);
        let others = others.map(|(_, kind, address, table, accept)| ListenerConfig {
            kind,
            address,
            path: table.key("listen"),
            accept: accept.clone(),
        });
        rtmp.listen.iter().enumerate().map(rtmp_at).chain(others).collect()
    }
}

impl fmt::Display for ListenerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            ListenerKind::Rtmp => "rtmp",
            ListenerKind::Rtmps => "rtmps",
            ListenerKind::Http => "http",
            ListenerKind::Https => "https",
            ListenerKind::HttpApi => "http_api",
            ListenerKind::HttpsApi => "https_api",
        })
    }
}
