//! Signed URLs: one parameter `sign`, which is `1.KEY.EXPIRY.MAC`, or `1.KEY.EXPIRY.ip.MAC` for one address alone.
//!
//! MAC is the HMAC-SHA256, in base64url without padding, over these fields, each with its length in four bytes before it,
//! big-endian: the version `1`, the key's id, `publish` or `play`, the vhost as configured, the app, the stream without
//! the extension of a mount, the expiry in seconds since 1970 in decimal digits, and the address, or nothing. So no part
//! of one field can become a part of another, and a signature for one action is none for the other.

use std::net::IpAddr;
use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use hmac::{Hmac, Mac};
use sha2::Sha256;

use super::grant::{Grant, seconds};
use super::mac::mac_of;
use super::{Action, Refusal, Request, SignatureError};
use crate::conf::{Scope, SignedUrl, SigningKey};
use crate::stream::StreamKey;

/// The query parameter.
const PARAMETER: &str = "sign";
const VERSION: &str = "1";
/// The field of a signature for one address.
const ONE_ADDRESS: &str = "ip";

/// The keys of one vhost.
#[derive(Debug)]
pub(super) struct Signatures {
    pub scope: Scope,
    keys: Vec<SigningKey>,
}

impl Signatures {
    pub fn new(config: &SignedUrl) -> Signatures {
        Signatures { scope: config.scope, keys: config.keys.clone() }
    }

    /// Checks the signature of a request; `None` if it has none.
    pub fn check(&self, request: &Request, now: SystemTime) -> Option<Result<Grant, Refusal>> {
        let sign = request.parameter(PARAMETER)?;
        let verified = self.verify(sign, request, seconds(now));
        let granted = verified
            .map(|(expires, key)| Grant::until(expires, self.scope.enforce_expiry, Some(key.id.clone())));
        Some(granted.map_err(Refusal::Signature))
    }

    /// Verifies a signature, and returns its expiry and the key that made it.
    fn verify(&self, sign: &str, request: &Request, now: u64) -> Result<(u64, &SigningKey), SignatureError> {
        let fields: Vec<_> = sign.split('.').collect();
        let (id, expiry, address, mac) = match fields[..] {
            [VERSION, id, expiry, mac] => (id, expiry, None, mac),
            [VERSION, id, expiry, ONE_ADDRESS, mac] => (id, expiry, Some(request.address), mac),
            _ => return Err(SignatureError::Malformed),
        };
        let mac = BASE64URL.decode(mac).map_err(|_| SignatureError::Malformed)?;
        let expires: u64 = expiry.parse().map_err(|_| SignatureError::Malformed)?;
        let key = self.keys.iter().find(|key| key.id == id).ok_or(SignatureError::UnknownKey)?;
        let expected = hash(key, request.action, &request.key, expiry, address);
        expected.verify_slice(&mac).map_err(|_| SignatureError::Wrong)?;
        if expires <= now {
            return Err(SignatureError::Expired { ago: now - expires });
        }
        Ok((expires, key))
    }
}

/// Returns the parameter, with its name, that allows `action` on a stream until `expires`, in seconds since 1970, from
/// `address` if there is one.
pub fn sign(
    key: &SigningKey,
    action: Action,
    stream: &StreamKey,
    expires: u64,
    address: Option<IpAddr>,
) -> String {
    let expiry = expires.to_string();
    let mac = hash(key, action, stream, &expiry, address.map(|address| address.to_canonical()));
    let mac = BASE64URL.encode(mac.finalize().into_bytes());
    let one_address = if address.is_some() { ".ip" } else { "" };
    format!("{PARAMETER}={VERSION}.{}.{expiry}{one_address}.{mac}", key.id)
}

