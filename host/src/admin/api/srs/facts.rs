//! The pages about the host itself.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;

use super::super::route::Call;
use super::super::state::Api;
use super::envelope::{Code, Data};
use super::streams::now_ms;
use crate::http::Version;
use crate::router::query_value;

/// Pages below a page, with what they show.
#[derive(Serialize, JsonSchema)]
pub(in crate::admin::api) struct Index {
    urls: BTreeMap<String, String>,
}

/// License and authors.
#[derive(Serialize, JsonSchema)]
pub(in crate::admin::api) struct Authors {
    license: &'static str,
    contributors: &'static str,
}

/// The features of SRS that the host has.
#[derive(Serialize, JsonSchema)]
pub(in crate::admin::api) struct Features {
    /// Empty.
    options: &'static str,
    /// Empty.
    options2: &'static str,
    /// Empty.
    build: &'static str,
    /// Empty.
    build2: &'static str,
    features: BTreeMap<&'static str, bool>,
}

/// The request that is answered, without its query and its headers, which may hold secrets.
#[derive(Serialize, JsonSchema)]
pub(in crate::admin::api) struct Request {
    uri: String,
    path: String,
    #[serde(rename = "METHOD")]
    method: &'static str,
    headers: Server,
}

/// The host, where SRS shows it.
#[derive(Serialize, JsonSchema)]
struct Server {
    sigature: &'static str,
    version: &'static str,
    link: &'static str,
    /// Milliseconds since 1970.
    time: u64,
}

/// The settings of the API.
#[derive(Serialize, JsonSchema)]
pub(in crate::admin::api) struct Raw {
    http_api: ApiSettings,
}

/// `[http_api]`, in SRS's shape.
#[derive(Serialize, JsonSchema)]
struct ApiSettings {
    enabled: bool,
    listen: String,
    /// Never.
    crossdomain: bool,
    raw_api: RawSettings,
}

/// The RPCs of SRS that change something: never.
#[derive(Serialize, JsonSchema)]
struct RawSettings {
    enabled: bool,
    allow_reload: bool,
    allow_query: bool,
    allow_update: bool,
}

pub(in crate::admin::api) fn api(_: &Api, _: &Call) -> Result<Index, Code> {
    Ok(index([("v1", "pages with SRS's shapes"), ("v2", "pages of our own")].into_iter()))
}

/// Returns a list of pages.
pub(in crate::admin::api) fn index(pages: impl Iterator<Item = (&'static str, &'static str)>) -> Index {
    Index { urls: pages.map(|(name, text)| (name.to_owned(), text.to_owned())).collect() }
}

pub(in crate::admin::api) fn versions(_: &Api, _: &Call) -> Result<Data<Version>, Code> {
    Ok(Data { data: Version::of_host() })
}

pub(in crate::admin::api) fn authors(_: &Api, _: &Call) -> Result<Data<Authors>, Code> {
    let contributors = "the authors of remuxd";
    Ok(Data { data: Authors { license: env!("CARGO_PKG_LICENSE"), contributors } })
}

pub(in crate::admin::api) fn features(_: &Api, _: &Call) -> Result<Data<Features>, Code> {
    let features = [
        ("ssl", true),
        ("hls", false),
        ("hds", false),
        ("callback", true),
        ("api", true),
        ("httpd", true),
        ("dvr", false),
        ("transcode", false),
        ("ingest", false),
        ("stat", true),
        ("caster", false),
        ("complex_send", true),
        ("tcp_nodelay", true),
        ("so_sendbuf", false),
        ("mr", false),
    ];
    let features = features.into_iter().collect();
    Ok(Data { data: Features { options: "", options2: "", build: "", build2: "", features } })
}

pub(in crate::admin::api) fn requests(_: &Api, call: &Call) -> Result<Data<Request>, Code> {
    let server = Server { sigature: "remuxd", version: env!("CARGO_PKG_VERSION"), link: "", time: now_ms() };
    let (uri, path) = (call.path.clone(), call.path.clone());
    Ok(Data { data: Request { uri, path, method: "GET", headers: server } })
}

pub(in crate::admin::api) fn raw(api: &Api, call: &Call) -> Result<Raw, Code> {
    if query_value(&call.query, "rpc").as_deref() != Some("raw") {
        return Err(Code::RawDisabled);
    }
    let config = &api.config().http_api;
    let raw_api =
        RawSettings { enabled: false, allow_reload: false, allow_query: false, allow_update: false };
    let (enabled, listen) = (config.enabled, config.listen.to_string());
    Ok(Raw { http_api: ApiSettings { enabled, listen, crossdomain: false, raw_api } })
}
