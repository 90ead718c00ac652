//! The session's state, and what it does on each command of the client.

use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::sync::Arc;

use remuxd_bitstream::amf0::Value;

use super::event::{Event, PublishKind};
use super::stream::{MessageStream, MessageStreams, PublishAnswer, StreamState};
use crate::budget::Account;
use crate::rtmp::chunk::ChunkLimits;
use crate::rtmp::command::{Command, code, info, object};
use crate::rtmp::connect::ConnectRequest;
use crate::rtmp::error::SessionError;
use crate::rtmp::handshake::{Handshake, Random};
use crate::rtmp::link::{Buffers, Incoming, Link};
use crate::rtmp::message::Control;
use crate::rtmp::tc_url::StreamName;

/// The maximum number of messages from a client before its first accepted `publish` or `play`.
pub const MAX_MESSAGES_UNACCEPTED: u32 = 1000;
/// The maximum number of bytes from a client before its first accepted `publish` or `play`, handshake included.
pub const MAX_BYTES_UNACCEPTED: u64 = 1 << 20;

/// Limits of the media of one message stream that is held back while its `publish` awaits an answer: half of what a client
/// may send before.
const MAX_MESSAGES_HELD: usize = 500;
const MAX_BYTES_HELD: usize = 512 << 10;

/// Limit of the bytes that a client may send while its `connect` awaits an answer.
const MAX_BYTES_CONNECTING: usize = 64 << 10;

const UNPUBLISHED: &str = "The stream is no longer published.";

/// Settings of a [`ServerSession`].
#[derive(Clone, Debug)]
pub struct ServerSettings {
    /// Payload bytes of the chunks that the session sends.
    pub chunk_size: u32,
    /// Bytes after which the session expects an acknowledgement.
    pub window_ack_size: u32,
    /// Limits on the memory that the client can occupy.
    pub limits: ChunkLimits,
}

