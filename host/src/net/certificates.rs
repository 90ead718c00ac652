//! Certificates: read from their files, checked, matched to names, and read again when the files change.
//!
//! A client that asks for a name (SNI; RFC 6066, 3) gets the first of these that there is: the certificate of the
//! vhost of that name; one that holds the name, of a vhost's or the listener's; one that holds a wildcard for it,
//! whose `*` stands for one label (RFC 9525, 6.3). Else it gets the listener's.
//!
//! A reload reads those that the config names in other files than before; the set in use is replaced as a whole.
//!
//! Whether files have changed is told by reading them. They are small, and nothing cheaper sees every way in which
//! they are replaced: in place, by rename, by a link that points elsewhere, twice within a clock tick. A pair that
//! cannot be used leaves the old one in use: while its second file or its second half is still to come that is the
//! end of it; if it stays so until the next look, it is logged, once.

mod pair;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use crate::conf::{CertificateFiles, Config, Diagnostics, KeyPath};

use pair::{Change, Pair};

/// How often files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// The certificates of a config, as its listeners show them.
#[derive(Debug, Default)]
pub struct Certificates {
    pairs: Mutex<Vec<Pair>>,
    /// Of the listeners that the host was started with.
    shown: Vec<(Owner, Arc<Shown>)>,
}

/// The certificates of the next config, read and not yet in use; `None` stands for what is in use.
#[derive(Debug, Default)]
pub struct NewCertificates(Vec<(Owner, Option<Pair>)>);

impl NewCertificates {
    /// Reads the certificates of listeners that are enabled, and of vhosts; none if no listener uses TLS. Files that
    /// cannot be used are errors of the config.
    ///
    /// Beside `running`, only files other than before are read. A listener that the config no longer has keeps its
    /// certificate; a new one has none before the next start.
    pub fn read(
        config: &Config,
        running: Option<&Certificates>,
        diagnostics: &mut Diagnostics,
    ) -> NewCertificates {
        let named = named(config);
        let listeners: Vec<Owner> = match running {
            Some(running) => running.shown.iter().map(|(owner, _)| owner.clone()).collect(),
            None => named.iter().map(|(owner, _)| owner.clone()).filter(Owner::listens).collect(),
        };
        if listeners.is_empty() {
            return NewCertificates::default();
        }
        let used = running.map(|running| running.pairs.lock());
        let used = used.as_ref().map_or(&[][..], |pairs| pairs.as_slice());
        let mut new = Vec::new();
        for (owner, files) in named {
            let same = used.iter().any(|pair| pair.owner == owner && pair.files == *files);
            if !owner.listens() || listeners.contains(&owner) {
                let pair = if same { None } else { Pair::read(owner.clone(), files, diagnostics) };
                new.push((owner, pair));
            }
        }
        for listener in listeners {
            if new.iter().all(|(owner, _)| *owner != listener) {
                new.push((listener, None));
            }
        }
        NewCertificates(new)
    }

    /// Whether any lies in other files than before.
    pub fn has_new(&self) -> bool {
        self.0.iter().any(|(_, pair)| pair.is_some())
    }
}

/// The table that names a pair of files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    Https,
    Rtmps,
    Vhost(String),
}

impl Owner {
    fn listens(&self) -> bool {
        !matches!(self, Owner::Vhost(_))
    }
}

