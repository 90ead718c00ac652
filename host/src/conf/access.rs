//! The part of a vhost's config that says who may publish and play.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use super::endpoint::Endpoint;

/// `[vhost."NAME".security]`: the addresses that may publish and play.
#[derive(Clone, Debug, PartialEq)]
pub struct Security {
    /// `enabled`, default false: every address may. With no rule at all, none may (SRS).
    pub enabled: bool,
    /// `[vhost."NAME".security.publish]`.
    pub publish: AddressRules,
    /// `[vhost."NAME".security.play]`.
    pub play: AddressRules,
}

/// Addresses that are allowed and denied to publish or to play.
#[derive(Clone, Debug, PartialEq)]
pub struct AddressRules {
    /// `allow`: if either action has one, others are refused. Default none.
    pub allow: Vec<Addresses>,
    /// `deny`: refused, whatever is allowed. Default none.
    pub deny: Vec<Addresses>,
}

/// A set of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Addresses {
    /// `all`: every address, IPv4 and IPv6.
    All,
    /// A CIDR block or a single address.
    Network(IpNet),
}

impl Addresses {
    /// Returns whether `address`, in its canonical form, is one of them.
    pub fn contain(&self, address: IpAddr) -> bool {
        match self {
            Addresses::All => true,
            Addresses::Network(network) => network.contains(&address),
        }
    }

    /// Returns whether every address of `other` is one of them.
    pub fn contain_all(&self, other: &Addresses) -> bool {
        match (self, other) {
            (Addresses::All, _) => true,
            (Addresses::Network(_), Addresses::All) => false,
            (Addresses::Network(this), Addresses::Network(other)) => this.contains(other),
        }
    }
}

impl fmt::Display for Addresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Addresses::All => f.write_str("all"),
            Addresses::Network(network) if network.prefix_len() == network.max_prefix_len() => {
                network.addr().fmt(f)
            }
            Addresses::Network(network) => network.fmt(f),
        }
    }
}

/// `[vhost."NAME".refer]`: the sites whose pages may embed players. An empty list allows all.
#[derive(Clone, Debug, PartialEq)]
pub struct Refer {
    /// `enabled`, default false.
    pub enabled: bool,
    /// `all`: host names, each with all names below it, for both actions. Default none.
    pub all: Vec<String>,
    /// `publish`: the same for publishers, in addition. Default none.
    pub publish: Vec<String>,
    /// `play`: the same for players and viewers, in addition. Default none.
    pub play: Vec<String>,
}

/// The actions that a kind of credentials is for, and what their expiry means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scope {
    /// `enabled`, default false.
    pub enabled: bool,
    /// `publish`: publishers need it. Default true.
    pub publish: bool,
    /// `play`: players and viewers need it. Default true.
    pub play: bool,
    /// `enforce_expiry`: a session ends when its credentials expire. Default false: they are needed at its start.
    pub enforce_expiry: bool,
}

/// `[vhost."NAME".signed_url]`: URLs that carry a signature.
#[derive(Clone, Debug, PartialEq)]
pub struct SignedUrl {
    /// The actions that it is for.
    pub scope: Scope,
    /// `[[vhost."NAME".signed_url.key]]`. The first signs.
    pub keys: Vec<SigningKey>,
}

/// `[[vhost."NAME".signed_url.key]]`.
#[derive(Clone, Debug, PartialEq)]
pub struct SigningKey {
    /// `id`: the name of the key in signatures.
    pub id: String,
    /// `secret`: at least [`MIN_SECRET`] bytes.
    pub secret: Secret,
}

/// `[vhost."NAME".secure_link]`: the signatures of nginx's module `secure_link`, for players and viewers.
#[derive(Clone, Debug, PartialEq)]
pub struct SecureLink {
    /// `enabled`, default false.
    pub enabled: bool,
    /// `expression`: what is hashed: text with `[expires]`, `[path]`, `[address]`, `[arg_NAME]` and `[secret]`.
    pub expression: String,
    /// `secret`.
    pub secret: Secret,
    /// `enforce_expiry`, as in [`Scope`].
    pub enforce_expiry: bool,
}

