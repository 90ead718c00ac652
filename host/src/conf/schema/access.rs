//! The tables that say who may publish and play.

use std::ops::Range;

use toml::Spanned;

use crate::conf::access::*;
use crate::conf::endpoint::{Endpoint, EndpointError};
use crate::conf::error::ValueError;
use crate::conf::secrets::{public_key, secret, sha256};
use crate::conf::table::Table;
use crate::conf::value::{addresses, bitrate, endpoint, flag, host_name, integer, list, text};

pub(super) fn security(table: &mut Table) -> Security {
    Security {
        enabled: table.key("enabled", false, flag),
        publish: table.table("publish", address_rules),
        play: table.table("play", address_rules),
    }
}

fn address_rules(table: &mut Table) -> AddressRules {
    AddressRules {
        allow: table.key("allow", Vec::new(), list(addresses)),
        deny: table.key("deny", Vec::new(), list(addresses)),
    }
}

pub(super) fn refer(table: &mut Table) -> Refer {
    let mut sites = |key| table.key(key, Vec::new(), list(host_name));
    let (all, publish, play) = (sites("all"), sites("publish"), sites("play"));
    Refer { enabled: table.key("enabled", false, flag), all, publish, play }
}

fn scope(table: &mut Table) -> Scope {
    Scope {
        enabled: table.key("enabled", false, flag),
        publish: table.key("publish", true, flag),
        play: table.key("play", true, flag),
        enforce_expiry: table.key("enforce_expiry", false, flag),
    }
}

pub(super) fn signed_url(table: &mut Table) -> SignedUrl {
    SignedUrl { scope: scope(table), keys: table.tables("key", "id", signing_key) }
}

/// Reads a key; `None` if nothing in it is set, as in conf/remuxd.toml, or it is bad.
fn signing_key(table: &mut Table) -> Option<SigningKey> {
    let id = key_id(table);
    let secret = long_secret(table);
    if table.is_unset("id") && table.is_unset("secret") {
        return None;
    }
    let id = required(table, "id", id)?;
    Some(SigningKey { id, secret: required(table, "secret", secret)? })
}

pub(super) fn secure_link(table: &mut Table) -> SecureLink {
    SecureLink {
        enabled: table.key("enabled", false, flag),
        expression: table.key("expression", DEFAULT_EXPRESSION.to_owned(), expression),
        secret: table.secret("secret", secret),
        enforce_expiry: table.key("enforce_expiry", false, flag),
    }
}

/// The expression of most configs of nginx.
const DEFAULT_EXPRESSION: &str = "[expires][path][address] [secret]";

/// Reads the expression of `secure_link`, which must contain secret, path and expiry.
fn expression(value: &Spanned<toml::de::DeValue>) -> Result<String, Vec<Spanned<ValueError>>> {
    let expression = text(value)?;
    let missing = ["[expires]", "[path]", "[secret]"].into_iter().find(|part| !expression.contains(part));
    match missing {
        None => Ok(expression),
        Some(part) => Err(vec![Spanned::new(value.span(), ValueError::Lacks { part })]),
    }
}

pub(super) fn jwt(table: &mut Table) -> Jwt {
    Jwt {
        scope: scope(table),
        parameter: table.key("parameter", "token".to_owned(), text),
        issuer: table.key("issuer", String::new(), text),
        audience: table.key("audience", String::new(), text),
        keys: table.tables("key", "id", jwt_key),
        jwks_url: table.endpoints("jwks_url", None, key_set_url),
    }
}

/// Reads the URL of a key set, over which nobody can forge one; an empty string is none.
fn key_set_url(value: &Spanned<toml::de::DeValue>) -> Result<Option<Endpoint>, Vec<Spanned<ValueError>>> {
    if text(value)?.is_empty() {
        return Ok(None);
    }
    let url = endpoint(value)?;
    if url.is_https() || url.is_loopback() {
        return Ok(Some(url));
    }
    Err(vec![Spanned::new(value.span(), ValueError::Endpoint(EndpointError::Plain))])
}

