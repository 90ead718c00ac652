use remuxd_bitstream::amf0::Value;

use super::event::ClientEvent;
use crate::budget::Account;
use crate::media::{Packet, Tag, TagKind};
use crate::rtmp::chunk::ChunkLimits;
use crate::rtmp::command::{Command, code};
use crate::rtmp::connect::ConnectRequest;
use crate::rtmp::error::SessionError;
use crate::rtmp::handshake::{Handshake, Random, Scheme};
use crate::rtmp::link::{Buffers, Incoming, Link, set_data_frame};
use crate::rtmp::message::Control;
use crate::rtmp::tc_url::StreamName;

/// The version that FMLE sends; servers are written for it.
const FLASH_VERSION: &str = "FMLE/3.0 (compatible; remuxd)";
/// The buffer length that a player announces, in milliseconds (7.1.7).
const BUFFER_LENGTH: u32 = 1000;

// Transaction ids. `connect` always has 1 (7.2.1.1).
const CONNECT: u32 = 1;
const RELEASE_STREAM: u32 = 2;
const FC_PUBLISH: u32 = 3;
const CREATE_STREAM: u32 = 4;
const PUBLISH: u32 = 5;
const FC_UNPUBLISH: u32 = 6;
const DELETE_STREAM: u32 = 7;

/// Settings of a [`ClientSession`].
#[derive(Clone, Debug)]
pub struct ClientSettings {
    /// The handshake that the client offers.
    pub scheme: Scheme,
    /// Payload bytes of the chunks that the session sends.
    pub chunk_size: u32,
    /// Bytes after which the session expects an acknowledgement.
    pub window_ack_size: u32,
    /// Limits on the memory that the server can occupy.
    pub limits: ChunkLimits,
    /// Whether `connect` announces enhanced RTMP. Some servers reject properties that they do not know.
    pub enhanced: bool,
    /// The hop list of `connect`; empty for none.
    pub hops: String,
}

/// The client's end of one RTMP connection. It has no `Debug`: its buffers hold stream keys.
pub struct ClientSession {
    settings: ClientSettings,
    link: Link,
    name: StreamName,
    role: Role,
    state: State,
    stream_id: u32,
    /// The server's `capsEx`.
    server_caps_ex: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Publish,
    Play,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Handshake,
    /// `connect` is sent.
    Connecting,
    /// `createStream` is sent.
    CreatingStream,
    /// `publish` or `play` is sent.
    Requesting,
    Running,
    Over,
}

impl ClientSession {
    /// Creates a session that publishes a stream. `epoch` is the time that C1 names, in milliseconds.
    pub fn publish(name: StreamName, settings: ClientSettings, epoch: u32, random: Random) -> ClientSession {
        ClientSession::new(name, Role::Publish, settings, epoch, random)
    }

    /// Creates a session that plays a stream. `epoch` is the time that C1 names, in milliseconds.
    pub fn play(name: StreamName, settings: ClientSettings, epoch: u32, random: Random) -> ClientSession {
        ClientSession::new(name, Role::Play, settings, epoch, random)
    }

    pub(super) fn new(
        name: StreamName,
        role: Role,
        settings: ClientSettings,
        epoch: u32,
        random: Random,
    ) -> ClientSession {
        ClientSession {
            link: Link::new(Handshake::client(settings.scheme, epoch, random), settings.limits),
            settings,
            name,
            role,
            state: State::Handshake,
            stream_id: 0,
            server_caps_ex: 0,
        }
    }

    /// Charges messages that begin from now on to `account`.
    pub fn charge_to(&mut self, account: Account) {
        self.link.charge_to(account);
    }

    /// Returns the buffers between the session and the socket. The output begins with the handshake.
    pub fn buffers(&mut self) -> &mut Buffers {
        &mut self.link.buffers
    }

    /// Returns whether the session has ended. It reads nothing more; the owner closes the connection once the output
    /// is written.
    pub fn is_over(&self) -> bool {
        self.state == State::Over
    }

