//! The events that hooks are asked about and told, in JSON: the fields of SRS under its names, then ours.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use serde::{Serialize, Serializer};
use sha2::{Digest, Sha256};

use crate::conf::DEFAULT_VHOST;
use crate::policy::session::Session;
use crate::stream::StreamKey;

/// The kind of an event, by the name of its hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HookAction {
    /// Asked before an RTMP connection is accepted.
    Connect,
    /// Told at the end of an RTMP connection.
    Close,
    /// Asked before a publisher is accepted.
    Publish,
    /// Told at the end of a publisher.
    Unpublish,
    /// Asked before a player or viewer is accepted.
    Play,
    /// Told at the end of a player or viewer.
    Stop,
    /// Told when somebody waits for a stream that is not live.
    StreamWanted,
    /// Told when nobody watches a live stream.
    StreamIdle,
    /// Asked where a stream is to be sent.
    Forward,
    /// Told when a module fails on a stream.
    Fault,
    /// Told after a reload.
    Reload,
}

impl HookAction {
    /// All kinds, in the order of their discriminants.
    pub const ALL: [HookAction; 11] = [
        HookAction::Connect,
        HookAction::Close,
        HookAction::Publish,
        HookAction::Unpublish,
        HookAction::Play,
        HookAction::Stop,
        HookAction::StreamWanted,
        HookAction::StreamIdle,
        HookAction::Forward,
        HookAction::Fault,
        HookAction::Reload,
    ];

    fn name(self) -> &'static str {
        match self {
            HookAction::Connect => "on_connect",
            HookAction::Close => "on_close",
            HookAction::Publish => "on_publish",
            HookAction::Unpublish => "on_unpublish",
            HookAction::Play => "on_play",
            HookAction::Stop => "on_stop",
            HookAction::StreamWanted => "on_stream_wanted",
            HookAction::StreamIdle => "on_stream_idle",
            HookAction::Forward => "on_forward",
            HookAction::Fault => "on_fault",
            HookAction::Reload => "on_reload",
        }
    }
}

impl fmt::Display for HookAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Serialize for HookAction {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// The facts about a client in events. It has no secret names, but the parameters of the client's URL, and so no `Debug`.
#[derive(Clone)]
pub(in crate::policy) struct Facts {
    /// The id of the connection over RTMP, else of the session.
    pub client_id: String,
    /// The id of the session; empty for a connection.
    pub session_id: String,
    pub protocol: String,
    pub address: IpAddr,
    /// The stream by its public name; its `stream` is empty for a connection.
    pub key: StreamKey,
    pub tc_url: String,
    /// The parameters with their `?`, or empty.
    pub param: String,
    pub page_url: String,
    pub user_agent: String,
    /// The extension of the mount; empty over RTMP.
    pub format: String,
}

/// How long a session or connection was, and what it moved.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Totals {
    pub duration: Duration,
    pub sent: u64,
    pub received: u64,
}

/// An event that is sent.
#[derive(Serialize)]
struct Message<'a> {
    server_id: &'a str,
    service_id: &'a str,
    action: HookAction,
    #[serde(flatten)]
    client: Option<Client<'a>>,
    #[serde(flatten)]
    stream: Option<StreamFields<'a>>,
    #[serde(flatten)]
    ours: Ours<'a>,
}

/// The fields of all events about a client.
#[derive(Serialize)]
struct Client<'a> {
    client_id: &'a str,
    ip: IpAddr,
    #[serde(rename = "tcUrl", skip_serializing_if = "Option::is_none")]
    tc_url: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    param: Option<&'a str>,
    #[serde(rename = "pageUrl", skip_serializing_if = "Option::is_none")]
    page_url: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    send_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    recv_bytes: Option<u64>,
    protocol: &'a str,
    user_agent: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    session_id: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    format: &'a str,
}

/// The fields of events about a stream or its app.
#[derive(Serialize)]
struct StreamFields<'a> {
    vhost: &'a str,
    app: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream_url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream_id: Option<String>,
}

/// Fields that SRS does not have.
#[derive(Serialize)]
struct Ours<'a> {
    event_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
    /// In seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    duration: Option<f64>,
    #[serde(flatten)]
    others: Option<serde_json::Value>,
}

/// The process that sends an event, and the id of the event.
#[derive(Clone, Copy)]
pub(super) struct Sender<'a> {
    pub server_id: &'a str,
    pub service_id: &'a str,
    pub event_id: &'a str,
}

