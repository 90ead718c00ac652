//! Owners of certificates: the tables of the config that name a key and a certificate.

use std::fmt;

use crate::conf::{CertificateFiles, Config, KeyPath};

/// A listener or vhost with a certificate of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) enum Owner {
    Https,
    Rtmps,
    Vhost(String),
}

impl Owner {
    /// Returns the owners in `config`, with their files: all enabled TLS listeners, then the enabled vhosts.
    pub fn all(config: &Config) -> Vec<(Owner, &CertificateFiles)> {
        let listeners = [(Owner::Https, &config.http_server.https), (Owner::Rtmps, &config.rtmps)];
        let listeners = listeners.into_iter().filter(|(_, listener)| listener.enabled);
        let listeners = listeners.map(|(owner, tls)| (owner, &tls.certificate));
        let vhosts = config.vhosts.iter().filter(|vhost| vhost.enabled);
        let vhosts =
            vhosts.filter_map(|vhost| Some((Owner::Vhost(vhost.name.clone()), vhost.https.as_ref()?)));
        listeners.chain(vhosts).collect()
    }

    pub fn is_listener(&self) -> bool {
        !matches!(self, Owner::Vhost(_))
    }

    /// Returns the location of the table in the config.
    pub fn path(&self) -> KeyPath {
        match self {
            Owner::Https => KeyPath::of("http_server").key("https"),
            Owner::Rtmps => KeyPath::of("rtmps"),
            Owner::Vhost(name) => KeyPath::of("vhost").name(name).key("https"),
        }
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Owner::Https => out.write_str("[http_server.https]"),
            Owner::Rtmps => out.write_str("[rtmps]"),
            Owner::Vhost(name) => write!(out, "[vhost.{name:?}.https]"),
        }
    }
}
