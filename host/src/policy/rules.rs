//! A vhost's rules, in their order.

use std::time::SystemTime;

use super::credentials::Credentials;
use super::grant::{Grant, short_hash};
use super::refer::check_page;
use super::security::check_address;
use super::{Refusal, Request};
use crate::conf::{Refer, Security, Vhost};
use crate::stream::StreamKey;

/// The rules of one vhost.
#[derive(Debug)]
pub struct Policy {
    security: Security,
    refer: Refer,
    credentials: Credentials,
}

impl Policy {
    /// Returns the policy of a vhost.
    pub fn new(vhost: &Vhost) -> Policy {
        Policy {
            security: vhost.security.clone(),
            refer: vhost.refer.clone(),
            credentials: Credentials::new(vhost),
        }
    }

    /// Applies the rules in order; the first that refuses decides.
    #[expect(clippy::unused_async, reason = "hooks wait")]
    pub(super) async fn decide(&self, request: &Request) -> Result<Grant, Refusal> {
        check_address(&self.security, request.action, request.address)?;
        check_page(&self.refer, request.action, &request.page_url)?;
        self.credentials.check(request, SystemTime::now())
    }

    /// Returns the stream of a request as a log may show it.
    pub(super) fn shown(&self, request: &Request) -> String {
        let StreamKey { vhost, app, stream } = &request.key;
        if self.credentials.hides_name(request) {
            return StreamKey::new(vhost, app, &format!("#{}", short_hash(stream))).to_string();
        }
        request.key.to_string()
    }
}