/// The server's end of one RTMP connection. It has no `Debug`: its buffers hold stream keys.
pub struct ServerSession {
    pub(super) settings: ServerSettings,
    pub(super) link: Link,
    pub(super) connection: ConnectionState,
    /// The command object of the client's `connect`.
    pub(super) request: Arc<ConnectRequest>,
    pub(super) streams: MessageStreams,
    pub(super) events: VecDeque<Event>,
    /// Number of messages before the first accepted `publish` or `play`; `None` after it.
    pub(super) unaccepted: Option<u32>,
    /// The position of the first `FCPublish`, if there was one.
    pub(super) fc_publish: Option<FcPublish>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ConnectionState {
    Handshake,
    /// The handshake is complete; `connect` has not arrived.
    Opened,
    /// `connect` awaits the owner's answer.
    Connecting {
        transaction: u32,
    },
    Connected,
    /// Rejected by the owner, or ended.
    Over,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FcPublish {
    BeforeStream,
    AfterStream,
}

impl ServerSession {
    /// Creates a session that awaits a client's handshake. `epoch` is the time that S1 names, in milliseconds.
    pub fn new(settings: ServerSettings, epoch: u32, random: Random) -> ServerSession {
        ServerSession {
            link: Link::new(Handshake::server(epoch, random), settings.limits),
            settings,
            connection: ConnectionState::Handshake,
            request: Arc::default(),
            streams: MessageStreams::default(),
            events: VecDeque::new(),
            unaccepted: Some(0),
            fc_publish: None,
        }
    }

    /// Charges the client's messages from now on to `account`; before, to none.
    pub fn charge_to(&mut self, account: Account) {
        self.link.charge_to(account);
    }

    /// Returns the buffers between the session and the socket.
    pub fn buffers(&mut self) -> &mut Buffers {
        &mut self.link.buffers
    }

    /// Returns whether the session has ended. It reads nothing more; the owner closes the connection once the output
    /// is written.
    pub fn is_over(&self) -> bool {
        self.connection == ConnectionState::Over
    }

    /// Returns whether the session holds so much of a client that awaits an answer that it reads nothing before. The owner must
    /// not read the socket then.
    pub fn is_full(&self) -> bool {
        if self.is_connecting() {
            return self.link.buffers.input.len() >= MAX_BYTES_CONNECTING;
        }
        self.streams.held().any(|held| {
            held.len() >= MAX_MESSAGES_HELD
                || held.iter().map(|tag| tag.payload.len()).sum::<usize>() >= MAX_BYTES_HELD
        })
    }

    /// Returns the number of bytes received on the connection.
    pub fn bytes_received(&self) -> u64 {
        self.link.bytes_received()
    }

    /// Returns the offset in the connection at which the oldest unfinished message of the client began.
    pub fn oldest_unfinished(&self) -> Option<u64> {
        self.link.oldest_unfinished()
    }

    /// Returns the client's address from a proxy header before the handshake. It must be believed only from a trusted
    /// proxy.
    pub fn proxied_client(&self) -> Option<Ipv4Addr> {
        self.link.proxied_client
    }

    /// Returns the next event. `None` means that more input is needed.
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
                self.link.buffers.input.clear();
                return Ok(None);
            }
            if self.connection == ConnectionState::Handshake {
                if !self.link.complete_handshake()? {
                    return Ok(None);
                }
                self.connection = ConnectionState::Opened;
            }
            // Commands after `connect` wait for its answer.
            if self.is_connecting() || self.is_full() {
                return Ok(None);
            }
            let incoming = self.link.read()?;
            self.count_unaccepted(incoming.is_some())?;
            match incoming {
                None => return Ok(None),
                Some(Incoming::Command { stream_id, command }) => self.on_command(stream_id, command)?,
                Some(Incoming::Tag { stream_id, tag }) => {
                    let Some(MessageStream { id, state: StreamState::Publishing { answer, .. } }) =
                        self.streams.find(stream_id)
                    else {
                        continue;
                    };
                    match answer {
                        PublishAnswer::Accepted => return Ok(Some(Event::Media { stream_id: *id, tag })),
                        PublishAnswer::Awaited { held } => held.push(tag),
                    }
                }
                // A player's buffer length changes nothing on a live stream.
                Some(Incoming::Control(_) | Incoming::Ignored) => {}
            }
        }
    }

    fn is_connecting(&self) -> bool {
        matches!(self.connection, ConnectionState::Connecting { .. })
    }

    fn count_unaccepted(&mut self, message: bool) -> Result<(), SessionError> {
        // What comes while an answer is awaited has a limit of its own.
        if self.streams.awaits_answer() {
            return Ok(());
        }
        let Some(messages) = &mut self.unaccepted else { return Ok(()) };
        *messages += u32::from(message);
        let bytes = self.link.bytes_received();
        if *messages > MAX_MESSAGES_UNACCEPTED || bytes > MAX_BYTES_UNACCEPTED {
            return Err(SessionError::NothingAccepted { messages: *messages, bytes });
        }
        Ok(())
    }

    fn on_command(&mut self, stream_id: u32, command: Command) -> Result<(), SessionError> {
        if command.name == "connect" {
            return self.on_connect(&command);
        }
        if self.connection != ConnectionState::Connected {
            return Err(SessionError::NotConnected);
        }
        match &*command.name {
            "createStream" => self.on_create_stream(&command)?,
            "publish" => self.on_publish(stream_id, &command),
            "play" => self.on_play(stream_id, &command),
            "FCPublish" => {
                let position =
                    if self.streams.is_empty() { FcPublish::BeforeStream } else { FcPublish::AfterStream };
                self.fc_publish.get_or_insert(position);
                self.reply(&command, Value::Undefined);
            }
            "FCUnpublish" => self.on_fc_unpublish(&command),
            "closeStream" => self.end_use(stream_id),
            "deleteStream" => {
                // Expects no reply (7.2.2.3). Some clients identify the stream by the message stream it is sent on.
                let id = command.number(0).map_or(stream_id, |id| id as u32);
                self.end_use(id);
                self.streams.close(id);
            }
            "pause" | "pauseRaw" => self.on_pause(stream_id, &command),
            "receiveAudio" | "receiveVideo" => self.on_receive(stream_id, &command),
            // A length of 0 means that the stream is live.
            "getStreamLength" => self.reply(&command, 0.0.into()),
            // Replies to our own calls.
            "_result" | "_error" | "onStatus" => {}
            // `releaseStream`, `_checkbw`, `FCSubscribe`, `seek` and all others that expect a reply.
            _ => self.reply(&command, Value::Undefined),
        }
        Ok(())
    }

    /// Sends `_result`, if the client expects one.
    fn reply(&mut self, command: &Command, value: Value) {
        if command.transaction > 0.0 {
            self.link.send_command(0, &Command::result(command.transaction, Value::Null, value));
        }
    }

    fn on_connect(&mut self, command: &Command) -> Result<(), SessionError> {
        if self.connection != ConnectionState::Opened {
            return Err(SessionError::ConnectedTwice);
        }
        self.connection = ConnectionState::Connecting { transaction: command.transaction as u32 };
        self.request = Arc::new(ConnectRequest::read(&command.object));
        self.events.push_back(Event::Connect { request: self.request.clone() });
        Ok(())
    }

    fn on_create_stream(&mut self, command: &Command) -> Result<(), SessionError> {
        let id = self.streams.open()?;
        self.reply(command, f64::from(id).into());
        Ok(())
    }

    fn on_publish(&mut self, stream_id: u32, command: &Command) {
        let Some(stream_id) = self.streams.find(stream_id).map(|stream| stream.id) else {
            return self.send_status(
                stream_id,
                "error",
                code::PUBLISH_FAILED,
                "There is no such message stream.",
            );
        };
        self.end_use(stream_id);
        // `publish(false)` ends the current publish.
        if command.flag(0) == Some(false) {
            return;
        }
        let text = command.text(0).unwrap_or_default();
        let name = match StreamName::parse(self.tc_url(), text) {
            Ok(name) => name,
            Err(error) => {
                return self.send_status(stream_id, "error", code::PUBLISH_BAD_NAME, &error.to_string());
            }
        };
        let kind = match self.fc_publish {
            Some(FcPublish::BeforeStream) => PublishKind::Fmle,
            Some(FcPublish::AfterStream) => PublishKind::Haivision,
            None => PublishKind::Flash,
        };
        let answer = PublishAnswer::Awaited { held: Vec::new() };
        self.set_state(stream_id, StreamState::Publishing { name: text.to_owned(), answer });
        self.events.push_back(Event::Publish { stream_id, name, kind });
    }

    fn on_play(&mut self, stream_id: u32, command: &Command) {
        let Some(stream_id) = self.streams.find(stream_id).map(|stream| stream.id) else {
            return self.send_status(
                stream_id,
                "error",
                code::PLAY_FAILED,
                "There is no such message stream.",
            );
        };
        self.end_use(stream_id);
        // `play(false)` ends the current play.
        if command.flag(0) == Some(false) {
            return;
        }
        let name = match StreamName::parse(self.tc_url(), command.text(0).unwrap_or_default()) {
            Ok(name) => name,
            Err(error) => {
                return self.send_status(stream_id, "error", code::PLAY_NOT_FOUND, &error.to_string());
            }
        };
        // Start and duration (arguments 1 and 2) are ignored: every stream is live.
        let reset = command.flag(3).unwrap_or(true);
        self.set_state(stream_id, StreamState::Playing { reset, accepted: false });
        self.events.push_back(Event::Play { stream_id, name });
    }

    fn on_fc_unpublish(&mut self, command: &Command) {
        let id = self.streams.publishing(command.text(0).unwrap_or_default());
        if let Some(id) = id {
            let info =
                object([("code", code::UNPUBLISH_SUCCESS.into()), ("description", UNPUBLISHED.into())]);
            self.link.send_command(id, &Command::call("onFCUnpublish", 0.0, vec![info]));
        }
        self.reply(command, Value::Undefined);
        if let Some(id) = id {
            self.send_status(id, "status", code::UNPUBLISH_SUCCESS, UNPUBLISHED);
            self.end_use(id);
        }
    }

    fn on_pause(&mut self, stream_id: u32, command: &Command) {
        let paused = command.flag(0).unwrap_or(true);
        let Some(MessageStream { id, state: StreamState::Playing { accepted: true, .. } }) =
            self.streams.find(stream_id)
        else {
            return;
        };
        let stream_id = *id;
        if paused {
            self.send_status(stream_id, "status", code::PAUSE_NOTIFY, "The stream is paused.");
            self.link.send_control(&Control::StreamEof(stream_id));
        } else {
            self.send_status(stream_id, "status", code::UNPAUSE_NOTIFY, "The stream goes on.");
            self.link.send_control(&Control::StreamBegin(stream_id));
        }
        self.events.push_back(Event::Pause { stream_id, paused });
    }

    fn on_receive(&mut self, stream_id: u32, command: &Command) {
        let wanted = command.flag(0).unwrap_or(true);
        let Some(stream_id) = self.streams.find(stream_id).map(|stream| stream.id) else { return };
        self.events.push_back(match &*command.name {
            "receiveAudio" => Event::ReceiveAudio { stream_id, wanted },
            _ => Event::ReceiveVideo { stream_id, wanted },
        });
    }

    /// Ends the current publish or play of a message stream, if any.
    fn end_use(&mut self, stream_id: u32) {
        let Some(stream) = self.streams.find(stream_id) else { return };
        let stream_id = stream.id;
        match std::mem::replace(&mut stream.state, StreamState::Idle) {
            StreamState::Idle => {}
            StreamState::Publishing { .. } => self.events.push_back(Event::Unpublish { stream_id }),
            StreamState::Playing { .. } => self.events.push_back(Event::StopPlay { stream_id }),
        }
    }

    fn set_state(&mut self, stream_id: u32, new: StreamState) {
        if let Some(state) = self.streams.state(stream_id) {
            *state = new;
        }
    }

    pub(super) fn send_status(&mut self, stream_id: u32, level: &str, code: &str, description: &str) {
        let info = info(level, code, description);
        self.link.send_command(stream_id, &Command::call("onStatus", 0.0, vec![info]));
    }

    /// Returns the client's tcUrl, or its app if it sent none.
    fn tc_url(&self) -> &str {
        if self.request.tc_url.is_empty() { &self.request.app } else { &self.request.tc_url }
    }
}
