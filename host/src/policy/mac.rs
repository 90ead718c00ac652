//! The MAC of several fields under a shared secret.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::conf::Secret;

/// Returns the HMAC-SHA256 over fields, each with its length in four bytes before it, so that no two lists of fields have the same.
pub fn mac_of<'a>(secret: &Secret, fields: impl IntoIterator<Item = &'a str>) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.bytes()).expect("HMAC takes keys of any length");
    for field in fields {
        mac.update(&(field.len() as u32).to_be_bytes());
        mac.update(field.as_bytes());
    }
    mac
}
