//! A vhost's rules, in their order.

use super::refer::check_page;
use super::security::check_address;
use super::{Refusal, Request};
use crate::conf::{Refer, Security, Vhost};

/// The rules of one vhost.
#[derive(Debug)]
pub struct Policy {
    security: Security,
    refer: Refer,
}

impl Policy {
    /// Returns the policy of a vhost.
    pub fn new(vhost: &Vhost) -> Policy {
        Policy { security: vhost.security.clone(), refer: vhost.refer.clone() }
    }

    /// Applies the rules in order; the first that refuses decides.
    #[expect(clippy::unused_async, reason = "hooks wait")]
    pub(super) async fn decide(&self, request: &Request) -> Result<(), Refusal> {
        check_address(&self.security, request.action, request.address)?;
        check_page(&self.refer, request.action, &request.page_url)
    }
}
