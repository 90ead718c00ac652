//! Certificates: read from their files, checked, matched to names, and read again when the files change.
//!
//! A client that asks for a name (SNI; RFC 6066, 3) gets the first of these that there is: the certificate of the
//! vhost of that name; one that holds the name, of a vhost's or the listener's; one that holds a wildcard for it,
//! whose `*` stands for one label (RFC 9525, 6.3). Else it gets the listener's.
//!
//! Whether files have changed is told by reading them. They are small, and nothing cheaper sees every way in which
//! they are replaced: in place, by rename, by a link that points elsewhere, twice within a clock tick. A pair that
//! cannot be used leaves the old one in use: while its second file or its second half is still to come that is the
//! end of it; if it stays so until the next look, it is logged, once.

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::{CertifiedKey, SigningKey};
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use crate::conf::{CertificateFiles, Config, Diagnostics};

/// How often files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// The most that is read of a file, in bytes.
const MAX_FILE: u64 = 1 << 20;

/// Why a pair of files is no certificate to use. Culprit: operator.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateError {
    /// A file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// What the file should hold.
        part: Part,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file holds nothing of its kind.
    #[error("{} holds no {part} in PEM format", path.display())]
    Missing {
        /// What it should hold.
        part: Part,
        /// The file.
        path: PathBuf,
    },
    /// A file is damaged, or cut off.
    #[error("{} is damaged: {source}", path.display())]
    Pem {
        /// What the file should hold.
        part: Part,
        /// The file.
        path: PathBuf,
        /// Where it stops being PEM.
        source: pem::Error,
    },
    /// What a file holds is not for TLS.
    #[error("the {part} in {} cannot be used: {source}", path.display())]
    Unusable {
        /// What the file holds.
        part: Part,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: rustls::Error,
    },
    /// Key and certificate are not of one pair.
    #[error("the private key in {} does not belong to the certificate in {}", key.display(), cert.display())]
    Mismatch {
        /// The key's file.
        key: PathBuf,
        /// The certificate's file.
        cert: PathBuf,
    },
}

/// One of the two files of a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The private key.
    Key,
    /// The certificate and what leads to its root.
    Cert,
}

impl fmt::Display for Part {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Part::Key => "private key",
            Part::Cert => "certificate",
        })
    }
}

/// The certificates of a config, as its listeners show them.
#[derive(Debug, Default)]
pub struct Certificates {
    pairs: Vec<Pair>,
    shown: Vec<(Owner, Arc<Shown>)>,
}

/// A pair of files, and what of it is in use.
#[derive(Debug)]
struct Pair {
    owner: Owner,
    files: CertificateFiles,
    used: Certificate,
    refused: Option<Refused>,
}

/// The table that names a pair of files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    Https,
    Rtmps,
    Vhost(String),
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

/// A certificate that can be used.
#[derive(Debug)]
struct Certificate {
    contents: Contents,
    key: Arc<CertifiedKey>,
    /// DNS names that it is for, wildcards among them.
    names: Vec<String>,
}

/// What two files held, as a hash: a key should lie in memory once.
type Contents = [u8; 32];

/// Contents that cannot be used, until there are others.
#[derive(Debug)]
struct Refused {
    contents: Contents,
    reported: bool,
}

/// What a look at the files has found.
#[derive(Debug)]
enum Change {
    /// A new certificate is in use.
    Renewed(Owner),
    /// Files cannot be used, and the old certificate stays.
    Refused(Owner, Vec<CertificateError>),
}

