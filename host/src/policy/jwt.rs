//! JSON web tokens (RFC 7519), signed by HS256, RS256 or ES256.
//!
//! A key is for one algorithm, which the config or its key set names; what a token's header says only selects among the keys. Claims:
//! - `exp`, required: seconds since 1970;
//! - `action`, required: `"publish"`, `"play"`, or a list of them;
//! - `sub`: the session's subject, by which an operator may ban it;
//! - `vhost`, `app`, `stream`: the token is for these alone; `*` in `stream` stands for any characters;
//! - `nbf`, `iss`, `aud`: as RFC 7519 has them.
//!
//! A token is in the query, or over HTTP in `Authorization: Bearer` (RFC 6750).

use std::sync::Arc;
use std::time::SystemTime;

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, Header, Validation, decode, decode_header};
use serde::Deserialize;

use super::grant::{Grant, seconds};
use super::key_set::{Key, KeySets};
use super::{Refusal, Request, TokenError};
use crate::conf::{Endpoint, Jwt, JwtMaterial, Scope};

/// How far the clock that issued a token may be ahead, in seconds: for `nbf` alone.
const SKEW: u64 = 60;

/// The keys of one vhost.
pub(super) struct Tokens {
    pub scope: Scope,
    parameter: String,
    keys: Vec<Key>,
    /// The URL of further keys.
    key_set: Option<Endpoint>,
    validation: Validation,
}

#[derive(Debug, Deserialize)]
struct Claims {
    exp: u64,
    sub: Option<String>,
    nbf: Option<u64>,
    action: Actions,
    vhost: Option<String>,
    app: Option<String>,
    stream: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Actions {
    One(String),
    Several(Vec<String>),
}

impl Tokens {
    pub fn new(config: &Jwt) -> Tokens {
        let keys = config.keys.iter().filter_map(|key| {
            let (algorithm, decoding) = match &key.material {
                JwtMaterial::Hs256(secret) => {
                    (Algorithm::HS256, DecodingKey::from_secret(secret.bytes()).ok()?)
                }
                JwtMaterial::Rs256(der) => (Algorithm::RS256, DecodingKey::from_rsa_der(der)),
                JwtMaterial::Es256(der) => (Algorithm::ES256, DecodingKey::from_ec_der(der)),
            };
            Some(Key { id: key.id.clone(), algorithm, key: decoding })
        });
        Tokens {
            scope: config.scope,
            parameter: config.parameter.clone(),
            keys: keys.collect(),
            key_set: config.jwks_url.clone(),
            validation: validation(config),
        }
    }

    /// Checks the token of a request; `None` if it has none.
    pub async fn check(
        &self,
        request: &Request,
        now: SystemTime,
        key_sets: &KeySets,
    ) -> Option<Result<Grant, Refusal>> {
        let token = request.parameter(&self.parameter).or(request.bearer.as_deref())?;
        let fetched = self.fetched(token, key_sets).await;
        let verified = self.verify(token, request, seconds(now), &fetched);
        let granted =
            verified.map(|Claims { exp, sub, .. }| Grant::until(exp, self.scope.enforce_expiry, sub));
        Some(granted.map_err(Refusal::Token))
    }

    /// Returns the keys of the key set, unless one of the config's own keys has signed the token, as it says.
    async fn fetched(&self, token: &str, key_sets: &KeySets) -> Arc<[Key]> {
        let none = || Arc::new([]);
        let (Some(endpoint), Ok(Header { kid, .. })) = (&self.key_set, decode_header(token)) else {
            return none();
        };
        match &kid {
            Some(id) if self.keys.iter().any(|key| key.id == *id) => none(),
            _ => key_sets.keys(endpoint, kid.as_deref()).await,
        }
    }