fn hash(
    key: &SigningKey,
    action: Action,
    stream: &StreamKey,
    expiry: &str,
    address: Option<IpAddr>,
) -> Hmac<Sha256> {
    let (action, address) =
        (action.to_string(), address.map_or(String::new(), |address| address.to_string()));
    let StreamKey { vhost, app, stream } = stream;
    mac_of(&key.secret, [VERSION, &key.id, &action, vhost, app, stream, expiry, &address])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conf::Config;
    use crate::policy::request::tests::request;

    const SECRET: &str = "0123456789abcdef0123456789abcdef";
    const NOW: u64 = 1_800_000_000;

    fn signatures() -> Signatures {
        let text = format!(
            "[vhost.v.signed_url]\nenabled = true\n[[vhost.v.signed_url.key]]\nid = \"a\"\nsecret = \"{SECRET}\"\n\
             [[vhost.v.signed_url.key]]\nid = \"b\"\nsecret = \"{SECRET}{SECRET}\""
        );
        Signatures::new(&Config::parse(&text, "text").unwrap().vhosts[0].signed_url)
    }

    #[test]
    fn a_signature_is_for_what_it_was_made_for_alone() {
        let signatures = signatures();
        let stream = StreamKey::new("v", "live", "film");
        let address: IpAddr = "192.0.2.1".parse().unwrap();
        let of = |address| {
            let sign = sign(&signatures.keys[0], Action::Play, &stream, NOW + 10, address);
            sign.strip_prefix("sign=").unwrap().to_owned()
        };
        type Row<'a> = (&'a str, Action, [&'a str; 3], &'a str, u64, Result<u64, SignatureError>);
        let rows: &[Row] = &[
            (&of(None), Action::Play, ["v", "live", "film"], "192.0.2.1", NOW, Ok(NOW + 10)),
            (&of(None), Action::Play, ["v", "live", "film"], "192.0.2.2", NOW, Ok(NOW + 10)),
            (&of(Some(address)), Action::Play, ["v", "live", "film"], "192.0.2.1", NOW, Ok(NOW + 10)),
            (
                &of(Some(address)),
                Action::Play,
                ["v", "live", "film"],
                "192.0.2.2",
                NOW,
                Err(SignatureError::Wrong),
            ),
            (&of(None), Action::Publish, ["v", "live", "film"], "192.0.2.1", NOW, Err(SignatureError::Wrong)),
            (&of(None), Action::Play, ["w", "live", "film"], "192.0.2.1", NOW, Err(SignatureError::Wrong)),
            (&of(None), Action::Play, ["v", "livef", "ilm"], "192.0.2.1", NOW, Err(SignatureError::Wrong)),
            (&of(None), Action::Play, ["v", "live", "other"], "192.0.2.1", NOW, Err(SignatureError::Wrong)),
            (
                &of(None),
                Action::Play,
                ["v", "live", "film"],
                "192.0.2.1",
                NOW + 10,
                Err(SignatureError::Expired { ago: 0 }),
            ),
            (
                &of(None).replace(".a.", ".b."),
                Action::Play,
                ["v", "live", "film"],
                "::1",
                NOW,
                Err(SignatureError::Wrong),
            ),
            (
                &of(None).replace(".a.", ".c."),
                Action::Play,
                ["v", "live", "film"],
                "::1",
                NOW,
                Err(SignatureError::UnknownKey),
            ),
            (
                &of(None).replace("1.", "2."),
                Action::Play,
                ["v", "live", "film"],
                "::1",
                NOW,
                Err(SignatureError::Malformed),
            ),
            (
                &of(Some(address)).replace(".ip", ""),
                Action::Play,
                ["v", "live", "film"],
                "192.0.2.1",
                NOW,
                Err(SignatureError::Wrong),
            ),
            (
                &of(None).replace("1800000010", "1800000011"),
                Action::Play,
                ["v", "live", "film"],
                "::1",
                NOW,
                Err(SignatureError::Wrong),
            ),
            ("1.a.1800000010.", Action::Play, ["v", "live", "film"], "::1", NOW, Err(SignatureError::Wrong)),
            ("", Action::Play, ["v", "live", "film"], "::1", NOW, Err(SignatureError::Malformed)),
            ("1.a.x.AA", Action::Play, ["v", "live", "film"], "::1", NOW, Err(SignatureError::Malformed)),
            (
                "1.a.1800000010.=",
                Action::Play,
                ["v", "live", "film"],
                "::1",
                NOW,
                Err(SignatureError::Malformed),
            ),
        ];
        for (sign, action, [vhost, app, stream], address, now, expected) in rows {
            let mut request = request(*action, vhost, app, stream);
            request.address = address.parse().unwrap();
            assert_eq!(
                signatures.verify(sign, &request, *now).map(|(expires, _)| expires),
                *expected,
                "{sign} {action} {stream} {address}"
            );
        }
    }
}
