//! Names and URLs of streams of a host.

use super::process::Host;

impl Host {
    /// Returns the app and name of a stream.
    #[must_use]
    pub fn key(&self, name: &str) -> String {
        format!("live/{name}")
    }

    /// Returns the URL at which to publish or play a key over RTMP.
    #[must_use]
    pub fn rtmp_url(&self, key: &str) -> String {
        format!("rtmp://{}/{key}", self.rtmp)
    }

    /// Returns the path of a key under the default mount.
    #[must_use]
    pub fn path(&self, key: &str) -> String {
        format!("/{key}.flv")
    }

    /// Returns the URL of a key under the default mount.
    #[must_use]
    pub fn http_url(&self, key: &str) -> String {
        format!("http://{}{}", self.http, self.path(key))
    }

    /// Returns the WebSocket URL of a key under the default mount.
    #[must_use]
    pub fn ws_url(&self, key: &str) -> String {
        format!("ws://{}{}", self.http, self.path(key))
    }

    /// As [`Host::rtmp_url`], over TLS.
    ///
    /// # Panics
    /// When RTMPS does not listen.
    #[must_use]
    pub fn rtmps_url(&self, key: &str) -> String {
        format!("rtmps://{}/{key}", self.rtmps.expect("the configuration enables RTMPS"))
    }

    /// As [`Host::http_url`], over TLS.
    ///
    /// # Panics
    /// When HTTPS does not listen.
    #[must_use]
    pub fn https_url(&self, key: &str) -> String {
        format!("https://{}{}", self.https.expect("the configuration enables HTTPS"), self.path(key))
    }

    /// As [`Host::ws_url`], over TLS.
    ///
    /// # Panics
    /// When HTTPS does not listen.
    #[must_use]
    pub fn wss_url(&self, key: &str) -> String {
        self.https_url(key).replacen("https", "wss", 1)
    }
}
