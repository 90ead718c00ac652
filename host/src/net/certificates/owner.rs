//! Owners of certificates: the tables of the config that name a key and a certificate.

use std::fmt;

use crate::conf::{CertificateFiles, Config, KeyPath};

/// A listener or vhost with a certificate of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) enum Owner {
    Https,
    Rtmps,
    Api,
    Vhost(String),
}

impl Owner {
    /// Returns the owners in `config`, with their files: all enabled TLS listeners, then the enabled vhosts.
    pub fn all(config: &Config) -> Vec<(Owner, &CertificateFiles)> {
        let (https, rtmps, api) = (&config.http_server.https, &config.rtmps, &config.http_api.https);
        let listeners = [
            (https.enabled, Owner::Https, &https.certificate),
            (rtmps.enabled, Owner::Rtmps, &rtmps.certificate),
            (api.enabled, Owner::Api, &api.certificate),
        ];
        let listeners = listeners.into_iter().filter(|(enabled, ..)| *enabled);
        let listeners = listeners.map(|(_, owner, certificate)| (owner, certificate));
        let vhosts = config.vhosts.iter().filter(|vhost| vhost.enabled);
        let vhosts =
            vhosts.filter_map(|vhost| Some((Owner::Vhost(vhost.name.clone()), vhost.https.as_ref()?)));
        listeners.chain(vhosts).collect()
    }

    pub fn is_listener(&self) -> bool {
        !matches!(self, Owner::Vhost(_))
    }

    /// Returns the kind of owner and the name of the vhost, for metrics.
    pub fn labels(&self) -> (&'static str, &str) {
        match self {
            Owner::Https => ("https", ""),
            Owner::Rtmps => ("rtmps", ""),
            Owner::Api => ("http_api", ""),
            Owner::Vhost(name) => ("vhost", name),
        }
    }

    /// Returns the location of the table in the config.
    pub fn path(&self) -> KeyPath {
        match self {
            Owner::Https => KeyPath::of("http_server").key("https"),
            Owner::Rtmps => KeyPath::of("rtmps"),
            Owner::Api => KeyPath::of("http_api").key("https"),
            Owner::Vhost(name) => KeyPath::of("vhost").name(name).key("https"),
        }
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Owner::Https => out.write_str("[http_server.https]"),
            Owner::Rtmps => out.write_str("[rtmps]"),
            Owner::Api => out.write_str("[http_api.https]"),
            Owner::Vhost(name) => write!(out, "[vhost.{name:?}.https]"),
        }
    }
}
