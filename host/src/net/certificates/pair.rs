//! A private key and a certificate in two files: read, validated, and polled for changes.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SigningKey};
use sha2::{Digest, Sha256};

use super::error::{CertificateError, Part};
use super::owner::Owner;
use crate::conf::{CertificateFiles, Diagnostics, read_file};
use crate::net::crypto::provider;

/// Limit of the length of a file, in bytes.
const MAX_FILE: u64 = 1 << 20;

/// A pair of files and the certificate in use, which is the last valid one read from them.
#[derive(Debug)]
pub(super) struct Pair {
    pub owner: Owner,
    pub files: CertificateFiles,
    pub used: Certificate,
    rejected: Option<Rejected>,
}

/// A validated certificate with its private key.
#[derive(Debug)]
pub(super) struct Certificate {
    hash: ContentHash,
    pub key: Arc<CertifiedKey>,
    /// The certificate's DNS names, wildcards included, in lower case.
    pub names: Vec<String>,
}

/// A hash of the contents of both files. The contents themselves are not kept, so that the key is in memory only once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ContentHash([u8; 32]);

/// Contents that failed validation.
#[derive(Debug)]
struct Rejected {
    hash: ContentHash,
    /// Whether the errors have been returned: from the second poll with the same contents on.
    reported: bool,
}

/// The outcome of a poll that found other contents.
#[derive(Debug)]
pub(super) enum Change {
    /// A new certificate is in use.
    Renewed(Owner),
    /// The new files are invalid; the old certificate stays in use.
    Rejected(Owner, Vec<CertificateError>),
}

impl Pair {
    /// Reads the pair of `owner`. Invalid files are errors of the config.
    pub fn read(owner: Owner, files: &CertificateFiles, diagnostics: &mut Diagnostics) -> Option<Pair> {
        // An empty path was reported when the config was read.
        if [&files.key, &files.cert].iter().any(|path| path.as_os_str().is_empty()) {
            return None;
        }
        match Contents::read(files).validate(files) {
            Ok(used) => Some(Pair { owner, files: files.clone(), used, rejected: None }),
            Err(errors) => {
                errors.iter().for_each(|error| error.report(&owner, diagnostics));
                None
            }
        }
    }

    /// Reads the files again, and uses a new certificate if it is valid. Errors are returned once, and only if two polls
    /// in a row find the same contents: the first poll may come between the writes of the two files.
    pub fn refresh(&mut self) -> Option<Change> {
        let contents = Contents::read(&self.files);
        let hash = contents.hash;
        if hash == self.used.hash {
            self.rejected = None;
            return None;
        }
        let seen = self.rejected.as_ref().filter(|rejected| rejected.hash == hash);
        if seen.is_some_and(|rejected| rejected.reported) {
            return None;
        }
        let is_second = seen.is_some();
        match contents.validate(&self.files) {
            Ok(certificate) => {
                self.used = certificate;
                self.rejected = None;
                Some(Change::Renewed(self.owner.clone()))
            }
            Err(errors) => {
                self.rejected = Some(Rejected { hash, reported: is_second });
                is_second.then(|| Change::Rejected(self.owner.clone(), errors))
            }
        }
    }
}

/// The contents of a pair of files, read at one time.
struct Contents {
    key: Result<Vec<u8>, CertificateError>,
    cert: Result<Vec<u8>, CertificateError>,
    hash: ContentHash,
}

impl Contents {
    fn read(files: &CertificateFiles) -> Contents {
        let mut hash = Sha256::new();
        let mut read = |part, path: &Path| {
            let contents = read_file(path, MAX_FILE).map_err(|source| CertificateError::Read {
                part,
                path: path.into(),
                source,
            });
            match &contents {
                Ok(bytes) => hash.update(Sha256::digest(bytes)),
                Err(error) => hash.update(error.to_string()),
            }
            contents
        };
        let (key, cert) = (read(Part::Key, &files.key), read(Part::Cert, &files.cert));
        Contents { key, cert, hash: ContentHash(hash.finalize().into()) }
    }

    /// Returns the certificate, or all errors in the two files.
    fn validate(self, files: &CertificateFiles) -> Result<Certificate, Vec<CertificateError>> {
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
        Ok(Certificate { hash: self.hash, key: Arc::new(certified), names })
    }
}

/// Parses the first private key of a file.
fn signing_key(pem: &[u8], path: &Path) -> Result<Arc<dyn SigningKey>, CertificateError> {
    let part = Part::Key;
    let key = PrivateKeyDer::from_pem_slice(pem).map_err(|source| match is_encrypted(pem) {
        true => CertificateError::Encrypted { path: path.into() },
        false => pem_error(source, part, path),
    })?;
    let key = provider().key_provider.load_private_key(key);
    key.map_err(|source| CertificateError::Unusable { part, path: path.into(), source })
}

/// Whether a key is encrypted, as PKCS #8 (RFC 7468, 11) or in OpenSSL's older format (RFC 1421, 4.6.1.1).
fn is_encrypted(pem: &[u8]) -> bool {
    let mut lines = pem.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    lines.any(|line| line == b"-----BEGIN ENCRYPTED PRIVATE KEY-----" || line == b"Proc-Type: 4,ENCRYPTED")
}

/// Parses the certificates of a file. Returns them with the DNS names of the first.
fn chain(pem: &[u8], path: &Path) -> Result<(Vec<CertificateDer<'static>>, Vec<String>), CertificateError> {
    let part = Part::Cert;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let chain = chain.map_err(|source| pem_error(source, part, path))?;
    let Some(first) = chain.first() else {
        return Err(CertificateError::Missing { part, path: path.into() });
    };
    let names = match webpki::EndEntityCert::try_from(first) {
        Ok(certificate) => certificate.valid_dns_names().map(str::to_ascii_lowercase).collect(),
        // rustls reports the error of such a certificate when it is compared with its key.
        Err(_) => Vec::new(),
    };
    Ok((chain, names))
}

fn pem_error(source: pem::Error, part: Part, path: &Path) -> CertificateError {
    match source {
        pem::Error::NoItemsFound => CertificateError::Missing { part, path: path.into() },
        source => CertificateError::Pem { part, path: path.into(), source },
    }
}