/// Reads a key; `None` if nothing in it is set, or it is bad.
fn jwt_key(table: &mut Table) -> Option<JwtKey> {
    let id = table.key("id", String::new(), text);
    let algorithm = table.key("algorithm", None, algorithm);
    let secret = long_secret(table);
    let public_key = table.key("public_key", None, public_key);
    let unset = ["id", "algorithm", "secret", "public_key"].iter().all(|key| table.is_unset(key));
    if unset {
        return None;
    }
    let material = match required(table, "algorithm", algorithm)? {
        "HS256" => JwtMaterial::Hs256(required(table, "secret", secret)?),
        "RS256" => JwtMaterial::Rs256(required(table, "public_key", public_key)?),
        _ => JwtMaterial::Es256(required(table, "public_key", public_key)?),
    };
    Some(JwtKey { id, material })
}

fn algorithm(value: &Spanned<toml::de::DeValue>) -> Result<Option<&'static str>, Vec<Spanned<ValueError>>> {
    crate::conf::value::choice(&[
        ("", None),
        ("HS256", Some("HS256")),
        ("RS256", Some("RS256")),
        ("ES256", Some("ES256")),
    ])(value)
}

pub(super) fn publish_keys(table: &mut Table) -> PublishKeys {
    PublishKeys {
        enabled: table.key("enabled", false, flag),
        keys: table.tables("key", "stream", publish_key),
    }
}

/// Reads a key; `None` if nothing in it is set, or it is bad.
fn publish_key(table: &mut Table) -> Option<PublishKey> {
    let stream = Some(table.key("stream", String::new(), text)).filter(|stream| !stream.is_empty());
    let app = table.key("app", String::new(), text);
    let hash = table.key("sha256", None, sha256);
    if table.is_unset("stream") && table.is_unset("sha256") {
        return None;
    }
    let stream = required(table, "stream", stream)?;
    Some(PublishKey { stream, app, sha256: required(table, "sha256", hash)? })
}

pub(super) fn session_limits(table: &mut Table) -> SessionLimits {
    let number = || integer(0..=10_000_000);
    SessionLimits {
        max_viewers: table.key("max_viewers", 0, number()),
        max_viewers_per_stream: table.key("max_viewers_per_stream", 0, number()),
        max_viewers_per_address: table.key("max_viewers_per_address", 0, number()),
        max_publishers: table.key("max_publishers", 0, number()),
        max_publishers_per_address: table.key("max_publishers_per_address", 0, number()),
        max_bitrate: table.key("max_bitrate", 0, bitrate),
        max_bitrate_per_stream: table.key("max_bitrate_per_stream", 0, bitrate),
        max_bitrate_per_address: table.key("max_bitrate_per_address", 0, bitrate),
    }
}

/// Reads the id of a key, which is a part of signatures.
fn key_id(table: &mut Table) -> Option<String> {
    let id = table.key("id", String::new(), text);
    let is_word = |id: &String| id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    if is_word(&id) {
        return Some(id).filter(|id| !id.is_empty());
    }
    fault(table, "id", ValueError::NotAnId);
    None
}

/// Reads a secret that is long enough; `None` if there is none.
pub(super) fn long_secret(table: &mut Table) -> Option<Secret> {
    let secret = table.secret("secret", secret);
    let len = secret.bytes().len();
    if len > 0 && len < MIN_SECRET {
        fault(table, "secret", ValueError::SecretTooShort { len, min: MIN_SECRET });
    }
    (len > 0).then_some(secret)
}

/// Returns the value of a key that a table needs, or reports that it is missing, unless it was faulty.
pub(super) fn required<T>(table: &mut Table, key: &'static str, value: Option<T>) -> Option<T> {
    if value.is_none() && table.is_unset(key) {
        fault(table, key, ValueError::Missing { key });
    }
    value
}

pub(super) fn fault(table: &mut Table, key: &'static str, error: ValueError) {
    let span: Range<usize> = table.span(key);
    table.checked::<()>(key, Err(vec![Spanned::new(span, error)]));
}
