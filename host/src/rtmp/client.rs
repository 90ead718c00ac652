//! The client's end of one RTMP connection, for one stream: publish it to a server, or play it from one.
//!
//! Same shape as [`ServerSession`](super::ServerSession): bytes into [`input`](ClientSession::input), events from
//! [`poll_event`](ClientSession::poll_event), bytes out of [`output`](ClientSession::output), which holds the start of
//! the handshake from the beginning. A publisher introduces itself as FMLE and ffmpeg do (`releaseStream`, `FCPublish`,
//! `createStream`, `publish`), which every server understands.
//!
//! Tolerated:
//! - a server that answers `releaseStream` or `FCPublish` with `_error`, or not at all;
//! - a server that sends tags before `NetStream.Play.Start`, or without: they are handed out.

use bytes::BytesMut;
use remuxd_bitstream::amf0::Value;

use super::SessionError;
use super::chunk::ChunkLimits;
use super::command::{ANY_FOURCC, CAN_FORWARD, Command, ConnectRequest, caps_ex, code};
use super::handshake::ClientHandshake;
use super::link::{Incoming, Link, set_data_frame};
use super::message::Control;
use super::output::Output;
use super::tc_url::StreamName;
use crate::media::{Packet, Tag, TagKind};

/// The version that encoders send which servers are made for.
const FLASH_VERSION: &str = "FMLE/3.0 (compatible; remuxd)";
/// What a player tells of its buffer, in milliseconds (§7.1.7).
const BUFFER_LENGTH: u32 = 1000;

// Transaction ids: `connect` has 1 (§7.2.1.1), the rest count on.
const CONNECT: u32 = 1;
const RELEASE_STREAM: u32 = 2;
const FC_PUBLISH: u32 = 3;
const CREATE_STREAM: u32 = 4;
const PUBLISH: u32 = 5;
const FC_UNPUBLISH: u32 = 6;
const DELETE_STREAM: u32 = 7;

/// What a session is told when it starts.
#[derive(Clone, Debug)]
pub struct ClientSettings {
    /// The size of the chunks it sends, in bytes.
    pub chunk_size: u32,
    /// How often it wants an acknowledgement, in bytes.
    pub window_ack_size: u32,
    /// What the server may make it hold.
    pub limits: ChunkLimits,
    /// Whether `connect` states what enhanced RTMP can do. Some servers refuse properties that they do not know.
    pub enhanced: bool,
}

/// What a server says or sends.
#[derive(Clone)]
#[non_exhaustive]
pub enum ClientEvent {
    /// The server accepted the stream: tags may be sent.
    Published,
    /// The server plays the stream.
    Playing,
    /// A tag of the stream played.
    Media {
        /// The tag. Its time is the message's 32-bit timestamp.
        tag: Tag,
    },
    /// The server refuses. The session is over.
    Rejected {
        /// The status code, such as `NetStream.Publish.BadName`; empty when the server gave none.
        code: String,
        /// The server's words.
        description: String,
    },
    /// The server sends us elsewhere at once (status 302). The session is over.
    Redirect {
        /// The whole URL, or a tcUrl that keeps the stream name if it says no more.
        url: String,
    },
    /// The server asks to connect anew at the next keyframe, and goes on until then.
    Reconnect {
        /// Where; `None`: the same place.
        tc_url: Option<String>,
    },
    /// The stream ended.
    Ended,
}

/// URLs may hold tokens, and a server's words may repeat a stream key.
impl std::fmt::Debug for ClientEvent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ClientEvent::Published => f.write_str("Published"),
            ClientEvent::Playing => f.write_str("Playing"),
            ClientEvent::Media { tag } => f.debug_struct("Media").field("tag", tag).finish(),
            ClientEvent::Rejected { code, .. } => {
                f.debug_struct("Rejected").field("code", code).finish_non_exhaustive()
            }
            ClientEvent::Redirect { .. } => f.write_str("Redirect"),
            ClientEvent::Reconnect { .. } => f.write_str("Reconnect"),
            ClientEvent::Ended => f.write_str("Ended"),
        }
    }
}

