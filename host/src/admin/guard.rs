//! Guard of the API over TCP: who asks, and what they may do.
//!
//! - A request must name the host by an address, by `localhost` or by one of `http_api.hosts`: pages on the Web can make a
//!   browser send requests to other names that lead here (DNS rebinding).
//! - With users in the config, every request needs the credentials of one, in `Authorization` and nowhere else, or the cookie of a
//!   [login](super::logins), which `POST /api/v2/session` gives for such credentials.
//! - A request that changes something needs a user who may operate; if a browser sends it, its page must come from the API's own
//!   origin. With a cookie, the browser must say so: another service on the same machine is the same site.
//! - An address with too many wrong credentials is refused for the rest of a minute, whatever it sends.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use hyper::header::{AUTHORIZATION, AsHeaderName, COOKIE, HOST, ORIGIN};
use hyper::{HeaderMap, Method, Request};
use parking_lot::Mutex;
use schemars::JsonSchema;
use serde::Deserialize;
use sha2::Sha256;

use super::logins::{Login, Logins};
use crate::conf::{ApiRole, ApiUser, HttpApi, Secret};

/// Limit of wrong credentials of an address in [`WINDOW`].
const MAX_FAILURES: u32 = 10;
const WINDOW: Duration = Duration::from_secs(60);
/// Limit of addresses whose failures are counted one by one; those beyond it count as one.
const MAX_ADDRESSES: usize = 4096;

/// The names of the cookie of a login: over HTTP, and over HTTPS, where no page without TLS can set it.
pub(super) const COOKIES: [&str; 2] = ["remuxd", "__Host-remuxd"];

/// Credentials in the body of a request.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Credentials {
    /// Credentials of a user with a password.
    #[serde(default)]
    pub name: String,
    #[serde(default)]
    pub password: String,
    /// Credentials of a user with a token.
    #[serde(default)]
    pub token: Option<String>,
}

/// The permissions of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Caller {
    /// Without credentials, where none are needed: reads what names no client.
    Anybody,
    /// A user who reads.
    Reader,
    /// A user who operates, or a peer of the control socket.
    Operator,
}

impl Caller {
    /// Whether it may see addresses of clients.
    pub fn sees_addresses(self) -> bool {
        self != Caller::Anybody
    }

    /// Whether it may change something.
    pub fn operates(self) -> bool {
        self == Caller::Operator
    }
}

/// A request that is admitted.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Admitted {
    pub caller: Caller,
    /// The user; `None` where nobody needs to be one.
    pub user: Option<Arc<str>>,
    /// The end of the user's login; `None` for one who sends credentials.
    pub login_ends: Option<Instant>,
}

/// The reason why a request is refused. Culprit: peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Denial {
    /// `Host` names another host.
    #[error("the API does not answer under this name")]
    Host,
    /// There are no credentials, or wrong ones.
    #[error("credentials are needed")]
    Credentials,
    /// Too many wrong credentials came from the address.
    #[error("too many wrong credentials; try again in {} s", retry_after.as_secs() + 1)]
    Failures {
        /// The time left.
        retry_after: Duration,
    },
    /// The page that sends the request has another origin.
    #[error("pages of other sites may change nothing")]
    Origin,
}

/// The guard of one listener.
pub(super) struct Guard {
    hosts: Vec<String>,
    users: Vec<User>,
    jsonp: bool,
    failures: Mutex<Failures>,
    logins: Logins,
}

struct User {
    name: Arc<str>,
    /// Authentication codes of what the user sends, by its password and its token.
    password: Option<Tag>,
    token: Option<Tag>,
    role: ApiRole,
}

/// The code of a secret, to which others are compared in constant time.
struct Tag([u8; 32]);

impl Guard {
    pub fn new(config: &HttpApi) -> Guard {
        let tag = |secret: &Option<Secret>| secret.as_ref().map(|secret| Tag::of(secret.bytes()));
        let user = |user: &ApiUser| User {
            name: user.name.as_str().into(),
            password: tag(&user.password),
            token: tag(&user.token),
            role: user.role,
        };
        let users = config.users.iter().map(user).collect();
        Guard {
            hosts: config.hosts.clone(),
            users,
            jsonp: config.jsonp,
            failures: Mutex::default(),
            logins: Logins::default(),
        }
    }

