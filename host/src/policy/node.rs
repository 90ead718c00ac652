//! Other nodes of the cluster as clients: their credentials, and which hop lists are refused.
//!
//! A credential is one parameter, `remuxd_node`, which is `1.EXPIRY.MAC`. MAC is the HMAC-SHA256 with `cluster.secret`, in base64url
//! without padding, over the version, `publish` or `play`, the path of the URL (over RTMP `/APP/STREAM`) and the expiry, each with its
//! length in four bytes before it. It stands for the credentials of a client: those of the vhost are not needed, and hooks and
//! referers are not asked. One that has expired, of a node whose clock is far behind, stands for nothing.

use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use hmac::{Hmac, Mac};
use sha2::Sha256;

use super::grant::seconds;
use super::hops::HOPS;
use super::mac::mac_of;
use super::{Action, Refusal, Request, SignatureError};
use crate::conf::Secret;

/// The query parameter of a credential.
pub const CREDENTIAL: &str = "remuxd_node";

/// How long a credential holds, in seconds. Clocks may differ by less.
const LIFETIME: u64 = 300;
const VERSION: &str = "1";
/// The longest way of a stream, in nodes.
const MAX_HOPS: usize = 8;
/// The longest hop list, in bytes.
const MAX_LIST: usize = 2048;

/// Returns the value of [`CREDENTIAL`] for `action` on the stream at `path`.
pub fn node_credential(secret: &Secret, action: Action, path: &str) -> String {
    let expiry = (seconds(SystemTime::now()) + LIFETIME).to_string();
    let mac = BASE64URL.encode(hash(secret, action, path, &expiry).finalize().into_bytes());
    format!("{VERSION}.{expiry}.{mac}")
}

/// Checks whether a request is that of another node with the same secret; without a secret none is.
pub(super) fn is_of_node(
    request: &Request,
    secret: Option<&Secret>,
    now: SystemTime,
) -> Result<bool, Refusal> {
    let (Some(secret), Some(value)) = (secret, request.parameter(CREDENTIAL)) else { return Ok(false) };
    verify(secret, request, value, seconds(now)).map(|()| true).map_err(Refusal::Node)
}

fn verify(secret: &Secret, request: &Request, value: &str, now: u64) -> Result<(), SignatureError> {
    let [VERSION, expiry, mac] = value.split('.').collect::<Vec<_>>()[..] else {
        return Err(SignatureError::Malformed);
    };
    let mac = BASE64URL.decode(mac).map_err(|_| SignatureError::Malformed)?;
    let expires: u64 = expiry.parse().map_err(|_| SignatureError::Malformed)?;
    let expected = hash(secret, request.action, &request.path, expiry);
    expected.verify_slice(&mac).map_err(|_| SignatureError::Wrong)?;
    if expires <= now {
        return Err(SignatureError::Expired { ago: now - expires });
    }
    Ok(())
}

fn hash(secret: &Secret, action: Action, path: &str, expiry: &str) -> Hmac<Sha256> {
    mac_of(secret, [VERSION, &action.to_string(), path, expiry])
}

/// Refuses a stream that has passed the vhost `vhost` of `node` already, or too many nodes.
pub(super) fn check_hops(request: &Request, node: &str) -> Result<(), Refusal> {
    let lists = [Some(&*request.hops), request.parameter(HOPS)];
    for hops in lists.into_iter().flatten().filter(|hops| !hops.is_empty()) {
        let count = hops.split(',').count();
        if count > MAX_HOPS || hops.len() > MAX_LIST {
            return Err(Refusal::Hops { count, limit: MAX_HOPS });
        }
        let is_own = |hop: &str| hop.split_once('/') == Some((node, &*request.key.vhost));
        if hops.split(',').any(is_own) {
            return Err(Refusal::Loop);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conf::Config;
    use crate::policy::request::tests::request;

    #[test]
    fn a_credential_is_for_one_action_path_and_secret() {
        let secret = |text: &str| {
            let config = Config::parse(&format!("[cluster]\nsecret = \"{text}\""), "remuxd.toml").unwrap();
            config.cluster.secret.unwrap()
        };
        let here = secret("0123456789abcdef0123456789abcdef");
        let now = SystemTime::now();
        let asked = |secret: &Secret, action, path: &str| {
            let mut request = request(Action::Play, "v", "live", "x");
            let value = node_credential(secret, action, path);
            request.parameters.push((CREDENTIAL.to_owned(), value));
            request
        };
        let wrong = Err(Refusal::Node(SignatureError::Wrong));
        let rows = [
            (here.clone(), Action::Play, "/live/x.flv", Ok(true)),
            (here.clone(), Action::Publish, "/live/x.flv", wrong.clone()),
            (here.clone(), Action::Play, "/live/y.flv", wrong.clone()),
            (secret("another-0123456789abcdef0123456789"), Action::Play, "/live/x.flv", wrong),
        ];
        for (secret, action, path, expected) in rows {
            assert_eq!(is_of_node(&asked(&secret, action, path), Some(&here), now), expected, "{path}");
        }
        let good = asked(&here, Action::Play, "/live/x.flv");
        let late = now + std::time::Duration::from_secs(LIFETIME + 7);
        assert!(matches!(
            is_of_node(&good, Some(&here), late),
            Err(Refusal::Node(SignatureError::Expired { ago: 6..=8 }))
        ));
        assert_eq!(is_of_node(&good, None, now), Ok(false), "without a secret it is any parameter");
        assert_eq!(is_of_node(&request(Action::Play, "v", "live", "x"), Some(&here), now), Ok(false));
    }

    #[test]
    fn a_stream_passes_no_vhost_twice() {
        let long = ["n/v"; MAX_HOPS + 1].join(",");
        let rows = [
            ("", Ok(())),
            ("a/v,b/v", Ok(())),
            ("own/w", Ok(())),
            ("a/v,own/v", Err(Refusal::Loop)),
            (&long, Err(Refusal::Hops { count: MAX_HOPS + 1, limit: MAX_HOPS })),
        ];
        for (hops, expected) in rows {
            let mut by_property = request(Action::Play, "v", "live", "x");
            by_property.hops = hops.to_owned();
            assert_eq!(check_hops(&by_property, "own"), expected, "{hops}");
            let mut by_parameter = request(Action::Play, "v", "live", "x");
            by_parameter.parameters.push((HOPS.to_owned(), hops.to_owned()));
            assert_eq!(check_hops(&by_parameter, "own"), expected, "{hops}");
        }
    }
}