    /// Verifies a token, and returns its claims.
    fn verify(
        &self,
        token: &str,
        request: &Request,
        now: u64,
        fetched: &[Key],
    ) -> Result<Claims, TokenError> {
        let claims = self.claims(token, fetched)?;
        if claims.exp <= now {
            return Err(TokenError::Expired { ago: now - claims.exp });
        }
        if claims.nbf.is_some_and(|first| first > now + SKEW) {
            return Err(TokenError::Early);
        }
        let action = request.action.to_string();
        let has_action = match &claims.action {
            Actions::One(one) => *one == action,
            Actions::Several(several) => several.contains(&action),
        };
        if !has_action {
            return Err(TokenError::Action);
        }
        let key = &request.key;
        let names = [
            ("vhost", claims.vhost.as_ref().is_none_or(|vhost| **vhost == *key.vhost)),
            ("app", claims.app.as_ref().is_none_or(|app| **app == *key.app)),
            ("stream", claims.stream.as_ref().is_none_or(|pattern| matches(pattern, &key.stream))),
        ];
        match names.into_iter().find(|(_, same)| !same) {
            Some((part, _)) => Err(TokenError::Name { part }),
            None => Ok(claims),
        }
    }

    /// Returns the claims of a token that one of the keys has signed.
    fn claims(&self, token: &str, fetched: &[Key]) -> Result<Claims, TokenError> {
        let header = decode_header(token).map_err(|_| TokenError::Malformed)?;
        let named = |key: &&Key| header.kid.as_ref().is_none_or(|kid| *kid == key.id);
        let mut error = TokenError::UnknownKey;
        for key in self.keys.iter().chain(fetched).filter(named) {
            let validation = Validation { algorithms: vec![key.algorithm], ..self.validation.clone() };
            match decode::<Claims>(token, &key.key, &validation) {
                Ok(token) => return Ok(token.claims),
                Err(failed) => error = reason(failed.kind()),
            }
        }
        Err(error)
    }
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokens").field("keys", &self.keys.len()).finish_non_exhaustive()
    }
}

/// Returns what is checked of every token, beside the algorithm of the key. Times are checked by [`Tokens::verify`], to the second.
fn validation(config: &Jwt) -> Validation {
    let mut validation = Validation { validate_exp: false, ..Validation::default() };
    let mut required = vec!["exp"];
    if !config.issuer.is_empty() {
        validation.set_issuer(&[&config.issuer]);
        required.push("iss");
    }
    if !config.audience.is_empty() {
        validation.set_audience(&[&config.audience]);
        required.push("aud");
    }
    validation.set_required_spec_claims(&required);
    validation
}

fn reason(error: &ErrorKind) -> TokenError {
    match error {
        ErrorKind::InvalidSignature | ErrorKind::InvalidAlgorithm | ErrorKind::InvalidKeyFormat => {
            TokenError::Signature
        }
        ErrorKind::MissingRequiredClaim(_)
        | ErrorKind::InvalidClaimFormat(_)
        | ErrorKind::InvalidIssuer
        | ErrorKind::InvalidAudience
        | ErrorKind::Json(_) => TokenError::Claims,
        _ => TokenError::Malformed,
    }
}

