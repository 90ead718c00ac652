//! Certificates by the name that a client asks for.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::owner::Owner;
use super::pair::Pair;

/// The certificates that one listener presents now; replaced as a whole.
#[derive(Debug)]
pub(super) struct Resolver(ArcSwap<Names>);

#[derive(Debug)]
struct Names {
    /// Exact names, and wildcards as written in certificates (`*.example.com`), in lower case.
    by_name: HashMap<String, Arc<CertifiedKey>>,
    /// The listener's own certificate, for all other names.
    default: Arc<CertifiedKey>,
}

impl Resolver {
    /// Creates the resolver of `listener`, which is one of `pairs`.
    pub fn new(pairs: &[Pair], listener: &Pair) -> Resolver {
        Resolver(ArcSwap::from_pointee(Names::new(pairs, listener)))
    }

    pub fn replace(&self, pairs: &[Pair], listener: &Pair) {
        self.0.store(Arc::new(Names::new(pairs, listener)));
    }

    /// Returns the certificate for `name`, which rustls has converted to lower case.
    pub fn find(&self, name: Option<&str>) -> Arc<CertifiedKey> {
        let names = self.0.load();
        let named = name.and_then(|name| {
            let wildcard = || names.by_name.get(&format!("*.{}", name.split_once('.')?.1));
            names.by_name.get(name).or_else(wildcard)
        });
        named.unwrap_or(&names.default).clone()
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.find(hello.server_name()))
    }
}

impl Names {
    fn new(pairs: &[Pair], listener: &Pair) -> Names {
        let vhosts = || pairs.iter().filter(|pair| !pair.owner.is_listener());
        let mut by_name = HashMap::new();
        for pair in vhosts() {
            if let Owner::Vhost(name) = &pair.owner {
                by_name.insert(name.to_ascii_lowercase(), pair.used.key.clone());
            }
        }
        for pair in vhosts().chain([listener]) {
            for name in &pair.used.names {
                by_name.entry(name.clone()).or_insert_with(|| pair.used.key.clone());
            }
        }
        Names { by_name, default: listener.used.key.clone() }
    }
}