    /// Whether the listener answers with JSONP.
    pub fn jsonp(&self) -> bool {
        self.jsonp
    }

    /// Decides on a request from `address`.
    ///
    /// # Errors
    /// [`Denial`].
    pub fn admit<B>(&self, request: &Request<B>, address: IpAddr, now: Instant) -> Result<Admitted, Denial> {
        let headers = request.headers();
        let host = text(headers, HOST).filter(|host| self.answers(host)).ok_or(Denial::Host)?;
        let admitted = self.admitted(headers, address, now)?;
        let changes = !matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
        let needs_origin = admitted.login_ends.is_some();
        if changes && !is_of(headers, host, needs_origin) { Err(Denial::Origin) } else { Ok(admitted) }
    }

    /// Logs a user in whose credentials are in `Authorization`, or in the body of a request. Returns the value of the cookie.
    ///
    /// # Errors
    /// [`Denial`].
    pub fn log_in(
        &self,
        headers: &HeaderMap,
        body: Option<&Credentials>,
        address: IpAddr,
        now: Instant,
    ) -> Result<String, Denial> {
        let host = text(headers, HOST).filter(|host| self.answers(host)).ok_or(Denial::Host)?;
        // No page of another site logs a user in under a name that it has picked.
        if !is_of(headers, host, false) {
            return Err(Denial::Origin);
        }
        let User { name, role, .. } = self.known(address, now, || match body {
            Some(Credentials { token: Some(token), .. }) => Some(self.bearer(token)),
            Some(Credentials { name, password, .. }) => {
                Some(self.basic(name.as_bytes(), password.as_bytes()))
            }
            None => text(headers, AUTHORIZATION).map(|credentials| self.user(credentials)),
        })?;
        Ok(self.logins.add(name.clone(), *role, now))
    }

    /// Ends the login of a request. Returns false if it has none.
    pub fn log_out(&self, headers: &HeaderMap) -> bool {
        cookie(headers).is_some_and(|cookie| self.logins.remove(cookie))
    }

    /// Whether it has users.
    pub fn has_users(&self) -> bool {
        !self.users.is_empty()
    }

    /// Whether the API answers under the name in `Host`, which may have a port.
    fn answers(&self, host: &str) -> bool {
        let name = host.rsplit_once(':').filter(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()));
        let name = name.map_or(host, |(name, _)| name);
        let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
        address.parse::<IpAddr>().is_ok()
            || name.eq_ignore_ascii_case("localhost")
            || self.hosts.iter().any(|own| own.eq_ignore_ascii_case(name))
    }

    fn admitted(&self, headers: &HeaderMap, address: IpAddr, now: Instant) -> Result<Admitted, Denial> {
        if self.users.is_empty() {
            return Ok(Admitted { caller: Caller::Anybody, user: None, login_ends: None });
        }
        let caller = |role| match role {
            ApiRole::Read => Caller::Reader,
            ApiRole::Operate => Caller::Operator,
        };
        // A cookie cannot be guessed, so a wrong one, such as an old one, is not counted.
        let login = || cookie(headers).and_then(|cookie| self.logins.find(cookie, now));
        if let Some(login) = (!headers.contains_key(AUTHORIZATION)).then(login).flatten() {
            let Login { name, role, ends } = login;
            return Ok(Admitted { caller: caller(role), user: Some(name), login_ends: Some(ends) });
        }
        let credentials = || text(headers, AUTHORIZATION).map(|credentials| self.user(credentials));
        let User { name, role, .. } = self.known(address, now, credentials)?;
        Ok(Admitted { caller: caller(*role), user: Some(name.clone()), login_ends: None })
    }

    /// Returns the user whose credentials an address has sent. `find` returns none if there are no credentials.
    ///
    /// # Errors
    /// There are none, they are wrong, or too many from this address were.
    fn known<'a>(
        &'a self,
        address: IpAddr,
        now: Instant,
        find: impl FnOnce() -> Option<Option<&'a User>>,
    ) -> Result<&'a User, Denial> {
        if let Some(retry_after) = self.failures.lock().blocked(address, now) {
            return Err(Denial::Failures { retry_after });
        }
        find().ok_or(Denial::Credentials)?.ok_or_else(|| {
            self.failures.lock().add(address, now);
            Denial::Credentials
        })
    }

    /// Returns the user whose credentials these are, as in `Authorization`.
    fn user(&self, credentials: &str) -> Option<&User> {
        let (scheme, value) = credentials.split_once(' ')?;
        let value = value.trim();
        if scheme.eq_ignore_ascii_case("bearer") {
            return self.bearer(value);
        }
        let decoded = scheme.eq_ignore_ascii_case("basic").then(|| BASE64_STANDARD.decode(value).ok())??;
        let colon = decoded.iter().position(|byte| *byte == b':')?;
        self.basic(&decoded[..colon], &decoded[colon + 1..])
    }

    fn bearer(&self, token: &str) -> Option<&User> {
        let own = |user: &&User| user.token.as_ref().is_some_and(|tag| tag.is_of(token.as_bytes()));
        self.users.iter().find(own)
    }

    fn basic(&self, name: &[u8], password: &[u8]) -> Option<&User> {
        let own = |user: &&User| {
            let tag = user.password.as_ref().filter(|_| user.name.as_bytes() == name);
            tag.is_some_and(|tag| tag.is_of(password))
        };
        self.users.iter().find(own)
    }
}

