//! The server's end of one RTMP connection (RTMP 1.0 §7.2; enhanced RTMP v2 for `connect` and reconnect).
//!
//! The owner reads the socket into [`input`](ServerSession::input), takes events until
//! [`poll_event`](ServerSession::poll_event) needs more, answers requests, and writes
//! [`output`](ServerSession::output) out. One connection may carry several message streams, publishing and playing.
//!
//! Invariants:
//! - media are handed out only for a stream whose `publish` was accepted, and sent only where `play` was;
//! - before the first accepted request a client may send [`MAX_MESSAGES_UNACCEPTED`] messages and
//!   [`MAX_BYTES_UNACCEPTED`] bytes, and never open more than [`MAX_STREAMS`] streams;
//! - after `Err` or [`is_over`](ServerSession::is_over) the connection must close, once the output is written.
//!
//! Tolerated:
//! - commands and media on a message stream that does not exist, while only one does (encoders that count streams
//!   from 0, or always use 1): they mean that one;
//! - `publish` and `play` on a stream in use (Flash reuses its NetStream): the earlier use ends first.

mod command;
mod event;

pub use event::{Event, PlayEnd, Rejection};

use std::collections::VecDeque;
use std::net::Ipv4Addr;

use bytes::BytesMut;

use super::SessionError;
use super::chunk::ChunkLimits;
use super::command::{ANY_FOURCC, CAN_FORWARD, Command, ConnectRequest, caps_ex, code, info, object};
use super::handshake::ServerHandshake;
use super::link::{Incoming, Link, sample_access};
use super::message::{Control, PeerBandwidthLimit};
use super::output::Output;
use crate::media::Tag;
use remuxd_bitstream::amf0::Value;

/// Messages that a client may send before its first accepted `publish` or `play`.
pub const MAX_MESSAGES_UNACCEPTED: u32 = 1000;
/// Bytes that a client may send before its first accepted `publish` or `play`, the handshake included.
pub const MAX_BYTES_UNACCEPTED: u64 = 1 << 20;
/// Message streams open at once on one connection.
pub const MAX_STREAMS: usize = 16;

/// The Flash Media Server that clients take this one for; some refuse an unknown `fmsVer`.
const FMS_VERSION: &str = "FMS/3,5,3,888";
const FMS_CAPABILITIES: f64 = 127.0;

/// What a session is told when it starts.
#[derive(Clone, Debug)]
pub struct ServerSettings {
    /// The size of the chunks it sends, in bytes.
    pub chunk_size: u32,
    /// How often it wants an acknowledgement, in bytes.
    pub window_ack_size: u32,
    /// What the client may make it hold.
    pub limits: ChunkLimits,
}