/// The client's end of one RTMP connection. It has no `Debug`: its buffers hold stream keys.
pub struct ClientSession {
    settings: ClientSettings,
    link: Link,
    handshake: ClientHandshake,
    name: StreamName,
    role: Role,
    state: State,
    stream_id: u32,
    /// `capsEx` of the server.
    server_caps_ex: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Publish,
    Play,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Handshake,
    Connecting,
    Creating,
    /// `publish` or `play` is sent.
    Asking,
    Running,
    Over,
}

impl ClientSession {
    /// A session that publishes a stream.
    pub fn publish(name: StreamName, settings: ClientSettings, handshake: ClientHandshake) -> ClientSession {
        ClientSession::new(name, Role::Publish, settings, handshake)
    }

    /// A session that plays a stream.
    pub fn play(name: StreamName, settings: ClientSettings, handshake: ClientHandshake) -> ClientSession {
        ClientSession::new(name, Role::Play, settings, handshake)
    }

    fn new(
        name: StreamName,
        role: Role,
        settings: ClientSettings,
        mut handshake: ClientHandshake,
    ) -> ClientSession {
        let mut link = Link::new(settings.limits);
        handshake.start(&mut link.output);
        ClientSession {
            settings,
            link,
            handshake,
            name,
            role,
            state: State::Handshake,
            stream_id: 0,
            server_caps_ex: 0,
        }
    }

    /// Where to put bytes from the server, behind those that are there.
    pub fn input(&mut self) -> &mut BytesMut {
        &mut self.link.input
    }

    /// What waits to be written to the server.
    pub fn output(&mut self) -> &mut Output {
        &mut self.link.output
    }

    /// [`input`](Self::input) and [`output`](Self::output) at once, for an owner that waits for either.
    pub fn buffers(&mut self) -> (&mut BytesMut, &mut Output) {
        (&mut self.link.input, &mut self.link.output)
    }

    /// Whether nothing more will be read: close when the output is written.
    pub fn is_over(&self) -> bool {
        self.state == State::Over
    }

