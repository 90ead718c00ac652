//! The signatures of nginx's module `secure_link`, to take over URLs that are signed for it.
//!
//! Weak: MD5 over text and secret, in a form that the operator chooses, without lengths. It is for playing alone. Signed
//! URLs take its place; see docs/access.md.

use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use base64::{alphabet, engine::DecodePaddingMode};
use hmac::{Hmac, KeyInit, Mac};
use md5::{Digest, Md5};
use sha2::Sha256;

use super::grant::{Grant, seconds};
use super::{Refusal, Request, SignatureError};
use crate::conf::SecureLink;

/// The parameters of nginx's own examples.
const HASH: &str = "md5";
const EXPIRES: &str = "expires";

/// Base64url with or without padding, as nginx reads it.
const BASE64URL: GeneralPurpose = GeneralPurpose::new(
    &alphabet::URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The scheme of one vhost.
#[derive(Debug)]
pub(super) struct Links {
    config: SecureLink,
}

impl Links {
    pub fn new(config: &SecureLink) -> Links {
        Links { config: config.clone() }
    }

    /// Checks the signature of a request; `None` if it has none.
    pub fn check(&self, request: &Request, now: SystemTime) -> Option<Result<Grant, Refusal>> {
        let hash = request.parameter(HASH)?;
        let verified = self.verify(hash, request, seconds(now));
        let granted = verified.map(|expires| Grant::until(expires, self.config.enforce_expiry, None));
        Some(granted.map_err(Refusal::Link))
    }

    fn verify(&self, hash: &str, request: &Request, now: u64) -> Result<u64, SignatureError> {
        let hash = BASE64URL.decode(hash).map_err(|_| SignatureError::Malformed)?;
        let expiry = request.parameter(EXPIRES).unwrap_or_default();
        let expires: u64 = expiry.parse().map_err(|_| SignatureError::Malformed)?;
        if !self.are_equal(&hash, &Md5::digest(self.text(request, expiry))) {
            return Err(SignatureError::Wrong);
        }
        if expires <= now {
            return Err(SignatureError::Expired { ago: now - expires });
        }
        Ok(expires)
    }

    /// Returns the expression with its variables replaced, each once: values are not searched for variables.
    fn text(&self, request: &Request, expiry: &str) -> Vec<u8> {
        let mut text = Vec::new();
        let mut rest = self.config.expression.as_str();
        while let Some((before, variable)) = rest.split_once('[') {
            text.extend_from_slice(before.as_bytes());
            let Some((name, after)) = variable.split_once(']') else { break };
            match name {
                "expires" => text.extend_from_slice(expiry.as_bytes()),
                "path" => text.extend_from_slice(request.path.as_bytes()),
                "address" => text.extend_from_slice(request.address.to_string().as_bytes()),
                "secret" => text.extend_from_slice(self.config.secret.bytes()),
                _ => {
                    let argument = name.strip_prefix("arg_").and_then(|name| request.parameter(name));
                    text.extend_from_slice(argument.unwrap_or_default().as_bytes());
                }
            }
            rest = after;
        }
        text.extend_from_slice(rest.as_bytes());
        text
    }

    /// Compares through HMAC, whose comparison takes the same time for all values.
    fn are_equal(&self, one: &[u8], two: &[u8]) -> bool {
        let key = self.config.secret.bytes();
        let mac = || Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
        let tag = mac().chain_update(two).finalize().into_bytes();
        mac().chain_update(one).verify_slice(&tag).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conf::Config;
    use crate::policy::Action;
    use crate::policy::request::tests::request;

    const NOW: u64 = 2_147_483_000;

    fn links(expression: &str) -> Links {
        let text = format!("[vhost.v.secure_link]\nsecret = \"secret\"\nexpression = \"{expression}\"");
        Links::new(&Config::parse(&text, "text").unwrap().vhosts[0].secure_link)
    }

    /// The example of nginx's documentation, `2147483647/s/link127.0.0.1 secret`.
    #[test]
    fn reads_what_is_signed_for_nginx() {
        let links = links("[expires][path][address] [secret]");
        let rows = [
            ("/s/link", "127.0.0.1", "2147483647", "_e4Nc3iduzkWRm01TBBNYw", NOW, Ok(2_147_483_647)),
            ("/s/link", "127.0.0.1", "2147483647", "_e4Nc3iduzkWRm01TBBNYw==", NOW, Ok(2_147_483_647)),
            (
                "/s/other",
                "127.0.0.1",
                "2147483647",
                "_e4Nc3iduzkWRm01TBBNYw",
                NOW,
                Err(SignatureError::Wrong),
            ),
            ("/s/link", "127.0.0.2", "2147483647", "_e4Nc3iduzkWRm01TBBNYw", NOW, Err(SignatureError::Wrong)),
            ("/s/link", "127.0.0.1", "2147483648", "_e4Nc3iduzkWRm01TBBNYw", NOW, Err(SignatureError::Wrong)),
            ("/s/link", "127.0.0.1", "", "_e4Nc3iduzkWRm01TBBNYw", NOW, Err(SignatureError::Malformed)),
            ("/s/link", "127.0.0.1", "2147483647", "_e4!", NOW, Err(SignatureError::Malformed)),
            (
                "/s/link",
                "127.0.0.1",
                "2147483647",
                "_e4Nc3iduzkWRm01TBBNYw",
                2_147_483_650,
                Err(SignatureError::Expired { ago: 3 }),
            ),
        ];
        for (path, address, expires, hash, now, expected) in rows {
            let mut request = request(Action::Play, "v", "s", "link");
            request.path = path.to_owned();
            request.address = address.parse().unwrap();
            request.parameters = vec![(EXPIRES.to_owned(), expires.to_owned())];
            assert_eq!(links.verify(hash, &request, now), expected, "{path} {address} {expires} {hash}");
        }
    }

    #[test]
    fn variables_are_replaced_once() {
        let links = links("[arg_id]-[arg_none]-[expires][path]-[secret]");
        let mut request = request(Action::Play, "v", "a", "b");
        request.path = "/a/[secret]".to_owned();
        request.parameters = vec![("id".to_owned(), "[secret]".to_owned())];
        let text = String::from_utf8(links.text(&request, "7")).unwrap();
        assert_eq!(text, "[secret]--7/a/[secret]-secret");
    }
}