impl Certificates {
    /// Reads those of the listeners that are enabled, and of the vhosts. None are read when no listener speaks TLS.
    /// Files that cannot be used are mistakes of the config.
    pub fn load(config: &Config, diagnostics: &mut Diagnostics) -> Certificates {
        let listeners = [(Owner::Https, &config.http_server.https), (Owner::Rtmps, &config.rtmps)];
        let listeners = listeners.into_iter().filter(|(_, listener)| listener.enabled);
        let listeners: Vec<_> = listeners.map(|(owner, tls)| (owner, &tls.certificate)).collect();
        if listeners.is_empty() {
            return Certificates::default();
        }
        let vhosts = config.vhosts.iter().filter(|vhost| vhost.enabled);
        let vhosts =
            vhosts.filter_map(|vhost| Some((Owner::Vhost(vhost.name.clone()), vhost.https.as_ref()?)));
        let mut certificates = Certificates::default();
        let named = |files: &CertificateFiles| {
            ![&files.key, &files.cert].iter().any(|path| path.as_os_str().is_empty())
        };
        for (owner, files) in listeners.into_iter().chain(vhosts).filter(|(_, files)| named(files)) {
            match Found::look(files).certificate(files) {
                Ok(used) => {
                    certificates.pairs.push(Pair { owner, files: files.clone(), used, refused: None });
                }
                Err(errors) => errors.iter().for_each(|error| report(error, files, diagnostics)),
            }
        }
        let listens = |pair: &&Pair| !matches!(pair.owner, Owner::Vhost(_));
        let shown = certificates.pairs.iter().filter(listens);
        let shown = shown.map(|pair| (pair.owner.clone(), Arc::new(Shown(certificates.names(pair).into()))));
        certificates.shown = shown.collect();
        certificates
    }

    /// What a listener shows; `None` when it is not enabled.
    pub(super) fn shown(&self, listener: &Owner) -> Option<Arc<dyn ResolvesServerCert>> {
        let (_, shown) = self.shown.iter().find(|(owner, _)| owner == listener)?;
        Some(shown.clone())
    }

