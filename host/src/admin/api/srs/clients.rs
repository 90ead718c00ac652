//! Clients: the sessions of the host.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::Serialize;

use super::super::paging::Page;
use super::super::route::Call;
use super::super::state::Api;
use super::envelope::{Code, Done, stream_url};
use super::streams::tc_url_of;
use super::tally::{Kbps, Sum};
use crate::policy::{Action, Protocol, Session};

/// A list of clients.
#[derive(Serialize, JsonSchema)]
pub(in crate::admin::api) struct Clients {
    clients: Vec<Client>,
}

/// One client.
#[derive(Serialize, JsonSchema)]
pub(in crate::admin::api) struct OneClient {
    client: Client,
}

/// A publisher, player or viewer.
#[derive(Serialize, JsonSchema)]
struct Client {
    /// The id of its session.
    id: String,
    /// The ids of its vhost and stream.
    vhost: String,
    stream: String,
    /// Empty for those who may not see it.
    ip: String,
    /// The page with the player; empty for those who may not see it.
    #[serde(rename = "pageUrl")]
    page_url: String,
    /// Empty.
    #[serde(rename = "swfUrl")]
    swf_url: String,
    /// The RTMP URL of the stream's app, on the host that the request names.
    #[serde(rename = "tcUrl")]
    tc_url: String,
    url: String,
    name: String,
    /// `rtmp-play`, `fmle-publish`, or the extension of the mount with `-play`.
    #[serde(rename = "type")]
    kind: String,
    publish: bool,
    /// Seconds since it came.
    alive: f64,
    /// Bytes of media.
    send_bytes: u64,
    recv_bytes: u64,
    kbps: Kbps,
}

pub(in crate::admin::api) fn clients(api: &Api, call: &Call) -> Result<Clients, Code> {
    let (_, sessions) = api.access.session_page(Page::lenient(&call.query).range());
    Ok(Clients { clients: describe(api, call, &sessions) })
}

pub(in crate::admin::api) fn client(api: &Api, call: &Call) -> Result<OneClient, Code> {
    let id = call.id.parse().map_err(|_| Code::ClientNotFound)?;
    let session = api.access.session(id).ok_or(Code::ClientNotFound)?;
    let client = describe(api, call, &[session]).pop();
    client.map(|client| OneClient { client }).ok_or(Code::ClientNotFound)
}

pub(in crate::admin::api) fn kick(api: &Api, call: &Call) -> Result<Done, Code> {
    let id = call.id.parse().map_err(|_| Code::ClientNotFound)?;
    if api.access.kick(id) { Ok(Done {}) } else { Err(Code::ClientNotFound) }
}

fn describe(api: &Api, call: &Call, sessions: &[Arc<Session>]) -> Vec<Client> {
    let rates = api.rates.of(sessions, || api.access.sessions());
    let port = api.config().rtmp.listen.first().map_or(1935, |address| address.port());
    sessions.iter().zip(rates).map(|(session, rate)| Client::of(api, call, port, session, rate)).collect()
}

impl Client {
    fn of(api: &Api, call: &Call, port: u16, session: &Session, rate: u64) -> Client {
        let shown = |text: &dyn Fn() -> String| {
            if call.admitted.caller.sees_addresses() { text() } else { String::new() }
        };
        let (key, identity) = (session.key(), &api.identity);
        let Sum { amount, kbps, .. } = Sum::of(session, rate);
        let publish = session.action() == Action::Publish;
        Client {
            id: session.id().to_string(),
            vhost: identity.vhost(&key.vhost),
            stream: identity.stream(key),
            ip: shown(&|| session.address().to_string()),
            page_url: shown(&|| session.page_url().to_owned()),
            swf_url: String::new(),
            tc_url: tc_url_of(call, port, key),
            url: stream_url(key),
            name: key.stream.to_string(),
            kind: match (publish, session.protocol()) {
                (true, _) => "fmle-publish".to_owned(),
                (false, Protocol::Rtmp) => "rtmp-play".to_owned(),
                (false, _) => format!("{}-play", session.format()),
            },
            publish,
            alive: session.elapsed().as_millis() as f64 / 1000.0,
            send_bytes: amount.sent,
            recv_bytes: amount.received,
            kbps,
        }
    }
}
