//! The table of the API.

use super::access::{fault, required};
use super::certificate::{DEFAULT_CERTIFICATE, certificate};
use crate::conf::access::Secret;
use crate::conf::api::{ApiRole, ApiTls, ApiUser, HttpApi, MIN_PASSWORD};
use crate::conf::error::ValueError;
use crate::conf::secrets::secret;
use crate::conf::table::Table;
use crate::conf::value::{choice, flag, host_name, list, listen_locally, loopback, text};

pub(super) fn http_api(table: &mut Table) -> HttpApi {
    HttpApi {
        enabled: table.key("enabled", false, flag),
        listen: table.key("listen", loopback(1985), listen_locally),
        https: table.table("https", https),
        hosts: table.key("hosts", Vec::new(), list(host_name)),
        jsonp: table.key("jsonp", false, flag),
        users: table.tables("user", "name", user),
    }
}

fn https(table: &mut Table) -> ApiTls {
    ApiTls {
        enabled: table.key("enabled", false, flag),
        listen: table.key("listen", loopback(1990), listen_locally),
        certificate: certificate(table, DEFAULT_CERTIFICATE),
    }
}

/// Reads a user; `None` if nothing in it is set, as in conf/remuxd.toml, or it is bad.
fn user(table: &mut Table) -> Option<ApiUser> {
    let name = table.key("name", String::new(), text);
    let (password, token) = (password(table, "password"), password(table, "token"));
    let roles = &[("read", ApiRole::Read), ("operate", ApiRole::Operate)];
    let role = table.key("role", ApiRole::Read, choice(roles));
    if ["name", "password", "token"].iter().all(|key| table.is_unset(key)) {
        return None;
    }
    if name.contains(':') {
        fault(table, "name", ValueError::NotAUserName);
        return None;
    }
    let name = required(table, "name", Some(name).filter(|name| !name.is_empty()))?;
    if token.is_none() {
        required(table, "password", password.as_ref())?;
    }
    Some(ApiUser { name, password, token, role })
}

/// Reads a password or token that is long enough; `None` if there is none.
fn password(table: &mut Table, key: &'static str) -> Option<Secret> {
    let secret = table.secret(key, secret);
    let len = secret.bytes().len();
    if len > 0 && len < MIN_PASSWORD {
        fault(table, key, ValueError::SecretTooShort { len, min: MIN_PASSWORD });
    }
    (len > 0).then_some(secret)
}
