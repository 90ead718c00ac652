//! The config of the API over TCP.

use std::net::SocketAddr;

use super::access::Secret;
use super::certificate::CertificateFiles;

/// `[http_api]`: status, metrics and administration over TCP.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpApi {
    /// `enabled`, default false.
    pub enabled: bool,
    /// `listen`: `[ip:]port`, default `1985` on loopback. Elsewhere only with users.
    pub listen: SocketAddr,
    /// `[http_api.https]`: the same over TLS, whether `enabled` is set or not.
    pub https: ApiTls,
    /// `hosts`: names under which it answers, beside addresses and `localhost`. Default none.
    pub hosts: Vec<String>,
    /// `jsonp`: answer GET requests of pages with SRS's shapes with a call of the function that `?callback=` names. Default false.
    pub jsonp: bool,
    /// `[[http_api.user]]`. Without one, everybody who reaches it may read what names no client.
    pub users: Vec<ApiUser>,
}

/// `[http_api.https]`: the API over TLS.
#[derive(Clone, Debug, PartialEq)]
pub struct ApiTls {
    /// `enabled`, default false.
    pub enabled: bool,
    /// `listen`: `[ip:]port`, default `1990` (SRS) on loopback. Elsewhere only with users.
    pub listen: SocketAddr,
    /// `key` and `cert`.
    pub certificate: CertificateFiles,
}

/// `[[http_api.user]]`.
#[derive(Clone, Debug, PartialEq)]
pub struct ApiUser {
    /// `name`: for Basic credentials.
    pub name: String,
    /// `password`: for Basic credentials, at least [`MIN_PASSWORD`] bytes. Default none.
    pub password: Option<Secret>,
    /// `token`: a bearer token, at least [`MIN_PASSWORD`] bytes. Default none.
    pub token: Option<Secret>,
    /// `role`: `read`, the default, or `operate`.
    pub role: ApiRole,
}

/// The permissions of a user of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApiRole {
    /// Read everything.
    Read,
    /// Also reload, kick and ban.
    Operate,
}

/// The least length of a password or token, in bytes.
pub const MIN_PASSWORD: usize = 16;
