//! Credentials: what a client shows to be allowed. Each kind is for publishing, for playing, or both.
//!
//! A vhost that has kinds for an action requires one of them. Those that a request carries are checked in a fixed order, and
//! the first decides: a wrong signature is not made good by a token.

use std::time::SystemTime;

use super::grant::Grant;
use super::jwt::Tokens;
use super::key_set::KeySets;
use super::publish_key::PublicNames;
use super::secure_link::Links;
use super::signed_url::Signatures;
use super::{Action, Refusal, Request};
use crate::conf::{Scope, Vhost};

/// The kinds of credentials of one vhost.
#[derive(Debug)]
pub(super) struct Credentials {
    signatures: Option<Signatures>,
    tokens: Option<Tokens>,
    links: Option<Links>,
    names: Option<PublicNames>,
}

impl Credentials {
    pub fn new(vhost: &Vhost) -> Credentials {
        Credentials {
            signatures: vhost.signed_url.scope.enabled.then(|| Signatures::new(&vhost.signed_url)),
            tokens: vhost.jwt.scope.enabled.then(|| Tokens::new(&vhost.jwt)),
            links: vhost.secure_link.enabled.then(|| Links::new(&vhost.secure_link)),
            names: vhost.publish_key.enabled.then(|| PublicNames::new(&vhost.publish_key)),
        }
    }

    /// Checks the credentials of a request at the time `now`. Waits if a token needs a key set that is not there yet.
    pub async fn check(
        &self,
        request: &Request,
        now: SystemTime,
        key_sets: &KeySets,
    ) -> Result<Grant, Refusal> {
        let action = request.action;
        let mut needed = false;
        if let Some(signatures) = self.signatures.as_ref().filter(|one| is_for(one.scope, action)) {
            needed = true;
            if let Some(granted) = signatures.check(request, now) {
                return granted;
            }
        }
        if let Some(tokens) = self.tokens.as_ref().filter(|one| is_for(one.scope, action)) {
            needed = true;
            if let Some(granted) = tokens.check(request, now, key_sets).await {
                return granted;
            }
        }
        if let Some(links) = self.links.as_ref().filter(|_| action == Action::Play) {
            needed = true;
            if let Some(granted) = links.check(request, now) {
                return granted;
            }
        }
        if let Some(names) = &self.names {
            match action {
                Action::Publish => return names.check(request),
                // A secret name that somebody plays by mistake must not be waited for and logged.
                Action::Play if names.check(request).is_ok() => return Err(Refusal::SecretName),
                Action::Play => {}
            }
        }
        if needed { Err(Refusal::NoCredentials) } else { Ok(Grant::default()) }
    }

    /// Returns a URL or a part of it, with public names in place of secret ones.
    pub fn without_secrets(&self, text: &str) -> String {
        self.names.as_ref().map_or_else(|| text.to_owned(), |names| names.without_secrets(text))
    }

    /// Whether publishers have secret names.
    pub fn has_secret_names(&self) -> bool {
        self.names.is_some()
    }

    /// Whether the name in a request may be a secret.
    pub fn hides_name(&self, request: &Request) -> bool {
        let names = self.names.as_ref();
        names.is_some_and(|names| request.action == Action::Publish || names.check(request).is_ok())
    }
}

fn is_for(scope: Scope, action: Action) -> bool {
    match action {
        Action::Publish => scope.publish,
        Action::Play => scope.play,
    }
}
