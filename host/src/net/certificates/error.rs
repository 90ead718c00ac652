//! Errors in a pair of files, and their report in the config.

use std::fmt;
use std::io;
use std::path::PathBuf;

use rustls::pki_types::pem;

use super::owner::Owner;
use crate::conf::Diagnostics;

/// An error in a private key, a certificate, or between the two. Culprit: operator.
#[derive(Debug, thiserror::Error)]
pub(super) enum CertificateError {
    #[error("cannot read {}: {source}", path.display())]
    Read { part: Part, path: PathBuf, source: io::Error },
    #[error("{} holds no {part} in PEM format", path.display())]
    Missing { part: Part, path: PathBuf },
    /// A damaged or truncated file.
    #[error("{} is damaged: {source}", path.display())]
    Pem { part: Part, path: PathBuf, source: pem::Error },
    #[error("the private key in {} is encrypted", path.display())]
    Encrypted { path: PathBuf },
    /// A key or certificate that TLS cannot use.
    #[error("the {part} in {} cannot be used: {source}", path.display())]
    Unusable { part: Part, path: PathBuf, source: rustls::Error },
    #[error("the private key in {} does not belong to the certificate in {}", key.display(), cert.display())]
    Mismatch { key: PathBuf, cert: PathBuf },
}

/// One of the two files of a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Key,
    /// The certificate, followed by those of its issuers.
    Cert,
}

impl CertificateError {
    /// Reports the error at the line that names the file.
    pub fn report(&self, owner: &Owner, diagnostics: &mut Diagnostics) {
        let location = |key| diagnostics.source().value_or_table(&owner.path().key(key));
        let (key, cert) = (location("key"), location("cert"));
        match self {
            CertificateError::Mismatch { .. } => {
                diagnostics.error(self, cert, "this certificate").and(key, "this key");
            }
            CertificateError::Encrypted { .. } => {
                let diagnostic = diagnostics.error(self, key, "the private key is named here");
                diagnostic.help(
                    "the host asks for no passphrase; `openssl pkey -in FILE -out NEW` writes it without one",
                );
            }
            CertificateError::Read { part, .. }
            | CertificateError::Missing { part, .. }
            | CertificateError::Pem { part, .. }
            | CertificateError::Unusable { part, .. } => {
                let location = if *part == Part::Key { key } else { cert };
                diagnostics.error(self, location, format!("the {part} is named here"));
            }
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Part::Key => "private key",
            Part::Cert => "certificate",
        })
    }
}