    /// Looks at the files again and again until `stopping`.
    pub(super) async fn watch(mut self, stopping: CancellationToken) {
        while !self.pairs.is_empty() {
            tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => {}
                () = stopping.cancelled() => return,
            }
            // Files may lie where reading takes long.
            let looked = tokio::task::spawn_blocking(move || {
                let changes = self.refresh();
                (self, changes)
            });
            let Ok((looked, changes)) = looked.await else {
                return error!("certificates are not looked at any more");
            };
            self = looked;
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
    fn refresh(&mut self) -> Vec<Change> {
        let changes: Vec<_> = self.pairs.iter_mut().filter_map(Pair::refresh).collect();
        if changes.iter().any(|change| matches!(change, Change::Renewed(_))) {
            for (owner, shown) in &self.shown {
                let pair = self.pairs.iter().find(|pair| pair.owner == *owner);
                pair.into_iter().for_each(|pair| shown.0.store(Arc::new(self.names(pair))));
            }
        }
        changes
    }

    /// Which certificate answers for which name where `listener` is what answers for all others.
    fn names(&self, listener: &Pair) -> Names {
        let vhosts = || self.pairs.iter().filter(|pair| matches!(pair.owner, Owner::Vhost(_)));
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

/// Shows a mistake with the line that names the file.
fn report(error: &CertificateError, files: &CertificateFiles, diagnostics: &mut Diagnostics) {
    match error {
        CertificateError::Mismatch { .. } => {
            diagnostics.error(error, &files.cert_place, "this certificate").and(&files.key_place, "this key");
        }
        CertificateError::Read { part, .. }
        | CertificateError::Missing { part, .. }
        | CertificateError::Pem { part, .. }
        | CertificateError::Unusable { part, .. } => {
            let place = if *part == Part::Key { &files.key_place } else { &files.cert_place };
            diagnostics.error(error, place, format!("the {part} is asked for here"));
        }
    }
}

impl Pair {
    fn refresh(&mut self) -> Option<Change> {
        let found = Found::look(&self.files);
        if found.contents == self.used.contents {
            self.refused = None;
            return None;
        }
        if self.refused.as_ref().is_some_and(|refused| refused.reported && refused.contents == found.contents)
        {
            return None;
        }
        let contents = found.contents;
        match found.certificate(&self.files) {
            Ok(certificate) => {
                self.used = certificate;
                self.refused = None;
                Some(Change::Renewed(self.owner.clone()))
            }
            Err(errors) => {
                let again = self.refused.as_ref().is_some_and(|refused| refused.contents == contents);
                self.refused = Some(Refused { contents, reported: again });
                again.then(|| Change::Refused(self.owner.clone(), errors))
            }
        }
    }
}

/// What two files hold now.
struct Found {
    key: Result<Vec<u8>, CertificateError>,
    cert: Result<Vec<u8>, CertificateError>,
    contents: Contents,
}

impl Found {
    fn look(files: &CertificateFiles) -> Found {
        let mut hash = Sha256::new();
        let mut read = |part, path: &Path| {
            let found =
                read(path).map_err(|source| CertificateError::Read { part, path: path.into(), source });
            match &found {
                Ok(bytes) => hash.update(Sha256::digest(bytes)),
                Err(error) => hash.update(error.to_string()),
            }
            found
        };
        let (key, cert) = (read(Part::Key, &files.key), read(Part::Cert, &files.cert));
        Found { key, cert, contents: hash.finalize().into() }
    }

    /// The certificate, if the two files make one; else all that is wrong with them.
    fn certificate(self, files: &CertificateFiles) -> Result<Certificate, Vec<CertificateError>> {
        let key = self.key.and_then(|pem| signing_key(&pem, &files.key));
        let chain = self.cert.and_then(|pem| chain(&pem, &files.cert));
        let (key, (chain, names)) = match (key, chain) {
            (Ok(key), Ok(chain)) => (key, chain),
            (key, chain) => return Err(key.err().into_iter().chain(chain.err()).collect()),
        };
        let certified = CertifiedKey::new(chain, key);
        certified.keys_match().map_err(|source| {
            let (key, cert) = (files.key.clone(), files.cert.clone());
            vec![match source {
                rustls::Error::InconsistentKeys(_) => CertificateError::Mismatch { key, cert },
                source => CertificateError::Unusable { part: Part::Cert, path: cert, source },
            }]
        })?;
        Ok(Certificate { contents: self.contents, key: Arc::new(certified), names })
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_FILE).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The first private key of a file.
fn signing_key(pem: &[u8], path: &Path) -> Result<Arc<dyn SigningKey>, CertificateError> {
    let part = Part::Key;
    let key = PrivateKeyDer::from_pem_slice(pem).map_err(|source| not_pem(source, part, path))?;
    let key = provider().key_provider.load_private_key(key);
    key.map_err(|source| CertificateError::Unusable { part, path: path.into(), source })
}

/// The certificates of a file, and the DNS names of the first.
fn chain(pem: &[u8], path: &Path) -> Result<(Vec<CertificateDer<'static>>, Vec<String>), CertificateError> {
    let part = Part::Cert;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let chain = chain.map_err(|source| not_pem(source, part, path))?;
    let Some(first) = chain.first() else {
        return Err(CertificateError::Missing { part, path: path.into() });
    };
    let names = match webpki::EndEntityCert::try_from(first) {
        Ok(certificate) => certificate.valid_dns_names().map(str::to_ascii_lowercase).collect(),
        // rustls says better what it thinks of such a certificate.
        Err(_) => Vec::new(),
    };
    Ok((chain, names))
}

fn not_pem(source: pem::Error, part: Part, path: &Path) -> CertificateError {
    match source {
        pem::Error::NoItemsFound => CertificateError::Missing { part, path: path.into() },
        source => CertificateError::Pem { part, path: path.into(), source },
    }
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

impl From<Names> for ArcSwap<Names> {
    fn from(names: Names) -> Self {
        ArcSwap::from_pointee(names)
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load().find(hello.server_name()))
    }
}

impl Names {
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