    /// The next event. `None`: needs more input.
    ///
    /// # Errors
    ///
    /// The server violated the protocol or a limit.
    pub fn poll_event(&mut self) -> Result<Option<ClientEvent>, SessionError> {
        loop {
            if self.state == State::Over {
                self.link.input.clear();
                return Ok(None);
            }
            if self.state == State::Handshake {
                if !self.handshake.read(&mut self.link.input, &mut self.link.output)? {
                    return Ok(None);
                }
                self.link.start(self.handshake.bytes_received());
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

    /// Queues a tag of a stream that is [published](ClientEvent::Published), its payload shared. Before and after
    /// that it does nothing.
    ///
    /// The session does not pace: call it when the output has gone out, else the output grows.
    pub fn send_tag(&mut self, tag: &Tag) {
        if (self.role, self.state) != (Role::Publish, State::Running) {
            return;
        }
        if tag.kind == TagKind::SCRIPT && tag.header.packet == Packet::METADATA {
            // Metadata are for players to come, too.
            let tag = Tag { payload: set_data_frame(&tag.payload), ..tag.clone() };
            return self.link.send_tag(self.stream_id, &tag, self.server_caps_ex);
        }
        self.link.send_tag(self.stream_id, tag, self.server_caps_ex);
    }

    /// Takes leave. The session is over: write the output, then close.
    pub fn finish(&mut self) {
        if matches!(self.state, State::Asking | State::Running) {
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
        let mut request = ConnectRequest {
            app: self.name.app.clone(),
            tc_url: self.name.tc_url(),
            flash_ver: FLASH_VERSION.to_owned(),
            ..ConnectRequest::default()
        };
        if self.settings.enhanced {
            let forward_any = || vec![(ANY_FOURCC.to_owned(), CAN_FORWARD)];
            request.four_cc_list = vec![ANY_FOURCC.to_owned()];
            request.video_four_cc_info_map = forward_any();
            request.audio_four_cc_info_map = forward_any();
            request.caps_ex = caps_ex::RECONNECT | caps_ex::MULTITRACK | caps_ex::MOD_EX;
        }
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
            ("_result", State::Creating) if transaction == CREATE_STREAM => {
                let id = command.number(0).filter(|id| *id >= 0.0).ok_or(SessionError::NoStreamId)?;
                self.stream_id = id as u32;
                self.ask();
            }
            ("_error", _) if transaction == CONNECT || transaction == CREATE_STREAM => {
                return Ok(Some(self.on_refusal(command)));
            }
            ("onStatus", _) => return Ok(self.on_status(command)),
            _ => {}
        }
        Ok(None)
    }

    fn create_stream(&mut self) {
        self.state = State::Creating;
        self.link.send_control(&Control::WindowAckSize(self.settings.window_ack_size));
        if self.role == Role::Publish {
            let name = Value::from(self.name.stream_with_params());
            self.call(0, "releaseStream", RELEASE_STREAM, vec![name.clone()]);
            self.call(0, "FCPublish", FC_PUBLISH, vec![name]);
        }
        self.call(0, "createStream", CREATE_STREAM, vec![]);
    }

    fn ask(&mut self) {
        self.state = State::Asking;
        let (stream_id, name) = (self.stream_id, Value::from(self.name.stream_with_params()));
        match self.role {
            Role::Publish => self.call(stream_id, "publish", PUBLISH, vec![name, "live".into()]),
            Role::Play => {
                // -1: live only (§7.2.2.1).
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
            code::PUBLISH_START if (self.role, self.state) == (Role::Publish, State::Asking) => {
                self.state = State::Running;
                return Some(ClientEvent::Published);
            }
            code::PLAY_START if (self.role, self.state) == (Role::Play, State::Asking) => {
                self.state = State::Running;
                return Some(ClientEvent::Playing);
            }
            code::PLAY_STOP | code::PLAY_UNPUBLISH_NOTIFY | code::PLAY_COMPLETE if self.is_playing() => {
                return Some(self.end());
            }
            _ => {}
        }
        (text("level") == Some("error")).then(|| self.on_refusal(command))
    }

    fn on_refusal(&mut self, command: &Command) -> ClientEvent {
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
            // §5.4.5: tell the window when it changes.
            Control::SetPeerBandwidth { window, .. } if *window != self.settings.window_ack_size => {
                self.settings.window_ack_size = *window;
                self.link.send_control(&Control::WindowAckSize(*window));
                None
            }
            Control::StreamEof(id) if *id == self.stream_id && self.is_playing() => Some(self.end()),
            _ => None,
        }
    }

    /// Also while the server has not said so yet.
    fn is_playing(&self) -> bool {
        self.role == Role::Play && matches!(self.state, State::Asking | State::Running)
    }

    fn end(&mut self) -> ClientEvent {
        self.state = State::Over;
        ClientEvent::Ended
    }
}

#[cfg(test)]
mod tests {
    use bytes::{Buf, Bytes};

    use super::*;
    use crate::media::Millis;
    use crate::rtmp::ServerSession;
    use crate::rtmp::handshake::{Random, Scheme, ServerHandshake};
    use crate::rtmp::server::{Event, PlayEnd, Rejection, ServerSettings};

    /// A client and a server that hand each other up to `step` bytes at a time.
    struct Pair {
        client: ClientSession,
        server: ServerSession,
        step: usize,
        client_events: Vec<ClientEvent>,
        server_events: Vec<Event>,
        rejection: Option<Rejection>,
    }

    impl Pair {
        fn new(role: Role, step: usize, scheme: Scheme) -> Pair {
            let limits = ChunkLimits::default();
            let name = StreamName::parse_url("rtmp://host/live/key?token=t").unwrap();
            let settings =
                ClientSettings { chunk_size: 4096, window_ack_size: 100_000, limits, enhanced: true };
            let handshake = ClientHandshake::new(scheme, 0, Random::from_seed(1));
            let client = ClientSession::new(name, role, settings, handshake);
            let settings = ServerSettings { chunk_size: 60_000, window_ack_size: 2_500_000, limits };
            let server = ServerSession::new(settings, ServerHandshake::new(0, Random::from_seed(2)));
            let (client_events, server_events) = (Vec::new(), Vec::new());
            Pair { client, server, step, client_events, server_events, rejection: None }
        }

        /// Until both have nothing to say.
        fn run(&mut self) {
            while !self.client.output().is_empty() || !self.server.output().is_empty() {
                let some = |output: &mut Output, step: usize| output.copy_to_bytes(step.min(output.len()));
                let bytes = some(self.client.output(), self.step);
                self.server.input().extend_from_slice(&bytes);
                while let Some(event) = self.server.poll_event().unwrap() {
                    self.answer(&event);
                    self.server_events.push(event);
                }
                let bytes = some(self.server.output(), self.step);
                self.client.input().extend_from_slice(&bytes);
                while let Some(event) = self.client.poll_event().unwrap() {
                    self.client_events.push(event);
                }
            }
        }

        fn answer(&mut self, event: &Event) {
            match (event, &self.rejection) {
                (Event::Connect { .. }, _) => self.server.accept_connect(),
                (Event::Publish { stream_id, .. }, None) => self.server.accept_publish(*stream_id),
                (Event::Publish { stream_id, .. }, Some(no)) => self.server.reject_publish(*stream_id, no),
                (Event::Play { stream_id, .. }, None) => self.server.accept_play(*stream_id),
                (Event::Play { stream_id, .. }, Some(no)) => self.server.reject_play(*stream_id, no),
                _ => {}
            }
        }
    }

    const WAYS: [(usize, Scheme); 4] = [
        (usize::MAX, Scheme::DigestThenKey),
        (usize::MAX, Scheme::KeyThenDigest),
        (1000, Scheme::Simple),
        (1, Scheme::DigestThenKey),
    ];

    fn tags() -> Vec<Tag> {
        let mut tags = vec![
            Tag::new(
                TagKind::SCRIPT,
                Millis(0),
                Bytes::from_static(b"\x02\0\x0aonMetaData\x08\0\0\0\0\0\0\x09"),
            ),
            Tag::new(TagKind::AUDIO, Millis(0), Bytes::from_static(b"\xaf\0\x12\x10")),
            Tag::new(TagKind::AUDIO, Millis(0), Bytes::new()),
        ];
        for (index, len) in (0..).zip([1, 127, 128, 4096, 4097, 10_000]) {
            let body = [&[0x27, 1, 0, 0, 0][..], &vec![index as u8; len]].concat();
            // Over the end of 24 bits, and of 32.
            tags.push(Tag::new(TagKind::VIDEO, Millis(0xff_ffe0 + 20 * index), body.clone().into()));
            tags.push(Tag::new(TagKind::VIDEO, Millis(0xffff_ffe0 + 20 * index), body.into()));
        }
        tags
    }

    /// Kind, 32-bit time, body.
    fn facts(tag: &Tag) -> (TagKind, u32, Bytes) {
        (tag.kind, tag.dts.0 as u32, tag.payload.clone())
    }

    #[test]
    fn publishes_to_the_server_session() {
        for (step, scheme) in WAYS {
            let mut pair = Pair::new(Role::Publish, step, scheme);
            pair.run();
            assert!(matches!(pair.client_events[..], [ClientEvent::Published]), "{:?}", pair.client_events);
            let Event::Publish { request, .. } = &pair.server_events[1] else { panic!("no publish") };
            assert_eq!(request.name, StreamName::parse_url("rtmp://host/live/key?token=t").unwrap());

            pair.server_events.clear();
            for tag in tags() {
                pair.client.send_tag(&tag);
            }
            pair.client.finish();
            pair.run();
            let ended = pair.server_events.pop();
            assert!(matches!(ended, Some(Event::Unpublish { stream_id: 1 })), "{ended:?}");
            let received: Vec<_> = pair
                .server_events
                .iter()
                .map(|event| match event {
                    Event::Media { tag, .. } => facts(tag),
                    other => panic!("{other:?}"),
                })
                .collect();
            assert_eq!(received, tags().iter().map(facts).collect::<Vec<_>>());
            assert!(pair.client.is_over());
        }
    }

    #[test]
    fn plays_from_the_server_session() {
        for (step, scheme) in WAYS {
            let mut pair = Pair::new(Role::Play, step, scheme);
            pair.run();
            assert!(matches!(pair.client_events[..], [ClientEvent::Playing]), "{:?}", pair.client_events);
            let Event::Play { request, .. } = &pair.server_events[1] else { panic!("no play") };
            assert_eq!(request.name, StreamName::parse_url("rtmp://host/live/key?token=t").unwrap());

            pair.client_events.clear();
            for tag in tags() {
                pair.server.send_tag(1, &tag);
            }
            pair.server.end_play(1, PlayEnd::Unpublished);
            pair.run();
            let ended = pair.client_events.pop();
            assert!(matches!(ended, Some(ClientEvent::Ended)), "{ended:?}");
            let received: Vec<_> = pair
                .client_events
                .iter()
                .map(|event| match event {
                    ClientEvent::Media { tag } => facts(tag),
                    other => panic!("{other:?}"),
                })
                .collect();
            assert_eq!(received, tags().iter().map(facts).collect::<Vec<_>>());
        }
    }

    #[test]
    fn sends_metadata_for_players_to_come() {
        let mut pair = Pair::new(Role::Publish, usize::MAX, Scheme::Simple);
        pair.run();
        let mut tag = tags().remove(0);
        tag.header.packet = Packet::METADATA;
        pair.client.send_tag(&tag);
        let sent = pair.client.output();
        let sent = sent.copy_to_bytes(sent.len());
        assert!(sent.windows(13).any(|bytes| bytes == b"@setDataFrame"));
        pair.server.input().extend_from_slice(&sent);
        let received = pair.server.poll_event().unwrap();
        assert!(
            matches!(&received, Some(Event::Media { tag: got, .. }) if facts(got) == facts(&tag)),
            "{received:?}"
        );
    }

    #[test]
    fn hears_that_its_stream_was_taken_away() {
        let mut pair = Pair::new(Role::Publish, usize::MAX, Scheme::Simple);
        pair.run();
        pair.server.end_publish(1, &Rejection::Busy);
        assert!(pair.server.is_over());
        pair.run();
        let heard = pair.client_events.pop();
        assert!(
            matches!(&heard, Some(ClientEvent::Rejected { code, .. }) if code == "NetStream.Publish.BadName"),
            "{heard:?}"
        );
    }

    #[test]
    fn hears_refusals() {
        for (role, code) in
            [(Role::Publish, "NetStream.Publish.BadName"), (Role::Play, "NetStream.Play.StreamNotFound")]
        {
            let mut pair = Pair::new(role, usize::MAX, Scheme::Simple);
            pair.rejection = Some(Rejection::NotFound);
            pair.run();
            let [ClientEvent::Rejected { code: heard, description }] = &pair.client_events[..] else {
                panic!("{:?}", pair.client_events)
            };
            assert_eq!(heard, code);
            assert!(!description.is_empty());
            assert!(pair.client.is_over());
        }
    }

    #[test]
    fn follows_redirects() {
        let url = "rtmp://other/live/key?token=t";
        let mut pair = Pair::new(Role::Play, usize::MAX, Scheme::Simple);
        pair.rejection = Some(Rejection::Redirect { url: url.to_owned() });
        pair.run();
        let [ClientEvent::Redirect { url: heard }] = &pair.client_events[..] else {
            panic!("{:?}", pair.client_events)
        };
        assert_eq!(heard, url);
    }

    #[test]
    fn hears_a_reconnect_request_and_goes_on() {
        let mut pair = Pair::new(Role::Publish, usize::MAX, Scheme::Simple);
        pair.run();
        assert!(pair.server.request_reconnect(Some("rtmp://other/live")));
        pair.run();
        let heard = pair.client_events.pop();
        assert!(
            matches!(&heard, Some(ClientEvent::Reconnect { tc_url: Some(url) }) if url == "rtmp://other/live"),
            "{heard:?}"
        );
        assert!(!pair.client.is_over());
    }

    #[test]
    fn sends_slices_of_the_payload() {
        let mut pair = Pair::new(Role::Publish, usize::MAX, Scheme::Simple);
        pair.run();
        let payload = Bytes::from(vec![0x27; 10_000]);
        pair.client.send_tag(&Tag::new(TagKind::VIDEO, Millis(0), payload.clone()));
        let slices = pair.client.output().take_all();
        let sent: Vec<_> =
            slices.iter().filter(|slice| slice.len() > 100).map(|slice| slice.as_ptr()).collect();
        assert_eq!(sent, payload.chunks(4096).map(<[u8]>::as_ptr).collect::<Vec<_>>());
    }

    #[test]
    fn keeps_secrets_out_of_debug() {
        let mut pair = Pair::new(Role::Publish, usize::MAX, Scheme::Simple);
        pair.run();
        let shown = format!("{:?} {:?} {:?}", pair.client.name, pair.client_events, pair.server_events);
        assert!(!shown.contains("key") && !shown.contains("token"), "{shown}");
    }
}