    /// Returns whether the handshake is complete: the peer is a server of RTMP that works.
    pub fn is_past_handshake(&self) -> bool {
        self.state != State::Handshake
    }

    /// Returns the next event. `None` means that more input is needed.
    ///
    /// # Errors
    ///
    /// The server violated the protocol or a limit.
    pub fn poll_event(&mut self) -> Result<Option<ClientEvent>, SessionError> {
        loop {
            if self.state == State::Over {
                self.link.buffers.input.clear();
                return Ok(None);
            }
            if self.state == State::Handshake {
                if !self.link.complete_handshake()? {
                    return Ok(None);
                }
                self.connect();
            }
            let event = match self.link.read()? {
                None => return Ok(None),
                Some(Incoming::Command { command, .. }) => self.on_command(&command)?,
                Some(Incoming::Tag { tag, .. }) => self.is_playing().then_some(ClientEvent::Media { tag }),
                Some(Incoming::Control(control)) => self.on_control(&control),
                Some(Incoming::Ignored) => None,
            };
            if event.is_some() {
                return Ok(event);
            }
        }
    }

    /// Queues a tag of a [published](ClientEvent::Published) stream. The payload is shared, not copied. Does nothing
    /// before the stream is published and after it has ended.
    ///
    /// The output grows without limit: the owner must not call this faster than the output drains.
    pub fn send_tag(&mut self, tag: &Tag) {
        if (self.role, self.state) != (Role::Publish, State::Running) {
            return;
        }
        if tag.kind == TagKind::SCRIPT && tag.header.packet == Packet::METADATA {
            // The server keeps these metadata for later players.
            let tag = Tag { payload: set_data_frame(&tag.payload), ..tag.clone() };
            return self.link.send_tag(self.stream_id, &tag, self.server_caps_ex);
        }
        self.link.send_tag(self.stream_id, tag, self.server_caps_ex);
    }

    /// Ends the stream and the session. The owner writes the output, then closes the connection.
    pub fn finish(&mut self) {
        if matches!(self.state, State::Requesting | State::Running) {
            if self.role == Role::Publish {
                let name = self.name.stream_with_params();
                self.call(0, "FCUnpublish", FC_UNPUBLISH, vec![name.into()]);
            }
            let id = f64::from(self.stream_id).into();
            self.call(0, "deleteStream", DELETE_STREAM, vec![id]);
        }
        self.state = State::Over;
    }

    fn call(&mut self, stream_id: u32, name: &str, transaction: u32, arguments: Vec<Value>) {
        self.link.send_command(stream_id, &Command::call(name, transaction.into(), arguments));
    }

    fn connect(&mut self) {
        self.state = State::Connecting;
        self.link.send_control(&Control::SetChunkSize(self.settings.chunk_size));
        let capabilities =
            if self.settings.enhanced { ConnectRequest::enhanced() } else { ConnectRequest::default() };
        let request = ConnectRequest {
            app: self.name.app.clone(),
            tc_url: self.name.tc_url(),
            flash_ver: FLASH_VERSION.to_owned(),
            hops: self.settings.hops.clone(),
            ..capabilities
        };
        let call = Command::call("connect", CONNECT.into(), vec![]);
        self.link.send_command(0, &Command { object: request.to_object(), ..call });
    }

    fn on_command(&mut self, command: &Command) -> Result<Option<ClientEvent>, SessionError> {
        let transaction = command.transaction as u32;
        match (&*command.name, self.state) {
            ("_result", State::Connecting) if transaction == CONNECT => {
                let info = command.arguments.first().unwrap_or(&Value::Null);
                self.server_caps_ex = ConnectRequest::read(info).caps_ex;
                self.create_stream();
            }
            ("_result", State::CreatingStream) if transaction == CREATE_STREAM => {
                let id = command.number(0).filter(|id| *id >= 0.0).ok_or(SessionError::NoStreamId)?;
                self.stream_id = id as u32;
                self.request();
            }
            ("_error", _) if transaction == CONNECT || transaction == CREATE_STREAM => {
                return Ok(Some(self.on_rejection(command)));
            }
            ("onStatus", _) => return Ok(self.on_status(command)),
            _ => {}
        }
        Ok(None)
    }

