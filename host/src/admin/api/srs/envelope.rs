//! The envelope of SRS's replies: the code of the outcome, and who answers.

use std::hash::{BuildHasher, RandomState};

use schemars::JsonSchema;
use serde::Serialize;

use crate::conf::DEFAULT_VHOST;
use crate::stream::StreamKey;

/// An error of a page, as SRS numbers it. Its HTTP status is 200.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::admin::api) enum Code {
    /// RPCs that change something are off.
    RawDisabled = 1061,
    VhostNotFound = 2014,
    StreamNotFound = 2048,
    ClientNotFound = 2049,
}

/// A reply.
#[derive(Serialize, JsonSchema)]
#[serde(untagged)]
pub(in crate::admin::api) enum Envelope<T> {
    Content(Content<T>),
    Error(Failure),
}

/// A reply with what was asked for.
#[derive(Serialize, JsonSchema)]
pub(in crate::admin::api) struct Content<T> {
    /// 0.
    code: u32,
    /// The name of the machine, as hooks have it.
    server: String,
    /// The id of this process, as hooks have it.
    service: String,
    /// The number of the process.
    pid: String,
    #[serde(flatten)]
    content: T,
}

/// A reply without it.
#[derive(Serialize, JsonSchema)]
pub(in crate::admin::api) struct Failure {
    /// SRS's number of the error: 1061 if this is off, 2014, 2048 and 2049 if there is no such vhost, stream or client.
    code: u32,
}

/// A reply whose content is in one field.
#[derive(Serialize, JsonSchema)]
pub(in crate::admin::api) struct Data<T> {
    pub data: T,
}

/// A reply without content.
#[derive(Serialize, JsonSchema)]
pub(in crate::admin::api) struct Done {}

/// The names of this process, and of its vhosts and streams.
#[derive(Debug)]
pub(in crate::admin::api) struct Identity {
    server: String,
    service: String,
    pid: String,
    /// Random for each process, as SRS's ids are.
    ids: RandomState,
}

impl<T> Envelope<T> {
    pub fn of(identity: &Identity, content: Result<T, Code>) -> Envelope<T> {
        let Identity { server, service, pid, .. } = identity;
        match content {
            Ok(content) => Envelope::Content(Content {
                code: 0,
                server: server.clone(),
                service: service.clone(),
                pid: pid.clone(),
                content,
            }),
            Err(code) => Envelope::Error(Failure { code: code as u32 }),
        }
    }
}

impl Identity {
    /// Returns the names of the process that hooks know as `service` on `server`.
    pub fn new((server, service): (&str, &str)) -> Identity {
        let pid = std::process::id().to_string();
        Identity { server: server.to_owned(), service: service.to_owned(), pid, ids: RandomState::new() }
    }

    /// Returns the id of a vhost.
    pub(super) fn vhost(&self, name: &str) -> String {
        format!("vid-{:016x}", self.ids.hash_one(name))
    }

    /// Returns the id of a stream.
    pub(super) fn stream(&self, key: &StreamKey) -> String {
        format!("vid-{:016x}", self.ids.hash_one(key))
    }
}

/// Returns the URL of a stream as SRS shows it: `/live/film`, or `VHOST/live/film` on another vhost than the default one.
pub(super) fn stream_url(key: &StreamKey) -> String {
    let vhost = if &*key.vhost == DEFAULT_VHOST { "" } else { &key.vhost };
    format!("{vhost}/{}/{}", key.app, key.stream)
}

/// Returns the RTMP URL of a stream's app on the host that a request names, `name`, which may have the port of the API.
pub(super) fn tc_url(name: &str, port: u16, key: &StreamKey) -> String {
    let host = crate::router::host_without_port(name);
    let host = if host.is_empty() { &key.vhost } else { host };
    let port = if port == 1935 { String::new() } else { format!(":{port}") };
    let query = if &*key.vhost == DEFAULT_VHOST { String::new() } else { format!("?vhost={}", key.vhost) };
    format!("rtmp://{host}{port}/{}{query}", key.app)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_has_a_code_and_says_who_answers() {
        let identity = Identity::new(("host", "0a"));
        let good = Envelope::of(&identity, Ok(Data { data: 7 }));
        let expected =
            serde_json::json!({"code": 0, "server": "host", "service": "0a", "pid": identity.pid, "data": 7});
        assert_eq!(serde_json::to_value(&good).unwrap(), expected);
        let bad = Envelope::<Done>::of(&identity, Err(Code::StreamNotFound));
        assert_eq!(serde_json::to_value(&bad).unwrap(), serde_json::json!({"code": 2048}));
    }

    #[test]
    fn urls_name_the_stream() {
        for (vhost, name, port, tc, url) in [
            ("__defaultVhost__", "192.0.2.1:1985", 1935, "rtmp://192.0.2.1/live", "/live/film"),
            ("__defaultVhost__", "[::1]:1985", 1936, "rtmp://[::1]:1936/live", "/live/film"),
            ("a.example", "", 1935, "rtmp://a.example/live?vhost=a.example", "a.example/live/film"),
        ] {
            let key = StreamKey::new(vhost, "live", "film");
            assert_eq!((tc_url(name, port, &key), stream_url(&key)), (tc.to_owned(), url.to_owned()));
        }
    }

    #[test]
    fn ids_are_those_of_names() {
        let identity = Identity::new(("", ""));
        let [film, other] = ["film", "other"].map(|name| identity.stream(&StreamKey::new("v", "live", name)));
        assert!(film.starts_with("vid-") && film.len() == 20 && film != other, "{film} {other}");
        assert_eq!(film, identity.stream(&StreamKey::new("v", "live", "film")));
    }
}