/// Returns the body of an event about a client; `totals` if it is an end.
pub(super) fn client_event(
    sender: Sender,
    action: HookAction,
    facts: &Facts,
    totals: Option<Totals>,
) -> Bytes {
    let is_connection = matches!(action, HookAction::Connect | HookAction::Close);
    let with_page = matches!(action, HookAction::Connect | HookAction::Play | HookAction::StreamWanted);
    let with_url = action != HookAction::Close;
    let of_connection = totals.filter(|_| is_connection);
    let client = Client {
        client_id: &facts.client_id,
        ip: facts.address,
        tc_url: with_url.then_some(&facts.tc_url),
        param: with_url.then_some(&facts.param),
        page_url: with_page.then_some(&facts.page_url),
        send_bytes: of_connection.map(|totals| totals.sent),
        recv_bytes: of_connection.map(|totals| totals.received),
        protocol: &facts.protocol,
        user_agent: &facts.user_agent,
        session_id: &facts.session_id,
        format: &facts.format,
    };
    let stream = StreamFields {
        stream: with_url.then_some(&facts.key.stream),
        ..stream_fields(&facts.key, !is_connection)
    };
    let ours = Ours {
        event_id: sender.event_id,
        bytes: totals.filter(|_| !is_connection).map(|totals| totals.sent + totals.received),
        duration: totals.map(|totals| rounded(totals.duration)),
        others: None,
    };
    body(sender, action, Some(client), Some(stream), ours)
}

/// Returns the body of the question where a stream is to be sent, which a session publishes.
pub(super) fn forward_event(sender: Sender, key: &StreamKey, publisher: Option<&Session>) -> Bytes {
    let [client_id, session_id] = match publisher {
        Some(session) => [session.connection().to_string(), session.id().to_string()],
        None => Default::default(),
    };
    let client = publisher.map(|session| Client {
        client_id: &client_id,
        ip: session.address(),
        // The record of a session has no parameters.
        tc_url: None,
        param: None,
        page_url: None,
        send_bytes: None,
        recv_bytes: None,
        protocol: "rtmp",
        user_agent: session.user_agent(),
        session_id: &session_id,
        format: "",
    });
    let ours = Ours { event_id: sender.event_id, bytes: None, duration: None, others: None };
    body(sender, HookAction::Forward, client, Some(stream_fields(key, true)), ours)
}

/// Returns the body of an event about a stream, without a client.
pub(super) fn stream_event(
    sender: Sender,
    action: HookAction,
    key: &StreamKey,
    others: serde_json::Value,
) -> Bytes {
    let ours = Ours { event_id: sender.event_id, bytes: None, duration: None, others: Some(others) };
    body(sender, action, None, Some(stream_fields(key, true)), ours)
}

/// Returns the body of an event about the host.
pub(super) fn host_event(sender: Sender, action: HookAction, others: serde_json::Value) -> Bytes {
    let ours = Ours { event_id: sender.event_id, bytes: None, duration: None, others: Some(others) };
    body(sender, action, None, None, ours)
}

fn body(
    sender: Sender,
    action: HookAction,
    client: Option<Client>,
    stream: Option<StreamFields>,
    ours: Ours,
) -> Bytes {
    let Sender { server_id, service_id, .. } = sender;
    let message = Message { server_id, service_id, action, client, stream, ours };
    // Strings and numbers always serialize.
    serde_json::to_vec(&message).unwrap_or_default().into()
}

fn stream_fields(key: &StreamKey, whole: bool) -> StreamFields<'_> {
    let StreamKey { vhost, app, stream } = key;
    StreamFields {
        vhost,
        app,
        stream: whole.then_some(stream),
        stream_url: whole.then(|| stream_url(key)),
        stream_id: whole.then(|| stream_id(key)),
    }
}

/// Returns `VHOST/APP/STREAM`; the default vhost is left empty, as SRS does.
fn stream_url(key: &StreamKey) -> String {
    let vhost = if &*key.vhost == DEFAULT_VHOST { "" } else { &*key.vhost };
    format!("{vhost}/{}/{}", key.app, key.stream)
}

/// Returns the id of a stream: the same for the same name.
fn stream_id(key: &StreamKey) -> String {
    let hash = Sha256::digest(stream_url(key));
    hash.iter().take(6).fold("vid-".to_owned(), |id, byte| id + &format!("{byte:02x}"))
}

/// Returns seconds, to the millisecond.
fn rounded(duration: Duration) -> f64 {
    duration.as_millis() as f64 / 1000.0
}
