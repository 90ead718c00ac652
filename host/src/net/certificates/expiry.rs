//! The end of the validity of certificates.

use rustls::pki_types::CertificateDer;
use x509_parser::parse_x509_certificate;

/// Returns when the first certificate of a chain ends, in seconds since 1970. `None` if it cannot be read.
pub(super) fn of_chain(chain: &[CertificateDer<'_>]) -> Option<i64> {
    let end = |der: &CertificateDer<'_>| {
        let (_, certificate) = parse_x509_certificate(der).ok()?;
        Some(certificate.validity().not_after.timestamp())
    };
    chain.iter().filter_map(end).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earliest_end_of_a_chain_counts() {
        let certificate = |year| {
            let mut params = rcgen::CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
            params.not_after = rcgen::date_time_ymd(year, 1, 1);
            let key = rcgen::KeyPair::generate().unwrap();
            params.self_signed(&key).unwrap().der().clone()
        };
        let chain = [certificate(2031), certificate(2030), certificate(2032)];
        assert_eq!(of_chain(&chain), Some(1_893_456_000));
        assert_eq!(of_chain(&[CertificateDer::from_slice(b"no certificate")]), None);
    }
}
