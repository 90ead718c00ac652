//! TLS certificates: read from files, validated, selected by name, and replaced when the files change.
//!
//! A client may ask for a name (SNI; RFC 6066, 3). It gets the first match of:
//! 1. the certificate of the vhost with that name;
//! 2. a certificate that holds the name, of a vhost or of the listener;
//! 3. a certificate that holds a wildcard for it, whose `*` stands for one label (RFC 9525, 6.3);
//! 4. the listener's certificate.
//!
//! A reload reads only certificates whose paths have changed; the set in use is replaced as a whole.
//!
//! Changes are detected by reading the files every [`POLL_INTERVAL`]. They are small, and nothing cheaper detects every
//! kind of replacement: in place, by rename, by a link with a new target, twice within a clock tick. While a new pair is
//! invalid, the old one stays in use. An invalid pair is logged once, when a second poll finds it unchanged: until then,
//! its second file may still be written.

mod error;
mod expiry;
mod owner;
mod pair;
mod resolver;

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rustls::server::ResolvesServerCert;
use tracing::{error, info};

use crate::conf::{Config, Diagnostics};
use crate::lifecycle::Lifecycle;

pub(super) use owner::Owner;
use pair::{Change, Pair};
use resolver::Resolver;

/// Time between two polls of the files.
const POLL_INTERVAL: Duration = Duration::from_secs(2);

/// The facts about a certificate in use.
#[derive(Clone, Debug)]
pub struct CertificateFacts {
    /// `https`, `rtmps`, `http_api` or `vhost`.
    pub owner: &'static str,
    /// The name of the vhost; empty for a listener.
    pub vhost: String,
    /// Its DNS names, wildcards included, in lower case.
    pub names: Vec<String>,
    /// The end of its validity, or of an earlier one in its chain, in seconds since 1970; `None` if it cannot be read.
    pub not_after: Option<i64>,
}

/// The certificates in use.
#[derive(Debug, Default)]
pub struct Certificates {
    pairs: Mutex<Vec<Pair>>,
    /// The resolvers of the listeners in use. That of a listener stays the same as long as it is enabled.
    resolvers: Mutex<Vec<(Owner, Arc<Resolver>)>>,
}

/// The certificates of the next config, read and not yet in use. `None` keeps the owner's current pair.
#[derive(Debug, Default)]
pub struct NewCertificates(Vec<(Owner, Option<Pair>)>);

impl NewCertificates {
    /// Reads the certificates of enabled listeners and of vhosts; none if no listener uses TLS. Invalid files are errors
    /// of the config.
    ///
    /// With `running`, only files with changed paths are read.
    pub fn read(
        config: &Config,
        running: Option<&Certificates>,
        diagnostics: &mut Diagnostics,
    ) -> NewCertificates {
        let owners = Owner::all(config);
        if !owners.iter().any(|(owner, _)| owner.is_listener()) {
            return NewCertificates::default();
        }
        let used = running.map(|running| running.pairs.lock());
        let used = used.as_ref().map_or(&[][..], |pairs| pairs.as_slice());
        let mut new = Vec::new();
        for (owner, files) in owners {
            let same = used.iter().any(|pair| pair.owner == owner && pair.files == *files);
            let pair = if same { None } else { Pair::read(owner.clone(), files, diagnostics) };
            new.push((owner, pair));
        }
        NewCertificates(new)
    }

    /// Whether the path of any certificate has changed.
    pub fn has_new(&self) -> bool {
        self.0.iter().any(|(_, pair)| pair.is_some())
    }
}

impl Certificates {
    /// Creates the certificates that the host starts with.
    pub fn new(new: NewCertificates) -> Certificates {
        let certificates = Certificates::default();
        let pairs = new.0.into_iter().filter_map(|(_, pair)| pair);
        certificates.pairs.lock().extend(pairs);
        certificates.update_resolvers(&certificates.pairs.lock());
        certificates
    }

    /// Replaces the certificates in use.
    pub fn adopt(&self, new: NewCertificates) {
        let mut pairs = self.pairs.lock();
        let mut old = std::mem::take(&mut *pairs);
        for (owner, pair) in new.0 {
            if pair.is_some() {
                info!(%owner, "a new certificate is in use");
            }
            let kept = || old.iter().position(|pair| pair.owner == owner).map(|at| old.swap_remove(at));
            pairs.extend(pair.or_else(kept));
        }
        self.update_resolvers(&pairs);
    }

    /// Returns the facts about each certificate in use.
    pub fn facts(&self) -> Vec<CertificateFacts> {
        let pairs = self.pairs.lock();
        let facts = |pair: &Pair| {
            let (owner, vhost) = pair.owner.labels();
            CertificateFacts {
                owner,
                vhost: vhost.to_owned(),
                names: pair.used.names.clone(),
                not_after: expiry::of_chain(&pair.used.key.cert),
            }
        };
        pairs.iter().map(facts).collect()
    }

    /// Returns the resolver of a listener; `None` if the listener is disabled.
    pub(super) fn resolver(&self, listener: &Owner) -> Option<Arc<dyn ResolvesServerCert>> {
        let resolvers = self.resolvers.lock();
        let (_, resolver) = resolvers.iter().find(|(owner, _)| owner == listener)?;
        Some(resolver.clone())
    }

    /// Polls the files until the host stops, and logs the changes.
    pub async fn watch(self: Arc<Self>, lifecycle: Lifecycle) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(POLL_INTERVAL) => {}
                () = lifecycle.stopping() => return,
            }
            if self.pairs.lock().is_empty() {
                continue;
            }
            // Reads may block for long, as on a network filesystem.
            let certificates = self.clone();
            let Ok(changes) = tokio::task::spawn_blocking(move || certificates.refresh()).await else {
                return error!("certificates are no longer polled");
            };
            for change in changes {
                match change {
                    Change::Renewed(owner) => info!(%owner, "a new certificate is in use"),
                    Change::Rejected(owner, errors) => {
                        for error in errors {
                            error!(%owner, %error, "a new certificate cannot be used; the old one stays in use");
                        }
                    }
                }
            }
        }
    }

    /// Polls the files once, and uses new certificates that are valid.
    fn refresh(&self) -> Vec<Change> {
        let mut pairs = self.pairs.lock();
        let changes: Vec<_> = pairs.iter_mut().filter_map(Pair::refresh).collect();
        if changes.iter().any(|change| matches!(change, Change::Renewed(_))) {
            self.update_resolvers(&pairs);
        }
        changes
    }

    /// Updates the resolvers of the listeners among `pairs`; drops those of others.
    fn update_resolvers(&self, pairs: &[Pair]) {
        let mut resolvers = self.resolvers.lock();
        let listeners = pairs.iter().filter(|pair| pair.owner.is_listener());
        let updated = listeners.map(|listener| {
            let owner = listener.owner.clone();
            match resolvers.iter().find(|(one, _)| *one == owner) {
                Some((_, resolver)) => {
                    resolver.replace(pairs, listener);
                    (owner, resolver.clone())
                }
                None => (owner, Arc::new(Resolver::new(pairs, listener))),
            }
        });
        let updated = updated.collect();
        *resolvers = updated;
    }
}

#[cfg(test)]
mod tests;