impl Owner {
    /// The path of the table.
    fn path(&self) -> KeyPath {
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

impl Certificates {
    /// Returns the certificates to start with.
    pub fn new(new: NewCertificates) -> Certificates {
        let pairs: Vec<_> = new.0.into_iter().filter_map(|(_, pair)| pair).collect();
        let listeners = pairs.iter().filter(|pair| pair.owner.listens());
        let shown = listeners.map(|pair| (pair.owner.clone(), Arc::new(Shown::new(Names::of(&pairs, pair)))));
        Certificates { shown: shown.collect(), pairs: Mutex::new(pairs) }
    }

    /// Puts `new` in the place of all that is in use.
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
        self.show(&pairs);
    }

    /// What a listener shows; `None` when it is not enabled.
    pub(super) fn shown(&self, listener: &Owner) -> Option<Arc<dyn ResolvesServerCert>> {
        let (_, shown) = self.shown.iter().find(|(owner, _)| owner == listener)?;
        Some(shown.clone())
    }

    /// Looks at the files again and again until `stopping`.
    pub(super) async fn watch(self: Arc<Self>, stopping: CancellationToken) {
        while !self.shown.is_empty() {
            tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => {}
                () = stopping.cancelled() => return,
            }
            // Files may lie where reading takes long.
            let certificates = self.clone();
            let Ok(changes) = tokio::task::spawn_blocking(move || certificates.refresh()).await else {
                return error!("certificates are not looked at any more");
            };
            for change in changes {
                match change {
                    Change::Renewed(owner) => info!(%owner, "a new certificate is in use"),
                    Change::Refused(owner, errors) => {
                        for error in errors {
                            error!(%owner, %error, "a new certificate cannot be used; the old one stays in use");
                        }
                    }
                }
            }
        }
    }

    /// Looks at the files once, and takes what is new and can be used.
    fn refresh(&self) -> Vec<Change> {
        let mut pairs = self.pairs.lock();
        let changes: Vec<_> = pairs.iter_mut().filter_map(Pair::refresh).collect();
        if changes.iter().any(|change| matches!(change, Change::Renewed(_))) {
            self.show(&pairs);
        }
        changes
    }

    fn show(&self, pairs: &[Pair]) {
        for (owner, shown) in &self.shown {
            let pair = pairs.iter().find(|pair| pair.owner == *owner);
            pair.into_iter().for_each(|pair| shown.0.store(Arc::new(Names::of(pairs, pair))));
        }
    }
}

/// The tables that name certificates which are in use: of listeners that are enabled, and of vhosts.
fn named(config: &Config) -> Vec<(Owner, &CertificateFiles)> {
    let listeners = [(Owner::Https, &config.http_server.https), (Owner::Rtmps, &config.rtmps)];
    let listeners = listeners.into_iter().filter(|(_, listener)| listener.enabled);
    let listeners = listeners.map(|(owner, tls)| (owner, &tls.certificate));
    let vhosts = config.vhosts.iter().filter(|vhost| vhost.enabled);
    let vhosts = vhosts.filter_map(|vhost| Some((Owner::Vhost(vhost.name.clone()), vhost.https.as_ref()?)));
    listeners.chain(vhosts).collect()
}

/// The cryptography of all that the host does over TLS: aws-lc.
pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// The certificates that one listener shows now.
#[derive(Debug)]
struct Shown(ArcSwap<Names>);

#[derive(Debug)]
struct Names {
    /// Exact names, and wildcards as they are written: `*.example.com`. All in lower case.
    by_name: HashMap<String, Arc<CertifiedKey>>,
    default: Arc<CertifiedKey>,
}

impl Shown {
    fn new(names: Names) -> Shown {
        Shown(ArcSwap::from_pointee(names))
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load().find(hello.server_name()))
    }
}

impl Names {
    /// Of these pairs, for `listener`, which is one of them and answers for all other names.
    fn of(pairs: &[Pair], listener: &Pair) -> Names {
        let vhosts = || pairs.iter().filter(|pair| !pair.owner.listens());
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

    /// `name` in lower case, as rustls has it.
    fn find(&self, name: Option<&str>) -> Arc<CertifiedKey> {
        let named = name.and_then(|name| {
            let wildcard = || self.by_name.get(&format!("*.{}", name.split_once('.')?.1));
            self.by_name.get(name).or_else(wildcard)
        });
        named.unwrap_or(&self.default).clone()
    }
}

#[cfg(test)]
mod tests;