    fn create_stream(&mut self) {
        self.state = State::CreatingStream;
        self.link.send_control(&Control::WindowAckSize(self.settings.window_ack_size));
        if self.role == Role::Publish {
            let name = Value::from(self.name.stream_with_params());
            self.call(0, "releaseStream", RELEASE_STREAM, vec![name.clone()]);
            self.call(0, "FCPublish", FC_PUBLISH, vec![name]);
        }
        self.call(0, "createStream", CREATE_STREAM, vec![]);
    }

    fn request(&mut self) {
        self.state = State::Requesting;
        let (stream_id, name) = (self.stream_id, Value::from(self.name.stream_with_params()));
        match self.role {
            Role::Publish => self.call(stream_id, "publish", PUBLISH, vec![name, "live".into()]),
            Role::Play => {
                // -1 means live only (7.2.2.1).
                self.call(stream_id, "play", 0, vec![name, (-1.0).into()]);
                self.link.send_control(&Control::SetBufferLength { stream_id, millis: BUFFER_LENGTH });
            }
        }
    }

    fn on_status(&mut self, command: &Command) -> Option<ClientEvent> {
        let info = command.arguments.first()?;
        let text = |name| info.property(name).and_then(Value::as_str);
        let code = text("code").unwrap_or_default();
        match code {
            code::RECONNECT_REQUEST => {
                return Some(ClientEvent::Reconnect { tc_url: text("tcUrl").map(str::to_owned) });
            }
            code::PUBLISH_START if (self.role, self.state) == (Role::Publish, State::Requesting) => {
                self.state = State::Running;
                return Some(ClientEvent::Published);
            }
            code::PLAY_START if (self.role, self.state) == (Role::Play, State::Requesting) => {
                self.state = State::Running;
                return Some(ClientEvent::Playing);
            }
            code::PLAY_STOP | code::PLAY_UNPUBLISH_NOTIFY | code::PLAY_COMPLETE if self.is_playing() => {
                return Some(self.end());
            }
            _ => {}
        }
        (text("level") == Some("error")).then(|| self.on_rejection(command))
    }

    fn on_rejection(&mut self, command: &Command) -> ClientEvent {
        self.state = State::Over;
        let info = command.arguments.first().unwrap_or(&Value::Null);
        let text = |value: &Value, name| value.property(name).and_then(Value::as_str).map(str::to_owned);
        if let Some(ex) = info.property("ex")
            && ex.property("code").and_then(Value::as_number) == Some(302.0)
            && let Some(url) = text(ex, "redirect2").or_else(|| text(ex, "redirect"))
        {
            return ClientEvent::Redirect { url };
        }
        ClientEvent::Rejected {
            code: text(info, "code").unwrap_or_default(),
            description: text(info, "description").unwrap_or_default(),
        }
    }

    fn on_control(&mut self, control: &Control) -> Option<ClientEvent> {
        match control {
            // The window must be announced when it changes (5.4.5).
            Control::SetPeerBandwidth { window, .. } if *window != self.settings.window_ack_size => {
                self.settings.window_ack_size = *window;
                self.link.send_control(&Control::WindowAckSize(*window));
                None
            }
            Control::StreamEof(id) if *id == self.stream_id && self.is_playing() => Some(self.end()),
            _ => None,
        }
    }

    /// Returns whether tags are accepted: from `play` on, since some servers send them before the status.
    fn is_playing(&self) -> bool {
        self.role == Role::Play && matches!(self.state, State::Requesting | State::Running)
    }

    fn end(&mut self) -> ClientEvent {
        self.state = State::Over;
        ClientEvent::Ended
    }
}