/// The server's end of one RTMP connection. It has no `Debug`: its buffers hold stream keys.
pub struct ServerSession {
    settings: ServerSettings,
    link: Link,
    handshake: ServerHandshake,
    connection: Connection,
    /// What the client said in `connect`.
    request: ConnectRequest,
    streams: Vec<Stream>,
    events: VecDeque<Event>,
    /// Messages before the first accepted request; `None` after it.
    unaccepted: Option<u32>,
    /// `FCPublish` came, before or after the first `createStream`.
    fc_publish: Option<FcPublish>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Connection {
    Handshake,
    /// No command came.
    New,
    /// `connect` with this transaction id waits for an answer.
    Asked {
        transaction: u32,
    },
    Accepted,
    /// Rejected, or ended by the owner.
    Over,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FcPublish {
    BeforeStream,
    AfterStream,
}

/// A message stream.
struct Stream {
    id: u32,
    state: State,
}

enum State {
    Idle,
    /// `name` is as the client wrote it, to know it again in `FCUnpublish`.
    Publishing {
        name: String,
        accepted: bool,
    },
    Playing {
        reset: bool,
        accepted: bool,
    },
}

impl ServerSession {
    /// A session that waits for the client's handshake.
    pub fn new(settings: ServerSettings, handshake: ServerHandshake) -> ServerSession {
        ServerSession {
            link: Link::new(settings.limits),
            settings,
            handshake,
            connection: Connection::Handshake,
            request: ConnectRequest::default(),
            streams: Vec::new(),
            events: VecDeque::new(),
            unaccepted: Some(0),
            fc_publish: None,
        }
    }

    /// Where to put bytes from the client, behind those that are there.
    pub fn input(&mut self) -> &mut BytesMut {
        &mut self.link.input
    }

    /// What waits to be written to the client.
    pub fn output(&mut self) -> &mut Output {
        &mut self.link.output
    }

    /// [`input`](Self::input) and [`output`](Self::output) at once, for an owner that waits for either.
    pub fn buffers(&mut self) -> (&mut BytesMut, &mut Output) {
        (&mut self.link.input, &mut self.link.output)
    }

    /// Whether nothing more will be read: close when the output is written.
    pub fn is_over(&self) -> bool {
        self.connection == Connection::Over
    }

    /// The client's address as a proxy header before the handshake claims it; see
    /// [`ServerHandshake::proxied_client`] on whom to believe.
    pub fn proxied_client(&self) -> Option<Ipv4Addr> {
        self.handshake.proxied_client()
    }

    /// The next event. `None`: needs more input.
    ///
    /// # Errors
    ///
    /// The client violated the protocol or a limit.
    pub fn poll_event(&mut self) -> Result<Option<Event>, SessionError> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(Some(event));
            }
            if self.is_over() {
                self.link.input.clear();
                return Ok(None);
            }
            if self.connection == Connection::Handshake {
                if !self.handshake.read(&mut self.link.input, &mut self.link.output)? {
                    return Ok(None);
                }
                self.link.start(self.handshake.bytes_received());
                self.connection = Connection::New;
            }
            let incoming = self.link.read()?;
            self.count_unaccepted(incoming.is_some())?;
            match incoming {
                None => return Ok(None),
                Some(Incoming::Command { stream_id, command }) => self.on_command(stream_id, command)?,
                Some(Incoming::Tag { stream_id, tag }) => {
                    if let Some(Stream { id, state: State::Publishing { accepted: true, .. } }) =
                        self.stream(stream_id)
                    {
                        return Ok(Some(Event::Media { stream_id: *id, tag }));
                    }
                }
                Some(Incoming::Control(Control::SetBufferLength { stream_id, millis })) => {
                    return Ok(Some(Event::BufferLength { stream_id, millis }));
                }
                Some(Incoming::Control(_) | Incoming::Ignored) => {}
            }
        }
    }

    fn count_unaccepted(&mut self, message: bool) -> Result<(), SessionError> {
        let Some(messages) = &mut self.unaccepted else { return Ok(()) };
        *messages += u32::from(message);
        let bytes = self.link.bytes_received();
        if *messages > MAX_MESSAGES_UNACCEPTED || bytes > MAX_BYTES_UNACCEPTED {
            return Err(SessionError::NothingAccepted { messages: *messages, bytes });
        }
        Ok(())
    }

    /// Accepts the connection.
    pub fn accept_connect(&mut self) {
        let Connection::Asked { transaction } = self.connection else { return };
        self.connection = Connection::Accepted;
        let window = self.settings.window_ack_size;
        self.link.send_control(&Control::WindowAckSize(window));
        self.link.send_control(&Control::SetPeerBandwidth { window, limit: PeerBandwidthLimit::Dynamic });
        // Before any answer above the default chunk size: OBS takes the new size late.
        self.link.send_control(&Control::SetChunkSize(self.settings.chunk_size));

        let server = object([
            ("fmsVer", FMS_VERSION.into()),
            ("capabilities", FMS_CAPABILITIES.into()),
            ("mode", 1.0.into()),
        ]);
        let mut facts = vec![
            ("level".to_owned(), "status".into()),
            ("code".to_owned(), code::CONNECT_SUCCESS.into()),
            ("description".to_owned(), "The connection is accepted.".into()),
            ("objectEncoding".to_owned(), f64::from(self.request.object_encoding).into()),
        ];
        facts.extend(capabilities().enhanced_properties());
        let data = ("version".to_owned(), env!("CARGO_PKG_VERSION").into());
        facts.push(("data".to_owned(), Value::EcmaArray(vec![data])));
        self.link.send_command(0, &Command::result(f64::from(transaction), server, Value::Object(facts)));
        self.link.send_command(0, &Command::call("onBWDone", 0.0, vec![]));
    }

    /// Refuses the connection; the session is over.
    pub fn reject_connect(&mut self, rejection: &Rejection) {
        let Connection::Asked { transaction } = self.connection else { return };
        let info = rejection_info(rejection.connect_status(), rejection);
        self.link.send_command(0, &Command::error(f64::from(transaction), info));
        self.connection = Connection::Over;
    }

    /// Accepts the `publish` that waits on a message stream: its media follow as events.
    pub fn accept_publish(&mut self, stream_id: u32) {
        let Some(State::Publishing { accepted: accepted @ false, .. }) = self.state_mut(stream_id) else {
            return;
        };
        *accepted = true;
        self.unaccepted = None;
        if self.fc_publish.is_some() {
            let info = object([("code", code::PUBLISH_START.into()), ("description", STARTED.into())]);
            self.link.send_command(stream_id, &Command::call("onFCPublish", 0.0, vec![info]));
        }
        self.send_status(stream_id, "status", (code::PUBLISH_START, STARTED));
    }

    /// Refuses the `publish` that waits on a message stream.
    pub fn reject_publish(&mut self, stream_id: u32, rejection: &Rejection) {
        let Some(state @ State::Publishing { accepted: false, .. }) = self.state_mut(stream_id) else {
            return;
        };
        *state = State::Idle;
        self.send_rejection(stream_id, rejection.publish_status(), rejection);
    }

    /// Accepts the `play` that waits on a message stream: tags may follow.
    pub fn accept_play(&mut self, stream_id: u32) {
        let Some(State::Playing { reset, accepted: accepted @ false }) = self.state_mut(stream_id) else {
            return;
        };
        *accepted = true;
        let reset = *reset;
        self.unaccepted = None;
        self.link.send_control(&Control::StreamBegin(stream_id));
        if reset {
            self.send_status(stream_id, "status", (code::PLAY_RESET, "The playlist is reset."));
        }
        self.send_status(stream_id, "status", (code::PLAY_START, "The stream starts."));
        // No NetStream.Data.Start: ffmpeg makes an empty data stream of it.
        self.link.send_data(stream_id, &sample_access());
    }

    /// Refuses the `play` that waits on a message stream.
    pub fn reject_play(&mut self, stream_id: u32, rejection: &Rejection) {
        let Some(state @ State::Playing { accepted: false, .. }) = self.state_mut(stream_id) else { return };
        *state = State::Idle;
        self.send_rejection(stream_id, rejection.play_status(), rejection);
    }

    /// Ends an accepted `play`; the client may play or publish anew.
    pub fn end_play(&mut self, stream_id: u32, reason: PlayEnd) {
        let Some(state @ State::Playing { accepted: true, .. }) = self.state_mut(stream_id) else { return };
        *state = State::Idle;
        self.link.send_control(&Control::StreamEof(stream_id));
        self.send_status(stream_id, "status", reason.status());
    }

    /// Ends an accepted `publish`: the client is told so, and the session is over.
    pub fn end_publish(&mut self, stream_id: u32, rejection: &Rejection) {
        let Some(State::Publishing { accepted: true, .. }) = self.state_mut(stream_id) else { return };
        self.send_rejection(stream_id, rejection.publish_status(), rejection);
        self.connection = Connection::Over;
    }

    /// Queues a tag for an accepted player, its payload shared.
    ///
    /// The session does not pace: call it when the output has gone out, else the output grows.
    pub fn send_tag(&mut self, stream_id: u32, tag: &Tag) {
        if let Some(State::Playing { accepted: true, .. }) = self.state_mut(stream_id) {
            self.link.send_tag(stream_id, tag, self.request.caps_ex);
        }
    }

    /// Asks the client for a sign of life; it answers with bytes.
    pub fn ping(&mut self, timestamp: u32) {
        self.link.send_control(&Control::PingRequest(timestamp));
    }

    /// Asks the client to connect anew, to `tc_url` if given (enhanced RTMP v2, "Reconnect Request"). False, and
    /// nothing is sent, when the client does not understand that.
    pub fn request_reconnect(&mut self, tc_url: Option<&str>) -> bool {
        if self.connection != Connection::Accepted || self.request.caps_ex & caps_ex::RECONNECT == 0 {
            return false;
        }
        let mut info = info("status", code::RECONNECT_REQUEST, "The server asks to reconnect.");
        if let (Value::Object(properties), Some(tc_url)) = (&mut info, tc_url) {
            properties.push(("tcUrl".to_owned(), tc_url.into()));
        }
        self.link.send_command(0, &Command::call("onStatus", 0.0, vec![info]));
        true
    }

    fn send_status(&mut self, stream_id: u32, level: &str, (code, description): (&str, &str)) {
        let info = info(level, code, description);
        self.link.send_command(stream_id, &Command::call("onStatus", 0.0, vec![info]));
    }

    fn send_rejection(&mut self, stream_id: u32, status: (&str, &str), rejection: &Rejection) {
        let info = rejection_info(status, rejection);
        self.link.send_command(stream_id, &Command::call("onStatus", 0.0, vec![info]));
    }

    /// The message stream that a client means.
    fn stream(&mut self, id: u32) -> Option<&mut Stream> {
        let index = match self.streams.iter().position(|stream| stream.id == id) {
            Some(index) => index,
            None if self.streams.len() == 1 => 0,
            None => return None,
        };
        self.streams.get_mut(index)
    }

    /// The state of exactly this message stream.
    fn state_mut(&mut self, id: u32) -> Option<&mut State> {
        self.streams.iter_mut().find(|stream| stream.id == id).map(|stream| &mut stream.state)
    }
}

