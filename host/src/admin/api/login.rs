//! Logging in and out, for pages that run in browsers.

use std::time::Instant;

use hyper::StatusCode;
use hyper::header::{HeaderValue, SET_COOKIE};
use schemars::JsonSchema;
use serde::Serialize;

use super::peer::Peer;
use super::reply::{Refused, Reply};
use super::route::Call;
use super::state::Api;
use crate::admin::guard::{COOKIES, Caller, Credentials};
use crate::admin::logins::LIFETIME;

/// The client of the API and its role.
#[derive(Serialize, JsonSchema)]
pub(super) struct LoginStatus {
    /// The name of the user; `null` where nobody needs to be one, and on the control socket.
    user: Option<String>,
    role: Role,
    /// Seconds until a login ends; `null` for credentials in `Authorization`.
    seconds: Option<u64>,
}

/// The role of a client of the API.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Role {
    /// Read what names no client.
    None,
    Read,
    Operate,
}

/// How long a login lasts.
#[derive(Serialize, JsonSchema)]
pub(super) struct LoggedIn {
    /// Seconds until it ends.
    seconds: u64,
}

/// The outcome of logging out.
#[derive(Serialize, JsonSchema)]
pub(super) struct LoggedOut {
    /// Whether there was a login.
    ended: bool,
}

pub(super) fn status(_: &Api, call: &Call) -> Result<LoginStatus, Refused> {
    let role = match call.admitted.caller {
        Caller::Anybody => Role::None,
        Caller::Reader => Role::Read,
        Caller::Operator => Role::Operate,
    };
    let now = Instant::now();
    let left = call.admitted.login_ends.map(|ends| ends.saturating_duration_since(now).as_secs());
    Ok(LoginStatus { user: call.admitted.user.as_deref().map(str::to_owned), role, seconds: left })
}

pub(super) fn log_in(api: &Api, call: &Call) -> Result<Reply, Refused> {
    let Peer::Remote { address, guard, is_secure, .. } = &call.peer else { return Err(NO_USERS) };
    if !guard.has_users() {
        return Err(NO_USERS);
    }
    let body = match &*call.body {
        [] => None,
        json => Some(parse(call, json)?),
    };
    let cookie = guard.log_in(&call.headers, body.as_ref(), *address, Instant::now());
    let cookie = cookie.map_err(|denial| {
        call.peer.log(denial, &call.path, api.access.refusals());
        Refused::Denied(denial)
    })?;
    let reply = Reply::json(StatusCode::OK, &LoggedIn { seconds: LIFETIME.as_secs() });
    Ok(reply.with(SET_COOKIE, set_cookie(&cookie, LIFETIME.as_secs(), *is_secure)?))
}

pub(super) fn log_out(_: &Api, call: &Call) -> Result<Reply, Refused> {
    let Peer::Remote { guard, is_secure, .. } = &call.peer else { return Err(NO_USERS) };
    let reply = Reply::json(StatusCode::OK, &LoggedOut { ended: guard.log_out(&call.headers) });
    Ok(reply.with(SET_COOKIE, set_cookie("", 0, *is_secure)?))
}

const NO_USERS: Refused = Refused::Missing("there are no users to log in");

/// Reads the body, which must say that it is JSON: a page of another site cannot send that without being asked.
fn parse(call: &Call, json: &[u8]) -> Result<Credentials, Refused> {
    let content_type = call.headers.get(hyper::header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let media_type = content_type.and_then(|value| value.split(';').next()).unwrap_or_default().trim();
    if !media_type.eq_ignore_ascii_case("application/json") {
        return Err(Refused::Parameter("the body must be application/json".to_owned()));
    }
    let wrong = |_| Refused::Parameter("the body must have `name` and `password`, or `token`".to_owned());
    serde_json::from_slice(json).map_err(wrong)
}

fn set_cookie(value: &str, seconds: u64, is_secure: bool) -> Result<HeaderValue, Refused> {
    let (name, secure) = if is_secure { (COOKIES[1], "; Secure") } else { (COOKIES[0], "") };
    let cookie = format!("{name}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}");
    HeaderValue::try_from(cookie).map_err(|_| Refused::Failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookies_are_for_the_api_alone() {
        let cookie = |is_secure| set_cookie("abc", 60, is_secure).unwrap();
        assert_eq!(cookie(false), "remuxd=abc; Path=/; Max-Age=60; HttpOnly; SameSite=Strict");
        assert_eq!(cookie(true), "__Host-remuxd=abc; Path=/; Max-Age=60; HttpOnly; SameSite=Strict; Secure");
    }
}
