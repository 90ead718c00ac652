//! Logins: what browsers have in place of a password, after a user has given it once.
//!
//! A login is a random cookie, which only its hash is kept of. It ends after [`LIFETIME`], with a reload of `[http_api]`, and when the
//! host stops.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use parking_lot::Mutex;
use rustls::crypto::aws_lc_rs::default_provider;
use sha2::{Digest, Sha256};

use crate::conf::ApiRole;

/// How long a login lasts.
pub(super) const LIFETIME: Duration = Duration::from_secs(12 * 3600);

/// The largest number of logins. One more ends the oldest.
const MAX_LOGINS: usize = 64;

/// The logins of an API.
#[derive(Default)]
pub(super) struct Logins(Mutex<HashMap<[u8; 32], Login>>);

/// A user who is logged in.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Login {
    pub name: Arc<str>,
    pub role: ApiRole,
    pub ends: Instant,
}

impl Logins {
    /// Logs a user in. Returns the value of the cookie.
    pub fn add(&self, name: Arc<str>, role: ApiRole, now: Instant) -> String {
        let mut random = [0; 32];
        // Its only error is that the system has no random numbers.
        default_provider().secure_random.fill(&mut random).expect("the system has random numbers");
        let cookie = BASE64_URL_SAFE_NO_PAD.encode(random);
        let mut logins = self.0.lock();
        logins.retain(|_, login| now < login.ends);
        if logins.len() >= MAX_LOGINS {
            let oldest = logins.iter().min_by_key(|(_, login)| login.ends).map(|(hash, _)| *hash);
            oldest.map(|hash| logins.remove(&hash));
        }
        logins.insert(hash(&cookie), Login { name, role, ends: now + LIFETIME });
        cookie
    }

    /// Returns the login with this cookie.
    pub fn find(&self, cookie: &str, now: Instant) -> Option<Login> {
        self.0.lock().get(&hash(cookie)).filter(|login| now < login.ends).cloned()
    }

    /// Logs a user out. Returns false if there is no such login.
    pub fn remove(&self, cookie: &str) -> bool {
        self.0.lock().remove(&hash(cookie)).is_some()
    }
}

/// Hashes a cookie, so that the time of a search tells nothing about those that there are.
fn hash(cookie: &str) -> [u8; 32] {
    Sha256::digest(cookie).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_lasts_until_its_end() {
        let (logins, start) = (Logins::default(), Instant::now());
        let [cookie, other] = ["a", "b"].map(|name| logins.add(name.into(), ApiRole::Read, start));
        assert!(cookie.len() == 43 && cookie != other);
        let found = |cookie: &str, now| logins.find(cookie, now).map(|login| login.name);
        assert_eq!(found(&cookie, start).as_deref(), Some("a"));
        assert_eq!((found("", start), found(&cookie[1..], start)), (None, None));
        assert_eq!(found(&cookie, start + LIFETIME), None);
        assert_eq!((logins.remove(&cookie), logins.remove(&cookie)), (true, false));
        assert_eq!((found(&cookie, start), found(&other, start).as_deref()), (None, Some("b")));
    }

    #[test]
    fn the_oldest_login_makes_room() {
        let (logins, start) = (Logins::default(), Instant::now());
        let cookies: Vec<_> = (0..=MAX_LOGINS as u32)
            .map(|number| logins.add("a".into(), ApiRole::Read, start + Duration::from_secs(number.into())))
            .collect();
        let are_there = cookies.iter().filter(|cookie| logins.find(cookie, start).is_some());
        assert_eq!(are_there.count(), MAX_LOGINS);
        assert_eq!(logins.find(&cookies[0], start), None);
        // Those that have ended take no room.
        logins.add("a".into(), ApiRole::Read, start + 2 * LIFETIME);
        assert_eq!(logins.0.lock().len(), 1);
    }
}