impl Tag {
    fn of(secret: &[u8]) -> Tag {
        Tag(Tag::mac(secret).finalize().into_bytes().into())
    }

    fn is_of(&self, secret: &[u8]) -> bool {
        Tag::mac(secret).verify_slice(&self.0).is_ok()
    }

    /// The code of an empty message under the secret.
    fn mac(secret: &[u8]) -> Hmac<Sha256> {
        Hmac::new_from_slice(secret).expect("HMAC takes keys of any length")
    }
}

/// The counts of wrong credentials, by address.
#[derive(Default)]
struct Failures(HashMap<IpAddr, Window>);

/// The wrong credentials since a time.
#[derive(Clone, Copy)]
struct Window {
    count: u32,
    since: Instant,
}

impl Failures {
    /// Returns how long an address stays refused.
    fn blocked(&self, address: IpAddr, now: Instant) -> Option<Duration> {
        let window = self.0.get(&self.counted(address))?;
        let left = WINDOW.checked_sub(now.duration_since(window.since)).filter(|left| !left.is_zero())?;
        (window.count >= MAX_FAILURES).then_some(left)
    }

    fn add(&mut self, address: IpAddr, now: Instant) {
        if self.0.len() > MAX_ADDRESSES {
            self.0.retain(|_, window| now.duration_since(window.since) < WINDOW);
        }
        let window = self.0.entry(self.counted(address)).or_insert(Window { count: 0, since: now });
        if now.duration_since(window.since) >= WINDOW {
            *window = Window { count: 0, since: now };
        }
        window.count += 1;
    }

    /// Returns the address under which failures of `address` are counted.
    fn counted(&self, address: IpAddr) -> IpAddr {
        let is_full = self.0.len() >= MAX_ADDRESSES && !self.0.contains_key(&address);
        if is_full { Ipv4Addr::UNSPECIFIED.into() } else { address }
    }
}

/// Whether a request comes from a page of the API's own origin, or from no page, unless it must say so.
fn is_of(headers: &HeaderMap, host: &str, must_say: bool) -> bool {
    if !headers.contains_key(ORIGIN) {
        return !must_say;
    }
    let origin = text(headers, ORIGIN).and_then(|origin| origin.split_once("://"));
    origin.is_some_and(|(_, of)| of.eq_ignore_ascii_case(host))
}

/// Returns the cookie of a login.
fn cookie(headers: &HeaderMap) -> Option<&str> {
    let cookies = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = cookies.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, _)| COOKIES.contains(name)).map(|(_, value)| value)
}

/// Returns the value of a header that occurs once and is text.
fn text(headers: &HeaderMap, name: impl AsHeaderName) -> Option<&str> {
    let mut values = headers.get_all(name).iter();
    values.next().filter(|_| values.next().is_none())?.to_str().ok()
}

#[cfg(test)]
mod tests;
