//! The files of a certificate.

use std::path::PathBuf;

/// A certificate chain and its private key, as PEM files. Relative paths start at the working directory.
#[derive(Clone, Debug, PartialEq)]
pub struct CertificateFiles {
    /// `key`: default `./conf/server.key` of a listener (SRS).
    pub key: PathBuf,
    /// `cert`: the server's certificate first, then the intermediate ones. Default `./conf/server.crt` of a listener
    /// (SRS).
    pub cert: PathBuf,
}
