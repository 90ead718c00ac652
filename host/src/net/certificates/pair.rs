//! A pair of files, a private key and a certificate: read, checked, and looked at again.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SigningKey};
use sha2::{Digest, Sha256};

use super::{Owner, provider};
use crate::conf::{CertificateFiles, Diagnostics};

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
    /// A private key that only a passphrase opens.
    #[error("the private key in {} is encrypted", path.display())]
    Encrypted {
        /// The file.
        path: PathBuf,
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

/// A pair of files, and what of it is in use.
#[derive(Debug)]
pub(super) struct Pair {
    pub owner: Owner,
    pub files: CertificateFiles,
    pub used: Certificate,
    refused: Option<Refused>,
}

/// A certificate that can be used.
#[derive(Debug)]
pub(super) struct Certificate {
    contents: Contents,
    pub key: Arc<CertifiedKey>,
    /// DNS names that it is for, wildcards among them.
    pub names: Vec<String>,
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
pub(super) enum Change {
    /// A new certificate is in use.
    Renewed(Owner),
    /// Files cannot be used, and the old certificate stays.
    Refused(Owner, Vec<CertificateError>),
}

impl Pair {
    /// Reads the pair of `owner`. Files that cannot be used are errors of the config.
    pub fn read(owner: Owner, files: &CertificateFiles, diagnostics: &mut Diagnostics) -> Option<Pair> {
        // An empty path was reported when the config was read.
        if [&files.key, &files.cert].iter().any(|path| path.as_os_str().is_empty()) {
            return None;
        }
        match Found::look(files).certificate(files) {
            Ok(used) => Some(Pair { owner, files: files.clone(), used, refused: None }),
            Err(errors) => {
                errors.iter().for_each(|error| report(error, &owner, diagnostics));
                None
            }
        }
    }

    /// Looks at the files again, and takes what is new and can be used.
    pub fn refresh(&mut self) -> Option<Change> {
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

/// Reports an error at the line that names the file.
fn report(error: &CertificateError, owner: &Owner, diagnostics: &mut Diagnostics) {
    let location = |key| diagnostics.source().value_or_table(&owner.path().key(key));
    let (key, cert) = (location("key"), location("cert"));
    match error {
        CertificateError::Mismatch { .. } => {
            diagnostics.error(error, cert, "this certificate").and(key, "this key");
        }
        CertificateError::Encrypted { .. } => {
            let diagnostic = diagnostics.error(error, key, "the private key is asked for here");
            diagnostic.help(
                "the host asks for no passphrase; `openssl pkey -in FILE -out NEW` writes it without one",
            );
        }
        CertificateError::Read { part, .. }
        | CertificateError::Missing { part, .. }
        | CertificateError::Pem { part, .. }
        | CertificateError::Unusable { part, .. } => {
            let location = if *part == Part::Key { key } else { cert };
            diagnostics.error(error, location, format!("the {part} is asked for here"));
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

/// Reads a regular file. Nothing else is waited for, be it a FIFO without a writer or a device without an end.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 {
        ..=MAX_FILE => Ok(bytes),
        _ => Err(io::Error::other(format!("longer than {MAX_FILE} bytes"))),
    }
}

/// The first private key of a file.
fn signing_key(pem: &[u8], path: &Path) -> Result<Arc<dyn SigningKey>, CertificateError> {
    let part = Part::Key;
    let key = PrivateKeyDer::from_pem_slice(pem).map_err(|source| match is_encrypted(pem) {
        true => CertificateError::Encrypted { path: path.into() },
        false => not_pem(source, part, path),
    })?;
    let key = provider().key_provider.load_private_key(key);
    key.map_err(|source| CertificateError::Unusable { part, path: path.into(), source })
}

/// Whether a key is encrypted, as PKCS #8 (RFC 7468, 11) or as OpenSSL wrote keys before (RFC 1421, 4.6.1.1).
fn is_encrypted(pem: &[u8]) -> bool {
    let mut lines = pem.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    lines.any(|line| line == b"-----BEGIN ENCRYPTED PRIVATE KEY-----" || line == b"Proc-Type: 4,ENCRYPTED")
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
