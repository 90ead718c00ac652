//! The certificates in use, for the API.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use super::api::Page;
use crate::net::CertificateFacts;

/// A part of the list of certificates in use, those of listeners first.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct CertificateList {
    /// The number of all certificates.
    pub total: usize,
    /// The number of those before this part.
    pub start: usize,
    pub certificates: Vec<CertificateStatus>,
}

/// A certificate in use.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct CertificateStatus {
    /// The listener that has it: `https`, `rtmps` or `http_api`; `vhost` for one of a vhost, which all listeners use.
    pub listener: &'static str,
    /// The vhost; empty for that of a listener.
    pub vhost: String,
    /// Its DNS names.
    pub names: Vec<String>,
    /// The end of its validity, or of an earlier one in its chain, in RFC 3339; `null` if it cannot be read.
    pub not_after: Option<String>,
    /// Seconds until then; negative if it has ended.
    pub seconds_left: Option<i64>,
}

impl CertificateList {
    pub(super) fn of(facts: Vec<CertificateFacts>, page: Page, now: Timestamp) -> CertificateList {
        let total = facts.len();
        let status = |CertificateFacts { owner, vhost, names, not_after }| CertificateStatus {
            listener: owner,
            vhost,
            names,
            not_after: not_after.and_then(|end| Timestamp::from_second(end).ok()).map(|end| end.to_string()),
            seconds_left: not_after.map(|end| end - now.as_second()),
        };
        CertificateList { total, start: page.start, certificates: page.cut(facts).map(status).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_certificate_is_a_time() {
        let facts = |not_after| CertificateFacts {
            owner: "vhost",
            vhost: "a.example".to_owned(),
            names: vec!["a.example".to_owned()],
            not_after,
        };
        let now = Timestamp::from_second(1_000).unwrap();
        let page = Page { start: 0, count: 9 };
        let list = CertificateList::of(vec![facts(Some(1_060)), facts(Some(940)), facts(None)], page, now);
        let ends: Vec<_> =
            list.certificates.iter().map(|one| (one.not_after.as_deref(), one.seconds_left)).collect();
        let expected = [
            (Some("1970-01-01T00:17:40Z"), Some(60)),
            (Some("1970-01-01T00:15:40Z"), Some(-60)),
            (None, None),
        ];
        assert_eq!(ends, expected);
    }
}