/// Whether a text matches a pattern, in which `*` stands for any characters, also none.
fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else { return false };
    let parts: Vec<_> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        let Some((_, after)) = rest.split_once(part) else { return false };
        rest = after;
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conf::Config;
    use crate::policy::Action;
    use crate::policy::request::tests::request;
    use jsonwebtoken::{EncodingKey, Header, encode};
    use serde_json::{Value, json};

    const SECRET: &str = "0123456789abcdef0123456789abcdef";
    const NOW: u64 = 1_800_000_000;

    fn tokens(more: &str) -> Tokens {
        let text = format!(
            "[vhost.v.jwt]\nenabled = true\n{more}\n[[vhost.v.jwt.key]]\nid = \"a\"\nalgorithm = \"HS256\"\n\
             secret = \"{SECRET}\""
        );
        Tokens::new(&Config::parse(&text, "text").unwrap().vhosts[0].jwt)
    }

    fn token(kid: Option<&str>, algorithm: Algorithm, secret: &str, claims: &Value) -> String {
        let header = Header { kid: kid.map(str::to_owned), ..Header::new(algorithm) };
        encode(&header, claims, &EncodingKey::from_secret(secret.as_bytes()).unwrap()).unwrap()
    }

    #[test]
    fn a_token_is_for_what_its_claims_name_alone() {
        let tokens = tokens("");
        let play = |more: Value| {
            let mut claims = json!({"exp": NOW + 10, "action": "play"});
            claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            claims
        };
        let rows = [
            (play(json!({})), Ok(NOW + 10)),
            (play(json!({"action": ["publish", "play"]})), Ok(NOW + 10)),
            (play(json!({"action": "publish"})), Err(TokenError::Action)),
            (play(json!({"action": []})), Err(TokenError::Action)),
            (play(json!({"action": 1})), Err(TokenError::Claims)),
            (json!({"exp": NOW + 10}), Err(TokenError::Claims)),
            (json!({"action": "play"}), Err(TokenError::Claims)),
            (play(json!({"exp": NOW})), Err(TokenError::Expired { ago: 0 })),
            (play(json!({"nbf": NOW + 61})), Err(TokenError::Early)),
            (play(json!({"nbf": NOW})), Ok(NOW + 10)),
            (play(json!({"vhost": "v", "app": "live", "stream": "film"})), Ok(NOW + 10)),
            (play(json!({"vhost": "w"})), Err(TokenError::Name { part: "vhost" })),
            (play(json!({"app": "liv"})), Err(TokenError::Name { part: "app" })),
            (play(json!({"stream": "f*m"})), Ok(NOW + 10)),
            (play(json!({"stream": "news*"})), Err(TokenError::Name { part: "stream" })),
            (play(json!({"aud": "other"})), Err(TokenError::Claims)),
        ];
        for (claims, expected) in rows {
            let request = request(Action::Play, "v", "live", "film");
            let token = token(Some("a"), Algorithm::HS256, SECRET, &claims);
            let expiry = tokens.verify(&token, &request, NOW, &[]).map(|claims| claims.exp);
            assert_eq!(expiry, expected, "{claims}");
        }
    }

    #[test]
    fn a_token_is_signed_by_a_key_and_its_algorithm() {
        let tokens = tokens("issuer = \"me\"\naudience = \"here\"");
        let request = request(Action::Play, "v", "live", "film");
        let claims = json!({"exp": NOW + 1, "action": "play", "iss": "me", "aud": ["here", "there"]});
        let other = json!({"exp": NOW + 1, "action": "play", "iss": "you", "aud": "here"});
        let without = json!({"exp": NOW + 1, "action": "play"});
        let none = "eyJhbGciOiJub25lIn0.eyJleHAiOjE4MDAwMDAwMDEsImFjdGlvbiI6InBsYXkifQ.";
        let rows = [
            (token(Some("a"), Algorithm::HS256, SECRET, &claims), Ok(NOW + 1)),
            (token(None, Algorithm::HS256, SECRET, &claims), Ok(NOW + 1)),
            (token(Some("b"), Algorithm::HS256, SECRET, &claims), Err(TokenError::UnknownKey)),
            (
                token(Some("a"), Algorithm::HS256, &SECRET.replace('0', "1"), &claims),
                Err(TokenError::Signature),
            ),
            (token(Some("a"), Algorithm::HS512, SECRET, &claims), Err(TokenError::Signature)),
            (token(Some("a"), Algorithm::HS256, SECRET, &other), Err(TokenError::Claims)),
            (token(Some("a"), Algorithm::HS256, SECRET, &without), Err(TokenError::Claims)),
            (none.to_owned(), Err(TokenError::Malformed)),
            ("a.b".to_owned(), Err(TokenError::Malformed)),
            (String::new(), Err(TokenError::Malformed)),
        ];
        for (token, expected) in rows {
            let expiry = tokens.verify(&token, &request, NOW, &[]).map(|claims| claims.exp);
            assert_eq!(expiry, expected, "{token}");
        }
    }

    #[test]
    fn patterns_match_whole_names() {
        for (pattern, text, expected) in [
            ("film", "film", true),
            ("film", "film2", false),
            ("*", "", true),
            ("*", "a", true),
            ("f*", "film", true),
            ("*m", "film", true),
            ("*m", "films", false),
            ("f*l*m", "film", true),
            ("f*m*l", "film", false),
            ("a*a", "a", false),
            ("", "a", false),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }
}
