//! A vhost's rules, in their order.

use std::sync::Arc;
use std::time::SystemTime;

use super::admission::Admission;
use super::credentials::Credentials;
use super::grant::{Grant, short_hash};
use super::hooks::VhostHooks;
use super::key_set::KeySets;
use super::limits::Limits;
use super::node::{check_hops, is_of_node};
use super::refer::check_page;
use super::security::check_address;
use super::sessions::Sessions;
use super::{Action, Refusal, Request, SignatureError};
use crate::conf::{PublishConflict, Refer, Security, SessionLimits, Vhost};
use crate::stream::StreamKey;

/// The rules of one vhost.
#[derive(Debug)]
pub struct Policy {
    security: Security,
    refer: Refer,
    credentials: Credentials,
    limits: Limits,
    hooks: Option<Arc<VhostHooks>>,
    /// The vhost, if its origins are asked about viewers.
    edge: Option<Vhost>,
}

impl Policy {
    /// Returns the policy of a vhost. `limits` are those of the whole host.
    pub fn new(vhost: &Vhost, limits: &SessionLimits) -> Policy {
        let replaces = vhost.publish.conflict == PublishConflict::Replace;
        Policy {
            security: vhost.security.clone(),
            refer: vhost.refer.clone(),
            credentials: Credentials::new(vhost),
            limits: Limits { scopes: [*limits, vhost.limits], replaces },
            hooks: VhostHooks::new(vhost),
            edge: (vhost.cluster.is_edge() && vhost.cluster.token_traverse).then(|| vhost.clone()),
        }
    }

    /// Applies the rules in order; the first that refuses decides. The session counts from its limits on, so that rules that
    /// wait cannot let in too many. Also returns the hooks that are to be asked; those of another node's request are none.
    pub(super) async fn decide(
        &self,
        request: &Request,
        sessions: &Arc<Sessions>,
        key_sets: &KeySets,
    ) -> Result<(Admission, Option<&Arc<VhostHooks>>), Refusal> {
        sessions.check_address(request.address)?;
        check_address(&self.security, request.action, request.address)?;
        let now = SystemTime::now();
        check_hops(request, &sessions.node())?;
        // A node whose clock differs too much is a client like others.
        let (is_of_node, late) = match is_of_node(request, sessions.config().cluster.secret.as_ref(), now) {
            Err(late @ Refusal::Node(SignatureError::Expired { .. })) => (false, Some(late)),
            found => (found?, None),
        };
        let Grant { key, subject, ends } = if is_of_node {
            Grant::default()
        } else {
            let checked = async {
                check_page(&self.refer, request.action, &request.page_url)?;
                self.credentials.check(request, now, key_sets).await
            };
            checked.await.map_err(|refusal| late.unwrap_or(refusal))?
        };
        let entry = sessions.enter(&self.limits, request, key, subject.as_deref())?;
        let admission = Admission::new(entry, ends, self.limits.publisher_bitrate());
        Ok((admission, self.hooks().filter(|_| !is_of_node)))
    }

    /// The vhost whose origins are asked about a request that the rules and hooks accept.
    pub(super) fn asks_origins(&self, request: &Request) -> Option<&Vhost> {
        self.edge.as_ref().filter(|_| request.action == Action::Play)
    }

    /// The hooks, which are asked once the rules accept a request.
    pub(super) fn hooks(&self) -> Option<&Arc<VhostHooks>> {
        self.hooks.as_ref()
    }

    /// Returns a URL or a part of it, with public names in place of secret ones.
    pub fn without_secrets(&self, text: &str) -> String {
        self.credentials.without_secrets(text)
    }

    /// Whether names of publishers are secrets.
    pub fn has_secret_names(&self) -> bool {
        self.credentials.has_secret_names()
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