const STARTED: &str = "The stream may be sent.";

/// What this server states of itself: it forwards every codec and passes multitrack and ModEx on.
fn capabilities() -> ConnectRequest {
    let forward_any = || vec![(ANY_FOURCC.to_owned(), CAN_FORWARD)];
    ConnectRequest {
        four_cc_list: vec![ANY_FOURCC.to_owned()],
        video_four_cc_info_map: forward_any(),
        audio_four_cc_info_map: forward_any(),
        caps_ex: caps_ex::RECONNECT | caps_ex::MULTITRACK | caps_ex::MOD_EX,
        ..ConnectRequest::default()
    }
}

fn rejection_info((code, description): (&str, &str), rejection: &Rejection) -> Value {
    let mut info = info("error", code, description);
    if let (Value::Object(properties), Rejection::Redirect { url }) = (&mut info, rejection) {
        // `redirect` is the tcUrl for clients that keep their stream name, `redirect2` the whole URL.
        let tc_url = url.rsplit_once('/').map_or(url.as_str(), |(tc_url, _stream)| tc_url);
        let ex =
            object([("code", 302.0.into()), ("redirect", tc_url.into()), ("redirect2", url.as_str().into())]);
        properties.push(("ex".to_owned(), ex));
    }
    info
}

#[cfg(test)]
mod tests;
