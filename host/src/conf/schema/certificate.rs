//! The keys of a certificate.

use crate::conf::certificate::CertificateFiles;
use crate::conf::table::Table;
use crate::conf::value::text;

/// The private key and the certificate of SRS.
pub(super) const DEFAULT_CERTIFICATE: [&str; 2] = ["./conf/server.key", "./conf/server.crt"];

pub(super) fn certificate(table: &mut Table, [key, cert]: [&str; 2]) -> CertificateFiles {
    CertificateFiles {
        key: table.key("key", key.to_owned(), text).into(),
        cert: table.key("cert", cert.to_owned(), text).into(),
    }
}