/// `[vhost."NAME".jwt]`: JSON web tokens (RFC 7519).
#[derive(Clone, Debug, PartialEq)]
pub struct Jwt {
    /// The actions that it is for.
    pub scope: Scope,
    /// `parameter`: the query parameter with the token. Default `token`.
    pub parameter: String,
    /// `issuer`: the required `iss`. Default, and for an empty string: any.
    pub issuer: String,
    /// `audience`: the required `aud`. Default, and for an empty string: tokens without.
    pub audience: String,
    /// `[[vhost."NAME".jwt.key]]`.
    pub keys: Vec<JwtKey>,
    /// `jwks_url`: the URL of a set of further keys, over HTTPS or from loopback. Default, and for an empty string: none.
    pub jwks_url: Option<Endpoint>,
}

/// `[[vhost."NAME".jwt.key]]`.
#[derive(Clone, Debug, PartialEq)]
pub struct JwtKey {
    /// `id`: the `kid` of tokens that are signed with it. A token without `kid` may be signed with any.
    pub id: String,
    /// `algorithm` and its key.
    pub material: JwtMaterial,
}

/// A key that verifies tokens, and the only algorithm that it is for.
#[derive(Clone, PartialEq)]
pub enum JwtMaterial {
    /// HS256: a shared secret of at least [`MIN_SECRET`] bytes.
    Hs256(Secret),
    /// RS256: a SubjectPublicKeyInfo in DER.
    Rs256(Vec<u8>),
    /// ES256: a SubjectPublicKeyInfo in DER.
    Es256(Vec<u8>),
}

impl fmt::Debug for JwtMaterial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            JwtMaterial::Hs256(_) => "HS256",
            JwtMaterial::Rs256(_) => "RS256",
            JwtMaterial::Es256(_) => "ES256",
        })
    }
}

/// `[vhost."NAME".publish_key]`: secret names to publish under, and the public names of their streams.
#[derive(Clone, Debug, PartialEq)]
pub struct PublishKeys {
    /// `enabled`, default false.
    pub enabled: bool,
    /// `[[vhost."NAME".publish_key.key]]`.
    pub keys: Vec<PublishKey>,
}

/// `[[vhost."NAME".publish_key.key]]`.
#[derive(Clone, Debug, PartialEq)]
pub struct PublishKey {
    /// `stream`: the public name.
    pub stream: String,
    /// `app`: the app that it is for. Default, and for an empty string: any.
    pub app: String,
    /// `sha256`: the SHA-256 of the secret name.
    pub sha256: [u8; 32],
}

/// Limits of sessions: in `[limits]` those of the host, in `[vhost."NAME".limits]` those of one vhost, which hold in addition. A
/// player is a viewer here. The default of all, 0, is without limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionLimits {
    /// `max_viewers`: viewers of all streams together.
    pub max_viewers: u32,
    /// `max_viewers_per_stream`: viewers of one stream.
    pub max_viewers_per_stream: u32,
    /// `max_viewers_per_address`: viewers of one address.
    pub max_viewers_per_address: u32,
    /// `max_publishers`: publishers.
    pub max_publishers: u32,
    /// `max_publishers_per_address`: publishers of one address.
    pub max_publishers_per_address: u32,
    /// `max_bitrate`: what all viewers are sent, in bits per second. New ones are refused while it is exceeded.
    pub max_bitrate: u64,
    /// `max_bitrate_per_stream`: what one publisher sends, in bits per second. It is ended if it sends more.
    pub max_bitrate_per_stream: u64,
    /// `max_bitrate_per_address`: what the viewers of one address are sent, in bits per second.
    pub max_bitrate_per_address: u64,
}

/// The least length of a shared secret, in bytes.
pub const MIN_SECRET: usize = 32;

/// A secret: written in the config, or read from a file or an environment variable together with it. No output shows it.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Secret(Vec<u8>);

impl Secret {
    pub(super) fn new(bytes: Vec<u8>) -> Secret {
        Secret(bytes)
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}
